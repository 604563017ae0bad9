"""From heatmaps to points, differentiably: the soft-argmax family.

Heatmaps are [..., H, W, J], one for each of J points, or [..., D, H, W, J] with
`num_dims=3`; points are in the index frame of the map, (x, y) or (x, y, z).
`ops.frames` converts.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.matrix_tools import as_float

__all__ = [
  "local_soft_argmax",
  "soft_argmax",
  "soft_argmax_debiased",
  "soft_argmax_moments",
  "straight_through_argmax",
]


def check_heatmaps(
  function: str, scores: jax.Array, num_dims: int
) -> jax.Array:
  """The maps as float32 or wider."""
  scores = as_float(scores)
  layout = "[..., H, W, J]" if num_dims == 2 else "[..., D, H, W, J]"
  if num_dims not in (2, 3):
    raise ValueError(f"{function}: `num_dims` must be 2 or 3, got {num_dims}.")
  if scores.ndim < num_dims + 1 or 0 in scores.shape[-1 - num_dims : -1]:
    raise ValueError(
      f"{function}: `scores` must be {layout} with at least one cell, got shape"
      f" {scores.shape}."
    )
  return scores


def _weights(
  scores: jax.Array, beta: jax.Array | float, num_dims: int, where
) -> tuple[jax.Array, jax.Array]:
  """exp(beta (S - max)), shape of the scores, and beta max S, broadcastable."""
  axes = tuple(range(-1 - num_dims, -1))
  logits = scores * _align(beta, scores.ndim)
  if where is not None:
    allowed = jnp.broadcast_to(where, scores.shape)
    # Where nothing is allowed, everything is, with equal weights.
    none = ~allowed.any(axes, keepdims=True)
    logits = jnp.where(none, 0, jnp.where(allowed, logits, -jnp.inf))
  top = _largest(lax.stop_gradient(logits), axes)
  return jnp.exp(logits - top), top


def _largest(values: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """The maximum over axes, kept with length 1.

  By halves, that overlap where a length is odd: on a CPU XLA's maximum over
  outer axes takes ten times as long as that of two arrays.
  """
  for axis in axes:
    while (length := values.shape[axis]) > 1:
      half = (length + 1) // 2
      values = jnp.maximum(
        lax.slice_in_dim(values, 0, half, axis=axis),
        lax.slice_in_dim(values, length - half, length, axis=axis),
      )
  return values


def _align(beta: jax.Array | float, ndim: int) -> jax.Array:
  """`beta` with leading axes, so that it broadcasts."""
  beta = jnp.asarray(beta)
  return beta.reshape(*[1] * (ndim - beta.ndim), *beta.shape)


def _moments(weights: jax.Array, num_dims: int, order: int) -> jax.Array:
  """Sums of weights times powers of the distance from the middle.

  One axis after the other: fewer terms in each sum, and so less rounding, than
  over all cells at once.

  Returns:
    [..., J, px, py(, pz)] with powers 0 .. order.
  """
  names = "zyx"[3 - num_dims :]
  have = [*names, "j"]
  for name in reversed(names):
    side = weights.shape[have.index(name) - len(have)]
    line = np.arange(side) - (side - 1) / 2
    powers = jnp.asarray(line[:, None] ** np.arange(order + 1), weights.dtype)
    result = [n for n in have if n != name] + [name.upper()]
    weights = jnp.einsum(
      f"...{''.join(have)},{name}{name.upper()}->...{''.join(result)}",
      weights,
      powers,
      precision="highest",
    )
    have = result
  return weights


def _first(moments: jax.Array, num_dims: int) -> jax.Array:
  """The moments of order one, [..., J, num_dims]."""
  places = np.eye(num_dims, dtype=int)
  return jnp.stack([moments[(..., *place)] for place in places], -1)


def _middle(scores: jax.Array, num_dims: int, ndim: int) -> jax.Array:
  """The middle of the map, (x, y[, z]), with leading axes."""
  sides = np.array(scores.shape[-2 : -2 - num_dims : -1])
  return jnp.asarray((sides - 1) / 2, scores.dtype).reshape(
    *[1] * (ndim - 1), num_dims
  )


def soft_argmax(
  scores: jax.Array,
  *,
  beta: jax.Array | float = 1.0,
  num_dims: int = 2,
  where: jax.Array | None = None,
) -> jax.Array:
  """Expected position under softmax(beta S): an arg-max with a derivative.

  One softmax goes over all cells of a map. Cells of the background pull towards
  the middle: with a peak of height h on n cells of height 0 the peak's mass is
  e^(beta h) / (e^(beta h) + n - 1), so beta must grow like log(n) / h, or the
  network must be trained through this function. See `soft_argmax_debiased` and
  `local_soft_argmax`.

  Convention:
    Index frame of the map, order (x, y) or (x, y, z).

  Args:
    scores: S, [..., H, W, J], or [..., D, H, W, J] with `num_dims` 3. Any
      offset; computed in float32 or wider.
    beta: inverse temperature, multiplies the scores; a number or an array that
      broadcasts to [..., 1, J].
    num_dims: 2 or 3.
    where: cells that count, bool, broadcasts to `scores`. A map without any
      gives its middle, with derivative 0.

  Returns:
    Positions [..., J, num_dims].

  Raises:
    ValueError: if a shape or `num_dims` is wrong.

  Example:
    >>> from vision_jax import ops
    >>> scores = jnp.zeros((3, 5, 1)).at[1, 3].set(9.0).at[1, 4].set(9.0)
    >>> print(ops.soft_argmax(scores, beta=10.0))
    [[3.5 1. ]]

  Source:
    Sun et al., Integral Human Pose Regression, 2018, equation 2; Yi et al.,
    LIFT, 2016, equation 3 (beta).
  """
  scores = check_heatmaps("soft_argmax", scores, num_dims)
  weights, _ = _weights(scores, beta, num_dims, where)
  moments = _moments(weights, num_dims, 1)
  total = moments[(..., *[0] * num_dims)]
  offset = _first(moments, num_dims) / total[..., None]
  return offset + _middle(scores, num_dims, offset.ndim)


def soft_argmax_moments(
  scores: jax.Array,
  *,
  beta: jax.Array | float = 1.0,
  num_dims: int = 2,
  where: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Mean and covariance of the position under softmax(beta S).

  The covariance is a measure of uncertainty that costs nothing.

  Convention:
    As `soft_argmax`.

  Args:
    scores: as `soft_argmax`.
    beta: as `soft_argmax`.
    num_dims: as `soft_argmax`.
    where: as `soft_argmax`.

  Returns:
    Mean [..., J, num_dims] and covariance [..., J, num_dims, num_dims], cells
    and squared cells.

  Raises:
    ValueError: if a shape or `num_dims` is wrong.

  Example:
    >>> from vision_jax import ops
    >>> mean, covariance = ops.soft_argmax_moments(jnp.zeros((1, 3, 1)))
    >>> print(mean, covariance[0, 0, 0].round(4))
    [[1. 0.]] 0.6667

  Source:
    Definition; used as in Nibali et al., Numerical Coordinate Regression with
    Convolutional Neural Networks, 2018, section 3.3.
  """
  scores = check_heatmaps("soft_argmax_moments", scores, num_dims)
  weights, _ = _weights(scores, beta, num_dims, where)
  moments = _moments(weights, num_dims, 2)
  moments = moments / moments[(..., *[slice(0, 1)] * num_dims)]
  offset = _first(moments, num_dims)
  rows = []
  for a in np.eye(num_dims, dtype=int):
    row = [moments[(..., *(a + b))] for b in np.eye(num_dims, dtype=int)]
    rows.append(jnp.stack(row, -1))
  second = jnp.stack(rows, -2)
  covariance = second - offset[..., :, None] * offset[..., None, :]
  return offset + _middle(scores, num_dims, offset.ndim), covariance


def soft_argmax_debiased(
  scores: jax.Array, *, beta: jax.Array | float = 1.0, num_dims: int = 2
) -> jax.Array:
  """Soft-argmax without the pull of a background of height 0.

  With n cells, their mean position m and C = sum exp(beta S), the expected
  position E is ((C - n) x + n m) / C where x is that of the peak alone; this is
  x. Exact for maps that are 0 but for a peak, such as those trained by squared
  error against Gaussians, and wrong for logits of a cross-entropy.

  Convention:
    As `soft_argmax`.

  Args:
    scores: S, [..., H, W, J] or [..., D, H, W, J].
    beta: as `soft_argmax`.
    num_dims: 2 or 3.

  Returns:
    Positions [..., J, num_dims], not confined to the map. The middle where the
    map is 0 everywhere.

  Raises:
    ValueError: if a shape or `num_dims` is wrong.

  Example:
    >>> from vision_jax import ops
    >>> scores = jnp.zeros((64, 64, 1)).at[10, 20].set(1.0)
    >>> print(ops.soft_argmax(scores).round(1),
    ...       ops.soft_argmax_debiased(scores).round(1))
    [[31.5 31.5]] [[20. 10.]]

  Source:
    After Gu et al., Removing the Bias of Integral Pose Regression, 2021; their
    released form leaves out the factor n.
  """
  scores = check_heatmaps("soft_argmax_debiased", scores, num_dims)
  weights, top = _weights(scores, beta, num_dims, None)
  # exp(beta S) - 1, what the peak alone has; where both terms are nearly equal,
  # without their difference.
  logits = scores * _align(beta, scores.ndim)
  small, least = jnp.abs(logits) < 1, jnp.exp(-top)
  alone = jnp.where(
    small, least * jnp.expm1(jnp.where(small, logits, 0)), weights - least
  )
  moments = _moments(alone, num_dims, 1)
  mass = moments[(..., *[0] * num_dims)][..., None]
  offset = jnp.where(mass == 0, 0, _first(moments, num_dims))
  offset = offset / jnp.where(mass == 0, 1, mass)
  return offset + _middle(scores, num_dims, offset.ndim)


def argmax_cells(
  scores: jax.Array, num_dims: int
) -> tuple[jax.Array, jax.Array]:
  """Cell (x, y[, z]) of the first maximum, [..., J, dims], and its value."""
  sizes = scores.shape[-1 - num_dims : -1]
  flat = scores.reshape(
    *scores.shape[: -1 - num_dims], math.prod(sizes), scores.shape[-1]
  )
  index = jnp.argmax(flat, axis=-2)
  value = jnp.take_along_axis(flat, index[..., None, :], axis=-2)[..., 0, :]
  places = []
  for size in reversed(sizes):
    places.append((index % size).astype(jnp.int32))
    index = index // size
  return jnp.stack(places, axis=-1), value


def window(
  scores: jax.Array,
  cells: jax.Array,
  radius: int,
  num_dims: int,
  outside: float,
) -> jax.Array:
  """Values around cells [..., J, dims], [..., J, (2 radius + 1)^dims]."""
  sizes = scores.shape[-1 - num_dims : -1]
  maps = jnp.moveaxis(scores, -1, -1 - num_dims)  # [..., J, (D,) H, W]
  lead = maps.shape[:-num_dims]
  flat = maps.reshape(*lead, math.prod(sizes))
  index, inside = jnp.zeros((), jnp.int32), jnp.ones((), bool)
  offsets = window_offsets(radius, num_dims)
  for axis, size in enumerate(sizes):
    coordinate = num_dims - 1 - axis
    step = jnp.asarray(offsets[:, coordinate]).reshape(*[1] * len(lead), -1)
    place = cells[..., coordinate, None] + step
    inside = inside & (place >= 0) & (place < size)
    index = index * size + jnp.clip(place, 0, size - 1)
  return jnp.where(inside, jnp.take_along_axis(flat, index, axis=-1), outside)


def window_offsets(radius: int, num_dims: int) -> np.ndarray:
  """Offsets (x, y[, z]) of the cells of a window, int32 [K, dims]."""
  line = range(-radius, radius + 1)
  offsets = list(itertools.product(line, repeat=num_dims))
  return np.array(offsets, np.int32)[:, ::-1]


def local_soft_argmax(
  scores: jax.Array,
  *,
  radius: int,
  beta: float = 1.0,
  num_dims: int = 2,
) -> jax.Array:
  """Soft-argmax in the window around the arg-max.

  Free of the pull of far cells. The derivative goes through the values in the
  window; its place has none. A window that is narrow for its peak biases
  towards its centre: take a radius of three standard deviations.

  Convention:
    As `soft_argmax`.

  Args:
    scores: S, [..., H, W, J] or [..., D, H, W, J].
    radius: the window has 2 radius + 1 cells a side, fewer at the border.
    beta: inverse temperature, a number.
    num_dims: 2 or 3.

  Returns:
    Positions [..., J, num_dims].

  Raises:
    ValueError: if a shape, `radius` or `num_dims` is wrong.

  Example:
    >>> from vision_jax import ops
    >>> scores = jnp.zeros((64, 64, 1)).at[10, 20].set(9.0)
    >>> print(ops.local_soft_argmax(scores, radius=2).round(2))
    [[20. 10.]]

  Source:
    Yi et al., LIFT, 2016, section 3.3, restricted to a window.
  """
  scores = check_heatmaps("local_soft_argmax", scores, num_dims)
  if radius < 1:
    raise ValueError(
      f"local_soft_argmax: `radius` must be at least 1, got {radius}."
    )
  cells, _ = argmax_cells(lax.stop_gradient(scores), num_dims)
  values = window(scores, cells, radius, num_dims, -jnp.inf)
  # The window's own maximum, so that its weights never vanish together.
  weights = jax.nn.softmax(
    jnp.where(jnp.isfinite(values), values * beta, -jnp.inf), axis=-1
  )
  mean = jnp.einsum(
    "...k,kd->...d",
    weights,
    jnp.asarray(window_offsets(radius, num_dims), weights.dtype),
    precision="highest",
  )
  return cells.astype(scores.dtype) + mean


def straight_through_argmax(
  scores: jax.Array, *, beta: jax.Array | float = 1.0, num_dims: int = 2
) -> jax.Array:
  """The arg-max with the derivative of `soft_argmax`.

  Convention:
    As `soft_argmax`.

  Args:
    scores: S, [..., H, W, J] or [..., D, H, W, J].
    beta: of the derivative.
    num_dims: 2 or 3.

  Returns:
    Positions [..., J, num_dims], whole numbers.

  Raises:
    ValueError: if a shape or `num_dims` is wrong.

  Example:
    >>> from vision_jax import ops
    >>> scores = jnp.zeros((4, 4, 1)).at[1, 2].set(1.0)
    >>> print(ops.straight_through_argmax(scores))
    [[2. 1.]]

  Source:
    Bengio et al., Estimating or Propagating Gradients Through Stochastic
    Neurons, 2013 (straight-through estimator).
  """
  scores = check_heatmaps("straight_through_argmax", scores, num_dims)
  soft = soft_argmax(scores, beta=beta, num_dims=num_dims)
  cells, _ = argmax_cells(lax.stop_gradient(scores), num_dims)
  hard = cells.astype(soft.dtype)
  return hard + (soft - lax.stop_gradient(soft))
