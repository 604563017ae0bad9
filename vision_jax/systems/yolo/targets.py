"""Which cell and anchor answers for which object."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["HeadTargets", "assign_objects", "grid_targets"]

Anchors = Sequence[Sequence[tuple[float, float]]]


class HeadTargets(NamedTuple):
  """What one head is to say about an image.

  Attributes:
    positive: where an object is assigned, bool [h, w, A].
    boxes: (x, y) in [0, 1) within the cell, before the logit; logarithms of
      the sides over those of the anchor, [h, w, A, 4].
    weights: of the box, 2 minus the share of the image that the object
      takes, [h, w, A].
    classes: 0 or 1, several of one object allowed, [h, w, A, K].

  Example:
    >>> from vision_jax.systems import yolo
    >>> targets = yolo.assign_objects(
    ...     jnp.array([[32.0, 0, 64, 32]]), jnp.array([1]), jnp.array([True]),
    ...     image_size=(64, 64), grids=[(2, 2)], anchors=[[(32.0, 32.0)]],
    ...     num_classes=3)
    >>> print(targets[0].positive[..., 0], targets[0].boxes[0, 1, 0])
    [[False  True]
     [False False]] [0.5 0.5 0.  0. ]
  """

  positive: jax.Array
  boxes: jax.Array
  weights: jax.Array
  classes: jax.Array


def _side_overlaps(sides: jax.Array, anchors: np.ndarray) -> jax.Array:
  """IoU [G, A] of boxes and anchors laid on one middle, by their sides."""
  shared = jnp.minimum(sides[:, None], anchors[None]).prod(-1)
  both = sides.prod(-1)[:, None] + anchors.prod(-1)[None]
  return shared / jnp.maximum(both - shared, 1e-12)


def assign_objects(
  boxes: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  *,
  image_size: tuple[int, int],
  grids: Sequence[tuple[int, int]],
  anchors: Anchors,
  num_classes: int,
  match_threshold: float = 1.0,
) -> list[HeadTargets]:
  """Assigns every object to one anchor of the cell of its middle.

  The anchor is the one, of all heads, whose sides overlap most with those of
  the object; and, if asked for, all that overlap with it enough. Where two
  objects meet, the later gives the box; the classes of both count.

  Convention:
    Boxes in the continuous frame of the input of the network. Objects without
    area, or whose middle lies beside the image, or of a class that there is
    not, are left out.

  Args:
    boxes: [G, 4].
    labels: class of each, integers [G].
    valid: bool [G]; False marks padding.
    image_size: (height, width) of the input of the network.
    grids: (rows, columns) of the map of each head.
    anchors: (width, height) in pixels, one group for each head, coarse first.
    num_classes: K.
    match_threshold: overlap of the sides above which an anchor answers although
      another fits better; 1 is darknet's YOLOv3, 0.213 its YOLOv4.

  Returns:
    `HeadTargets` of each head.

  Example:
    >>> from vision_jax.systems import yolo
    >>> small, large = [(16.0, 16.0)], [(60.0, 60.0)]
    >>> targets = yolo.assign_objects(
    ...     jnp.array([[4.0, 4, 18, 20]]), jnp.array([0]), jnp.array([True]),
    ...     image_size=(64, 64), grids=[(2, 2), (4, 4)],
    ...     anchors=[large, small], num_classes=1)
    >>> [int(t.positive.sum()) for t in targets]
    [0, 1]

  Source:
    forward_yolo_layer of darknet; `iou_thresh` in YOLOv4, arXiv 2004.10934,
    section 3.4. Where a configuration lists an anchor that
    no head uses (the first YOLOv3-tiny), darknet drops the objects that it
    would win; here the next best anchor takes them.
  """
  height, width = image_size
  if not len(boxes):  # a row of padding, so that there is something to gather
    boxes, labels = jnp.zeros((1, 4)), jnp.zeros(1, jnp.int32)
    valid = jnp.zeros(1, bool)
  boxes = boxes.astype(jnp.float32)
  sides, middle = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
  unit = middle / np.array([[width, height]], np.float32)
  valid = valid & (sides > 0).all(-1) & ((unit >= 0) & (unit < 1)).all(-1)
  valid = valid & (labels >= 0) & (labels < num_classes)
  # Fine before coarse, as darknet numbers them: that decides ties.
  distinct = list(dict.fromkeys(a for group in anchors[::-1] for a in group))
  sides = jnp.where(valid[:, None], sides, 1.0)
  overlaps = _side_overlaps(sides, np.array(distinct, np.float32))
  best = overlaps.argmax(-1)
  weights = 2 - (sides / np.array([[width, height]], np.float32)).prod(-1)
  order = jnp.arange(len(boxes))[:, None]
  result = []
  for (rows, columns), group in zip(grids, anchors, strict=True):
    own = np.array([distinct.index(a) for a in group])
    is_best = best[:, None] == own[None]
    near = overlaps[:, own] > match_threshold
    hits = (is_best | near) & valid[:, None]  # [G, A]
    place = unit * np.array([[columns, rows]], np.float32)
    cell = jnp.floor(place).astype(jnp.int32)
    # A row beyond the map is dropped by the scatter.
    row = jnp.where(hits, cell[:, 1:], rows)
    at = (row, cell[:, :1], np.arange(len(group))[None])
    shape = (rows, columns, len(group))
    # The best anchor of an object goes before a near one of a later object.
    rank = order + len(boxes) * is_best
    owner = jnp.full(shape, -1).at[at].max(rank, mode="drop")
    positive, owner = owner >= 0, owner % len(boxes)
    scale = np.array(group, np.float32)[None, None]
    values = jnp.concatenate(
      [(place - cell)[owner], jnp.log(sides[owner] / scale)], -1
    )
    classes = jnp.zeros((*shape, num_classes))
    classes = classes.at[(*at, labels[:, None])].max(1.0, mode="drop")
    result.append(
      HeadTargets(
        positive,
        jnp.where(positive[..., None], values, 0.0),
        jnp.where(positive, weights[owner], 0.0),
        classes,
      )
    )
  return result


def grid_targets(
  boxes: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  *,
  image_size: tuple[int, int],
  grid: tuple[int, int] = (3, 3),
  num_classes: int = 3,
  anchors: Sequence[tuple[float, float]] | None = None,
) -> jax.Array:
  """The targets of the lecture: one vector for each cell.

  A vector is (objectness, x, y, width, height, classes): the middle within
  the cell, from 0 to 1, and the sides in cells, which may exceed 1. Cells
  without an object are 0. With anchors, every cell has one vector for each,
  and an object goes to the anchor whose sides overlap most with its own.

  Convention:
    Boxes in the continuous frame. A later object overwrites an earlier one.
    Left out are the same objects as by `assign_objects`.

  Args:
    boxes: [G, 4].
    labels: class of each, integers [G].
    valid: bool [G]; False marks padding.
    image_size: (height, width) in pixels.
    grid: (rows, columns).
    num_classes: K.
    anchors: (width, height) in pixels, or None for one vector a cell.

  Returns:
    [rows, columns, 5 + K], or [rows, columns, A, 5 + K] with anchors.

  Example:
    >>> from vision_jax.systems import yolo
    >>> targets = yolo.grid_targets(
    ...     jnp.array([[60.0, 30, 90, 50]]), jnp.array([1]), jnp.array([True]),
    ...     image_size=(90, 90))
    >>> print(np.asarray(targets, float)[1, 2].round(2))
    [1.   0.5  0.33 1.   0.67 0.   1.   0.  ]

  Source:
    The lecture's 3 x 3 grid; J. Redmon and others, "You only look once",
    arXiv 1506.02640, section 2; anchors as in YOLO9000, arXiv 1612.08242.
  """
  sides = tuple(anchors) if anchors is not None else ((1.0, 1.0),)
  (found,) = assign_objects(
    boxes,
    labels,
    valid,
    image_size=image_size,
    grids=[grid],
    anchors=[sides],
    num_classes=num_classes,
  )
  cell = np.array(
    [image_size[1] / grid[1], image_size[0] / grid[0]], np.float32
  )
  scale = (np.array(sides, np.float32) / cell).reshape(1, 1, -1, 2)
  positive = found.positive[..., None]
  extent = jnp.where(positive, jnp.exp(found.boxes[..., 2:]) * scale, 0.0)
  vectors = jnp.concatenate(
    [positive, found.boxes[..., :2], extent, found.classes], -1
  )
  return vectors if anchors is not None else vectors[:, :, 0]
