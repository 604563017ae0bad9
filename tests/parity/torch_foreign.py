"""Darknet-53 and Xception in torch, written from darknet's and Keras' code.

The names of the layers are ours, so that one state dict serves both sides.
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["MODELS"]


class _DarknetConv(nn.Module):
  def __init__(self, inputs, outputs, size, stride=1):
    super().__init__()
    self.conv = nn.Conv2d(
      inputs, outputs, size, stride, padding=size // 2, bias=False
    )
    self.norm = nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.01)

  def forward(self, x):
    return functional.leaky_relu(self.norm(self.conv(x)), 0.1)


class _DarknetBlock(nn.Module):
  def __init__(self, channels):
    super().__init__()
    self.conv1 = _DarknetConv(channels, channels // 2, 1)
    self.conv2 = _DarknetConv(channels // 2, channels, 3)

  def forward(self, x):
    return x + self.conv2(self.conv1(x))


class Darknet(nn.Module):
  """The layers of cfg/darknet53.cfg, in its order."""

  def __init__(self, counts=(1, 2, 8, 8, 4), width=32, num_classes=1000):
    super().__init__()
    self.conv0 = _DarknetConv(3, width, 3)
    for k, count in enumerate(counts, 1):
      stage = nn.Sequential()
      stage.add_module(
        "down", _DarknetConv(width * 2 ** (k - 1), width * 2**k, 3, 2)
      )
      for block in range(count):
        stage.add_module(str(block), _DarknetBlock(width * 2**k))
      self.add_module(f"stage{k}", stage)
    self.avgpool = nn.AdaptiveAvgPool2d(1)
    self.fc = nn.Conv2d(width * 32, num_classes, 1)
    self.endpoint_paths = {
      name: name for name in ("conv0", *(f"stage{k}" for k in range(1, 6)))
    } | {"avgpool": "pooled"}

  def forward(self, x):
    x = self.conv0(x)
    for k in range(1, 6):
      x = self.get_submodule(f"stage{k}")(x)
    return self.fc(self.avgpool(x)).flatten(1)


class _Separable(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.depthwise = nn.Conv2d(
      inputs, inputs, 3, padding=1, groups=inputs, bias=False
    )
    self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

  def forward(self, x):
    return self.pointwise(self.depthwise(x))


def _pool_same(x):
  """MaxPooling2D((3, 3), strides=(2, 2), padding="same") of Keras."""
  pads = []
  for size in (x.shape[3], x.shape[2]):
    total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
    pads += [total // 2, total - total // 2]
  return functional.max_pool2d(functional.pad(x, pads, value=-torch.inf), 3, 2)


class Xception(nn.Module):
  """keras.applications.Xception, statement by statement."""

  def __init__(self, num_classes=1000):
    super().__init__()
    self._conv("block1_conv1", 3, 32, 3, 2)
    self._conv("block1_conv2", 32, 64, 3, 1)
    inputs = 64
    for k, outputs in ((2, 128), (3, 256), (4, 728)):
      self._conv(f"block{k}_shortcut", inputs, outputs, 1, 2)
      self._separable(f"block{k}_sepconv1", inputs, outputs)
      self._separable(f"block{k}_sepconv2", outputs, outputs)
      inputs = outputs
    for k in range(5, 13):
      for n in (1, 2, 3):
        self._separable(f"block{k}_sepconv{n}", 728, 728)
    self._conv("block13_shortcut", 728, 1024, 1, 2)
    self._separable("block13_sepconv1", 728, 728)
    self._separable("block13_sepconv2", 728, 1024)
    self._separable("block14_sepconv1", 1024, 1536)
    self._separable("block14_sepconv2", 1536, 2048)
    self.predictions = nn.Linear(2048, num_classes)
    # What a layer gives is recorded where it passes through one of these.
    self.endpoint_paths = {}
    for name in (
      "block1_conv1", "block1", *(f"block{k}" for k in range(2, 14)),
      *(f"block{k}_sepconv1" for k in (2, 3, 4, 13, 14)), "block14", "pooled",
    ):  # fmt: skip
      self.add_module(f"end_{name}", nn.Identity())
      self.endpoint_paths[f"end_{name}"] = name

  def _conv(self, name, inputs, outputs, size, stride):
    conv = nn.Conv2d(inputs, outputs, size, stride, bias=False)
    self.add_module(name, conv)
    self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs, 1e-3, 0.01))

  def _separable(self, name, inputs, outputs):
    self.add_module(name, _Separable(inputs, outputs))
    self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs, 1e-3, 0.01))

  def _run(self, name, x):
    return self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))

  def _end(self, name, x):
    return self.get_submodule(f"end_{name}")(x)

  def forward(self, x):
    relu = functional.relu
    x = self._end("block1_conv1", relu(self._run("block1_conv1", x)))
    x = self._end("block1", relu(self._run("block1_conv2", x)))
    for k in range(2, 14):
      if 5 <= k <= 12:
        y = x
        for n in (1, 2, 3):
          y = self._run(f"block{k}_sepconv{n}", relu(y))
        x = x + y
      else:
        shortcut = self._run(f"block{k}_shortcut", x)
        y = self._run(f"block{k}_sepconv1", x if k == 2 else relu(x))
        y = self._end(f"block{k}_sepconv1", relu(y))
        x = _pool_same(self._run(f"block{k}_sepconv2", y)) + shortcut
      x = self._end(f"block{k}", x)
    x = self._end("block14_sepconv1", relu(self._run("block14_sepconv1", x)))
    x = self._end("block14", relu(self._run("block14_sepconv2", x)))
    x = self._end("pooled", x.mean((2, 3)))
    return self.predictions(x)


MODELS = {
  "darknet53": Darknet,
  "darknet_tiny": lambda: Darknet((1, 1, 2, 1, 1), 8, 10),
  "xception": Xception,
}
