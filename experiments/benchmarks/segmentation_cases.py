"""Rows of the benchmark: PointRend's subdivision, and DeepLabV3.

The subdivision of PyTorch is that of its users: all K channels of every map
are enlarged, and overwritten where the predicted class is uncertain. Ours
carries that class alone; the masks are the same, which every row checks.
"""

import functools
import math
from typing import Any

import jax
import numpy as np
import torch

from vision_jax import nn, ops, weights
from vision_jax.systems import deeplab, pointrend

_F = torch.nn.functional
_STEP_POINTS = 784
_STRIDE, _CANVAS = 4, (800, 1216)


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
  return rng.normal(size=shape).astype(np.float32)


def _smooth(rng: np.random.Generator, size: tuple[int, int], channels: int):
  """A map with structure at every scale, [H, W, C]."""
  total = np.zeros((*size, channels), np.float32)
  for k in (4, 8, 16):
    small = _random(rng, -(-size[0] // k), -(-size[1] // k), channels)
    total += small.repeat(k, 0).repeat(k, 1)[: size[0], : size[1]]
  return total


def _head(
  rng: np.random.Generator, channels: int, classes: int, each: bool
) -> Any:
  """Parameters of a head of points whose scores have unit size."""
  params, width = {}, channels + classes
  for k in (1, 2, 3):
    kernel = _random(rng, width, 256) * math.sqrt(2 / width)
    params[f"fc{k}"] = {"kernel": kernel, "bias": _random(rng, 256)}
    width = 256 + (classes if each else 0)
  kernel = _random(rng, width, classes) / math.sqrt(width)
  params["predictor"] = {"kernel": kernel, "bias": _random(rng, classes)}
  return params


class _TorchHead(torch.nn.Module):
  """The same head, as convolutions over points."""

  def __init__(self, params: Any, each: bool):
    super().__init__()
    self.each = each
    for name, layer in params.items():
      kernel = torch.from_numpy(layer["kernel"].T.copy())[..., None]
      conv = torch.nn.Conv1d(kernel.shape[1], kernel.shape[0], 1)
      conv.weight.data, conv.bias.data = kernel, torch.from_numpy(layer["bias"])
      setattr(self, name, conv)

  def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """[R, C, P], [R, K, P] -> [R, K, P]."""
    x = torch.cat([fine, coarse], 1)
    for k in (1, 2, 3):
      x = _F.relu(getattr(self, f"fc{k}")(x))
      if self.each:
        x = torch.cat([x, coarse], 1)
    return self.predictor(x)


def _double(x: torch.Tensor) -> torch.Tensor:
  return _F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _read(x: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
  """[B, C, H, W] at [B, P, 2] -> [B, C, P]."""
  grid = 2 * points[:, :, None] - 1
  return _F.grid_sample(x, grid, align_corners=False)[..., 0]


def _top(doubt: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
  """Cells and points of the most uncertain, from [B, H, W]."""
  b, h, w = doubt.shape
  cells = doubt.reshape(b, -1).topk(count, dim=1)[1]
  points = torch.stack([(cells % w + 0.5) / w, (cells // w + 0.5) / h], -1)
  return cells, points


def _write(x: torch.Tensor, cells: torch.Tensor, new: torch.Tensor):
  b, k, h, w = x.shape
  index = cells[:, None].expand(-1, k, -1)
  return x.reshape(b, k, h * w).scatter(2, index, new).view(b, k, h, w)


def _agree(ours: Any, theirs: Any, name: str) -> None:
  """The same decision everywhere, but for near-ties at a step's last point."""
  share = float((np.asarray(ours) != np.asarray(theirs)).mean())
  if share > 2e-4:
    raise AssertionError(f"{name}: {share:.1e} of the pixels differ")


def _torch_forms(function: Any, arguments: Any, ours: Any) -> dict[str, Any]:
  """Eager and compiled PyTorch, checked against our result."""
  with torch.no_grad():
    _agree(ours, function(*arguments), "torch eager")

  def run(f: Any) -> Any:
    with torch.no_grad():
      return f(*arguments)

  forms = {"torch eager": functools.partial(run, function)}
  compiled = torch.compile(function)
  forms["torch compile"] = functools.partial(run, compiled)
  return forms


def instance_subdivision(num_boxes: int, classes: int = 80):
  """Masks of 224 x 224 from coarse ones of 7 x 7, 784 points a step."""
  rng = np.random.default_rng(0)
  size = tuple(n // _STRIDE for n in _CANVAS)
  features = _smooth(rng, size, 256)
  corners = rng.uniform(0, 0.6, (num_boxes, 2))
  boxes = np.concatenate(
    [corners, corners + rng.uniform(0.05, 0.4, (num_boxes, 2))], -1
  ).astype(np.float32)
  coarse = _random(rng, num_boxes, 7, 7, classes)
  labels = rng.integers(0, classes, num_boxes).astype(np.int32)
  params = _head(rng, 256, classes, True)
  head = nn.PointHead(classes)

  @jax.jit
  def run(params, features, boxes, coarse, labels):
    evaluate = functools.partial(head.apply, {"params": params})
    # Boxes of the unit frame, in which the picture is of size one.
    return pointrend.refine_masks(
      evaluate,
      features,
      coarse,
      boxes,
      labels,
      (1, 1),
      side=224,
      num_points=_STEP_POINTS,
    )

  inputs = jax.device_put((params, features, boxes, coarse, labels))
  ours = lambda: jax.block_until_ready(run(*inputs))  # noqa: E731
  torch_head = _TorchHead(params, True)

  def torch_run(features, boxes, coarse, labels):
    rows = torch.arange(len(boxes))

    def evaluate(points):
      low, high = boxes[:, None, :2], boxes[:, None, 2:]
      at = (low + points * (high - low)).reshape(1, -1, 2)
      fine = _read(features, at)[0].reshape(256, len(boxes), -1)
      return torch_head(fine.transpose(0, 1), _read(coarse, points))

    step = (torch.arange(28) + 0.5) / 28
    y, x = torch.meshgrid(step, step, indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, -1, 2)
    points = points.expand(len(boxes), -1, -1)
    masks = evaluate(points).view(len(boxes), classes, 28, 28)
    for _ in range(3):
      masks = _double(masks)
      doubt = -masks[rows, labels].abs()
      cells, points = _top(doubt, _STEP_POINTS)
      masks = _write(masks, cells, evaluate(points))
    return masks[rows, labels] > 0

  arguments = (
    torch.from_numpy(features.transpose(2, 0, 1).copy())[None],
    torch.from_numpy(boxes),
    torch.from_numpy(coarse.transpose(0, 3, 1, 2).copy()),
    torch.from_numpy(labels).long(),
  )
  forms = _torch_forms(torch_run, arguments, np.asarray(ours()) > 0)
  products = 258_048 + 3 * 256 * classes + 256 + classes  # one predicted class
  flops = 2 * 4 * _STEP_POINTS * num_boxes * products
  return {"vision_jax": ours, **forms}, {"flops": flops}


def semantic_subdivision(
  start: tuple[int, int] = (64, 128), classes: int = 19, num_points: int = 8192
):
  """Four steps from 64 x 128 to 1024 x 2048."""
  rng = np.random.default_rng(1)
  end = (16 * start[0], 16 * start[1])
  fine = _smooth(rng, (4 * start[0], 4 * start[1]), 256)
  # Noise, because cells of equal doubt may be taken in any order.
  coarse = 2 * _smooth(rng, start, classes) + 0.1 * _random(
    rng, *start, classes
  )
  params = _head(rng, 256, classes, False)
  head = nn.PointHead(classes, coarse_each_layer=False)
  sizes = ops.subdivision_sizes(start, end)

  @jax.jit
  def run(params, fine, coarse):
    def evaluate(points):
      return head.apply(
        {"params": params},
        ops.point_sample(fine, points),
        ops.point_sample(coarse, points),
      )

    return ops.refine(coarse, evaluate, sizes, num_points=num_points).logits

  inputs = jax.device_put((params, fine, coarse))
  ours = lambda: jax.block_until_ready(run(*inputs))  # noqa: E731
  torch_head = _TorchHead(params, False)

  def torch_run(fine, coarse, decide):
    logits = coarse
    for _ in sizes:
      logits = _double(logits)
      best = logits.topk(2, dim=1)[0]
      cells, points = _top(best[:, 1] - best[:, 0], num_points)
      new = torch_head(_read(fine, points), _read(coarse, points))
      logits = _write(logits, cells, new)
    return logits.argmax(1)[0] if decide else logits

  arguments = [
    torch.from_numpy(x.transpose(2, 0, 1).copy())[None] for x in (fine, coarse)
  ]
  with torch.no_grad():
    expected = torch_run(*arguments, True)
  _agree(np.asarray(ours()).argmax(-1), expected, "torch eager")

  def eager() -> Any:
    with torch.no_grad():
      return torch_run(*arguments, False)

  compiled = torch.compile(torch_run)

  def fast() -> Any:
    with torch.no_grad():
      return compiled(*arguments, False)

  contestants = {
    "vision_jax": ours,
    "torch eager": eager,
    "torch compile": fast,
  }
  return contestants, {"flops": 2 * len(sizes) * num_points * 206_080}


def deeplabv3(size: int = 520):
  """Scores of torchvision's DeepLabV3 with ResNet-50, one image."""
  from tests.parity.torchvision_shim import torchvision

  module = deeplab.deeplabv3_resnet50(aux=False)
  variables = weights.random_variables(module, seed=0)
  images = _random(np.random.default_rng(2), 1, size, size, 3)
  run = jax.jit(lambda v, x: module.apply(v, x)["out"])
  inputs = jax.device_put((variables, images))
  ours = lambda: jax.block_until_ready(run(*inputs))  # noqa: E731
  state = weights.variables_to_state_dict(module, variables)
  contestants = {"vision_jax": ours}

  def forward(network: Any, tensor: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
      return network(tensor)["out"]

  for name, layout in (
    ("eager", torch.contiguous_format),
    ("channels_last", torch.channels_last),
  ):
    network = torchvision.models.segmentation.deeplabv3_resnet50(
      weights=None, weights_backbone=None, num_classes=21, aux_loss=False
    )
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
    network.load_state_dict(tensors, strict=False)
    network = network.eval().requires_grad_(False).to(memory_format=layout)
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    tensor = tensor.to(memory_format=layout)
    contestants[f"torch {name}"] = functools.partial(forward, network, tensor)
  contestants["torch compile"] = functools.partial(
    forward, torch.compile(network), tensor
  )
  expected = contestants["torch eager"]().permute(0, 2, 3, 1).numpy()
  worst = np.abs(np.asarray(ours()) - expected).max() / np.abs(expected).max()
  if worst > 1e-4:
    raise AssertionError(f"DeepLabV3: scores differ by {worst:.1e}")
  return contestants, {"flops": 2 * 178.722e9 * (size / 520) ** 2}
