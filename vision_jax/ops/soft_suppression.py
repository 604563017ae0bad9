"""Suppression that rescores: Soft-NMS, and Matrix-NMS in one step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.box_suppression import (
  checked,
  iou_row,
  iou_table,
  planes_of,
)

__all__ = ["matrix_nms", "soft_nms"]


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
    >>> print(index, [f"{s:.4f}" for s in scores])
    [0 2 1] ['0.9000', '0.3000', '0.1083']

  Source:
    Bodla et al., Soft-NMS, 2017, section 3.
  """
  boxes, scores, alive, labels = checked(
    "soft_nms", boxes, scores, valid, labels
  )
  weight = _decay_function("soft_nms", decay, sigma)
  total = boxes.shape[0]
  if not total:
    none = jnp.full(max_outputs, -1, jnp.int32)
    return none, jnp.zeros(max_outputs, scores.dtype), none >= 0

  planes = planes_of(boxes)

  def take(state, _):
    scores, alive = state
    best = jnp.argmax(jnp.where(alive, lax.stop_gradient(scores), -jnp.inf))
    score = scores[best]
    found = alive[best] & (score >= score_threshold)
    iou = iou_row(best, planes)
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
  boxes, scores, alive, labels = checked(
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
  planes = planes_of(boxes)
  iou = jnp.where(better, iou_table(planes, planes), 0)
  own = iou.max(0)  # how much i is overlapped by a better one
  # An i that is wholly covered, f = 0, lowers nobody: it is as good as gone.
  shadow = weight(own)[:, None]
  ratio = jnp.where(
    better & (shadow > 0), weight(iou) / jnp.where(shadow > 0, shadow, 1), 1
  )
  return scores * jnp.minimum(ratio.min(0), 1)
