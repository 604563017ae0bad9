"""From heatmaps to points, by the maximum and its neighbours.

Heatmaps are [..., H, W, J]; points [..., J, 2] in order (x, y), index frame of
the map, with the value at the maximum [..., J]. Of equal maxima the first in
row-major order counts. None of these has a useful derivative; see `heatmaps`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.filters import gaussian_kernel
from vision_jax.ops.heatmaps import argmax_cells, check_heatmaps, window

__all__ = ["decode_argmax", "decode_dark", "decode_quarter", "decode_taylor"]


def decode_argmax(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The cell of the maximum.

  Convention:
    Order (x, y), index frame of the map.

  Args:
    scores: heatmaps [..., H, W, J].

  Returns:
    Points [..., J, 2] and the values there [..., J].

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> maps = jnp.zeros((4, 6, 1)).at[2, 5].set(0.5)
    >>> print(*ops.decode_argmax(maps))
    [[5. 2.]] [0.5]

  Source:
    Definition.
  """
  scores = check_heatmaps("decode_argmax", scores, 2)
  cells, value = argmax_cells(scores, 2)
  return cells.astype(scores.dtype), value


def _neighbourhood(
  scores: jax.Array, radius: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Cells [..., J, 2], values there, and the (2r + 1)^2 values around them."""
  cells, value = argmax_cells(scores, 2)
  around = window(scores, cells, radius, 2, 0.0)
  side = 2 * radius + 1
  return cells, value, around.reshape(*around.shape[:-1], side, side)


def _within(cells: jax.Array, size: tuple[int, ...], margin: int) -> jax.Array:
  """Whether 1 < x < W - margin and 1 < y < H - margin."""
  x, y = cells[..., 0], cells[..., 1]
  inside = (x > 1) & (x < size[1] - margin)
  return inside & (y > 1) & (y < size[0] - margin)


def decode_quarter(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The maximum, moved a quarter cell towards its larger neighbour.

  Convention:
    Order (x, y), index frame of the map.

  Args:
    scores: heatmaps [..., H, W, J].

  Returns:
    Points [..., J, 2] and the values at the maximum [..., J]. A maximum in the
    first two or the last row or column stays.

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> maps = jnp.zeros((6, 6, 1)).at[2, 2:4, 0].set(jnp.array([1.0, 0.5]))
    >>> print(ops.decode_quarter(maps)[0])
    [[2.25 2.  ]]

  Source:
    Xiao et al., Simple Baselines, 2018; reference code, core/inference.py.
  """
  scores = check_heatmaps("decode_quarter", scores, 2)
  cells, value, v = _neighbourhood(scores, 1)
  step = jnp.stack(
    [v[..., 1, 2] - v[..., 1, 0], v[..., 2, 1] - v[..., 0, 1]], -1
  )
  inside = _within(cells, scores.shape[-3:-1], 1)
  move = jnp.where(inside[..., None], 0.25 * jnp.sign(step), 0)
  return cells.astype(scores.dtype) + move, value


def decode_dark(
  scores: jax.Array, *, kernel_size: int = 11
) -> tuple[jax.Array, jax.Array]:
  """The maximum of a Gaussian through the blurred heatmap: one Newton step.

  The map is blurred, scaled back to its maximum, and its logarithm expanded to
  second order around the maximum: x - H^-1 g.

  Convention:
    Order (x, y), index frame of the map.

  Args:
    scores: heatmaps [..., H, W, J], such as those trained by squared error.
    kernel_size: side of the blur, odd; 11 for targets of sigma 2. Its standard
      deviation is 0.3 ((kernel_size - 1) / 2 - 1) + 0.8, OpenCV's for a size
      above 7.

  Returns:
    Points [..., J, 2] and the values at the maximum [..., J]. A maximum near
    the border, or without curvature, stays.

  Raises:
    ValueError: if the shape is wrong or `kernel_size` is even.

  Example:
    >>> from vision_jax import ops
    >>> maps = ops.gaussian_heatmaps(jnp.array([[20.3, 15.8]]), (32, 40),
    ...                              sigma=2.0)
    >>> print(np.asarray(ops.decode_dark(maps)[0]).round(1))
    [[20.3 15.8]]

  Source:
    Zhang et al., Distribution-Aware Coordinate Representation for Human Pose
    Estimation, 2020, equations 4 to 9.
  """
  scores = check_heatmaps("decode_dark", scores, 2)
  if kernel_size < 3 or kernel_size % 2 == 0:
    raise ValueError(
      "decode_dark: `kernel_size` must be odd and at least 3, got "
      f"{kernel_size}."
    )
  cells, value = argmax_cells(scores, 2)
  sigma = 0.3 * ((kernel_size - 1) / 2 - 1) + 0.8
  kernel = gaussian_kernel(kernel_size, sigma)
  radius = 2 + kernel_size // 2
  side = 2 * radius + 1
  around = window(scores, cells, radius, 2, 0.0)
  around = around.reshape(*around.shape[:-1], side, side)
  # Only the 5 x 5 cells around the maximum are needed of the blurred map.
  rows = np.zeros((5, side))
  for k in range(5):
    rows[k, k : k + kernel_size] = kernel
  band = jnp.asarray(rows, around.dtype)
  v = jnp.einsum("ik,...kl,jl->...ij", band, around, band, precision="highest")
  return _newton(cells, value, v, scores.shape[-3:-1]), value


def _newton(
  cells: jax.Array, value: jax.Array, v: jax.Array, size: tuple[int, ...]
) -> jax.Array:
  """X - H^-1 g of the logarithm of the values [..., J, 5, 5] around x."""
  peak = v[..., 2, 2]
  scale = value / jnp.where(peak > 0, peak, 1)
  v = jnp.log(jnp.maximum(v * scale[..., None, None], 1e-10))
  gx = 0.5 * (v[..., 2, 3] - v[..., 2, 1])
  gy = 0.5 * (v[..., 3, 2] - v[..., 1, 2])
  hxx = 0.25 * (v[..., 2, 4] - 2 * v[..., 2, 2] + v[..., 2, 0])
  hyy = 0.25 * (v[..., 4, 2] - 2 * v[..., 2, 2] + v[..., 0, 2])
  hxy = 0.25 * (v[..., 3, 3] - v[..., 3, 1] - v[..., 1, 3] + v[..., 1, 1])
  det = hxx * hyy - hxy * hxy
  good = _within(cells, size, 2) & (det != 0) & (value > 0)
  det = jnp.where(good, det, 1)
  move = jnp.stack([hyy * gx - hxy * gy, hxx * gy - hxy * gx], -1)
  move = -move / det[..., None]
  return cells.astype(v.dtype) + jnp.where(good[..., None], move, 0)


def decode_taylor(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The maximum of a parabola through the logits, for each axis.

  Exact for a softmax that is a Gaussian; for maps trained by cross-entropy.

  Convention:
    Order (x, y), index frame of the map.

  Args:
    scores: logits [..., H, W, J]; any offset.

  Returns:
    Points [..., J, 2], at most half a cell from the maximum, and softmax values
    at the maximum [..., J]. At a border nothing moves across it.

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> maps = ops.gaussian_heatmaps(jnp.array([[8.3, 6.8]]), (12, 16),
    ...                              sigma=1.0)
    >>> print(np.asarray(ops.decode_taylor(jnp.log(maps))[0]).round(3))
    [[8.3 6.8]]

  Source:
    The one-dimensional form of Zhang et al., 2020, on log-probabilities.
  """
  logits = check_heatmaps("decode_taylor", scores, 2)
  cells, value, v = _neighbourhood(logits, 1)
  moves = []
  for axis, before, after in (
    (0, v[..., 1, 0], v[..., 1, 2]),
    (1, v[..., 0, 1], v[..., 2, 1]),
  ):
    bend = before - 2 * v[..., 1, 1] + after
    size = logits.shape[-2 - axis]
    place = cells[..., axis]
    good = (place > 0) & (place < size - 1) & (bend < 0)
    move = 0.5 * (before - after) / jnp.where(good, bend, 1)
    moves.append(jnp.where(good, jnp.clip(move, -0.5, 0.5), 0))
  total = jax.nn.logsumexp(logits, axis=(-3, -2))
  points = cells.astype(logits.dtype) + jnp.stack(moves, -1)
  return points, jnp.exp(value - total)
