"""What anchors and regions should say: matching, sampling, encoding.

All functions are for one picture. Objects come padded; a row counts where
`valid`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.systems.rcnn.proposals import Proposals
from vision_jax.systems.rcnn.settings import Settings

__all__ = [
  "AnchorTargets",
  "Objects",
  "RegionTargets",
  "anchor_targets",
  "region_targets",
  "usable_objects",
]


class Objects(NamedTuple):
  """The objects of a picture, padded.

  Attributes:
    boxes: (x1, y1, x2, y2), continuous frame, [G, 4].
    labels: class, 1 and up, int32 [G].
    valid: bool [G].
    masks: [G, H, W] or None.
    keypoints: (x, y, visibility), index frame, [G, K, 3] or None.
  """

  boxes: jax.Array
  labels: jax.Array
  valid: jax.Array
  masks: jax.Array | None = None
  keypoints: jax.Array | None = None


class AnchorTargets(NamedTuple):
  """A sample of the anchors of a picture.

  Attributes:
    positive: bool [N], sampled anchors with an object.
    negative: bool [N], sampled anchors without.
    deltas: offsets to the object, [N, 4].
  """

  positive: jax.Array
  negative: jax.Array
  deltas: jax.Array


class RegionTargets(NamedTuple):
  """A sample of the proposals of a picture, those with objects first.

  Attributes:
    row: place among proposals followed by objects, int32 [S]; -1 on padding.
    boxes: [S, 4]; 0 on padding.
    labels: class, 0 for background, int32 [S]; -1 on padding.
    match: row of the object, int32 [S]; -1 for background and padding.
    deltas: offsets to the object, [S, 4].
  """

  row: jax.Array
  boxes: jax.Array
  labels: jax.Array
  match: jax.Array
  deltas: jax.Array


def usable_objects(batch: Any, num_classes: int) -> Objects:
  """The objects of a batch that can be learned from.

  Not used are padding, crowds, boxes without positive finite sides, and labels
  that are no class.

  Args:
    batch: arrays as `data.pad_example` and `data.collate` give them.
    num_classes: background included.

  Returns:
    Objects with a leading axis B.

  Source:
    Interface of this library.
  """
  boxes = jnp.asarray(batch["boxes"], jnp.float32)
  labels = jnp.asarray(batch["labels"], jnp.int32)
  sides = boxes[..., 2:] - boxes[..., :2]
  valid = jnp.isfinite(boxes).all(-1) & (sides > 0).all(-1)
  valid &= (labels > 0) & (labels < num_classes)
  if "objects_valid" in batch:
    valid &= jnp.asarray(batch["objects_valid"], bool)
  if "crowd" in batch:
    valid &= jnp.asarray(batch["crowd"]) == 0
  return Objects(
    jnp.where(valid[..., None], boxes, 0),
    jnp.where(valid, labels, 0),
    valid,
    batch.get("masks"),
    batch.get("keypoints"),
  )


def anchor_targets(
  key: jax.Array,
  anchors: jax.Array,
  objects: Objects,
  *,
  settings: Settings,
  used: jax.Array | bool = True,
) -> AnchorTargets:
  """Samples anchors with and without objects.

  Args:
    key: decides the draw.
    anchors: of all maps, [N, 4].
    objects: of the picture.
    settings: of the detector.
    used: whether the picture counts; else nothing is sampled.

  Returns:
    Targets of the anchors.

  Source:
    Ren et al., Faster R-CNN, 2015, sections 3.1.2 and 3.1.3.
  """
  match = ops.match_boxes(
    ops.box_iou(objects.boxes, anchors),
    low=settings.rpn_low,
    high=settings.rpn_high,
    allow_low_quality=True,
    valid=objects.valid,
  )
  positive, negative = ops.sample_matches(
    key,
    match,
    size=settings.rpn_samples,
    positive_fraction=settings.rpn_positive_fraction,
    valid=jnp.broadcast_to(jnp.asarray(used), match.shape),
  )
  matched = _row(objects.boxes, match)
  boxes = jnp.where(positive[:, None], matched, anchors)
  return AnchorTargets(positive, negative, ops.encode_boxes(boxes, anchors))


def region_targets(
  key: jax.Array,
  proposals: Proposals,
  objects: Objects,
  *,
  settings: Settings,
  used: jax.Array | bool = True,
) -> RegionTargets:
  """Samples proposals, to which the objects themselves are added.

  Args:
    key: decides the draw.
    proposals: of the picture.
    objects: of the picture.
    settings: of the detector.
    used: whether the picture counts; else nothing is sampled.

  Returns:
    Targets of `box_samples` regions.

  Source:
    Girshick, Fast R-CNN, 2015, section 2.3; torchvision's RoIHeads.
  """
  boxes = jnp.concatenate([proposals.boxes, objects.boxes])
  valid = jnp.concatenate([proposals.valid, objects.valid])
  match = ops.match_boxes(
    ops.box_iou(objects.boxes, boxes),
    low=settings.box_low,
    high=settings.box_high,
    valid=objects.valid,
  )
  index, positive, found = ops.sample_match_indices(
    key,
    match,
    size=settings.box_samples,
    positive_fraction=settings.box_positive_fraction,
    valid=valid & jnp.asarray(used),
  )
  boxes = jnp.where(found[:, None], _row(boxes, index), 0)
  match = jnp.where(positive, _row(match, index), -1)
  matched = jnp.where(positive[:, None], _row(objects.boxes, match), boxes)
  labels = jnp.where(positive, _row(objects.labels, match), 0)
  return RegionTargets(
    index,
    boxes,
    jnp.where(found, labels, -1),
    match,
    ops.encode_boxes(matched, boxes, weights=settings.box_weights),
  )


def _row(values: jax.Array, index: jax.Array) -> jax.Array:
  """Rows at an index that may be -1, for which any will do."""
  if not values.shape[0]:
    return jnp.zeros((*index.shape, *values.shape[1:]), values.dtype)
  return values[jnp.maximum(index, 0)]
