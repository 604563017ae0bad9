"""Rows of the benchmark: grids, sampling and its derivatives, heatmaps.

PyTorch's images are channels-first or channels-last in memory, ours channels
last. Every row checks that all contestants give the same numbers.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from vision_jax import ops

_F = torch.nn.functional


def _rotations(batch: int) -> np.ndarray:
  """Maps of the ndc frame: turned by up to 30 degrees, scaled, moved."""
  rng = np.random.default_rng(0)
  angle, scale = rng.uniform(-0.5, 0.5, batch), rng.uniform(0.8, 1.2, batch)
  theta = np.zeros((batch, 2, 3), np.float32)
  theta[:, 0, 0] = theta[:, 1, 1] = scale * np.cos(angle)
  theta[:, 0, 1], theta[:, 1, 0] = -np.sin(angle), np.sin(angle)
  theta[:, :, 2] = rng.uniform(-0.1, 0.1, (batch, 2))
  return theta


def _first(x: np.ndarray, channels_last: bool) -> torch.Tensor:
  """[B, H, W, C] as torch's [B, C, H, W]."""
  tensor = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
  if channels_last:
    tensor = tensor.to(memory_format=torch.channels_last)
  return tensor


def _check(contestants: dict[str, Callable[[], Any]], tolerance: float) -> None:
  """All give what the first gives; [B, C, H, W] is turned."""
  results = {
    name: [np.asarray(v) for v in jax.tree.leaves(run())]
    for name, run in contestants.items()
  }
  expected = results["vision_jax"]
  for name, found in results.items():
    for a, b in zip(found, expected, strict=True):
      if a.shape != b.shape:
        a = np.moveaxis(a, 1, -1)
      scale = np.abs(b).max()
      np.testing.assert_allclose(
        a / scale, b / scale, atol=tolerance, err_msg=name
      )


def _with_torch(
  ours: Callable[[], Any],
  function: Callable[..., Any],
  arguments: Callable[[bool], tuple[Any, ...]],
  tolerance: float = 1e-4,
  kornia: Callable[..., Any] | None = None,
) -> dict[str, Callable[[], Any]]:
  """Eager, channels-last eager and compiled, checked; kornia, if installed."""
  contestants = {"vision_jax": ours}
  for name, channels_last in (("eager", False), ("channels_last", True)):
    values = arguments(channels_last)
    contestants[f"torch {name}"] = lambda v=values: function(*v)
  compiled, values = torch.compile(function), arguments(False)
  contestants["torch compile"] = lambda: compiled(*values)
  if kornia is not None and importlib.util.find_spec("kornia"):
    contestants["kornia"] = lambda: kornia(*values)
  _check(contestants, tolerance)
  return contestants


def grid_sample(batch: int, size: int, channels: int, derivatives: bool):
  """Bilinear sampling with zeros outside; with both derivatives."""
  rng = np.random.default_rng(1)
  images = rng.normal(size=(batch, size, size, channels)).astype(np.float32)
  cotangent = rng.normal(size=images.shape).astype(np.float32)
  grid = np.array(ops.affine_grid(_rotations(batch), (size, size)))

  def run(image, grid, cotangent):
    if not derivatives:
      return ops.grid_sample(image, grid)
    out, pull = jax.vjp(ops.grid_sample, image, grid)
    return out, *pull(cotangent)

  def torch_run(image, grid, cotangent):
    if not derivatives:
      return _F.grid_sample(image, grid, align_corners=False)
    image, grid = image.requires_grad_(), grid.requires_grad_()
    out = _F.grid_sample(image, grid, align_corners=False)
    slopes = torch.autograd.grad(out, (image, grid), cotangent)
    return out.detach(), *slopes

  def arguments(channels_last):
    return (
      _first(images, channels_last),
      torch.from_numpy(grid),
      _first(cotangent, channels_last),
    )

  jitted, inputs = jax.jit(run), jax.device_put((images, grid, cotangent))
  contestants = _with_torch(
    lambda: jax.block_until_ready(jitted(*inputs)), torch_run, arguments
  )
  moved = images.nbytes * (2 if not derivatives else 4)
  return contestants, {"bytes_moved": moved + grid.nbytes}


def affine_grid(batch: int, size: int):
  """Positions of an affine map."""
  theta = _rotations(batch)
  jitted = jax.jit(lambda t: ops.affine_grid(t, (size, size)))
  value = jax.device_put(theta)
  contestants = _with_torch(
    lambda: jax.block_until_ready(jitted(value)),
    lambda t: _F.affine_grid(t, [batch, 1, size, size], align_corners=False),
    lambda channels_last: (torch.from_numpy(theta),),
  )
  return contestants, {"bytes_moved": batch * size * size * 8}


def thin_plate_grid(batch: int, size: int):
  """Positions of a spline of 16 control points, and their derivative.

  kornia's spline is another one: its kernels stand at the moved points.
  """
  rng = np.random.default_rng(2)
  control = ops.control_lattice(4)
  values = (control + rng.normal(scale=0.1, size=(batch, 16, 2))).astype(
    np.float32
  )
  cotangent = rng.normal(size=(batch, size, size, 2)).astype(np.float32)

  def run(values, cotangent):
    grid, pull = jax.vjp(lambda v: ops.thin_plate_grid(v, (size, size)), values)
    return grid, *pull(cotangent)

  def radial(square):
    return torch.where(square > 0, 0.5 * square * torch.log(square), 0.0)

  c = torch.from_numpy(control).float()
  system = torch.zeros(19, 19, dtype=torch.float64)
  square = ((control[:, None] - control[None]) ** 2).sum(-1)
  system[:16, :16] = radial(torch.from_numpy(square)).nan_to_num()
  system[:16, 16] = system[16, :16] = 1
  system[:16, 17:] = torch.from_numpy(control)
  system[17:, :16] = torch.from_numpy(control).T
  inverse = torch.linalg.inv(system)[:, :16].float()
  line = (2 * torch.arange(size) + 1) / size - 1
  y, x = torch.meshgrid(line, line, indexing="ij")
  points = torch.stack([x, y], -1).reshape(-1, 2)
  basis = torch.cat(
    [
      radial(((points[:, None] - c[None]) ** 2).sum(-1)).nan_to_num(),
      torch.ones(len(points), 1),
      points,
    ],
    -1,
  )

  def torch_run(values, cotangent):
    values = values.requires_grad_()
    grid = (basis @ (inverse @ values)).reshape(batch, size, size, 2)
    return grid.detach(), *torch.autograd.grad(grid, values, cotangent)

  jitted, inputs = jax.jit(run), jax.device_put((values, cotangent))
  contestants = _with_torch(
    lambda: jax.block_until_ready(jitted(*inputs)),
    torch_run,
    lambda channels_last: (
      torch.from_numpy(values),
      torch.from_numpy(cotangent),
    ),
  )
  return contestants, {"flops": 4 * batch * size * size * 19 * 2}


def soft_argmax(batch: int, size: int, joints: int):
  """Expected positions and their derivative."""
  rng = np.random.default_rng(3)
  scores = rng.normal(size=(batch, size, size, joints)).astype(np.float32)
  cotangent = rng.normal(size=(batch, joints, 2)).astype(np.float32)

  def run(scores, cotangent):
    points, pull = jax.vjp(ops.soft_argmax, scores)
    return points, *pull(cotangent)

  line = torch.arange(size).float()

  def torch_run(scores, cotangent):
    scores = scores.requires_grad_()
    p = scores.flatten(2).softmax(-1).reshape(scores.shape)
    points = torch.stack(
      [(p.sum(2) * line).sum(-1), (p.sum(3) * line).sum(-1)], -1
    )
    return points.detach(), *torch.autograd.grad(points, scores, cotangent)

  def kornia_run(scores, cotangent):
    from kornia.geometry import subpix

    scores = scores.requires_grad_()
    points = subpix.spatial_soft_argmax2d(scores, normalized_coordinates=False)
    return points.detach(), *torch.autograd.grad(points, scores, cotangent)

  jitted, inputs = jax.jit(run), jax.device_put((scores, cotangent))
  contestants = _with_torch(
    lambda: jax.block_until_ready(jitted(*inputs)),
    torch_run,
    lambda channels_last: (
      _first(scores, channels_last),
      torch.from_numpy(cotangent),
    ),
    kornia=kornia_run,
  )
  return contestants, {"bytes_moved": 2 * scores.nbytes}


def crop_and_resize(num_boxes: int, side: int, channels: int):
  """Boxes of one feature map, beside a batch of grids of its copies."""
  rng = np.random.default_rng(4)
  image = rng.normal(size=(50, 68, channels)).astype(np.float32)
  corners = rng.uniform(0, 0.6, (num_boxes, 2)) * [68, 50]
  sides = rng.uniform(4, 20, (num_boxes, 2))
  boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
  theta = np.zeros((num_boxes, 2, 3), np.float32)
  for axis, length in enumerate((68, 50)):
    theta[:, axis, axis] = (boxes[:, 2 + axis] - boxes[:, axis]) / length
    theta[:, axis, 2] = (boxes[:, 2 + axis] + boxes[:, axis]) / length - 1

  def torch_run(image, theta):
    size = [num_boxes, channels, side, side]
    grid = _F.affine_grid(theta, size, align_corners=False)
    return _F.grid_sample(
      image.expand(num_boxes, -1, -1, -1), grid, align_corners=False
    )

  jitted = jax.jit(lambda x, b: ops.crop_and_resize(x, b, (side, side)))
  inputs = jax.device_put((image, boxes))
  contestants = _with_torch(
    lambda: jax.block_until_ready(jitted(*inputs)),
    torch_run,
    lambda channels_last: (
      _first(image[None], channels_last),
      torch.from_numpy(theta),
    ),
  )
  return contestants, {"bytes_moved": 5 * num_boxes * side**2 * channels * 4}
