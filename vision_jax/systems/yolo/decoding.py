"""From the maps of the network to boxes, and to detections."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.ops import Detections

__all__ = ["DecodedBoxes", "decode_maps", "detect"]

Anchors = Sequence[Sequence[tuple[float, float]]]


class DecodedBoxes(NamedTuple):
  """What every cell and anchor of an image says.

  Attributes:
    boxes: (x1, y1, x2, y2), continuous pixels, [..., N, 4].
    objectness: probability that there is an object, [..., N].
    classes: probability of each class, independent, [..., N, K].

  Example:
    >>> from vision_jax.systems import yolo
    >>> b = yolo.DecodedBoxes(jnp.zeros((6, 4)), jnp.zeros(6),
    ...                       jnp.zeros((6, 80)))
    >>> b.classes.shape
    (6, 80)
  """

  boxes: jax.Array
  objectness: jax.Array
  classes: jax.Array


def decode_maps(
  maps: Sequence[jax.Array], *, image_size: tuple[int, int], anchors: Anchors
) -> DecodedBoxes:
  r"""Boxes, objectness and classes of all cells and anchors.

  For cell (i, j) of a map of h x w cells and the anchor of p_w x p_h pixels:
  :math:`x = (\sigma(t_x) + i) W / w`, :math:`y = (\sigma(t_y) + j) H / h`,
  width :math:`p_w e^{t_w}`, height :math:`p_h e^{t_h}`.

  Convention:
    Maps [..., h, w, A, 5 + K], the last axis as of `Yolo`. Boxes in the
    continuous frame of the input of the network. Order: head, row, column,
    anchor.

  Args:
    maps: one for each head.
    image_size: (height, width) of the input of the network.
    anchors: (width, height) in pixels, one group for each head.

  Returns:
    `DecodedBoxes`; N is the number of cells times anchors of all heads.

  Raises:
    ValueError: if maps and anchors do not belong together.

  Example:
    >>> from vision_jax.systems import yolo
    >>> maps = [jnp.zeros((2, 3, 1, 6))]
    >>> found = yolo.decode_maps(maps, image_size=(64, 96),
    ...                          anchors=[[(20.0, 10.0)]])
    >>> print(found.boxes[1], found.objectness[1])
    [38. 11. 58. 21.] 0.5

  Source:
    YOLOv3, section 2.1; get_yolo_box in yolo_layer.c of darknet.
  """
  shapes = [m.shape for m in maps]
  if len(maps) != len(anchors) or any(
    m.ndim < 4 or m.shape[-2] != len(group)
    for m, group in zip(maps, anchors, strict=True)
  ):
    raise ValueError(
      "decode_maps: `maps` must be [..., h, w, A, 5 + K] for the "
      f"{[len(group) for group in anchors]} anchors of the heads, got {shapes}."
    )
  decoded = [
    _decode(m, image_size, group)
    for m, group in zip(maps, anchors, strict=True)
  ]
  boxes, objectness, classes = zip(*decoded, strict=True)
  return DecodedBoxes(
    jnp.concatenate(boxes, -2),
    jnp.concatenate(objectness, -1),
    jnp.concatenate(classes, -2),
  )


def _decode(
  values: jax.Array,
  image_size: tuple[int, int],
  anchors: Sequence[tuple[float, float]],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """One head: boxes [..., n, 4], objectness [..., n], classes [..., n, K]."""
  rows, columns = values.shape[-4:-2]
  stride = np.array([image_size[1] / columns, image_size[0] / rows], np.float32)
  lead = (1,) * (values.ndim - 4)
  numbers = np.meshgrid(np.arange(columns), np.arange(rows))
  cells = (
    np.stack(numbers, -1).astype(np.float32).reshape(*lead, rows, columns, 1, 2)
  )
  sides = np.array(anchors, np.float32).reshape(*lead, 1, 1, -1, 2)
  middle = jax.nn.sigmoid(values[..., :2]) + cells
  middle = middle * stride.reshape(*lead, 1, 1, 1, 2)
  half = jnp.exp(values[..., 2:4]) * sides / 2
  boxes = jnp.concatenate([middle - half, middle + half], -1)
  flat = (*values.shape[:-4], rows * columns * len(anchors))
  return (
    boxes.reshape(*flat, 4),
    jax.nn.sigmoid(values[..., 4]).reshape(flat),
    jax.nn.sigmoid(values[..., 5:]).reshape(*flat, -1),
  )


def detect(
  maps: Sequence[jax.Array],
  *,
  image_size: tuple[int, int],
  anchors: Anchors,
  score_threshold: float = 0.005,
  iou_threshold: float = 0.45,
  max_detections: int = 100,
  max_candidates: int = 1000,
) -> tuple[Detections, jax.Array]:
  """The detections of one image, strongest first.

  A box counts once for every class whose score, objectness times class, is
  above the threshold; boxes of one class suppress each other.

  Convention:
    Boxes in the continuous frame of the input of the network, not clipped.
    Scores that are not finite, and their boxes, are no detections.

  Args:
    maps: [h, w, A, 5 + K], one for each head.
    image_size: (height, width) of the input of the network.
    anchors: (width, height) in pixels, one group for each head.
    score_threshold: scores must be above it.
    iou_threshold: of the suppression within a class.
    max_detections: rows of the result.
    max_candidates: pairs of a box and a class that enter the suppression.

  Returns:
    (detections, exact). `exact`, bool [], is False where more pairs than
    `max_candidates` are above the threshold and fewer than `max_detections`
    of those that entered are left: then weaker ones may be missing.

  Raises:
    ValueError: if maps and anchors do not belong together.

  Example:
    >>> from vision_jax.systems import yolo
    >>> maps = [jnp.full((2, 2, 1, 6), -9.0).at[1, 0, 0].set(
    ...     jnp.array([0.0, 0, 0, 0, 5, 5]))]
    >>> found, exact = yolo.detect(maps, image_size=(64, 64),
    ...                            anchors=[[(20.0, 10.0)]])
    >>> print(found.boxes[0], found.valid.sum(), exact)
    [ 6. 43. 26. 53.] 1 True

  Source:
    get_yolo_detections and do_nms_sort of darknet.
  """
  decoded = decode_maps(maps, image_size=image_size, anchors=anchors)
  scores = decoded.objectness[:, None] * decoded.classes
  usable = jnp.isfinite(scores) & jnp.isfinite(decoded.boxes).all(-1)[:, None]
  scores = jnp.where(usable & (scores > score_threshold), scores, -jnp.inf)
  passing = (scores > -jnp.inf).sum()
  # The best pairs lie in the boxes with the best pairs.
  _, rows = jax.lax.top_k(scores.max(-1), min(max_candidates, len(scores)))
  pairs = scores[rows].reshape(-1)
  best, chosen = jax.lax.top_k(pairs, min(max_candidates, len(pairs)))
  labels = (chosen % scores.shape[1]).astype(jnp.int32)
  boxes = decoded.boxes[rows[chosen // scores.shape[1]]]
  candidate = best > -jnp.inf
  kept, valid = ops.nms(
    jnp.where(candidate[:, None], boxes, 0.0),
    best,
    candidate,
    labels=labels,
    iou_threshold=iou_threshold,
    max_outputs=max_detections,
  )
  exact = (passing <= len(best)) | valid.all()
  found = Detections(
    boxes=jnp.where(valid[:, None], boxes[kept], 0.0),
    scores=jnp.where(valid, best[kept], 0.0),
    labels=jnp.where(valid, labels[kept], 0),
    valid=valid,
  )
  return found, exact
