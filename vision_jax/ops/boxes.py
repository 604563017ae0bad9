"""Boxes: areas, overlaps, and boxes as offsets from other boxes.

A box is (x1, y1, x2, y2) in the continuous frame: pixel i covers [i, i + 1), so
a box of one pixel has side 1. A box whose x2 <= x1 or y2 <= y1 is degenerate;
every function says what it makes of one, and none makes NaN of it.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.matrix_tools import as_shape

__all__ = [
  "box_area",
  "box_center_to_corners",
  "box_corners_to_center",
  "box_iou",
  "clip_boxes",
  "complete_box_iou",
  "decode_boxes",
  "distance_box_iou",
  "encode_boxes",
  "generalized_box_iou",
  "has_min_size",
]

Size = tuple[jax.Array | int, jax.Array | int]


def safe_ratio(top: jax.Array, bottom: jax.Array) -> jax.Array:
  """Top / bottom, and 0 with derivative 0 where `bottom` is not positive."""
  positive = bottom > 0
  return jnp.where(positive, top / jnp.where(positive, bottom, 1), 0)


def box_area(boxes: jax.Array) -> jax.Array:
  """Areas (x2 - x1) (y2 - y1).

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame: no + 1.

  Args:
    boxes: [..., 4]; a box with one negative side has a negative area.

  Returns:
    Areas [...].

  Raises:
    ValueError: if the last axis is not 4.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.box_area(jnp.array([[1.0, 2, 4, 4]])))
    [6.]

  Source:
    Definition; equal to torchvision.ops.box_area.
  """
  boxes = as_shape("box_area", "boxes", boxes, 4)
  return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection_and_union(
  a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Areas of both, of boxes [..., 4] of equal rank that broadcast."""
  low = jnp.maximum(a[..., :2], b[..., :2])
  high = jnp.minimum(a[..., 2:], b[..., 2:])
  sides = jnp.maximum(high - low, 0)
  common = sides[..., 0] * sides[..., 1]
  return common, box_area(a) + box_area(b) - common


def hull_sides(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Width and height of the smallest box around both."""
  low = jnp.minimum(a[..., :2], b[..., :2])
  high = jnp.maximum(a[..., 2:], b[..., 2:])
  return high[..., 0] - low[..., 0], high[..., 1] - low[..., 1]


def center_penalty(a: jax.Array, b: jax.Array, eps: float) -> jax.Array:
  """Squared distance of the centres over the squared diagonal of the hull."""
  width, height = hull_sides(a, b)
  apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
  return safe_ratio(jnp.square(apart).sum(-1), width**2 + height**2 + eps)


def shape_penalty(
  a: jax.Array, b: jax.Array, iou: jax.Array, eps: float
) -> jax.Array:
  """Alpha v of the complete IoU; alpha is a constant for the derivative."""

  def angle(box):  # arctan(width / height)
    width, height = box[..., 2] - box[..., 0], box[..., 3] - box[..., 1]
    # At 0 / 0 atan2 has no derivative.
    none = (width == 0) & (height == 0)
    angle = jnp.arctan2(jnp.where(none, 1, width), jnp.where(none, 1, height))
    return jnp.where(none, 0, angle)

  v = 4 / math.pi**2 * jnp.square(angle(a) - angle(b))
  alpha = jax.lax.stop_gradient(safe_ratio(v, 1 - iou + v + eps))
  return alpha * v


def _pairs(
  function: str, boxes0: jax.Array, boxes1: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """[..., N, 1, 4] and [..., 1, M, 4]."""
  boxes0 = as_shape(function, "boxes0", boxes0, 4)
  boxes1 = as_shape(function, "boxes1", boxes1, 4)
  if boxes0.ndim != boxes1.ndim or boxes0.ndim < 2:
    raise ValueError(
      f"{function}: `boxes0` and `boxes1` must be [..., N, 4] and [..., M, 4] "
      f"with the same leading axes, got {boxes0.shape} and {boxes1.shape}."
    )
  return boxes0[..., :, None, :], boxes1[..., None, :, :]


def box_iou(boxes0: jax.Array, boxes1: jax.Array) -> jax.Array:
  """Intersection over union of all pairs.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes0: [..., N, 4].
    boxes1: [..., M, 4].

  Returns:
    [..., N, M]; 0, with derivative 0, where the union is empty (torchvision
    gives NaN there) or a coordinate is NaN.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 5]])
    >>> print(ops.box_iou(boxes[:1], boxes).round(4))
    [[1.     0.3333 0.    ]]

  Source:
    Definition; equal to torchvision.ops.box_iou.
  """
  a, b = _pairs("box_iou", boxes0, boxes1)
  return safe_ratio(*intersection_and_union(a, b))


def generalized_box_iou(boxes0: jax.Array, boxes1: jax.Array) -> jax.Array:
  """IoU - (C - U) / C of all pairs, C the area of the hull, U of the union.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes0: [..., N, 4].
    boxes1: [..., M, 4].

  Returns:
    [..., N, M] in [-1, 1]; a fraction with an empty denominator is 0.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.generalized_box_iou(jnp.array([[0.0, 0, 1, 1]]),
    ...                               jnp.array([[3.0, 0, 4, 1]])))
    [[-0.5]]

  Source:
    Rezatofighi et al., Generalized Intersection over Union, 2019, algorithm 1.
  """
  a, b = _pairs("generalized_box_iou", boxes0, boxes1)
  common, union = intersection_and_union(a, b)
  width, height = hull_sides(a, b)
  hull = width * height
  return safe_ratio(common, union) - safe_ratio(hull - union, hull)


def distance_box_iou(
  boxes0: jax.Array, boxes1: jax.Array, *, eps: float = 1e-7
) -> jax.Array:
  """IoU less the squared distance of the centres over the hull's diagonal.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes0: [..., N, 4].
    boxes1: [..., M, 4].
    eps: added to the squared diagonal.

  Returns:
    [..., N, M] in [-1, 1].

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> iou = ops.distance_box_iou(jnp.array([[0.0, 0, 1, 1]]),
    ...                            jnp.array([[1.0, 0, 2, 1]]))
    >>> print(f"{iou[0, 0]:.4f}")
    -0.2000

  Source:
    Zheng et al., Distance-IoU Loss, 2020, equation 6.
  """
  a, b = _pairs("distance_box_iou", boxes0, boxes1)
  iou = safe_ratio(*intersection_and_union(a, b))
  return iou - center_penalty(a, b, eps)


def complete_box_iou(
  boxes0: jax.Array, boxes1: jax.Array, *, eps: float = 1e-7
) -> jax.Array:
  """Distance IoU less a penalty on unlike ratios of width to height.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes0: [..., N, 4].
    boxes1: [..., M, 4].
    eps: added to both denominators.

  Returns:
    [..., N, M]; the factor alpha carries no derivative.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> iou = ops.complete_box_iou(jnp.array([[0.0, 0, 2, 2]]),
    ...                            jnp.array([[0.0, 0, 2, 4]]))
    >>> print(f"{iou[0, 0]:.4f}")
    0.4468

  Source:
    Zheng et al., Distance-IoU Loss, 2020, equations 8 to 11.
  """
  a, b = _pairs("complete_box_iou", boxes0, boxes1)
  iou = safe_ratio(*intersection_and_union(a, b))
  return iou - center_penalty(a, b, eps) - shape_penalty(a, b, iou, eps)


def box_corners_to_center(boxes: jax.Array) -> jax.Array:
  """(x1, y1, x2, y2) to (centre x, centre y, width, height).

  Convention:
    Continuous frame on both sides.

  Args:
    boxes: [..., 4].

  Returns:
    [..., 4].

  Raises:
    ValueError: if the last axis is not 4.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.box_corners_to_center(jnp.array([1.0, 2, 4, 4])))
    [2.5 3.  3.  2. ]

  Source:
    Definition.
  """
  boxes = as_shape("box_corners_to_center", "boxes", boxes, 4)
  sides = boxes[..., 2:] - boxes[..., :2]
  return jnp.concatenate([boxes[..., :2] + 0.5 * sides, sides], -1)


def box_center_to_corners(boxes: jax.Array) -> jax.Array:
  """(centre x, centre y, width, height) to (x1, y1, x2, y2).

  Convention:
    Continuous frame on both sides.

  Args:
    boxes: [..., 4].

  Returns:
    [..., 4].

  Raises:
    ValueError: if the last axis is not 4.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.box_center_to_corners(jnp.array([2.5, 3, 3, 2])))
    [1. 2. 4. 4.]

  Source:
    Definition.
  """
  boxes = as_shape("box_center_to_corners", "boxes", boxes, 4)
  center, half = boxes[..., :2], 0.5 * boxes[..., 2:]
  return jnp.concatenate([center - half, center + half], -1)


def _axis_weights(
  function: str, weights: Sequence[float], like: jax.Array
) -> jax.Array:
  """The four weights, with leading axes."""
  if len(weights) != 4 or min(weights) <= 0:
    raise ValueError(
      f"{function}: `weights` must be four positive numbers, got {weights!r}."
    )
  line = np.asarray(weights, like.dtype)
  return jnp.asarray(line.reshape(*[1] * (like.ndim - 1), 4))


def _same_rank(function: str, name: str, a: jax.Array, b: jax.Array) -> None:
  if a.ndim != b.ndim:
    raise ValueError(
      f"{function}: `{name}` and `anchors` must have the same number of axes, "
      f"got {a.shape} and {b.shape}; add axes of length 1."
    )


def encode_boxes(
  boxes: jax.Array,
  anchors: jax.Array,
  *,
  weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> jax.Array:
  """Boxes as offsets from anchors, what a box regression head learns.

  With centres (x, y) and sides (w, h), anchors having the index a:
  dx = wx (x - xa) / wa, dy = wy (y - ya) / ha, dw = ww log(w / wa),
  dh = wh log(h / ha).

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes: [..., 4], of the rank of `anchors`.
    anchors: [..., 4].
    weights: (wx, wy, ww, wh); (10, 10, 5, 5) in the box head of R-CNN.

  Returns:
    Offsets (dx, dy, dw, dh), [..., 4]. Along an axis where the box or the
    anchor has no positive side (padding) both offsets are 0, with derivative 0.

  Raises:
    ValueError: if a shape is wrong or a weight is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.encode_boxes(jnp.array([[1.0, 0, 5, 2]]),
    ...                        jnp.array([[0.0, 0, 4, 4]])).round(4))
    [[ 0.25   -0.25    0.     -0.6931]]

  Source:
    Ren et al., Faster R-CNN, 2015, equation 2; torchvision's BoxCoder.
  """
  boxes = as_shape("encode_boxes", "boxes", boxes, 4)
  anchors = as_shape("encode_boxes", "anchors", anchors, 4)
  _same_rank("encode_boxes", "boxes", boxes, anchors)
  factor = _axis_weights("encode_boxes", weights, boxes)
  target, anchor = box_corners_to_center(boxes), box_corners_to_center(anchors)
  # Before the logarithm: a choice after it would still carry NaN backwards.
  proper = (target[..., 2:] > 0) & (anchor[..., 2:] > 0)
  sides = jnp.where(proper, target[..., 2:], 1)
  base = jnp.where(proper, anchor[..., 2:], 1)
  shift = jnp.where(proper, target[..., :2] - anchor[..., :2], 0)
  offsets = jnp.concatenate([shift / base, jnp.log(sides / base)], -1)
  return factor * offsets


def decode_boxes(
  deltas: jax.Array,
  anchors: jax.Array,
  *,
  weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
  clip: float = math.log(1000 / 16),
) -> jax.Array:
  """The inverse of `encode_boxes`.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    deltas: offsets (dx, dy, dw, dh), [..., 4], of the rank of `anchors`; the
      leading axes broadcast.
    anchors: [..., 4].
    weights: as given to `encode_boxes`.
    clip: dw and dh, after the division by the weight, are at most this.

  Returns:
    Boxes [..., 4].

  Raises:
    ValueError: if a shape is wrong or a weight is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.decode_boxes(jnp.array([[0.25, -0.25, 0, 0]]),
    ...                        jnp.array([[0.0, 0, 4, 4]])))
    [[ 1. -1.  5.  3.]]

  Source:
    Ren et al., Faster R-CNN, 2015, equation 2; torchvision's BoxCoder (the
    limit from above).
  """
  deltas = as_shape("decode_boxes", "deltas", deltas, 4)
  anchors = as_shape("decode_boxes", "anchors", anchors, 4)
  _same_rank("decode_boxes", "deltas", deltas, anchors)
  deltas = deltas / _axis_weights("decode_boxes", weights, deltas)
  anchor = box_corners_to_center(anchors)
  base = anchor[..., 2:]
  center = deltas[..., :2] * base + anchor[..., :2]
  half = 0.5 * jnp.exp(jnp.minimum(deltas[..., 2:], clip)) * base
  return jnp.concatenate([center - half, center + half], -1)


def clip_boxes(boxes: jax.Array, size: Size) -> jax.Array:
  """Boxes cut off at the borders of an image.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame: the image is [0, W] x [0, H].

  Args:
    boxes: [..., 4]; one outside becomes degenerate, on the border.
    size: (height, width), numbers or arrays that broadcast to [...].

  Returns:
    Boxes [..., 4].

  Raises:
    ValueError: if the last axis is not 4.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.clip_boxes(jnp.array([[-1.0, 2, 9, 8]]), (6, 7)))
    [[0. 2. 7. 6.]]

  Source:
    Definition; equal to torchvision.ops.clip_boxes_to_image.
  """
  boxes = as_shape("clip_boxes", "boxes", boxes, 4)
  height, width = (jnp.asarray(n, boxes.dtype) for n in size)
  x1, y1, x2, y2 = (boxes[..., k] for k in range(4))
  return jnp.stack(
    [
      jnp.clip(x1, 0, width),
      jnp.clip(y1, 0, height),
      jnp.clip(x2, 0, width),
      jnp.clip(y2, 0, height),
    ],
    -1,
  )


def has_min_size(boxes: jax.Array, *, min_size: float) -> jax.Array:
  """Whether both sides of each box have a length.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    boxes: [..., 4].
    min_size: the least length of a side that passes.

  Returns:
    bool [...]; False for NaN.

  Raises:
    ValueError: if the last axis is not 4.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 0.5]])
    >>> print(ops.has_min_size(boxes, min_size=1.0))
    [ True False]

  Source:
    torchvision.ops.remove_small_boxes, as a mask.
  """
  boxes = as_shape("has_min_size", "boxes", boxes, 4)
  return (boxes[..., 2:] - boxes[..., :2] >= min_size).all(-1)
