"""Losses, one value for each element; what is averaged is the caller's choice.

`train` divides sums by counts over all devices, so a mean taken here would be
the wrong one as soon as examples differ in their numbers of boxes or points.
"""

import jax
import jax.numpy as jnp

from vision_jax.ops.boxes import (
  center_penalty,
  hull_sides,
  intersection_and_union,
  safe_ratio,
  shape_penalty,
)
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = [
  "binary_cross_entropy",
  "complete_iou_loss",
  "dice_loss",
  "distance_iou_loss",
  "focal_loss",
  "generalized_iou_loss",
  "huber",
  "smooth_l1",
  "softmax_cross_entropy",
]


def smooth_l1(error: jax.Array, *, beta: float = 1.0) -> jax.Array:
  """e^2 / (2 beta) where |e| < beta, else |e| - beta / 2.

  Convention:
    Elementwise.

  Args:
    error: e, any shape.
    beta: where the parabola ends; 0 gives |e|.

  Returns:
    Like `error`.

  Raises:
    ValueError: if `beta` is negative.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.smooth_l1(jnp.array([0.5, -2.0])))
    [0.125 1.5  ]

  Source:
    Girshick, Fast R-CNN, 2015, equation 3; `beta` as in torch.
  """
  if beta < 0:
    raise ValueError(f"smooth_l1: `beta` must be >= 0, got {beta}.")
  error = as_float(error)
  size = jnp.abs(error)
  if beta == 0:
    return size
  inside = size < beta
  # The square of a large error must not overflow on the branch not taken.
  parabola = jnp.square(jnp.where(inside, error, 0)) / (2 * beta)
  return jnp.where(inside, parabola, size - beta / 2)


def huber(error: jax.Array, *, delta: float = 1.0) -> jax.Array:
  """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2).

  Convention:
    Elementwise; `delta` times `smooth_l1` with `beta` = `delta`.

  Args:
    error: e, any shape.
    delta: where the parabola ends, > 0.

  Returns:
    Like `error`.

  Raises:
    ValueError: if `delta` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.huber(jnp.array([1.0, 3.0]), delta=2.0))
    [0.5 4. ]

  Source:
    Huber, Robust estimation of a location parameter, 1964.
  """
  if delta <= 0:
    raise ValueError(f"huber: `delta` must be > 0, got {delta}.")
  return delta * smooth_l1(error, beta=delta)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """-t log s(x) - (1 - t) log(1 - s(x)) with the logistic function s.

  Convention:
    Elementwise, on logits; finite for all finite logits.

  Args:
    logits: x, any shape.
    targets: t in [0, 1] or bool, broadcasts to `logits`.

  Returns:
    Like `logits`.

  Example:
    >>> from vision_jax import ops
    >>> x = jnp.array([0.0, 100.0])
    >>> print(ops.binary_cross_entropy(x, jnp.zeros(2)).round(4))
    [  0.6931 100.    ]

  Source:
    Definition; equal to torch's binary_cross_entropy_with_logits.
  """
  logits, targets = as_float(logits), as_float(targets)
  # max(x, 0) - x t + log(1 + exp(-|x|))
  return jax.nn.softplus(logits) - logits * targets


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """-log softmax(x)[label].

  Convention:
    Classes on the last axis.

  Args:
    logits: x, [..., K].
    labels: int [...]; one outside 0 .. K - 1 is ignored: loss 0, derivative 0.

  Returns:
    [...].

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> x = jnp.zeros((2, 4))
    >>> print(ops.softmax_cross_entropy(x, jnp.array([2, -1])).round(4))
    [1.3863 0.    ]

  Source:
    Definition; equal to torch's cross_entropy without reduction.
  """
  logits, labels = as_float(logits), jnp.asarray(labels)
  if logits.shape[:-1] != labels.shape or logits.ndim < 1:
    raise ValueError(
      "softmax_cross_entropy: `labels` must have the shape of `logits` without "
      f"its last axis, got {labels.shape} and {logits.shape}."
    )
  inside = (labels >= 0) & (labels < logits.shape[-1])
  return jnp.where(inside, label_loss(logits, jnp.where(inside, labels, 0)), 0)


def label_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """-log softmax(x)[label] of classes that exist, [...]."""
  chosen = jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]
  return jax.nn.logsumexp(logits, -1) - chosen


def focal_loss(
  logits: jax.Array,
  targets: jax.Array,
  *,
  alpha: float | None = 0.25,
  gamma: float = 2.0,
) -> jax.Array:
  """Binary cross-entropy, times (1 - p)^gamma with p that of the truth.

  Convention:
    Elementwise, on logits.

  Args:
    logits: any shape.
    targets: in [0, 1] or bool, broadcasts to `logits`.
    alpha: weight of positives, 1 - `alpha` that of negatives; None for none.
    gamma: how strongly what is already right is left out; 0 for not at all.

  Returns:
    Like `logits`.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.focal_loss(jnp.array([0.0, 4.0]), jnp.ones(2)).round(5))
    [0.04332 0.     ]

  Source:
    Lin et al., Focal Loss for Dense Object Detection, 2017, equation 5.
  """
  logits, targets = as_float(logits), as_float(targets)
  p = jax.nn.sigmoid(logits)
  wrong = p + targets - 2 * p * targets  # 1 - p_t
  loss = binary_cross_entropy(logits, targets)
  if gamma:
    some = wrong > 0  # a power below 1 has no derivative at 0
    loss = loss * jnp.where(some, jnp.where(some, wrong, 1) ** gamma, 0)
  if alpha is None:
    return loss
  return loss * (alpha * targets + (1 - alpha) * (1 - targets))


def dice_loss(
  probs: jax.Array, targets: jax.Array, *, smooth: float = 1.0
) -> jax.Array:
  """1 - (2 sum p t + s) / (sum p + sum t + s), over the last axis.

  Convention:
    Probabilities, not logits; a mask is flattened to one axis before.

  Args:
    probs: p in [0, 1], [..., P].
    targets: t in [0, 1] or bool, [..., P].
    smooth: s > 0; an empty mask found empty then has loss 0.

  Returns:
    [...].

  Raises:
    ValueError: if the shapes differ or `smooth` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.dice_loss(jnp.array([1.0, 1, 0]), jnp.array([1, 0, 0])))
    0.25

  Source:
    Milletari et al., V-Net, 2016, section 3, with sums instead of sums of
    squares below (as Mask2Former has it).
  """
  probs, targets = as_float(probs), as_float(targets)
  if probs.shape != targets.shape:
    raise ValueError(
      "dice_loss: `probs` and `targets` must have one shape, got "
      f"{probs.shape} and {targets.shape}."
    )
  if smooth <= 0:
    raise ValueError(f"dice_loss: `smooth` must be > 0, got {smooth}.")
  top = 2 * (probs * targets).sum(-1) + smooth
  return 1 - top / (probs.sum(-1) + targets.sum(-1) + smooth)


def _paired(
  function: str, boxes: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
  boxes = as_shape(function, "boxes", boxes, 4)
  targets = as_shape(function, "targets", targets, 4)
  if boxes.shape != targets.shape:
    raise ValueError(
      f"{function}: `boxes` and `targets` must have one shape, got "
      f"{boxes.shape} and {targets.shape}."
    )
  return boxes, targets


def generalized_iou_loss(
  boxes: jax.Array, targets: jax.Array, *, eps: float = 1e-7
) -> jax.Array:
  """1 - GIoU of each box with its target.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes: [..., 4].
    targets: [..., 4].
    eps: added to both denominators.

  Returns:
    [...] in [0, 2].

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.generalized_iou_loss(jnp.array([[0.0, 0, 1, 1]]),
    ...                                jnp.array([[3.0, 0, 4, 1]])))
    [1.5]

  Source:
    Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1.
  """
  a, b = _paired("generalized_iou_loss", boxes, targets)
  common, union = intersection_and_union(a, b)
  width, height = hull_sides(a, b)
  hull = width * height
  iou = safe_ratio(common, union + eps)
  return 1 - iou + safe_ratio(hull - union, hull + eps)


def distance_iou_loss(
  boxes: jax.Array, targets: jax.Array, *, eps: float = 1e-7
) -> jax.Array:
  """1 - IoU, plus the squared distance of centres over the hull's diagonal.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes: [..., 4].
    targets: [..., 4].
    eps: added to the denominators.

  Returns:
    [...] in [0, 2].

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import ops
    >>> loss = ops.distance_iou_loss(jnp.array([[0.0, 0, 1, 1]]),
    ...                              jnp.array([[1.0, 0, 2, 1]]))
    >>> print(f"{loss[0]:.4f}")
    1.2000

  Source:
    Zheng et al., Distance-IoU Loss, 2020, equation 7.
  """
  a, b = _paired("distance_iou_loss", boxes, targets)
  common, union = intersection_and_union(a, b)
  return 1 - safe_ratio(common, union + eps) + center_penalty(a, b, eps)


def complete_iou_loss(
  boxes: jax.Array, targets: jax.Array, *, eps: float = 1e-7
) -> jax.Array:
  """`distance_iou_loss` plus a penalty on unlike ratios of the sides.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes: [..., 4].
    targets: [..., 4].
    eps: added to the denominators.

  Returns:
    [...]; the factor alpha carries no derivative.

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import ops
    >>> loss = ops.complete_iou_loss(jnp.array([[0.0, 0, 2, 2]]),
    ...                              jnp.array([[0.0, 0, 2, 4]]))
    >>> print(f"{loss[0]:.4f}")
    0.5532

  Source:
    Zheng et al., Distance-IoU Loss, 2020, equations 8 to 11.
  """
  a, b = _paired("complete_iou_loss", boxes, targets)
  common, union = intersection_and_union(a, b)
  iou = safe_ratio(common, union + eps)
  penalty = center_penalty(a, b, eps) + shape_penalty(a, b, iou, eps)
  return 1 - iou + penalty
