"""YOLOv3 in torch, built from the lines of darknet's configuration files.

A list of the layers with their numbers, routes by number, as darknet reads
it; nothing is shared with the modules of the library.
"""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["DarknetProgram", "greedy_detections", "tiny", "yolov3"]


def _conv(filters, size, stride=1, norm=True):
  return ("conv", filters, size, stride, norm)


def _neck(wide, number):
  return [_conv(wide // 2, 1), _conv(wide, 3)] * number


def yolov3(classes, spp=False):
  """Lines of yolov3.cfg or yolov3-spp.cfg; relative routes as written there."""
  lines = [_conv(32, 3)]
  for filters, count in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
    lines.append(_conv(filters, 3, 2))
    lines += [
      _conv(filters // 2, 1),
      _conv(filters, 3),
      ("shortcut", -3),
    ] * count
  head = [_conv(3 * (5 + classes), 1, norm=False), ("yolo",)]
  lines += [*_neck(1024, 1), _conv(512, 1)]
  if spp:
    lines += [("pool", 5, 1), ("route", -2), ("pool", 9, 1), ("route", -4)]
    lines += [("pool", 13, 1), ("route", -1, -3, -5, -6), _conv(512, 1)]
    lines += [_conv(1024, 3), _conv(512, 1), _conv(1024, 3), *head]
  else:
    lines += [_conv(1024, 3), *_neck(1024, 1), *head]
  for wide, layer in ((512, 61), (256, 36)):
    lines += [("route", -4), _conv(wide // 2, 1), ("upsample",)]
    lines += [("route", -1, layer), *_neck(wide, 3), *head]
  return lines


def tiny(classes):
  """Lines of yolov3-tiny.cfg."""
  head = [_conv(3 * (5 + classes), 1, norm=False), ("yolo",)]
  lines = []
  for filters in (16, 32, 64, 128, 256):
    lines += [_conv(filters, 3), ("pool", 2, 2)]
  lines += [_conv(512, 3), ("pool", 2, 1), _conv(1024, 3), _conv(256, 1)]
  lines += [_conv(512, 3), *head, ("route", -4), _conv(128, 1)]
  return [*lines, ("upsample",), ("route", -1, 8), _conv(256, 3), *head]


class DarknetProgram(nn.Module):
  """Runs the lines; `load` takes the numbers of a file of weights in order."""

  def __init__(self, lines):
    super().__init__()
    self.lines = lines
    channels = [3]
    self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
    for k, line in enumerate(lines):
      out = channels[-1]
      if line[0] == "conv":
        _, out, size, stride, norm = line
        self.convs[str(k)] = nn.Conv2d(
          channels[-1], out, size, stride, size // 2, bias=not norm
        )
        if norm:
          self.norms[str(k)] = nn.BatchNorm2d(out, eps=1e-5)
      elif line[0] == "route":
        out = sum(channels[1 + (i if i >= 0 else k + i)] for i in line[1:])
      channels.append(out)
    self.eval()

  @torch.no_grad()
  def load(self, values):
    """`values`: float32 [all numbers]."""
    values = torch.from_numpy(values.copy())
    start = 0

    def take(target):
      nonlocal start
      count = target.numel()
      target.copy_(values[start : start + count].view_as(target))
      start += count

    for k, conv in self.convs.items():
      if k in self.norms:
        norm = self.norms[k]
        for target in (norm.bias, norm.weight, norm.running_mean):
          take(target)
        take(norm.running_var)
      else:
        take(conv.bias)
      take(conv.weight)
    assert start == len(values), (start, len(values))

  @torch.no_grad()
  def forward(self, x):
    """[B, 3, H, W] -> what the [yolo] layers receive."""
    outputs, maps = [], []
    for k, line in enumerate(self.lines):
      kind = line[0]
      if kind == "conv":
        x = self.convs[str(k)](x)
        if str(k) in self.norms:
          x = functional.leaky_relu(self.norms[str(k)](x), 0.1)
      elif kind == "shortcut":
        x = x + outputs[k + line[1]]
      elif kind == "pool":
        _, size, stride = line
        # darknet pads size - 1 in all, the smaller half before.
        before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
        x = functional.pad(x, (before, after) * 2, value=-torch.inf)
        x = functional.max_pool2d(x, size, stride)
      elif kind == "upsample":
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
      elif kind == "route":
        x = torch.cat([outputs[i if i >= 0 else k + i] for i in line[1:]], 1)
      else:
        maps.append(x)
      outputs.append(x)
    return maps


def greedy_detections(maps, anchors, size, score_threshold, iou_threshold):
  """Decoded boxes of one image after suppression: [(score, label, box)]."""
  rows = []
  for values, group in zip(maps, anchors, strict=True):
    count, height, width = len(group), *values.shape[-2:]
    values = values.view(count, -1, height, width).permute(2, 3, 0, 1).double()
    y, x = torch.meshgrid(
      torch.arange(height), torch.arange(width), indexing="ij"
    )
    sides = torch.tensor(group, dtype=torch.float64)
    center = values[..., :2].sigmoid() + torch.stack([x, y], -1)[:, :, None]
    center = center / torch.tensor([width, height]) * torch.tensor(size[::-1])
    extent = values[..., 2:4].exp() * sides
    boxes = torch.cat([center - extent / 2, center + extent / 2], -1)
    scores = values[..., 4:5].sigmoid() * values[..., 5:].sigmoid()
    rows.append((boxes.reshape(-1, 4), scores.flatten(0, 2)))
  boxes = torch.cat([b for b, _ in rows])
  scores = torch.cat([s for _, s in rows])
  kept = []
  places = (scores > score_threshold).nonzero()
  values = scores[places[:, 0], places[:, 1]]
  for k in values.argsort(descending=True, stable=True).tolist():
    row, label = places[k].tolist()
    box = boxes[row]
    if all(c != label or _iou(box, b) <= iou_threshold for _, c, b in kept):
      kept.append((float(values[k]), label, box))
  return kept


def _iou(a, b):
  low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
  shared = (high - low).clamp(min=0).prod()
  area = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()
  return shared / (area - shared)
