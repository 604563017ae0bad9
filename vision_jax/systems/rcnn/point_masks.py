"""PointRend for the masks of boxes: what it reads, how it refines and learns.

Functions of arrays of one picture, public in `systems.pointrend`. An `RCNN`
with `point_layers` uses them in place of its convolutional mask head:

  module = rcnn.pointrend_rcnn_r50_fpn()
  found = rcnn.predict(module, variables, images)  # with masks

Kirillov et al., "PointRend: Image Segmentation as Rendering", 2020 (arXiv
1912.08193), sections 3 and 4.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vision_jax import ops

__all__ = ["coarse_cells", "mask_losses", "points_of_boxes", "refine_masks"]

Head = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""Fine [P, C], coarse [P, K], label [] -> logits [P, 1]."""


def points_of_boxes(
  points: jax.Array, boxes: jax.Array, extent: tuple[int, int]
) -> jax.Array:
  """Points of the unit frame of boxes in the unit frame of the picture.

  Convention:
    Points (x, y); boxes (x1, y1, x2, y2), continuous frame, pixels. No gradient
    reaches the boxes.

  Args:
    points: [P, 2] for all boxes, or [..., P, 2].
    boxes: [..., 4].
    extent: height and width of the picture with its padding, pixels.

  Returns:
    [..., P, 2].

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax.systems import pointrend
    >>> box = jnp.array([0.0, 0, 20, 40])
    >>> print(pointrend.points_of_boxes(jnp.array([[0.5, 0.5]]), box, (80, 40)))
    [[0.25 0.25]]

  Source:
    Kirillov et al., PointRend, 2020, section 3.2.
  """
  points = jnp.broadcast_to(points, (*boxes.shape[:-1], *points.shape[-2:]))
  x, y = jnp.unstack(ops.points_in_boxes(points, boxes), axis=-1)
  return jnp.stack([x / extent[1], y / extent[0]], -1)


def coarse_cells(
  fine: jax.Array, boxes: jax.Array, extent: tuple[int, int], *, side: int = 14
) -> jax.Array:
  """A regular grid of features of each box, what the coarse head reads.

  Convention:
    As `points_of_boxes`.

  Args:
    fine: the finest map of the pyramid, for boxes of every size, [h, w, C].
    boxes: [R, 4].
    extent: height and width of the picture with its padding, pixels.
    side: of the grid.

  Returns:
    [R, side, side, C].

  Example:
    >>> from vision_jax.systems import pointrend
    >>> boxes = jnp.array([[0.0, 0, 20, 40]])
    >>> pointrend.coarse_cells(jnp.ones((10, 10, 3)), boxes, (40, 40)).shape
    (1, 14, 14, 3)

  Source:
    Kirillov et al., PointRend, 2020, section 4, "we extract a 14 x 14 feature
    map from the P2 level".
  """
  points = ops.grid_points((side, side))
  at = points_of_boxes(points, boxes, extent)
  cells = ops.point_sample(fine, at)
  return cells.reshape(len(boxes), side, side, fine.shape[-1])


def refine_masks(
  head: Head,
  fine: jax.Array,
  coarse: jax.Array,
  boxes: jax.Array,
  labels: jax.Array,
  extent: tuple[int, int],
  *,
  side: int = 224,
  num_points: int = 784,
  padding: str = "zeros",
  threshold: float | None = None,
  batch_size: int = 10,
) -> jax.Array:
  """Masks of boxes, subdivided from the coarse ones.

  Convention:
    As `points_of_boxes`.

  Args:
    head: function of the points of one box.
    fine: the finest map, [h, w, C].
    coarse: coarse logits of all classes, [R, s, s, K].
    boxes: [R, 4].
    labels: class of each box, 0 to K - 1, [R].
    extent: height and width of the picture with its padding, pixels.
    side: of the result.
    num_points: N of each step.
    padding: what points behind a border read, as `ops.point_sample`. With zeros
      coarse logits fall off in the outer half of a cell of the box.
    threshold: as `ops.refine`.
    batch_size: boxes worked on at once.

  Returns:
    Logits of the class of each box, float32 or wider [R, side, side].

  Raises:
    ValueError: if `side` is smaller than that of the coarse masks.

  Example:
    >>> from vision_jax.systems import pointrend
    >>> logits = pointrend.refine_masks(
    ...   lambda fine, coarse, label: fine[:, :1], jnp.ones((10, 10, 3)),
    ...   jnp.zeros((1, 7, 7, 2)), jnp.array([[4.0, 4, 20, 30]]),
    ...   jnp.array([1]), (40, 40), side=28, num_points=784)
    >>> print(logits.shape, logits.min())
    (1, 28, 28) 1.0

  Source:
    Kirillov et al., PointRend, 2020, section 3.1, inference, and section 4.
  """
  start = (coarse.shape[1], coarse.shape[2])
  sizes = ops.subdivision_sizes(start, (side, side))
  read = functools.partial(ops.point_sample, padding=padding)

  def one(given):
    box, logits, label = given
    label = jnp.clip(label, 0, logits.shape[-1] - 1)

    def evaluate(points):
      at = points_of_boxes(points, box, extent)
      return head(read(fine, at), read(logits, points), label)

    # Widened: in bfloat16 many cells would be as uncertain as each other.
    result = ops.refine(
      ops.at_least_float32(jnp.take(logits, label[None], axis=-1)),
      evaluate,
      sizes,
      num_points=num_points,
      uncertainty=ops.binary_uncertainty,
      threshold=threshold,
    )
    return result.logits[..., 0]

  return jax.lax.map(one, (boxes, coarse, labels), batch_size=batch_size)


def mask_losses(
  key: jax.Array,
  head: Head,
  fine: jax.Array,
  coarse: jax.Array,
  boxes: jax.Array,
  labels: jax.Array,
  match: jax.Array,
  masks: jax.Array,
  *,
  num_points: int = 196,
  oversample: float = 3.0,
  importance: float = 0.75,
  padding: str = "zeros",
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Cross entropy of coarse masks and of points, as sums and counts.

  Convention:
    As `points_of_boxes`; the picture with its padding is as large as `masks`.

  Args:
    key: random key of the points.
    head: function of the points of one box.
    fine: the finest map, [h, w, C].
    coarse: coarse logits of all classes, [R, s, s, K].
    boxes: those that are masked; the paper's are predictions, [R, 4].
    labels: class of each box, 0 to K - 1, [R].
    match: object of each box, [R]; those without, negative, do not count.
    masks: of the objects, bool or numbers in [0, 1], [G, H, W].
    num_points: N for each box.
    oversample: k, as `ops.sample_uncertain_points`.
    importance: beta, as `ops.sample_uncertain_points`.
    padding: what points behind a border read, as `ops.point_sample`.

  Returns:
    "mask": coarse logits against the mask, cut out by RoIAlign, at least half.
    "mask_point": points against the mask read bilinearly.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax.systems import pointrend
    >>> terms = pointrend.mask_losses(
    ...   jax.random.key(0), lambda fine, coarse, label: coarse[:, :1],
    ...   jnp.ones((10, 10, 3)), jnp.zeros((1, 7, 7, 2)),
    ...   jnp.array([[4.0, 4, 20, 30]]), jnp.array([0]), jnp.array([0]),
    ...   jnp.ones((1, 40, 40)), num_points=9)
    >>> {name: int(count) for name, (_, count) in terms.items()}
    {'mask': 49, 'mask_point': 9}

  Source:
    Kirillov et al., PointRend, 2020, sections 3.1 and 4; the released code
    takes the mean over points, not the sum.
  """
  if masks.ndim != 3 or match.shape != boxes.shape[:1]:
    raise ValueError(
      "mask_losses: `masks` must be [G, H, W], `boxes` [R, 4] and `match` [R], "
      f"got {masks.shape}, {boxes.shape} and {match.shape}."
    )
  extent = (masks.shape[1], masks.shape[2])
  side = (coarse.shape[1], coarse.shape[2])
  boxes = jax.lax.stop_gradient(boxes)
  found = match >= 0
  label = jnp.clip(labels, 0, coarse.shape[-1] - 1)
  chosen = jnp.take_along_axis(
    ops.at_least_float32(coarse), label[:, None, None, None], -1
  )
  wanted = ops.crop_masks(
    masks,
    boxes,
    match,
    side,
    aligned=True,
    max_samples=-(-max(extent) // min(side)),
  )
  wanted = jax.lax.stop_gradient((wanted >= 0.5).astype(chosen.dtype))
  entropy = ops.binary_cross_entropy(chosen[..., 0], wanted).sum((1, 2))

  def draw(key, logits):
    return ops.sample_uncertain_points(
      key,
      logits,
      num_points,
      uncertainty=ops.binary_uncertainty,
      oversample=oversample,
      importance=importance,
      padding=padding,
    )

  points = jax.vmap(draw)(jax.random.split(key, len(boxes)), chosen)
  at = points_of_boxes(points, boxes, extent)

  read = functools.partial(ops.point_sample, padding=padding)

  def read_mask(given: Any) -> jax.Array:  # one mask at a time: they are large
    index, where = given
    mask = masks[jnp.maximum(index, 0)].astype(jnp.float32)
    return ops.point_sample(mask[..., None], where)[..., 0]

  truth = jnp.zeros(at.shape[:-1])
  if len(masks):
    truth = jax.lax.stop_gradient(jax.lax.map(read_mask, (match, at)))
  logits = jax.vmap(head)(
    read(fine, at),
    jax.vmap(read)(coarse, points),
    label,
  )
  logits = ops.at_least_float32(logits[..., 0])
  of_points = ops.binary_cross_entropy(logits, truth).sum(1)
  return {
    "mask": (
      jnp.where(found, entropy, 0).sum(),
      found.sum() * side[0] * side[1],
    ),
    "mask_point": (
      jnp.where(found, of_points, 0).sum(),
      found.sum() * num_points,
    ),
  }
