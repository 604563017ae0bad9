"""Non-maximum suppression of boxes, exact.

`nms` has several formulations with one result, that of the greedy loop: visit
boxes by falling score, equal scores by rising index, and drop those whose IoU
with a box kept before exceeds the threshold.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.boxes import box_area, safe_ratio
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = [
  "checked",
  "iou_row",
  "iou_table",
  "nms",
  "nms_among_best",
  "planes_of",
]

_TILE = 256
_BLOCKED_FROM = 4000  # above, N x N overlaps are too many


def _limit(iou_threshold: jax.Array | float, dtype: jnp.dtype) -> jax.Array:
  """The largest number of the type that is not above the threshold.

  The reference compares a float32 IoU with a float64 threshold, and 0.3 as a
  float32 is above 0.3.
  """
  if isinstance(iou_threshold, jax.Array):
    return iou_threshold.astype(dtype)
  exact = float(iou_threshold)
  near = np.asarray(exact, dtype)
  if float(near) > exact:
    near = np.nextafter(near, np.asarray(-np.inf, dtype))
  return jnp.asarray(near)


def checked(
  function: str,
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array | None,
  labels: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Boxes, scores, which count, and labels (zeros where there are none)."""
  boxes = as_shape(function, "boxes", boxes, 4)
  scores = as_float(scores)
  count = boxes.shape[:1]
  arrays = {"scores": scores, "valid": valid, "labels": labels}
  shapes = {k: jnp.shape(v) for k, v in arrays.items() if v is not None}
  if boxes.ndim != 2 or any(shape != count for shape in shapes.values()):
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ValueError(
      f"{function}: `boxes` must be [N, 4] and the others [N], got boxes "
      f"{boxes.shape}, {found}; batch with vmap."
    )
  alive = ~jnp.isnan(scores)
  if valid is not None:
    alive &= jnp.asarray(valid, bool)
  if labels is None:
    labels = jnp.zeros(count, jnp.int32)
  return boxes, scores, alive, jnp.asarray(labels)


class _Planes(NamedTuple):
  """Boxes as one array for each coordinate: rows of numbers, not of boxes."""

  x1: jax.Array
  y1: jax.Array
  x2: jax.Array
  y2: jax.Array
  area: jax.Array


def planes_of(boxes: jax.Array) -> _Planes:
  """Coordinates and areas of boxes [N, 4], each [N]."""
  x1, y1, x2, y2 = (boxes[:, k] for k in range(4))
  return _Planes(x1, y1, x2, y2, box_area(boxes))


def _iou(p: _Planes, q: _Planes) -> jax.Array:
  """IoU as `box_iou`, of planes that broadcast."""
  width = jnp.minimum(p.x2, q.x2) - jnp.maximum(p.x1, q.x1)
  height = jnp.minimum(p.y2, q.y2) - jnp.maximum(p.y1, q.y1)
  common = jnp.maximum(width, 0) * jnp.maximum(height, 0)
  return safe_ratio(common, p.area + q.area - common)


def iou_table(p: _Planes, q: _Planes) -> jax.Array:
  """IoU of all pairs, [n, m]."""
  column = _Planes(*(v[:, None] for v in p))
  return _iou(column, _Planes(*(v[None] for v in q)))


def iou_row(i: jax.Array, p: _Planes) -> jax.Array:
  """IoU of box i with all, [n]."""
  return _iou(_Planes(*(v[i] for v in p)), p)


def _sequential(boxes, labels, alive, limit, wanted):
  """One visit after the other; O(N) memory."""
  total = boxes.shape[0]
  place = jnp.arange(total)
  planes = planes_of(boxes)

  def visit(state):
    i, alive, count = state
    near = (iou_row(i, planes) > limit) & (labels == labels[i]) & (place > i)
    return i + 1, alive & ~(near & alive[i]), count + alive[i]

  def unfinished(state):
    i, _, count = state
    return (i < total) & (count < wanted)

  visited, alive, _ = lax.while_loop(
    unfinished, visit, (jnp.int32(0), alive, jnp.int32(0))
  )
  return alive & (place < visited)


def _settle(suppresses: jax.Array, alive: jax.Array) -> jax.Array:
  """Greedy result from `suppresses` [n, n], strictly upper triangular.

  A box stays unless a box that stays suppresses it. Repeating that rule from
  all boxes settles at least one more box each time, in score order.
  """

  def again(state):
    kept, _ = state
    new = alive & ~(suppresses & kept[:, None]).any(0)
    return new, (new != kept).any()

  kept, _ = lax.while_loop(
    lambda state: state[1], again, (alive, jnp.asarray(True))
  )
  return kept


def _fixpoint(boxes, labels, alive, limit, wanted):
  """All visits at once, repeated until nothing changes; N x N memory."""
  del wanted
  planes = planes_of(boxes)
  near = (iou_table(planes, planes) > limit) & (labels[:, None] == labels[None])
  return _settle(jnp.triu(near, 1), alive)


def _blocked(boxes, labels, alive, limit, wanted):
  """`_fixpoint` inside tiles, each of which suppresses the later ones."""
  total = boxes.shape[0]
  extra = -total % _TILE
  planes = planes_of(jnp.pad(boxes, ((0, extra), (0, 0))))
  labels, alive = jnp.pad(labels, (0, extra)), jnp.pad(alive, (0, extra))
  place = jnp.arange(total + extra)

  def visit(state):
    tile, alive, count = state
    start = tile * _TILE

    def part(x):
      return lax.dynamic_slice_in_dim(x, start, _TILE)

    own, own_labels = _Planes(*map(part, planes)), part(labels)

    def near(others, their_labels):
      same = own_labels[:, None] == their_labels[None]
      return (iou_table(own, others) > limit) & same

    kept = _settle(jnp.triu(near(own, own_labels), 1), part(alive))
    gone = (near(planes, labels) & kept[:, None]).any(0)
    alive = alive & ~(gone & (place >= start + _TILE))
    alive = lax.dynamic_update_slice_in_dim(alive, kept, start, 0)
    return tile + 1, alive, count + kept.sum(dtype=jnp.int32)

  def unfinished(state):
    tile, _, count = state
    return (tile * _TILE < total) & (count < wanted)

  tiles, alive, _ = lax.while_loop(
    unfinished, visit, (jnp.int32(0), alive, jnp.int32(0))
  )
  return (alive & (place < tiles * _TILE))[:total]


_SORTED: dict[str, Callable] = {
  "sequential": _sequential,
  "fixpoint": _fixpoint,
  "blocked": _blocked,
}
_METHODS = ("auto", *_SORTED, "argmax")


def _first(order: jax.Array, kept: jax.Array, count: int) -> jax.Array:
  """The first `count` of `order` where `kept`, -1 padded."""
  slot = jnp.where(kept, jnp.cumsum(kept, dtype=jnp.int32) - 1, count)
  result = jnp.full(count, -1, jnp.int32)
  return result.at[slot].set(order.astype(jnp.int32), mode="drop")


def _by_argmax(boxes, scores, labels, alive, limit, count):
  """The best of what is left, `count` times; nothing is sorted."""
  index = jnp.full(count, -1, jnp.int32)
  planes = planes_of(boxes)

  def visit(k, state):
    alive, index = state
    best = jnp.argmax(jnp.where(alive, scores, -jnp.inf))
    # Where all that is left scores -inf, the first of them.
    best = jnp.where(alive[best], best, jnp.argmax(alive)).astype(jnp.int32)
    found = alive[best]
    near = (iou_row(best, planes) > limit) & (labels == labels[best])
    alive = alive & ~(near & found)
    alive = alive.at[best].set(False)
    return alive, index.at[k].set(jnp.where(found, best, -1))

  return lax.fori_loop(0, count, visit, (alive, index))[1]


def nms(
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array | None = None,
  *,
  iou_threshold: jax.Array | float,
  max_outputs: int,
  labels: jax.Array | None = None,
  method: str = "auto",
) -> tuple[jax.Array, jax.Array]:
  """Greedy non-maximum suppression, exact.

  Convention:
    Boxes (x1, y1, x2, y2). By falling score, equal scores by rising index. A
    box goes when its IoU with one that stays exceeds the threshold.

  Args:
    boxes: [N, 4].
    scores: [N]; NaN is never kept.
    valid: bool [N]; False is neither kept nor suppresses.
    iou_threshold: a number, compared as it is with the float32 IoU, or an
      array.
    max_outputs: length K of the result; the best K of those that stay.
    labels: int [N]; boxes with unlike labels do not suppress each other.
    method: a formulation; all give the same. "sequential" visits one box after
      the other, "fixpoint" all at once until nothing changes (N x N memory),
      "blocked" the latter in tiles, "argmax" looks K times for the best.
      "auto": sequential on a CPU, elsewhere fixpoint or, for many, blocked.

  Returns:
    index int32 [K] in score order, -1 on padding, and valid bool [K].

  Raises:
    ValueError: if a shape is wrong or `method` is unknown.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]])
    >>> index, valid = ops.nms(boxes, jnp.array([0.5, 0.9, 0.1]),
    ...                        iou_threshold=0.5, max_outputs=3)
    >>> print(index, valid)
    [ 1  2 -1] [ True  True False]

  Source:
    Felzenszwalb et al., Object detection with discriminatively trained part
    based models, 2010, section 5; torchvision's kernel.
  """
  boxes, scores, alive, labels = checked("nms", boxes, scores, valid, labels)
  if method not in _METHODS:
    raise ValueError(
      f"nms: `method` must be one of {', '.join(_METHODS)}, got {method!r}."
    )
  if max_outputs < 0:
    raise ValueError(f"nms: `max_outputs` must be >= 0, got {max_outputs}.")
  boxes, scores = lax.stop_gradient((boxes, scores))
  limit = _limit(iou_threshold, boxes.dtype)
  if not boxes.shape[0] or not max_outputs:
    index = jnp.full(max_outputs, -1, jnp.int32)
  elif method == "argmax":
    index = _by_argmax(boxes, scores, labels, alive, limit, max_outputs)
  else:
    order = jnp.argsort(jnp.where(alive, -scores, jnp.inf), stable=True)
    inputs = boxes[order], labels[order], alive[order], limit
    kept = _run(method, *inputs, max_outputs)
    index = _first(order, kept, max_outputs)
  return index, index >= 0


def _run(method, boxes, labels, alive, limit, wanted):
  """A formulation on sorted boxes; "auto" by where the program will run."""
  if method != "auto":
    return _SORTED[method](boxes, labels, alive, limit, wanted)
  many = boxes.shape[0] > _BLOCKED_FROM
  parallel = _blocked if many else _fixpoint

  def bind(run):
    return lambda *inputs: run(*inputs, wanted)

  return lax.platform_dependent(
    boxes,
    labels,
    alive,
    limit,
    cpu=bind(_sequential),
    default=bind(parallel),
  )


def nms_among_best(
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array | None = None,
  *,
  num_candidates: int,
  iou_threshold: jax.Array | float,
  max_outputs: int,
  labels: jax.Array | None = None,
  method: str = "auto",
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`nms` of the best candidates only, and whether that made a difference.

  What greedy suppression keeps of the best M boxes is the beginning of what it
  keeps of all. So the result is exact if no valid box was left out or enough
  boxes stay.

  Convention:
    As `nms`.

  Args:
    boxes: [N, 4].
    scores: [N].
    valid: bool [N].
    num_candidates: M, how many of the best are looked at.
    iou_threshold: as in `nms`.
    max_outputs: K, as in `nms`.
    labels: as in `nms`.
    method: as in `nms`.

  Returns:
    index int32 [K] and valid bool [K] as `nms`, and exact, bool []: whether
    the result is that of `nms`.

  Raises:
    ValueError: if a shape is wrong, `method` unknown or `num_candidates` < 1.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]])
    >>> index, valid, exact = ops.nms_among_best(
    ...   boxes, jnp.array([0.5, 0.9, 0.1]), num_candidates=2,
    ...   iou_threshold=0.5, max_outputs=2)
    >>> print(index, exact)
    [ 1 -1] False

  Source:
    The prefix property of the greedy loop.
  """
  boxes, scores, alive, labels = checked(
    "nms_among_best", boxes, scores, valid, labels
  )
  if num_candidates < 1:
    raise ValueError(
      f"nms_among_best: `num_candidates` must be >= 1, got {num_candidates}."
    )
  count = min(num_candidates, boxes.shape[0])
  # Valid ones first, whatever their scores.
  key = jnp.where(
    alive, jnp.maximum(scores, jnp.finfo(scores.dtype).min), -jnp.inf
  )
  _, best = lax.top_k(lax.stop_gradient(key), count)
  index, kept = nms(
    boxes[best],
    scores[best],
    alive[best],
    iou_threshold=iou_threshold,
    max_outputs=max_outputs,
    labels=labels[best],
    method=method,
  )
  exact = (alive.sum() <= count) | (kept.sum() >= max_outputs)
  if count:
    index = jnp.where(kept, best[jnp.where(kept, index, 0)], -1)
  return index.astype(jnp.int32), kept, exact
