"""Suppression of neighbours on score maps, and the best remaining points."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["suppress_points", "top_points"]


def _window_best(
  score: jax.Array, index: jax.Array, radius: int, axis: int
) -> tuple[jax.Array, jax.Array]:
  """Best (score, then lowest index) of each window of 2 radius + 1 elements.

  The window grows by doubling, so the cost is logarithmic in its length.
  """
  length = score.shape[axis]
  pad = [(0, 0)] * score.ndim
  pad[axis] = (radius, radius)
  score = jnp.pad(score, pad, constant_values=-jnp.inf)
  index = jnp.pad(index, pad, constant_values=jnp.iinfo(index.dtype).max)

  def join(pair, shift, size):
    def part(x, start):
      return lax.slice_in_dim(x, start, start + size, axis=axis)

    (s0, i0), (s1, i1) = (
      (part(pair[0], k), part(pair[1], k)) for k in (0, shift)
    )
    second = (s1 > s0) | ((s1 == s0) & (i1 < i0))
    return jnp.where(second, s1, s0), jnp.where(second, i1, i0)

  pair, reach = (score, index), 1
  while 2 * reach <= 2 * radius + 1:
    pair = join(pair, reach, pair[0].shape[axis] - reach)
    reach *= 2
  return join(pair, 2 * radius + 1 - reach, length)


def _dilate(mask: jax.Array, radius: int, axis: int) -> jax.Array:
  """True where any element of the window of 2 radius + 1 is True."""
  length = mask.shape[axis]
  pad = [(0, 0)] * mask.ndim
  pad[axis] = (radius, radius)
  mask, reach = jnp.pad(mask, pad), 1

  def join(x, shift, size):
    return lax.slice_in_dim(x, 0, size, axis=axis) | lax.slice_in_dim(
      x, shift, shift + size, axis=axis
    )

  while 2 * reach <= 2 * radius + 1:
    mask = join(mask, reach, mask.shape[axis] - reach)
    reach *= 2
  return join(mask, 2 * radius + 1 - reach, length)


def suppress_points(
  scores: jax.Array, candidates: jax.Array, *, radius: int
) -> jax.Array:
  """Greedy non-maximum suppression of pixels, exact under a total order.

  Candidates are visited from the highest score to the lowest, equal scores in
  row-major order; each one kept removes every other candidate at a Chebyshev
  distance of at most `radius`. Computed in parallel rounds (all candidates
  that are the best of their window are kept, their windows cleared, until
  none is left), which gives the same set as the sequential loop.

  Convention:
    Maps [H, W]; distance in pixels. One map; batch with vmap.

  Args:
    scores: float [H, W].
    candidates: bool [H, W]; pixels with a NaN score are never candidates.
    radius: r >= 0; the window is (2 r + 1) x (2 r + 1).

  Returns:
    The pixels kept, bool [H, W]. Carries no derivative.

  Raises:
    ValueError: if the maps differ in shape or are not [H, W], or `radius` is
      negative.

  Example:
    >>> from vision_jax.ops import suppress_points
    >>> scores = jnp.array([[1.0, 3.0, 2.0, 1.5]])
    >>> print(suppress_points(scores, scores > 0, radius=1))
    [[False  True False  True]]

  Source:
    ELF (arXiv 1907.03261), sec. 3; checked against the sequential loop.
  """
  if scores.ndim != 2 or scores.shape != candidates.shape:
    raise ValueError(
      "suppress_points: `scores` and `candidates` must be [H, W] of one "
      f"shape, got {scores.shape} and {candidates.shape}."
    )
  if radius < 0:
    raise ValueError(f"suppress_points: `radius` must be >= 0, got {radius}.")
  scores = lax.stop_gradient(scores)
  alive = candidates & ~jnp.isnan(scores)
  return _suppress(scores, alive, radius) if radius else alive


@functools.partial(jax.jit, static_argnames="radius")
def _suppress(scores, alive, radius):
  index = jnp.arange(scores.size, dtype=jnp.int32).reshape(scores.shape)
  nowhere = jnp.iinfo(jnp.int32).max

  def step(state):
    kept, alive = state
    best = (
      jnp.where(alive, scores, -jnp.inf),
      jnp.where(alive, index, nowhere),
    )
    best = _window_best(*best, radius, 1)
    best = _window_best(*best, radius, 0)
    peaks = alive & (best[1] == index)
    cleared = _dilate(_dilate(peaks, radius, 1), radius, 0)
    return kept | peaks, alive & ~cleared

  kept, _ = lax.while_loop(
    lambda state: jnp.any(state[1]), step, (jnp.zeros_like(alive), alive)
  )
  return kept


def top_points(
  scores: jax.Array, kept: jax.Array, *, num_points: int, radius: int = 0
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The best of the kept pixels as a list of fixed length.

  Convention:
    Index frame, (x, y). Sorted by score, highest first; equal scores in
    row-major order. One map; batch with vmap.

  Args:
    scores: float [H, W].
    kept: bool [H, W], for example from `suppress_points`.
    num_points: length K of the result.
    radius: promise that no two kept pixels are within this Chebyshev
      distance; a larger radius makes the sort shorter.

  Returns:
    Positions float32 [K, 2], scores [K] (differentiable) and valid bool [K];
    rows that are not valid are 0.

  Raises:
    ValueError: if the maps differ in shape or are not [H, W].

  Example:
    >>> from vision_jax.ops import top_points
    >>> scores = jnp.array([[1.0, 3.0], [2.0, 0.5]])
    >>> xy, s, valid = top_points(scores, scores > 0.7, num_points=4)
    >>> print(xy[:2], valid)
    [[1. 0.]
     [0. 1.]] [ True  True  True False]

  Source:
    ELF (arXiv 1907.03261), sec. 3.
  """
  if scores.ndim != 2 or scores.shape != kept.shape:
    raise ValueError(
      "top_points: `scores` and `kept` must be [H, W] of one shape, got "
      f"{scores.shape} and {kept.shape}."
    )
  height, width = scores.shape
  cell = radius + 1  # a cell of this side holds at most one kept pixel
  pad = ((0, -height % cell), (0, -width % cell))
  index = jnp.arange(height * width, dtype=jnp.int32).reshape(height, width)
  index = jnp.pad(jnp.where(kept, index, -1), pad, constant_values=-1)
  rows, cols = index.shape[0] // cell, index.shape[1] // cell
  index = index.reshape(rows, cell, cols, cell).max((1, 3)).reshape(-1)
  flat = scores.reshape(-1)
  found = index >= 0
  key = -jnp.where(found, lax.stop_gradient(flat)[index], -jnp.inf)
  order = jnp.where(found, index, height * width)
  _, order = lax.sort((key, order), num_keys=2)
  order = jnp.pad(
    order[:num_points],
    (0, max(0, num_points - order.size)),
    constant_values=height * width,
  )
  valid = order < height * width
  order = jnp.where(valid, order, 0)
  xy = jnp.stack([order % width, order // width], -1).astype(jnp.float32)
  return (
    jnp.where(valid[:, None], xy, 0.0),
    jnp.where(valid, flat[order], 0.0),
    valid,
  )
