"""Non-maximum suppression of boxes: exact, and two that rescore.

`nms` has several formulations with one result, that of the greedy loop: visit
boxes by falling score, equal scores by rising index, and drop those whose IoU
with a box kept before exceeds the threshold.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.boxes import intersection_and_union, safe_ratio
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = ["matrix_nms", "nms", "nms_among_best", "soft_nms"]

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


def _checked(
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


def _overlap(a: jax.Array, b: jax.Array) -> jax.Array:
  """IoU of [n, 4] with [m, 4], [n, m]."""
  return safe_ratio(*intersection_and_union(a[:, None], b[None]))


def _sequential(boxes, labels, alive, limit, wanted):
  """One visit after the other; O(N) memory."""
  total = boxes.shape[0]
  place = jnp.arange(total)

  def visit(state):
    i, alive, count = state

    def suppress(alive):
      iou = _overlap(boxes[i][None], boxes)[0]
      near = (iou > limit) & (labels == labels[i]) & (place > i)
      return alive & ~near

    keep = alive[i]
    alive = lax.cond(keep, suppress, lambda alive: alive, alive)
    return i + 1, alive, count + keep

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
  near = (_overlap(boxes, boxes) > limit) & (labels[:, None] == labels[None])
  return _settle(jnp.triu(near, 1), alive)


def _blocked(boxes, labels, alive, limit, wanted):
  """`_fixpoint` inside tiles, each of which suppresses the later ones."""
  total = boxes.shape[0]
  extra = -total % _TILE
  boxes = jnp.pad(boxes, ((0, extra), (0, 0)))
  labels, alive = jnp.pad(labels, (0, extra)), jnp.pad(alive, (0, extra))
  place = jnp.arange(total + extra)

  def visit(state):
    tile, alive, count = state
    start = tile * _TILE

    def part(x):
      return lax.dynamic_slice_in_dim(x, start, _TILE)

    near = (_overlap(part(boxes), boxes) > limit) & (
      part(labels)[:, None] == labels[None]
    )
    own = lax.dynamic_slice_in_dim(near, start, _TILE, axis=1)
    kept = _settle(jnp.triu(own, 1), part(alive))
    gone = (near & kept[:, None]).any(0) & (place >= start + _TILE)
    alive = lax.dynamic_update_slice_in_dim(alive & ~gone, kept, start, 0)
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

  def visit(k, state):
    alive, index = state
    best = jnp.argmax(jnp.where(alive, scores, -jnp.inf))
    # Where all that is left scores -inf, the first of them.
    best = jnp.where(alive[best], best, jnp.argmax(alive)).astype(jnp.int32)
    found = alive[best]
    iou = _overlap(boxes[best][None], boxes)[0]
    near = (iou > limit) & (labels == labels[best])
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
  boxes, scores, alive, labels = _checked("nms", boxes, scores, valid, labels)
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
  boxes, scores, alive, labels = _checked(
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


def _decay_function(
  function: str, decay: str, sigma: float
) -> Callable[[jax.Array], jax.Array]:
  if decay not in ("gaussian", "linear") or sigma <= 0:
    raise ValueError(
      f"{function}: `decay` must be gaussian or linear and `sigma` > 0, got "
      f"{decay!r} and {sigma}."
    )
  if decay == "linear":
    return lambda iou: 1 - iou
  return lambda iou: jnp.exp(-(iou**2) / sigma)


def soft_nms(
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array | None = None,
  *,
  max_outputs: int,
  decay: str = "gaussian",
  sigma: float = 0.5,
  iou_threshold: float = 0.3,
  score_threshold: float = 0.001,
  labels: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Soft-NMS: overlap with a better box lowers a score instead of ending it.

  The best box left is taken, the scores s of the others become s f(IoU) with
  f(u) = exp(-u^2 / sigma), or 1 - u where u exceeds the threshold; and again.

  Convention:
    Boxes (x1, y1, x2, y2). In the order taken: falling rescored score.

  Args:
    boxes: [N, 4].
    scores: [N], not negative.
    valid: bool [N].
    max_outputs: length K of the result.
    decay: f, "gaussian" or "linear".
    sigma: of the gaussian.
    iou_threshold: of the linear one.
    score_threshold: ends the list.
    labels: int [N]; unlike labels do not touch each other.

  Returns:
    index int32 [K] (-1 on padding), scores [K] (0 on padding; differentiable)
    and valid bool [K].

  Raises:
    ValueError: if a shape is wrong or a setting unknown.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]])
    >>> index, scores, valid = ops.soft_nms(
    ...   boxes, jnp.array([0.9, 0.8, 0.3]), max_outputs=3)
    >>> print(index, scores.round(4))
    [0 2 1] [0.9    0.3    0.1083]

  Source:
    Bodla et al., Soft-NMS, 2017, section 3.
  """
  boxes, scores, alive, labels = _checked(
    "soft_nms", boxes, scores, valid, labels
  )
  weight = _decay_function("soft_nms", decay, sigma)
  total = boxes.shape[0]
  if not total:
    none = jnp.full(max_outputs, -1, jnp.int32)
    return none, jnp.zeros(max_outputs, scores.dtype), none >= 0

  def take(state, _):
    scores, alive = state
    best = jnp.argmax(jnp.where(alive, lax.stop_gradient(scores), -jnp.inf))
    score = scores[best]
    found = alive[best] & (score >= score_threshold)
    iou = _overlap(boxes[best][None], boxes)[0]
    factor = weight(iou)
    if decay == "linear":
      factor = jnp.where(iou > iou_threshold, factor, 1)
    scores = scores * jnp.where(labels == labels[best], factor, 1)
    alive = alive & (jnp.arange(total) != best) & found
    index = jnp.where(found, best, -1).astype(jnp.int32)
    return (scores, alive), (index, jnp.where(found, score, 0), found)

  scores = jnp.where(alive, scores, 0)
  _, (index, taken, found) = lax.scan(take, (scores, alive), length=max_outputs)
  return index, taken, found


def matrix_nms(
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array | None = None,
  *,
  decay: str = "gaussian",
  sigma: float = 0.5,
  labels: jax.Array | None = None,
) -> jax.Array:
  """Matrix-NMS: Soft-NMS in one step, an approximation.

  A box j is lowered by the better box i that lowers it most, and i counts the
  less the more it is itself overlapped by a better one:
  min over i of f(IoU_ij) / f(max over k of IoU_ki), at most 1.

  Convention:
    Boxes (x1, y1, x2, y2). Better: higher score, equal scores lower index.

  Args:
    boxes: [N, 4].
    scores: [N].
    valid: bool [N].
    decay: f, "gaussian" exp(-u^2 / sigma) or "linear" 1 - u.
    sigma: of the gaussian; SOLO's exp(-2 u^2) is 0.5.
    labels: int [N]; unlike labels do not touch each other.

  Returns:
    Rescored scores [N], in the order given, 0 where not valid. N x N memory.

  Raises:
    ValueError: if a shape is wrong or a setting unknown.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12]])
    >>> print(ops.matrix_nms(boxes, jnp.array([1.0, 0.5, 0.25])).round(4))
    [1.     0.0677 0.25  ]

  Source:
    Wang et al., SOLOv2, 2020, section 3.3, with boxes instead of masks.
  """
  boxes, scores, alive, labels = _checked(
    "matrix_nms", boxes, scores, valid, labels
  )
  weight = _decay_function("matrix_nms", decay, sigma)
  if not boxes.shape[0]:
    return scores
  scores = jnp.where(alive, scores, 0)
  fixed = lax.stop_gradient(scores)
  place = jnp.arange(boxes.shape[0])
  better = (fixed[:, None] > fixed[None]) | (
    (fixed[:, None] == fixed[None]) & (place[:, None] < place[None])
  )
  better &= alive[:, None] & alive[None] & (labels[:, None] == labels[None])
  iou = jnp.where(better, _overlap(boxes, boxes), 0)
  own = iou.max(0)  # how much i is overlapped by a better one
  # An i that is wholly covered, f = 0, lowers nobody: it is as good as gone.
  shadow = weight(own)[:, None]
  ratio = jnp.where(
    better & (shadow > 0), weight(iou) / jnp.where(shadow > 0, shadow, 1), 1
  )
  return scores * jnp.minimum(ratio.min(0), 1)
