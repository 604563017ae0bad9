"""Rows of the benchmark: suppression of boxes, and features of regions.

torchvision's compiled operators do not load beside the CPU build of torch that
is measured here, so these are not rows against them. The counterparts are the
strongest vectorised forms in torch itself that we know: for suppression a row
of overlaps for each box kept, or all overlaps and a fixed point; for RoIAlign
`grid_sample` and a mean of the samples, and torchvision's own in Python.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from vision_jax import ops

_F = torch.nn.functional
_IMAGE = (800, 1088)


def _scene(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Clusters of boxes inside an image, and scores without ties."""
  rng = np.random.default_rng(0)
  objects = max(count // 15, 1)
  which = rng.integers(0, objects, count)
  center = rng.uniform(0, _IMAGE[::-1], (objects, 2))[which]
  half = np.exp(rng.uniform(np.log(8), np.log(150), (objects, 2)))[which]
  center += rng.normal(0, 0.15, (count, 2)) * half
  half *= np.exp(rng.normal(0, 0.15, (count, 2)))
  limit = np.array([*_IMAGE[::-1], *_IMAGE[::-1]])
  boxes = np.clip(np.concatenate([center - half, center + half], -1), 0, limit)
  boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
  return boxes.astype(np.float32), rng.permutation(count).astype(np.float32)


def _rows(boxes, scores, threshold, wanted):
  """Overlaps of each box that is kept with those that are left."""
  order = torch.argsort(scores, descending=True)
  x1, y1, x2, y2 = boxes[order].T.contiguous()
  area = (x2 - x1) * (y2 - y1)
  left = torch.arange(len(order))
  kept = []
  while len(left) and len(kept) < wanted:
    i = int(left[0])
    kept.append(i)
    left = left[1:]
    w = torch.minimum(x2[left], x2[i]) - torch.maximum(x1[left], x1[i])
    h = torch.minimum(y2[left], y2[i]) - torch.maximum(y1[left], y1[i])
    common = w.clamp_(min=0) * h.clamp_(min=0)
    left = left[common / (area[left] + area[i] - common) <= threshold]
  return order[torch.tensor(kept)]


def _table(boxes, threshold):
  """Which box suppresses which, of boxes in order."""
  x1, y1, x2, y2 = boxes.T
  w = torch.minimum(x2[:, None], x2) - torch.maximum(x1[:, None], x1)
  h = torch.minimum(y2[:, None], y2) - torch.maximum(y1[:, None], y1)
  common = w.clamp(min=0) * h.clamp(min=0)
  area = (x2 - x1) * (y2 - y1)
  return (common / (area[:, None] + area - common) > threshold).triu(1)


def _round(near, kept):
  return ~(near & kept[:, None]).any(0)


def _settle(boxes, scores, threshold, wanted, table=_table, again=_round):
  order = torch.argsort(scores, descending=True)
  near = table(boxes[order].contiguous(), threshold)
  kept = torch.ones(len(order), dtype=torch.bool)
  while True:
    new = again(near, kept)
    if torch.equal(new, kept):
      return order[kept][:wanted]
    kept = new


def nms(count: int):
  """IoU above 0.7, at most 1000 boxes kept."""
  boxes, scores = _scene(count)
  threshold, wanted = 0.7, 1000
  run = jax.jit(
    lambda b, s: ops.nms(b, s, iou_threshold=threshold, max_outputs=wanted)
  )
  inputs = jax.device_put((boxes, scores))
  tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
  compiled = torch.compile(_table), torch.compile(_round)
  contestants = {
    "vision_jax": lambda: jax.block_until_ready(run(*inputs)),
    "torch row by row": lambda: _rows(*tensors, threshold, wanted),
    "torch fixed point": lambda: _settle(*tensors, threshold, wanted),
    "torch fixed point, compile": lambda: _settle(
      *tensors, threshold, wanted, *compiled
    ),
  }
  index, valid = (np.asarray(v) for v in contestants["vision_jax"]())
  for name, function in contestants.items():
    if name != "vision_jax":
      np.testing.assert_array_equal(index[valid], function().numpy(), name)
  return contestants, {}


def _grid(boxes, scale, size, bins):
  """Positions of 2 x 2 samples in each bin, [R, 2 bins, 2 bins, 2]."""
  low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
  step = (high - low).clamp(min=1) / (2 * bins)
  line = torch.arange(2 * bins) + 0.5
  place = low[:, None] + line[:, None] * step[:, None]
  x, y = 2 * place.unbind(-1)[0] / (size[1] - 1) - 1, place[..., 1]
  y = 2 * y / (size[0] - 1) - 1
  shape = (len(boxes), 2 * bins, 2 * bins)
  return torch.stack(
    [x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1
  )


def _by_boxes(image, boxes, scale, bins):
  """A view of the map for each box."""
  grid = _grid(boxes, scale, image.shape[2:], bins)
  samples = _F.grid_sample(
    image.expand(len(boxes), -1, -1, -1),
    grid,
    padding_mode="border",
    align_corners=True,
  )
  return _F.avg_pool2d(samples, 2)


def _in_one(image, boxes, scale, bins):
  """All boxes in one grid of one map."""
  grid = _grid(boxes, scale, image.shape[2:], bins)
  samples = _F.grid_sample(
    image,
    grid.reshape(1, -1, 2 * bins, 2),
    padding_mode="border",
    align_corners=True,
  )
  means = _F.avg_pool2d(samples, 2)  # [1, C, R bins, bins]
  return means[0].reshape(image.shape[1], -1, bins, bins).transpose(0, 1)


def _torchvision(image, boxes, scale, bins):
  from tests.parity.torchvision_shim import torchvision

  return torchvision.ops.roi_align(image, [boxes], bins, scale, 2, False)


def _contestants(
  ours: Callable[[], Any],
  forms: dict[str, Callable[..., Any]],
  maps: list[np.ndarray],
  compiled: str,
) -> dict[str, Callable[[], Any]]:
  """Each form eager and channels-last, one compiled; checked."""
  contestants = {"vision_jax": ours}

  def tensors(channels_last):
    first = [torch.from_numpy(np.moveaxis(m, -1, 0).copy())[None] for m in maps]
    if channels_last:
      first = [m.to(memory_format=torch.channels_last) for m in first]
    return first

  for name, form in forms.items():
    for layout, last in (("eager", False), ("channels_last", True)):
      values = tensors(last)
      contestants[f"torch {name}, {layout}"] = lambda f=form, v=values: f(v)
  program, values = torch.compile(forms[compiled]), tensors(True)
  contestants[f"torch {compiled}, compile"] = lambda: program(values)
  expected = [np.asarray(v) for v in jax.tree.leaves(ours())]
  for name, function in contestants.items():
    found = [np.asarray(v) for v in jax.tree.leaves(function())]
    for a, b in zip(found, expected, strict=True):
      if a.shape != b.shape:
        a = np.moveaxis(a, 1, -1).reshape(b.shape)
      scale = np.abs(b).max()
      np.testing.assert_allclose(a / scale, b / scale, atol=1e-4, err_msg=name)
  return contestants


def roi_align(count: int, derivative: bool, bins: int = 7, channels: int = 256):
  """One map of stride 16; with the derivative, of the map."""
  boxes, _ = _scene(count)
  rng = np.random.default_rng(1)
  features = rng.normal(size=(50, 68, channels)).astype(np.float32)
  cotangent = rng.normal(size=(count, bins, bins, channels)).astype(np.float32)
  scale = 1 / 16

  def run(features, boxes, cotangent):
    def pool(f):
      return ops.roi_align(f, boxes, (bins, bins), scale=scale)

    if not derivative:
      return pool(features)
    out, pull = jax.vjp(pool, features)
    return out, *pull(cotangent)

  jitted = jax.jit(run)
  inputs = jax.device_put((features, boxes, cotangent))
  torch_boxes = torch.from_numpy(boxes)
  torch_cotangent = torch.from_numpy(np.moveaxis(cotangent, -1, 1).copy())

  def in_torch(form):
    def run(maps):
      if not derivative:
        return form(maps[0], torch_boxes, scale, bins)
      leaf = maps[0].detach().requires_grad_()
      out = form(leaf, torch_boxes, scale, bins)
      slope = torch.autograd.grad(out, leaf, torch_cotangent)
      return out.detach(), *slope

    return run

  # With the derivative a view of the map for each box needs a map of slopes
  # for each box; all boxes in one grid do not.
  form = ("one grid", _in_one) if derivative else ("grid_sample", _by_boxes)
  forms = {form[0]: in_torch(form[1])}
  if count <= 256:
    forms["torchvision in Python"] = in_torch(_torchvision)
  contestants = _contestants(
    lambda: jax.block_until_ready(jitted(*inputs)), forms, [features], form[0]
  )
  reads = 16 * count * bins**2 * channels
  return contestants, {"flops": 2 * reads * (2 if derivative else 1)}


def roi_align_pyramid(count: int, bins: int = 7, channels: int = 256):
  """Each box on its level of a pyramid of strides 4 to 32."""
  boxes, _ = _scene(count)
  rng = np.random.default_rng(2)
  scales = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
  maps = [
    rng.normal(size=(int(_IMAGE[0] * s), int(_IMAGE[1] * s), channels)).astype(
      np.float32
    )
    for s in scales
  ]
  jitted = jax.jit(
    lambda maps, boxes: ops.multilevel_roi_align(
      maps, boxes, (bins, bins), scales=scales
    )
  )
  inputs = jax.device_put((maps, boxes))
  torch_boxes = torch.from_numpy(boxes)

  def by_level(maps):
    side = torch.sqrt(torch.prod(torch_boxes[:, 2:] - torch_boxes[:, :2], -1))
    level = torch.floor(4 + torch.log2(side / 224) + 1e-6).clamp(2, 5) - 2
    out = torch.empty(count, channels, bins, bins)
    for k, scale in enumerate(scales):
      own = torch.nonzero(level == k)[:, 0]
      if len(own):
        out[own] = _by_boxes(maps[k], torch_boxes[own], scale, bins)
    return out

  contestants = _contestants(
    lambda: jax.block_until_ready(jitted(*inputs)),
    {"grid_sample by level": by_level},
    maps,
    "grid_sample by level",
  )
  return contestants, {"flops": 32 * count * bins**2 * channels}
