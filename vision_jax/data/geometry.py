"""Flips, crops and affine maps of a whole example.

An example is a dict of arrays; what of the following it has moves together:

| name | shape | how it moves |
|---|---|---|
| `image` | [H, W, C], uint8 or float | bilinear, averaged where it shrinks |
| `masks` | uint8 0/1 [N, H, W] | as the image, then at least one half |
| `semantic` | uint8 [H, W] | nearest pixel; 255 (ignored) outside |
| `ignore` | uint8 0/1 [H, W] | nearest pixel; 1 (left out) outside |
| `boxes` | float32 [N, 4] | continuous frame, clipped |
| `polygons` | N lists of [P, 2] | continuous frame, clipped |
| `keypoints` | float32 [N, K, 3] | index frame; 0, 0, 0 outside |
| `area` | float32 [N] | times the change of area and the visible share |

`labels` and `crowd` follow their objects; all other entries stay. An object is
dropped when less of it than `min_visible` stays in the picture, or when nothing
is left of its mask (thin objects, where the map shrinks). The share is that of
the mask, else of the outline, else of the box, else of the keypoints.

A box is moved exactly by a map that keeps the axes. Where the border cuts the
object, the box is cut too, down to the bounds of what is left of its outline or
else its mask. Where the map turns, the box is these bounds, or, with neither
outline nor mask, the bounds of its moved corners, which are loose.

Nothing is changed in place; what does not move may be shared with the input.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from vision_jax.data.objects import PER_OBJECT, affine_matrix, move_objects
from vision_jax.data.resampling import axis_matrix, resample

__all__ = [
  "affine_example",
  "flip_horizontal",
  "letterbox",
  "letterbox_matrix",
  "resize_shortest",
]

Example = dict[str, Any]


def affine_example(
  example: Mapping[str, Any],
  matrix: np.ndarray,
  size: tuple[int, int],
  *,
  min_visible: float = 0.1,
  fill: float | tuple[float, ...] = 0,
) -> Example:
  """Draws an example under an affine map, with all that belongs to it.

  Convention:
    `matrix` maps OUTPUT to INPUT pixels, index frame; how each entry moves and
    which objects are dropped stands at the head of this module.

  Args:
    example: see the head of this module; `image` is needed.
    matrix: affine map [3, 3], last row (0, 0, 1), not singular.
    size: (height, width) of the new picture.
    min_visible: smallest share of an object that must stay visible.
    fill: value of `image` outside the old picture, one or one per channel.

  Returns:
    The new example.

  Raises:
    ValueError: on a wrong matrix, size or share, or arrays that do not fit the
      picture.
    TypeError: if the picture is neither uint8 nor float.
    KeyError: if there is no `image`.

  Example:
    >>> from vision_jax.data import affine_example
    >>> example = {"image": np.ones((4, 6, 3), np.uint8),
    ...            "boxes": np.array([[1, 1, 4, 3]], np.float32)}
    >>> half_turn = np.array([[-1.0, 0, 5], [0, -1, 3], [0, 0, 1]])
    >>> print(affine_example(example, half_turn, (4, 6))["boxes"])
    [[2. 1. 5. 3.]]

  Source:
    Interface of this library.
  """
  matrix = affine_matrix(matrix)
  size = _checked_size("affine_example", size)
  if not 0 <= min_visible <= 1:
    raise ValueError(
      f"affine_example: `min_visible` must be in [0, 1], got {min_visible}."
    )
  _picture_size("affine_example", example)
  new = dict(example)
  new["image"] = resample(example["image"], matrix, size, fill=fill)
  for name, outside in (("semantic", 255), ("ignore", 1)):
    if name in example:
      new[name] = resample(
        example[name], matrix, size, fill=outside, nearest=True
      )
  if any(name in example for name in PER_OBJECT):
    new.update(move_objects(example, matrix, size, min_visible))
  return new


def flip_horizontal(
  example: Mapping[str, Any], *, swap: Sequence[int] | None = None
) -> Example:
  """Mirrors an example left to right, exactly.

  Convention:
    In a picture of width W a box side at x goes to W - x, a keypoint at x to
    W - 1 - x. Keypoints that are absent (v = 0) stay 0, 0, 0.

  Args:
    example: see the head of this module; `image` is needed.
    swap: permutation [K]; keypoint k of the result is keypoint swap[k] of the
      input (left and right ankle, ...). None keeps the order.

  Returns:
    The mirrored example.

  Raises:
    ValueError: if `swap` is no permutation of the keypoints, or arrays do not
      fit the picture.
    KeyError: if there is no `image`.

  Example:
    >>> from vision_jax.data import flip_horizontal
    >>> example = {"image": np.arange(3, dtype=np.uint8).reshape(1, 3, 1),
    ...            "keypoints": np.array([[[0, 0, 2], [1, 0, 2]]], np.float32)}
    >>> print(flip_horizontal(example, swap=(1, 0))["keypoints"])
    [[[1. 0. 2.]
      [2. 0. 2.]]]

  Source:
    Interface of this library.
  """
  _, width = _picture_size("flip_horizontal", example)
  new = dict(example)
  new["image"] = cv2.flip(example["image"], 1).reshape(example["image"].shape)
  for name in ("masks", "semantic", "ignore"):
    if name in example:
      new[name] = np.ascontiguousarray(example[name][..., ::-1])
  if "boxes" in example:
    x1, y1, x2, y2 = np.moveaxis(example["boxes"], -1, 0)
    new["boxes"] = np.stack([width - x2, y1, width - x1, y2], -1)
  if "polygons" in example:
    new["polygons"] = [
      [np.stack([width - p[:, 0], p[:, 1]], -1) for p in outlines]
      for outlines in example["polygons"]
    ]
  if "keypoints" in example:
    new["keypoints"] = _flipped_keypoints(example["keypoints"], width, swap)
  return new


def _flipped_keypoints(
  keypoints: np.ndarray, width: int, swap: Sequence[int] | None
) -> np.ndarray:
  """Keypoints [N, K, 3] of the mirrored picture."""
  moved = np.array(keypoints)
  if swap is not None:
    if sorted(swap) != list(range(moved.shape[1])):
      raise ValueError(
        "flip_horizontal: `swap` must be a permutation of"
        f" {moved.shape[1]} keypoints, got {tuple(swap)}."
      )
    moved = moved[:, list(swap)]
  present = moved[..., 2] > 0
  moved[..., 0] = np.where(present, width - 1 - moved[..., 0], 0)
  return moved


def letterbox_matrix(
  size_in: tuple[int, int], size_out: tuple[int, int]
) -> np.ndarray:
  """The map of `letterbox`: from the canvas to the picture inside it.

  The picture is enlarged or shrunk by one factor until it just fits, its sides
  rounded to whole pixels, and put in the middle.

  Convention:
    Sizes are (height, width); index frame, OUTPUT (canvas) to INPUT (picture):
    `transform_boxes(boxes, matrix)` takes boxes found on the canvas back into
    the picture.

  Args:
    size_in: size of the picture.
    size_out: size of the canvas.

  Returns:
    Float64 [3, 3].

  Raises:
    ValueError: if a size is not positive.

  Example:
    >>> from vision_jax.data import letterbox_matrix, transform_boxes
    >>> matrix = letterbox_matrix((100, 200), (64, 64))
    >>> print(transform_boxes(np.array([[0.0, 16, 64, 48]]), matrix))
    [[  0.   0. 200. 100.]]

  Source:
    J. Redmon, A. Farhadi, "YOLOv3", 2018 (the darknet program's input).
  """
  old = np.array(_checked_size("letterbox_matrix", size_in, "size_in"))
  canvas = np.array(_checked_size("letterbox_matrix", size_out, "size_out"))
  factor = (canvas / old).min()
  new = np.clip(np.rint(old * factor), 1, canvas)
  scale = old / new
  offset = -scale * ((canvas - new) // 2)
  return axis_matrix((scale[1], scale[0]), (offset[1], offset[0]))


def letterbox(
  example: Mapping[str, Any],
  size: tuple[int, int],
  *,
  fill: float | tuple[float, ...] = 0,
) -> Example:
  """Fits an example into a canvas, keeping its aspect, with borders around.

  Args:
    example: see the head of this module; `image` is needed.
    size: (height, width) of the canvas.
    fill: value of the borders, one or one per channel.

  Returns:
    The new example; `original_size`, int32 [2], is the (height, width) that
    `letterbox_matrix` needs to lead back.

  Raises:
    ValueError: if the size is not positive, or arrays do not fit the picture.
    KeyError: if there is no `image`.

  Example:
    >>> from vision_jax.data import letterbox
    >>> example = {"image": np.ones((100, 200, 3), np.uint8),
    ...            "boxes": np.array([[0, 0, 200, 100]], np.float32)}
    >>> new = letterbox(example, (64, 64))
    >>> print(new["image"].shape, new["boxes"], new["original_size"])
    (64, 64, 3) [[ 0. 16. 64. 48.]] [100 200]

  Source:
    J. Redmon, A. Farhadi, "YOLOv3", 2018 (the darknet program's input).
  """
  size = _checked_size("letterbox", size)
  old = _picture_size("letterbox", example)
  matrix = letterbox_matrix(old, size)
  new = affine_example(example, matrix, size, min_visible=0, fill=fill)
  return {**new, "original_size": np.array(old, np.int32)}


def resize_shortest(
  example: Mapping[str, Any], shortest: int, *, longest: int | None = None
) -> Example:
  """Resizes an example so that its short side has a given length.

  Args:
    example: see the head of this module; `image` is needed.
    shortest: length of the short side, pixels.
    longest: limit of the long side; a picture that would pass it is made
      smaller until it does not.

  Returns:
    The new example; `original_size`, int32 [2], is the (height, width) before.

  Raises:
    ValueError: if a length is not positive, or arrays do not fit the picture.
    KeyError: if there is no `image`.

  Example:
    >>> from vision_jax.data import resize_shortest
    >>> example = {"image": np.ones((100, 200, 3), np.uint8)}
    >>> resize_shortest(example, 50)["image"].shape
    (50, 100, 3)
    >>> resize_shortest(example, 50, longest=80)["image"].shape
    (40, 80, 3)

  Source:
    R. Girshick, "Fast R-CNN", ICCV 2015, section 2.3: one image scale.
  """
  for name, value in (("shortest", shortest), ("longest", longest)):
    if value is not None and value < 1:
      raise ValueError(
        f"resize_shortest: `{name}` must be at least 1, got {value}."
      )
  old = np.array(_picture_size("resize_shortest", example))
  factor = shortest / old.min()
  if longest is not None:
    factor = min(factor, longest / old.max())
  size = np.maximum(np.floor(old * factor + 0.5).astype(int), 1)
  scale = old / size
  new = affine_example(
    example,
    axis_matrix((scale[1], scale[0]), (0, 0)),
    (int(size[0]), int(size[1])),
    min_visible=0,
  )
  return {**new, "original_size": old.astype(np.int32)}


def _checked_size(
  function: str, size: Sequence[int], name: str = "size"
) -> tuple[int, int]:
  """(height, width), both at least 1, or an error."""
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      f"{function}: `{name}` must be (height, width), at least 1, got"
      f" {tuple(size)}."
    )
  return int(size[0]), int(size[1])


def _picture_size(function: str, example: Mapping[str, Any]) -> tuple[int, int]:
  """(height, width) of an example whose arrays fit its picture."""
  if "image" not in example:
    raise KeyError(
      f"{function}: `example` must have an 'image', got {sorted(example)}."
    )
  image = example["image"]
  if image.ndim != 3 or 0 in image.shape:
    raise ValueError(
      f"{function}: `image` must be [H, W, C] and not empty, got {image.shape}."
    )
  if image.dtype not in (np.uint8, np.float32, np.float64):
    raise TypeError(
      f"{function}: `image` must be uint8, float32 or float64, got"
      f" {image.dtype}."
    )
  for name in ("masks", "semantic", "ignore"):
    if name in example and example[name].shape[-2:] != image.shape[:2]:
      raise ValueError(
        f"{function}: `{name}` must have the size of the picture,"
        f" {image.shape[:2]}, got {example[name].shape}."
      )
  lengths = {name: len(example[name]) for name in PER_OBJECT if name in example}
  if len(set(lengths.values())) > 1:
    raise ValueError(
      f"{function}: `example` must have one row for each object in all of"
      f" {list(lengths)}, got {list(lengths.values())}."
    )
  return int(image.shape[0]), int(image.shape[1])
