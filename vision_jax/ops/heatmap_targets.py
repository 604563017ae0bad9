"""From points to heatmaps: what networks are trained to give."""

import jax
import jax.numpy as jnp

from vision_jax.ops.matrix_tools import as_float

__all__ = ["gaussian_heatmaps", "one_hot_heatmaps"]


def gaussian_heatmaps(
  points: jax.Array,
  size: tuple[int, ...],
  *,
  sigma: jax.Array | float,
  quantized: bool = False,
) -> jax.Array:
  """Targets exp(-|p - x|^2 / (2 sigma^2)), with maximum 1 at the point.

  Convention:
    Points in the index frame of the map, order (x, y) or (x, y, z).

  Args:
    points: x, [..., J, 2] or [..., J, 3].
    size: (height, width) or (depth, height, width) of the maps.
    sigma: standard deviation in cells.
    quantized: round the centre to a cell and cut off beyond 3 sigma, as the
      reference code of Simple Baselines does; up to half a cell of bias.

  Returns:
    Maps [..., *size, J]. 0 where a point is not finite.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> maps = ops.gaussian_heatmaps(jnp.array([[1.0, 0.0]]), (1, 3), sigma=1.0)
    >>> print(np.asarray(maps[0, :, 0]).round(3))
    [0.607 1.    0.607]

  Source:
    Xiao et al., Simple Baselines for Human Pose Estimation and Tracking, 2018.
  """
  points, dims = _check_points("gaussian_heatmaps", points, size)
  finite = jnp.isfinite(points).all(-1)
  points = jnp.where(finite[..., None], points, 0)
  if quantized:
    points = jnp.floor(points + 0.5)
  square = _square_distance(points, size, dims)
  maps = jnp.exp(-square / (2 * jnp.asarray(sigma, square.dtype) ** 2))
  shape = (*finite.shape[:-1], *[1] * dims, finite.shape[-1])
  if quantized:
    maps = jnp.where(_reach(points, size, dims, sigma), maps, 0)
  return jnp.where(finite.reshape(shape), maps, 0)


def one_hot_heatmaps(points: jax.Array, size: tuple[int, ...]) -> jax.Array:
  """Targets that are 1 at the cell nearest to the point.

  Convention:
    Points in the index frame of the map, order (x, y) or (x, y, z).

  Args:
    points: x, [..., J, 2] or [..., J, 3].
    size: (height, width) or (depth, height, width) of the maps.

  Returns:
    Maps [..., *size, J], all 0 for a point beyond the map.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.one_hot_heatmaps(jnp.array([[1.2, 0.0]]), (1, 3))[0, :, 0])
    [0. 1. 0.]

  Source:
    He et al., Mask R-CNN, 2017, section 5 (keypoints as one-hot masks).
  """
  points, dims = _check_points("one_hot_heatmaps", points, size)
  cells = jnp.floor(points + 0.5)
  return (_square_distance(cells, size, dims) == 0).astype(points.dtype)


def _check_points(
  function: str, points: jax.Array, size: tuple[int, ...]
) -> tuple[jax.Array, int]:
  """Points as float, and their dimensions."""
  points = as_float(points)
  dims = len(size)
  if dims not in (2, 3) or min(size) < 1:
    raise ValueError(
      f"{function}: `size` must be 2 or 3 numbers, all at least 1, got "
      f"{tuple(size)}."
    )
  if points.ndim < 2 or points.shape[-1] != dims:
    raise ValueError(
      f"{function}: `points` must be [..., J, {dims}] for maps of size "
      f"{tuple(size)}, got shape {points.shape}."
    )
  return points, dims


def _offsets(points: jax.Array, size: tuple[int, ...], dims: int):
  """Cell minus point along each axis, [..., 1, S, 1, J]."""
  lead, joints = points.shape[:-2], points.shape[-2]
  for axis, side in enumerate(size):
    line = [1] * dims
    line[axis] = side
    cells = jnp.arange(side, dtype=points.dtype).reshape(
      *[1] * len(lead), *line, 1
    )
    place = points[..., dims - 1 - axis].reshape(*lead, *[1] * dims, joints)
    yield cells - place


def _square_distance(
  points: jax.Array, size: tuple[int, ...], dims: int
) -> jax.Array:
  """Squared distance of every cell to every point, [..., *size, J]."""
  return sum(offset**2 for offset in _offsets(points, size, dims))


def _reach(
  points: jax.Array, size: tuple[int, ...], dims: int, sigma
) -> jax.Array:
  """Whether a cell is within 3 sigma of a point along every axis."""
  reach = jnp.ones((), bool)
  for offset in _offsets(points, size, dims):
    reach = reach & (jnp.abs(offset) <= 3 * sigma)
  return reach
