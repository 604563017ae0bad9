"""Segmentation as rendering: a coarse map refined where it is uncertain.

A subdivision step doubles a map of scores and computes new ones at its most
uncertain cells; `refine` repeats it. Both treat every channel alike. So one
instance of known class needs one channel only: the masks are those of all
channels, at 1 / K of their memory.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops import sampling
from vision_jax.ops import uncertain_points as points_lib
from vision_jax.ops.uncertain_points import Uncertainty, margin_uncertainty

__all__ = [
  "Refinement",
  "Subdivision",
  "refine",
  "subdivide",
  "subdivision_sizes",
]

Head = Callable[[jax.Array], jax.Array]


class Subdivision(NamedTuple):
  """One step of subdivision.

  Attributes:
    logits: the new map, [H, W, K].
    points: where the head was evaluated, unit frame, [N, 2].
    valid: whether its result was written there, bool [N].
  """

  logits: jax.Array
  points: jax.Array
  valid: jax.Array


class Refinement(NamedTuple):
  """All steps of subdivision.

  Attributes:
    logits: the last map, [H, W, K].
    points: the points of each step, unit frame, [N, 2] each.
    valid: whether they were written, bool [N] each.
  """

  logits: jax.Array
  points: tuple[jax.Array, ...]
  valid: tuple[jax.Array, ...]


def subdivision_sizes(
  start: tuple[int, int], end: tuple[int, int]
) -> tuple[tuple[int, int], ...]:
  """Sizes of the maps from a coarse one to an output of any size.

  Each doubles the one before, the last is the output, which need not be a
  multiple: points have no resolution.

  Args:
    start: height and width of the coarse map.
    end: height and width of the output; not smaller.

  Returns:
    (height, width) of each step; none if the sizes are equal.

  Raises:
    ValueError: if the output is smaller than the coarse map.

  Example:
    >>> from vision_jax import ops
    >>> ops.subdivision_sizes((7, 7), (50, 40))
    ((14, 14), (28, 28), (50, 40))

  Source:
    Kirillov et al., PointRend, 2020, section 3.1: log2(M / M0) steps.
  """
  if min(start) < 1 or any(e < s for s, e in zip(start, end, strict=True)):
    raise ValueError(
      "subdivision_sizes: `end` must be at least `start` on both axes, got "
      f"{tuple(end)} and {tuple(start)}."
    )
  sizes, (height, width) = [], start
  while (height, width) != tuple(end):
    height, width = min(2 * height, end[0]), min(2 * width, end[1])
    sizes.append((height, width))
  return tuple(sizes)


def subdivide(
  logits: jax.Array,
  head: Head,
  size: tuple[int, int],
  *,
  num_points: int,
  uncertainty: Uncertainty = margin_uncertainty,
  threshold: float | None = None,
  max_rounds: int = 1,
  approximate: bool = False,
) -> Subdivision:
  """Enlarges a map and computes its most uncertain cells anew.

  Convention:
    Layout [h, w, K]; points (x, y), unit frame. Enlarging is bilinear, as
    `resize`. For a batch use jax.vmap.

  Args:
    logits: the map so far, [h, w, K].
    head: function of points [N, 2] -> logits [N, K].
    size: height and width of the new map.
    num_points: N. If it reaches the number of cells, the result is the head on
      all of them and nothing is enlarged.
    uncertainty: function of logits [..., K] -> [...].
    threshold: write only where the margin, -uncertainty, is below it. None
      writes all N.
    max_rounds: how often N more cells are computed, as long as margins below
      the threshold remain: a budget that follows the image. Beyond 1 there is
      no reverse-mode derivative.
    approximate: as `uncertain_grid_points`.

  Returns:
    The new map and its max_rounds N points; those of rounds that did not
    happen are 0 and not valid.

  Raises:
    ValueError: if `max_rounds` is not 1 and there is no threshold, or a number
      is out of range.

  Example:
    >>> from vision_jax import ops
    >>> step = ops.subdivide(
    ...   jnp.array([[[-1.0], [1.0]]]), lambda points: 9 * jnp.ones((2, 1)),
    ...   (1, 4), num_points=2, uncertainty=ops.binary_uncertainty)
    >>> print(step.logits[0, :, 0])
    [-1.  9.  9.  1.]

  Source:
    Kirillov et al., PointRend, 2020, section 3.1, inference; threshold and
    rounds: contract of this library.
  """
  if max_rounds < 1 or (max_rounds > 1 and threshold is None):
    raise ValueError(
      "subdivide: `max_rounds` must be 1, or larger with a `threshold`, got "
      f"{max_rounds} and {threshold}."
    )
  if num_points < 0:
    raise ValueError(
      f"subdivide: `num_points` must be at least 0, got {num_points}."
    )
  if threshold is None and num_points >= size[0] * size[1]:
    return _all_cells(logits, head, size)
  larger = sampling.resize(logits, size)
  if num_points == 0:
    return Subdivision(larger, jnp.zeros((0, 2)), jnp.zeros((0,), bool))

  def one_round(values, done):
    """Computes N of the cells that are not done."""
    doubt = uncertainty(values.reshape(*size, -1))
    if max_rounds > 1:
      doubt = jnp.where(done.reshape(size), -jnp.inf, doubt)
    cells, points = points_lib.uncertain_grid_points(
      doubt, num_points, approximate=approximate
    )
    new = head(points).astype(values.dtype)
    valid = jnp.ones(cells.shape, bool)
    if threshold is not None:
      valid = -doubt.reshape(-1)[cells] < threshold
      new = jnp.where(valid[:, None], new, values[cells])
    values = values.at[cells].set(
      new, unique_indices=True, mode="promise_in_bounds"
    )
    return values, cells, points, valid

  flat = larger.reshape(-1, logits.shape[-1])
  if max_rounds == 1:
    flat, _, points, valid = one_round(flat, None)
  else:
    flat, points, valid = _rounds(one_round, flat, max_rounds, num_points)
  return Subdivision(flat.reshape(*size, -1), points, valid)


def _all_cells(
  logits: jax.Array, head: Head, size: tuple[int, int]
) -> Subdivision:
  """The head on every cell."""
  points = points_lib.grid_points(size)
  values = head(points).astype(logits.dtype).reshape(*size, -1)
  return Subdivision(values, points, jnp.ones((len(points),), bool))


def _rounds(one_round, flat, max_rounds, num_points):
  """Rounds until one of them has written fewer than all its points."""
  count = min(num_points, len(flat))

  def go_on(state):
    _, _, _, valid, k = state
    last = lax.dynamic_index_in_dim(
      valid, jnp.maximum(k - 1, 0), keepdims=False
    )
    return (k < max_rounds) & ((k == 0) | last.all())

  def body(state):
    flat, done, points, valid, k = state
    flat, cells, new_points, new_valid = one_round(flat, done)
    done = done.at[cells].set(True)
    new_points = jnp.where(new_valid[:, None], new_points, 0)
    points = lax.dynamic_update_index_in_dim(points, new_points, k, 0)
    valid = lax.dynamic_update_index_in_dim(valid, new_valid, k, 0)
    return flat, done, points, valid, k + 1

  state = (
    flat,
    jnp.zeros(len(flat), bool),
    jnp.zeros((max_rounds, count, 2)),
    jnp.zeros((max_rounds, count), bool),
    jnp.int32(0),
  )
  flat, _, points, valid, _ = lax.while_loop(go_on, body, state)
  return flat, points.reshape(-1, 2), valid.reshape(-1)


def refine(
  coarse: jax.Array,
  head: Head,
  sizes: Sequence[tuple[int, int]],
  *,
  num_points: int,
  uncertainty: Uncertainty = margin_uncertainty,
  threshold: float | None = None,
  max_rounds: int = 1,
  approximate: bool = False,
) -> Refinement:
  """Subdivides a coarse map step by step.

  A step whose every cell the next one computes anew is left out. The head sees
  points only; it reads its features and the *original* coarse map there.

  Convention:
    As `subdivide`.

  Args:
    coarse: coarse scores, [h, w, K]; K = 1 for one class against the rest.
    head: function of points [N, 2] -> logits [N, K].
    sizes: height and width after each step, as `subdivision_sizes` lists them.
    num_points: N, the points of a step.
    uncertainty: function of logits [..., K] -> [...].
    threshold: as `subdivide`.
    max_rounds: as `subdivide`.
    approximate: as `subdivide`.

  Returns:
    The last map, and the points of each step that was computed.

  Raises:
    ValueError: as `subdivide`.

  Example:
    >>> from vision_jax import ops
    >>> def disc(points):  # logits of a disc of radius 0.3
    ...   distance = jnp.linalg.norm(points - 0.5, axis=-1, keepdims=True)
    ...   return 100 * (0.3 - distance)
    >>> coarse = disc(ops.grid_points((7, 7))).reshape(7, 7, 1)
    >>> result = ops.refine(
    ...   coarse, disc, ops.subdivision_sizes((7, 7), (56, 56)),
    ...   num_points=196, uncertainty=ops.binary_uncertainty)
    >>> print(len(result.points), f"{(result.logits > 0).mean():.3f}")
    3 0.281

  Source:
    Kirillov et al., PointRend, 2020, section 3.1 and figure 4.
  """
  sizes = list(sizes)
  if threshold is None:
    while len(sizes) > 1 and sizes[1][0] * sizes[1][1] <= num_points:
      sizes.pop(0)
  steps, logits = [], coarse
  for size in sizes:
    step = subdivide(
      logits,
      head,
      size,
      num_points=num_points,
      uncertainty=uncertainty,
      threshold=threshold,
      max_rounds=max_rounds,
      approximate=approximate,
    )
    steps.append(step)
    logits = step.logits
  return Refinement(
    logits,
    tuple(step.points for step in steps),
    tuple(step.valid for step in steps),
  )
