"""Mask R-CNN as detectron2 has it, in plain torch; written for this test.

Parameters are drawn when they are first asked for, by detectron2's names, so
that the network is written down once. `calibrate` gives the norms the
statistics of a picture and spreads the last layers.
"""

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F

from tests.parity.torchvision_shim import torchvision
from vision_jax import weights

MEAN = (103.53, 116.28, 123.675)


class MaskRCNN:
  """One picture at a time: `found = net(*net.prepare(bytes))`."""

  def __init__(self, blocks=(3, 4, 6, 3), classes=5, groups=1, group_width=64,
               stride_in_1x1=True, std=(1.0, 1.0, 1.0), min_size=128,
               max_size=224, proposals=(200, 40), pointrend=False):  # fmt: skip
    self.pointrend = pointrend
    self.blocks, self.classes = blocks, classes
    self.groups, self.group_width = groups, group_width
    self.stride_in_1x1, self.std = stride_in_1x1, std
    self.min_size, self.max_size = min_size, max_size
    self.proposals = proposals
    self.state = {}
    self.learning = False

  def get(self, name, *shape):
    if name not in self.state:
      array = weights.random_array(name, shape)
      self.state[name] = torch.from_numpy(array)
    return self.state[name]

  def spread(self, name, y, deviation):
    """Calibration of a last layer; axis 1 of `y` are its channels."""
    if not self.learning or name in self.done:
      return y
    self.done.add(name)
    mean = y.mean([k for k in range(y.ndim) if k != 1])
    centred = y - mean.reshape(1, -1, *[1] * (y.ndim - 2))
    factor = deviation / centred.std()
    self.state[f"{name}.weight"] *= factor
    bias = self.state[f"{name}.bias"]
    self.state[f"{name}.bias"] = (bias - mean) * factor
    return centred * factor

  def conv(self, name, x, out, size, stride=1, groups=1, norm=False):
    shape = (out, x.shape[1] // groups, size, size)
    bias = None if norm else self.get(f"{name}.bias", out)
    x = F.conv2d(x, self.get(f"{name}.weight", *shape), bias, stride,
                 size // 2, groups=groups)  # fmt: skip
    if not norm:
      return x
    names = ("weight", "bias", "running_mean", "running_var")
    w, b, mean, var = (self.get(f"{name}.norm.{n}", out) for n in names)
    if self.learning:
      mean[:] = x.mean((0, 2, 3))
      var[:] = x.var((0, 2, 3), unbiased=False)
      var += var.mean()
    scale = w / torch.sqrt(var + 1e-5)
    shift = b - mean * scale
    return x * scale[:, None, None] + shift[:, None, None]

  def backbone(self, x):
    top = "backbone.bottom_up"
    x = F.relu(self.conv(f"{top}.stem.conv1", x, 64, 7, 2, norm=True))
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, count in enumerate(self.blocks):
      width, out = 64 * 2**stage, 256 * 2**stage
      width = width * self.group_width // 64 * self.groups
      for k in range(count):
        name = f"{top}.res{stage + 2}.{k}"
        stride = 2 if stage and not k else 1
        first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
        y = F.relu(self.conv(f"{name}.conv1", x, width, 1, first, norm=True))
        y = F.relu(self.conv(f"{name}.conv2", y, width, 3, second, self.groups,
                             norm=True))  # fmt: skip
        y = self.conv(f"{name}.conv3", y, out, 1, norm=True)
        if not k:
          x = self.conv(f"{name}.shortcut", x, out, 1, stride, norm=True)
        x = F.relu(x + y)
      maps.append(x)
    levels, above = {}, None
    for k in (5, 4, 3, 2):
      here = self.conv(f"backbone.fpn_lateral{k}", maps[k - 2], 256, 1)
      if above is not None:
        here = here + F.interpolate(above, scale_factor=2.0, mode="nearest")
      above = here
      levels[k] = self.conv(f"backbone.fpn_output{k}", here, 256, 3)
    levels[6] = F.max_pool2d(levels[5], 1, 2, 0)
    return [levels[k] for k in (2, 3, 4, 5, 6)]

  def propose(self, maps, size):
    head = "proposal_generator.rpn_head"
    boxes, scores, numbers = [], [], []
    for k, x in enumerate(maps):
      t = F.relu(self.conv(f"{head}.conv", x, 256, 3))
      name = f"{head}.objectness_logits"
      logits = self.spread(name, self.conv(name, t, 3, 1), 2.0)
      name = f"{head}.anchor_deltas"
      deltas = self.spread(name, self.conv(name, t, 12, 1), 0.3)
      high, wide = x.shape[-2:]
      area, stride = (32.0 * 2**k) ** 2, 4 * 2**k
      cells = []
      for ratio in (0.5, 1.0, 2.0):
        w = (area / ratio) ** 0.5
        cells.append([-w / 2, -ratio * w / 2, w / 2, ratio * w / 2])
      y, x0 = torch.meshgrid(
        torch.arange(high) * stride, torch.arange(wide) * stride, indexing="ij"
      )
      shift = torch.stack([x0, y, x0, y], -1).reshape(-1, 1, 4)
      cells = torch.tensor(cells, dtype=torch.float32)  # as detectron2 has it
      anchors = (shift + cells).reshape(-1, 4)
      logits = logits.permute(0, 2, 3, 1).reshape(-1)
      deltas = deltas.reshape(3, 4, high, wide).permute(2, 3, 0, 1)
      box = _decode(deltas.reshape(-1, 4), anchors, (1.0, 1.0, 1.0, 1.0))
      best = logits.topk(min(self.proposals[0], len(logits))).indices
      boxes.append(box[best])
      scores.append(logits[best])
      numbers.append(torch.full((len(best),), k))
    box, score = _clip(torch.cat(boxes), size), torch.cat(scores)
    keep = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    box, score, number = box[keep], score[keep], torch.cat(numbers)[keep]
    keep = torchvision.ops.boxes.batched_nms(box, score, number, 0.7)
    return box[keep[: self.proposals[1]]]

  def pool(self, maps, boxes, size):
    side = ((boxes[:, 2:] - boxes[:, :2]).prod(1)).sqrt()
    level = torch.floor(4 + torch.log2(side / 224 + 1e-8)).clamp(2, 5) - 2
    out = torch.zeros(len(boxes), 256, size, size)
    for k in range(4):
      rows = torch.where(level == k)[0]
      rois = torch.cat([torch.zeros(len(rows), 1), boxes[rows]], 1)
      out[rows] = torchvision.ops.roi_align(
        maps[k], rois, size, 1 / (4 * 2**k), 0, aligned=True
      )
    return out

  def dense(self, name, x, out):
    weight = self.get(f"{name}.weight", out, x.shape[1])
    return F.linear(x, weight, self.get(f"{name}.bias", out))

  def prepare(self, image):
    """Bytes [H, W, 3] RGB -> [1, 3, h, w], padded, and the size inside."""
    high, wide = image.shape[:2]
    short = self.min_size
    new = (short, short / high * wide) if high < wide else (
      short / wide * high, short)  # fmt: skip
    if max(new) > self.max_size:
      new = [n * self.max_size / max(new) for n in new]
    new = [int(n + 0.5) for n in new]
    pixels = PIL.Image.fromarray(image).resize(
      new[::-1], PIL.Image.Resampling.BILINEAR
    )
    x = torch.from_numpy(np.asarray(pixels)[..., ::-1].astype(np.float32))
    x = (x - torch.tensor(MEAN)) / torch.tensor(self.std)
    x = x.permute(2, 0, 1)[None]
    return F.pad(x, (0, -new[1] % 32, 0, -new[0] % 32)), new

  def __call__(self, x, size):
    """What is found on a prepared picture, in its frame."""
    with torch.no_grad():
      maps = self.backbone(x)
      boxes, scores, labels = self.boxes(maps, size)
      masks = self.point_masks if self.pointrend else self.masks
      masks = masks(maps, boxes, labels)
    return {
      "boxes": boxes,
      "scores": scores,
      "labels": labels + 1,
      "masks": masks[:, None],
    }

  def double(self):
    self.state = {name: value.double() for name, value in self.state.items()}
    return self

  def boxes(self, maps, size):
    proposals = self.propose(maps, size)
    x = self.pool(maps, proposals, 7).flatten(1)
    for k in (1, 2):
      x = F.relu(self.dense(f"roi_heads.box_head.fc{k}", x, 1024))
    name = "roi_heads.box_predictor.cls_score"
    logits = self.spread(name, self.dense(name, x, self.classes + 1), 2.0)
    name = "roi_heads.box_predictor.bbox_pred"
    deltas = self.spread(name, self.dense(name, x, 4 * self.classes), 1.0)
    scores = logits.softmax(1)[:, :-1]
    box = _decode(
      deltas.reshape(-1, 4),
      proposals.repeat_interleave(self.classes, 0),
      (10.0, 10.0, 5.0, 5.0),
    )
    box = _clip(box, size).reshape(-1, self.classes, 4)
    row, label = torch.where(scores > 0.05)
    box, score = box[row, label], scores[row, label]
    keep = torchvision.ops.boxes.batched_nms(box, score, label, 0.5)[:100]
    return box[keep], score[keep], label[keep]

  def masks(self, maps, boxes, labels):
    x = self.pool(maps, boxes, 14)
    head = "roi_heads.mask_head"
    for k in (1, 2, 3, 4):
      x = F.relu(self.conv(f"{head}.mask_fcn{k}", x, 256, 3))
    weight = self.get(f"{head}.deconv.weight", 256, 256, 2, 2)
    bias = self.get(f"{head}.deconv.bias", 256)
    x = F.relu(F.conv_transpose2d(x, weight, bias, 2))
    name = f"{head}.predictor"
    x = self.spread(name, self.conv(name, x, self.classes, 1), 2.0)
    return x[torch.arange(len(x)), labels].sigmoid()

  def point_head(self, fine, coarse):
    """[R, C, P] and [R, K, P] -> [R, K, P]."""
    x, head = torch.cat([fine, coarse], 1), "roi_heads.mask_head.point_head"
    for k in (1, 2, 3):
      weight = self.get(f"{head}.fc{k}.weight", 256, x.shape[1], 1)
      x = F.conv1d(x, weight, self.get(f"{head}.fc{k}.bias", 256))
      x = torch.cat([F.relu(x), coarse], 1)
    name = f"{head}.predictor"
    weight = self.get(f"{name}.weight", self.classes, x.shape[1], 1)
    x = F.conv1d(x, weight, self.get(f"{name}.bias", self.classes))
    return self.spread(name, x, 2.0)

  def point_masks(self, maps, boxes, labels):
    """The loop of the release, with all classes at every step."""
    fine, count = maps[0], len(boxes)
    high, wide = (4 * n for n in fine.shape[-2:])

    def grid(side):
      place = (torch.arange(side) + 0.5) / side
      y, x = torch.meshgrid(place, place, indexing="ij")
      return torch.stack([x, y], -1).reshape(1, -1, 2).repeat(count, 1, 1)

    def read(points):  # of the unit frame of boxes
      at = boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2])[:, None]
      at = at / torch.tensor([wide, high])
      flat = F.grid_sample(fine, 2 * at.reshape(1, 1, -1, 2) - 1,
                           align_corners=False)  # fmt: skip
      return flat.reshape(-1, count, points.shape[1]).permute(1, 0, 2)

    def head(points):
      rough = F.grid_sample(
        coarse, 2 * points[:, None] - 1, align_corners=False
      )[:, :, 0]
      return self.point_head(read(points), rough)

    name = "roi_heads.mask_head.coarse_head"
    conv = f"{name}.reduce_spatial_dim_conv"
    x = F.relu(
      F.conv2d(
        read(grid(14)).reshape(count, -1, 14, 14),
        self.get(f"{conv}.weight", 256, 256, 2, 2),
        self.get(f"{conv}.bias", 256),
        2,
      )
    ).flatten(1)
    for k in (1, 2):
      x = F.relu(self.dense(f"{name}.fc{k}", x, 1024))
    x = self.dense(f"{name}.prediction", x, 49 * self.classes)
    coarse = self.spread(f"{name}.prediction", x, 2.0)
    coarse = coarse.reshape(count, self.classes, 7, 7)
    rows = torch.arange(count)
    logits = head(grid(28)).reshape(count, self.classes, 28, 28)
    for side in (56, 112, 224):
      logits = F.interpolate(logits, scale_factor=2, mode="bilinear")
      doubt = -logits[rows, labels].abs().flatten(1)
      cells = doubt.topk(784, 1).indices
      points = torch.stack([cells % side + 0.5, cells // side + 0.5], -1)
      found = head(points / side)
      flat = logits.flatten(2)
      flat = flat.scatter(2, cells[:, None].expand(-1, self.classes, -1), found)
      logits = flat.reshape(logits.shape)
    return logits[rows, labels].sigmoid()

  def calibrate(self, image):
    """Statistics and last layers from one picture."""
    self.learning, self.done = True, set()
    self(*self.prepare(image))
    self.learning = False


def _decode(deltas, anchors, factors):
  sides = anchors[:, 2:] - anchors[:, :2]
  center = anchors[:, :2] + 0.5 * sides
  deltas = deltas / torch.tensor(factors)
  center = deltas[:, :2] * sides + center
  sides = torch.exp(deltas[:, 2:].clamp(max=np.log(1000 / 16))) * sides
  return torch.cat([center - 0.5 * sides, center + 0.5 * sides], 1)


def _clip(boxes, size):
  limit = torch.tensor([size[1], size[0]] * 2).to(boxes.dtype)
  return torch.minimum(boxes.clamp(min=0), limit)
