"""From pictures of any size to detections in their own pixels."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vision_jax.ops import Detections
from vision_jax.systems.yolo import decoding

__all__ = [
  "Placement",
  "letterbox",
  "make_detector",
  "predict",
  "undo_letterbox",
]


class Placement(NamedTuple):
  """Where a picture lies on the canvas.

  Attributes:
    size_in: (height, width) of the picture.
    size: (height, width) that it has on the canvas.
    offset: (rows above, columns to the left).

  Example:
    >>> from vision_jax.systems import yolo
    >>> yolo.Placement((100, 200), (32, 64), (16, 0)).offset
    (16, 0)
  """

  size_in: tuple[int, int]
  size: tuple[int, int]
  offset: tuple[int, int]


def letterbox(
  image: np.ndarray,
  size: tuple[int, int],
  *,
  align_corners: bool = True,
  fill: float = 0.5,
) -> tuple[np.ndarray, Placement]:
  """Fits a picture into a canvas as darknet does, keeping its aspect.

  Convention:
    The sides on the canvas are rounded down. Bilinear, without averaging.

  Args:
    image: float [H, W, C].
    size: (height, width) of the canvas.
    align_corners: keep the corner pixels in the corners, as darknet; False
      takes half-pixel centres, as most of its ports.
    fill: value of the border.

  Returns:
    (canvas float32 [*size, C], placement).

  Raises:
    ValueError: if there are no pixels.
    TypeError: if the picture is not floating.

  Example:
    >>> from vision_jax.systems import yolo
    >>> canvas, placement = yolo.letterbox(np.ones((100, 200, 3)), (64, 64))
    >>> print(canvas.shape, placement.size, placement.offset, canvas[0, 0, 0])
    (64, 64, 3) (32, 64) (16, 0) 0.5

  Source:
    letterbox_image and resize_image of darknet.
  """
  image = np.asarray(image)
  if image.ndim != 3 or 0 in image.shape:
    raise ValueError(
      "letterbox: `image` must be [H, W, C] with at least one pixel, got "
      f"shape {image.shape}."
    )
  if image.dtype.kind != "f":
    raise TypeError(
      f"letterbox: `image` must be floating, in [0, 1], got {image.dtype}; "
      "divide bytes by 255."
    )
  height, width = image.shape[:2]
  if size[1] * height < size[0] * width:
    new = (max(height * size[1] // width, 1), size[1])
  else:
    new = (size[0], max(width * size[0] // height, 1))
  offset = ((size[0] - new[0]) // 2, (size[1] - new[1]) // 2)
  canvas = np.full((*size, image.shape[2]), fill, np.float32)
  inside = image.astype(np.float32)
  for axis in (0, 1):
    inside = _resize_axis(inside, axis, new[axis], align_corners)
  rows, columns = (slice(o, o + n) for o, n in zip(offset, new, strict=True))
  canvas[rows, columns] = inside
  return canvas, Placement((height, width), new, offset)


def _resize_axis(
  image: np.ndarray, axis: int, length: int, align_corners: bool
) -> np.ndarray:
  """Linear interpolation along an axis."""
  old = image.shape[axis]
  if old == length:
    return image
  if align_corners:
    place = np.arange(length) * ((old - 1) / max(length - 1, 1))
  else:
    place = (np.arange(length) + 0.5) * (old / length) - 0.5
  place = place.clip(0, old - 1)
  low = np.floor(place).astype(int)
  high = np.minimum(low + 1, old - 1)
  part = (place - low).astype(np.float32)
  part = part.reshape([-1 if k == axis else 1 for k in range(3)])
  return image.take(low, axis) * (1 - part) + image.take(high, axis) * part


def undo_letterbox(boxes: np.ndarray, placement: Placement) -> np.ndarray:
  """Boxes on the canvas as boxes in the picture, clipped to it.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame, on both sides.

  Args:
    boxes: [N, 4].
    placement: as `letterbox` returned it.

  Returns:
    float32 [N, 4].

  Example:
    >>> from vision_jax.systems import yolo
    >>> placement = yolo.Placement((100, 200), (32, 64), (16, 0))
    >>> print(yolo.undo_letterbox(np.array([[0.0, 16, 64, 99]]), placement))
    [[  0.   0. 200. 100.]]

  Source:
    correct_yolo_boxes of darknet, which takes half a pixel where the border is
    odd, while its letterbox rounds down; here both round down.
  """
  (height, width), new, (top, left) = placement
  offset = np.array([left, top, left, top], np.float32)
  scale = np.array([width / new[1], height / new[0]] * 2, np.float32)
  limit = np.array([width, height] * 2, np.float32)
  moved = (np.asarray(boxes, np.float32) - offset) * scale
  return np.clip(moved, 0, limit)


@functools.lru_cache(maxsize=32)
def make_detector(
  module: Any,
  *,
  score_threshold: float = 0.005,
  iou_threshold: float = 0.45,
  max_detections: int = 100,
  max_candidates: int = 1000,
) -> Callable[[Mapping[str, Any], Any], tuple[Detections, jax.Array]]:
  """A compiled function from images of one size to detections.

  The same arguments give the same function, so that it is compiled once for
  each shape of the images.

  Args:
    module: a `Yolo` or `YoloTiny`.
    score_threshold: as of `detect`, like all that follow.
    iou_threshold: of the suppression within a class.
    max_detections: rows of the result.
    max_candidates: pairs of a box and a class that enter the suppression.

  Returns:
    `(variables, images [B, H, W, 3]) -> (Detections [B, ...], exact [B])`.

  Example:
    >>> from vision_jax.systems import yolo
    >>> module = yolo.yolo_small()
    >>> yolo.make_detector(module) is yolo.make_detector(module)
    True

  Source:
    Interface of this library.
  """

  @jax.jit
  def detector(variables, images):
    maps, _ = module.apply(variables, images)
    one = functools.partial(
      decoding.detect,
      image_size=images.shape[1:3],
      anchors=module.anchors,
      score_threshold=score_threshold,
      iou_threshold=iou_threshold,
      max_detections=max_detections,
      max_candidates=max_candidates,
    )
    return jax.vmap(one)(maps)

  return detector


def predict(
  module: Any,
  variables: Mapping[str, Any],
  images: Sequence[np.ndarray],
  *,
  size: tuple[int, int] | None = None,
  batch_size: int = 1,
  align_corners: bool = True,
  score_threshold: float = 0.005,
  iou_threshold: float = 0.45,
  max_detections: int = 100,
  max_candidates: int = 1000,
) -> list[dict[str, np.ndarray]]:
  """Detections of pictures of any sizes, in their own pixels.

  Pictures are put on one canvas, so that one program serves all.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame of the picture, clipped to
    it; strongest first.

  Args:
    module: a `Yolo` or `YoloTiny`.
    variables: its parameters and statistics.
    images: RGB pictures, float [H, W, 3] in [0, 1].
    size: (height, width) of the canvas, multiples of the coarsest stride; that
      of the module by default.
    batch_size: pictures that are computed together.
    align_corners: as of `letterbox`.
    score_threshold: as of `detect`, like all that follow.
    iou_threshold: of the suppression within a class.
    max_detections: most detections of a picture.
    max_candidates: pairs of a box and a class that enter the suppression.

  Returns:
    For each picture a dict of `boxes` float32 [N, 4], `labels` int32 [N] and
    `scores` float32 [N].

  Raises:
    ValueError: if a picture is not [H, W, 3], or holds values that are not
      finite.
    TypeError: if a picture is not floating.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import yolo
    >>> module = yolo.yolo_small(num_blocks=(0, 1, 1), width=2)
    >>> variables = weights.random_variables(module)
    >>> found = yolo.predict(module, variables, [np.zeros((30, 40, 3))])
    >>> sorted(found[0]), found[0]["boxes"].shape[1]
    (['boxes', 'labels', 'scores'], 4)

  Source:
    test_detector of darknet.
  """
  size = module.image_size if size is None else tuple(size)
  detector = make_detector(
    module,
    score_threshold=score_threshold,
    iou_threshold=iou_threshold,
    max_detections=max_detections,
    max_candidates=max_candidates,
  )
  results: list[dict[str, np.ndarray]] = []
  for start in range(0, len(images), batch_size):
    part = images[start : start + batch_size]
    canvases = np.full((batch_size, *size, 3), 0.5, np.float32)
    placements = []
    for k, image in enumerate(part):
      _check_picture(image, start + k)
      canvases[k], placement = letterbox(
        image, size, align_corners=align_corners
      )
      placements.append(placement)
    found, exact = jax.device_get(detector(variables, canvases))
    for k, placement in enumerate(placements):
      if not exact[k]:
        warnings.warn(
          f"predict: picture {start + k} has more than {max_candidates} "
          "candidates; weak detections may be missing. Raise `max_candidates`"
          " or `score_threshold`.",
          stacklevel=2,
        )
      keep = found.valid[k]
      results.append(
        {
          "boxes": undo_letterbox(found.boxes[k][keep], placement),
          "labels": found.labels[k][keep],
          "scores": found.scores[k][keep],
        }
      )
  return results


def _check_picture(image: Any, index: int) -> None:
  array = np.asarray(image)
  if array.ndim != 3 or array.shape[-1] != 3:
    raise ValueError(
      "predict: `images` must be RGB, [H, W, 3], got shape "
      f"{array.shape} at {index}."
    )
  if array.dtype.kind == "f" and not np.isfinite(array).all():
    raise ValueError(
      "predict: `images` must be finite, got NaN or infinite values at "
      f"{index}."
    )
