"""Configuration files of darknet for small networks of the YOLOv3 family."""

import struct

import numpy as np

_CONV = """[convolutional]
batch_normalize={norm}
filters={filters}
size={size}
stride={stride}
pad=1
activation={activation}
"""


class Config:
  """Text of a configuration file, and (out, in, size, norm) of its layers."""

  def __init__(self, side):
    self.text = f"[net]\nheight={side[0]}\nwidth={side[1]}\nchannels=3\n"
    self.shapes = []
    self.channels = [3]  # after each layer; the first is the input

  def conv(self, filters, size, stride=1, *, head=False):
    self.text += _CONV.format(
      norm=0 if head else 1,
      filters=filters,
      size=size,
      stride=stride,
      activation="linear" if head else "leaky",
    )
    self.shapes.append((filters, self.channels[-1], size, not head))
    self.channels.append(filters)
    return len(self.channels) - 2  # number of the layer

  def layer(self, text, channels):
    self.text += text
    self.channels.append(channels)
    return len(self.channels) - 2

  def shortcut(self):
    self.layer("[shortcut]\nfrom=-3\nactivation=linear\n", self.channels[-1])

  def pool(self, size, stride):
    return self.layer(
      f"[maxpool]\nsize={size}\nstride={stride}\n", self.channels[-1]
    )

  def route(self, *layers):
    channels = sum(self.channels[k + 1] for k in layers)
    names = ",".join(str(k) for k in layers)
    return self.layer(f"[route]\nlayers={names}\n", channels)

  def upsample(self):
    self.layer("[upsample]\nstride=2\n", self.channels[-1])

  def stream(self, seed=0, seen=7):
    """Bytes of a file of weights."""
    rng = np.random.default_rng(seed)
    raw = struct.pack("<3iQ", 0, 2, 0, seen)
    for out, inputs, size, norm in self.shapes:
      arrays = [rng.uniform(-0.2, 0.2, out)]
      if norm:
        arrays += [rng.uniform(0.7, 1.3, out), rng.uniform(-0.2, 0.2, out)]
        arrays += [rng.uniform(0.5, 1.5, out)]
      bound = (3 / (inputs * size**2)) ** 0.5
      arrays.append(rng.uniform(-bound, bound, out * inputs * size**2))
      raw += b"".join(a.astype("<f4").tobytes() for a in arrays)
    return raw


def yolov3(side, *, blocks, width, classes, num_heads=3, spp=False):
  """As cfg/yolov3.cfg and yolov3-spp.cfg, of another size, without [yolo]."""
  config = Config(side)
  config.conv(width, 3)
  stages = []
  for k, count in enumerate(blocks, 1):
    last = config.conv(width * 2**k, 3, 2)
    for _ in range(count):
      config.conv(width * 2 ** (k - 1), 1)
      config.conv(width * 2**k, 3)
      config.shortcut()
      last = len(config.channels) - 2
    stages.append(last)
  neck = 0
  for k in range(num_heads):
    wide = width * 2 ** (len(blocks) - k)
    if k:
      config.route(neck)
      config.conv(wide // 2, 1)
      config.upsample()
      config.route(len(config.channels) - 2, stages[-1 - k])
    config.conv(wide // 2, 1)
    config.conv(wide, 3)
    last = config.conv(wide // 2, 1)
    if spp and k == 0:
      first = config.pool(5, 1)
      config.route(last)
      second = config.pool(9, 1)
      config.route(last)
      third = config.pool(13, 1)
      config.route(third, second, first, last)
      config.conv(wide // 2, 1)
    config.conv(wide, 3)
    neck = config.conv(wide // 2, 1)
    config.conv(wide, 3)
    config.conv(3 * (5 + classes), 1, head=True)
  return config


def tiny(side, *, classes):
  """cfg/yolov3-tiny.cfg without [yolo]."""
  config = Config(side)
  for k in range(6):
    last = config.conv(16 * 2**k, 3)
    if k == 4:
      fine = last
    config.pool(2, 1 if k == 5 else 2)
  config.conv(1024, 3)
  neck = config.conv(256, 1)
  config.conv(512, 3)
  config.conv(3 * (5 + classes), 1, head=True)
  config.route(neck)
  config.conv(128, 1)
  config.upsample()
  config.route(len(config.channels) - 2, fine)
  config.conv(256, 3)
  config.conv(3 * (5 + classes), 1, head=True)
  return config
