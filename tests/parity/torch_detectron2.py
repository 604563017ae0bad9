"""detectron2's segmentation networks, rebuilt in plain torch.

Written from their description, with the parameter names of its files; every
size is an argument, so that a test runs quickly.
"""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["DeepLab", "DeepLabPlus", "PointRend", "SemanticFPN", "random_state"]


class Conv(nn.Conv2d):
  """Convolution, norm and ReLU in one module: `weight`, `norm.*`."""

  def __init__(self, *args, norm=None, relu=True, **kwargs):
    super().__init__(*args, bias=norm is None, **kwargs)
    self.relu = relu
    if norm is not None:
      self.norm = norm

  def forward(self, x):
    x = super().forward(x)
    if hasattr(self, "norm"):
      x = self.norm(x)
    return F.relu(x) if self.relu else x


def _conv(i, o, k, dilation=1, stride=1, **kwargs):
  norm = nn.BatchNorm2d(o)
  pad = dilation * (k // 2)
  return Conv(i, o, k, stride, pad, dilation, norm=norm, **kwargs)


class Block(nn.Module):
  def __init__(self, i, w, o, stride, dilation, first):
    super().__init__()
    a, b = (stride, 1) if first else (1, stride)
    self.conv1 = _conv(i, w, 1, stride=a)
    self.conv2 = _conv(w, w, 3, dilation, b)
    self.conv3 = _conv(w, o, 1, relu=False)
    if i != o:
      self.shortcut = _conv(i, o, 1, stride=stride, relu=False)

  def forward(self, x):
    y = self.conv3(self.conv2(self.conv1(x)))
    return F.relu(y + (self.shortcut(x) if hasattr(self, "shortcut") else x))


class Stem(nn.Module):
  def __init__(self, width, deep):
    super().__init__()
    if deep:
      self.conv1 = _conv(3, 64, 3, stride=2)
      self.conv2 = _conv(64, 64, 3)
      self.conv3 = _conv(64, 128, 3)
    else:
      self.conv1 = _conv(3, width, 7, stride=2)

  def forward(self, x):
    for conv in self.children():
      x = conv(x)
    return F.max_pool2d(x, 3, 2, 1)


class ResNet(nn.Module):
  """`blocks` of each stage; dilations of the last one, or none."""

  def __init__(self, blocks, deep=False, last=None, first=True):
    super().__init__()
    self.stem = Stem(64, deep)
    i = 128 if deep else 64
    for k, count in enumerate(blocks):
      o = 256 * 2**k
      dilations = last if last and k == 3 else (1,) * count
      stride = 1 if k == 0 or (last and k == 3) else 2
      stage = []
      for n in range(count):
        s = stride if n == 0 else 1
        stage.append(Block(i, o // 4, o, s, dilations[n], first))
        i = o
      setattr(self, f"res{k + 2}", nn.Sequential(*stage))

  def forward(self, x):
    x, out = self.stem(x), []
    for k in range(2, 6):
      x = getattr(self, f"res{k}")(x)
      out.append(x)
    return out


class FPN(nn.Module):
  def __init__(self, blocks, width):
    super().__init__()
    self.bottom_up = ResNet(blocks)
    for k in range(2, 6):
      setattr(self, f"fpn_lateral{k}", nn.Conv2d(64 * 2**k, width, 1))
      setattr(self, f"fpn_output{k}", nn.Conv2d(width, width, 3, padding=1))

  def forward(self, x):
    maps, above, out = self.bottom_up(x), None, []
    for k in (5, 4, 3, 2):
      y = getattr(self, f"fpn_lateral{k}")(maps[k - 2])
      if above is not None:
        y = y + F.interpolate(above, scale_factor=2.0, mode="nearest")
      above = y
      out.insert(0, getattr(self, f"fpn_output{k}")(y))
    return out


def _double(x, factor=2):
  return F.interpolate(
    x, scale_factor=factor, mode="bilinear", align_corners=False
  )


class FPNHead(nn.Module):
  def __init__(self, width, classes):
    super().__init__()
    for k in range(2, 6):
      layers = []
      for n in range(max(1, k - 2)):
        norm = nn.GroupNorm(32, 128)
        layers.append(
          Conv(width if n == 0 else 128, 128, 3, padding=1, norm=norm)
        )
        if k > 2:
          layers.append(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
          )
      setattr(self, f"p{k}", nn.Sequential(*layers))
    self.predictor = nn.Conv2d(128, classes, 1)

  def forward(self, maps):
    total = sum(getattr(self, f"p{k}")(m) for k, m in enumerate(maps, 2))
    return self.predictor(total)


class SemanticFPN(nn.Module):
  def __init__(self, blocks, width, classes):
    super().__init__()
    self.backbone = FPN(blocks, width)
    self.sem_seg_head = FPNHead(width, classes)

  def forward(self, x):
    return _double(self.sem_seg_head(self.backbone(x)), 4)


class PointHead(nn.Module):
  def __init__(self, channels, classes, each):
    super().__init__()
    self.each, i = each, channels + classes
    for k in (1, 2, 3):
      setattr(self, f"fc{k}", nn.Conv1d(i, 256, 1))
      i = 256 + (classes if each else 0)
    self.predictor = nn.Conv1d(i, classes, 1)

  def forward(self, fine, coarse):
    x = torch.cat([fine, coarse], 1)
    for k in (1, 2, 3):
      x = F.relu(getattr(self, f"fc{k}")(x))
      if self.each:
        x = torch.cat([x, coarse], 1)
    return self.predictor(x)


def read(x, points):
  """[B, C, H, W] at [B, P, 2] -> [B, C, P]."""
  grid = 2 * points[:, :, None] - 1
  return F.grid_sample(x, grid, align_corners=False)[..., 0]


class PointRendHead(nn.Module):
  def __init__(self, width, classes, each):
    super().__init__()
    self.coarse_sem_seg_head = FPNHead(width, classes)
    self.point_head = PointHead(width, classes, each)


class PointRend(nn.Module):
  def __init__(self, blocks, width, classes, each=False):
    super().__init__()
    self.backbone = FPN(blocks, width)
    self.sem_seg_head = PointRendHead(width, classes, each)

  def forward(self, x, num_points, steps, given=None):
    """Points are found, or `given` for each step, [B, N, 2]."""
    maps = self.backbone(x)
    coarse = self.sem_seg_head.coarse_sem_seg_head(maps)
    logits, used = coarse, []
    for step in range(steps):
      logits = _double(logits)
      b, k, h, w = logits.shape
      if given is None:
        best = logits.topk(2, dim=1)[0]
        doubt = (best[:, 1] - best[:, 0]).reshape(b, -1)
        cells = doubt.topk(num_points, dim=1)[1]
        x, y = cells % w, cells // w
        points = torch.stack([(x + 0.5) / w, (y + 0.5) / h], -1)
      else:
        points = given[step]
        x = (points[..., 0] * w).floor().long()
        y = (points[..., 1] * h).floor().long()
        cells = y * w + x
      values = self.sem_seg_head.point_head(
        read(maps[0], points), read(coarse, points)
      )
      index = cells[:, None].expand(-1, k, -1)
      logits = logits.reshape(b, k, h * w).scatter(2, index, values)
      logits = logits.view(b, k, h, w)
      used.append(points)
    return logits, used


class ASPP(nn.Module):
  def __init__(self, i, o, rates, window):
    super().__init__()
    self.window = window
    convs = [_conv(i, o, 1), *(_conv(i, o, 3, r) for r in rates)]
    convs.append(nn.Sequential(nn.Identity(), Conv(i, o, 1)))
    self.convs = nn.ModuleList(convs)
    self.project = _conv(5 * o, o, 1)

  def forward(self, x):
    y = [conv(x) for conv in self.convs[:4]]
    window = self.window or x.shape[2:]
    pooled = self.convs[4](F.avg_pool2d(x, window, stride=1))
    y.append(
      F.interpolate(
        pooled, size=x.shape[2:], mode="bilinear", align_corners=False
      )
    )
    return self.project(torch.cat(y, 1))


class DeepLabHead(nn.Module):
  def __init__(self, i, o, rates, window, classes):
    super().__init__()
    self.aspp = ASPP(i, o, rates, window)
    self.predictor = nn.Conv2d(o, classes, 1)


class DeepLab(nn.Module):
  def __init__(self, blocks, last, rates, window, width, classes):
    super().__init__()
    self.backbone = ResNet(blocks, True, last, False)
    self.sem_seg_head = DeepLabHead(2048, width, rates, window, classes)

  def forward(self, x):
    head = self.sem_seg_head
    return head.predictor(head.aspp(self.backbone(x)[3]))


class PlusHead(nn.Module):
  def __init__(self, o, rates, window, classes):
    super().__init__()
    fuse = nn.Sequential(_conv(48 + o, o, 3), _conv(o, o, 3))
    res2 = {"project_conv": _conv(256, 48, 1), "fuse_conv": fuse}
    res5 = {"project_conv": ASPP(2048, o, rates, window)}
    self.decoder = nn.ModuleDict(
      {"res2": nn.ModuleDict(res2), "res5": nn.ModuleDict(res5)}
    )
    self.predictor = nn.Conv2d(o, classes, 1)

  def forward(self, maps):
    y = self.decoder["res5"]["project_conv"](maps[3])
    fine = self.decoder["res2"]["project_conv"](maps[0])
    y = F.interpolate(
      y, size=fine.shape[2:], mode="bilinear", align_corners=False
    )
    y = self.decoder["res2"]["fuse_conv"](torch.cat([fine, y], 1))
    return self.predictor(y)


class DeepLabPlus(nn.Module):
  def __init__(self, blocks, last, rates, window, width, classes):
    super().__init__()
    self.backbone = ResNet(blocks, True, last, False)
    self.sem_seg_head = PlusHead(width, rates, window, classes)

  def forward(self, x):
    return self.sem_seg_head(self.backbone(x))


def random_state(model, draw):
  """Gives a model weights drawn by `draw(shapes)`; returns them."""
  state = draw({k: tuple(v.shape) for k, v in model.state_dict().items()})
  tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
  model.load_state_dict(tensors)
  model.eval()
  return state
