"""Anchors of a pyramid, and the proposals that the network makes of them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.nn.canvas_masks import valid_cells
from vision_jax.systems.rcnn.networks import RCNN
from vision_jax.systems.rcnn.settings import Settings

__all__ = ["Level", "Proposals", "make_levels", "make_proposals"]


class Level(NamedTuple):
  """The anchors of one map of one picture.

  Attributes:
    anchors: (x1, y1, x2, y2), continuous frame, [N, 4]; by row, column,
      anchor.
    inside: bool [N]; False on cells behind the picture.
  """

  anchors: jax.Array
  inside: jax.Array


class Proposals(NamedTuple):
  """Boxes that may hold an object, of one picture.

  Attributes:
    boxes: (x1, y1, x2, y2), continuous frame, [P, 4]; 0 on padding.
    scores: probability of an object, falling, [P]; 0 on padding.
    valid: bool [P]; False marks padding.
  """

  boxes: jax.Array
  scores: jax.Array
  valid: jax.Array


def map_strides(
  cells: tuple[int, int], canvas: tuple[int, int]
) -> tuple[int, int]:
  """Pixels per cell, vertical and horizontal: the nearest powers of two."""
  high, wide = (
    2 ** round(float(np.log2(c / n)))
    for c, n in zip(canvas, cells, strict=True)
  )
  return high, wide


def make_levels(
  module: RCNN,
  cells: Sequence[tuple[int, int]],
  canvas: tuple[int, int],
  padded: jax.Array,
) -> list[Level]:
  """Anchors of every map of one picture.

  Args:
    module: the detector.
    cells: rows and columns of each map.
    canvas: height and width of the canvas.
    padded: (height, width) of the picture padded to a multiple of 32, [2].

  Returns:
    One `Level` for each map.

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.1; distances of anchors are
    padded side // cells, as torchvision has them, or the stride.
  """
  levels = []
  for sizes, count in zip(module.anchor_sizes, cells, strict=True):
    settings = module.settings
    cell = ops.cell_anchors(
      sizes, module.anchor_ratios, rounded=settings.round_anchors
    )
    limits = valid_cells(padded[None], count, canvas)[0]
    step = map_strides(count, canvas)
    if not settings.fixed_strides:
      step = tuple(padded // limits)
    anchors = ops.grid_anchors(cell, count, step)
    down = jnp.arange(count[0]) < limits[0]
    right = jnp.arange(count[1]) < limits[1]
    inside = (down[:, None] & right[None, :])[..., None]
    inside = jnp.broadcast_to(inside, (*count, len(cell))).reshape(-1)
    levels.append(Level(anchors, inside))
  return levels


def make_proposals(
  levels: Sequence[Level],
  logits: Sequence[jax.Array],
  deltas: Sequence[jax.Array],
  size: jax.Array,
  *,
  settings: Settings,
  train: bool = False,
) -> Proposals:
  """The best boxes of each map, each suppressing its like on the same map.

  Args:
    levels: anchors of each map.
    logits: objectness of each map, [N]; NaN is no object.
    deltas: boxes of each map as offsets from the anchors, [N, 4].
    size: (height, width) of the picture, [2].
    settings: of the detector.
    train: whether to keep as many as in training.

  Returns:
    Proposals by falling score; no derivative.

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.3; torchvision's
    RegionProposalNetwork.
  """
  before = settings.rpn_pre_train if train else settings.rpn_pre_test
  after = settings.rpn_post_train if train else settings.rpn_post_test
  boxes, scores, numbers = [], [], []
  for k, (level, score, offsets) in enumerate(
    zip(levels, logits, deltas, strict=True)
  ):
    score = jax.lax.stop_gradient(ops.at_least_float32(score))
    score = jnp.where(level.inside & ~jnp.isnan(score), score, -jnp.inf)
    score, best = jax.lax.top_k(score, min(before, score.shape[0]))
    offsets = jax.lax.stop_gradient(ops.at_least_float32(offsets[best]))
    boxes.append(ops.decode_boxes(offsets, level.anchors[best]))
    scores.append(score)
    numbers.append(jnp.full(score.shape, k, jnp.int32))
  box, score = jnp.concatenate(boxes), jnp.concatenate(scores)
  box = ops.clip_boxes(box, (size[0], size[1]))
  probability = jax.nn.sigmoid(score)
  valid = (
    (score > -jnp.inf)
    & has_sides(box, settings.rpn_min_side)
    & (probability >= settings.rpn_score)
  )
  index, valid = ops.nms(
    box,
    probability,
    valid,
    iou_threshold=settings.rpn_nms,
    max_outputs=after,
    labels=jnp.concatenate(numbers),
  )
  return Proposals(
    jnp.where(valid[:, None], box[index], 0),
    jnp.where(valid, probability[index], 0),
    valid,
  )


def has_sides(boxes: jax.Array, least: float) -> jax.Array:
  """Whether both sides are at least so long; NaN is not."""
  return ((boxes[..., 2:] - boxes[..., :2]) >= least).all(-1)
