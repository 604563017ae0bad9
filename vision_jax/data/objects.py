"""The objects of an example under an affine map: which stay, and where."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vision_jax.data.resampling import resample

__all__ = ["PER_OBJECT", "affine_matrix", "move_objects", "transform_boxes"]

PER_OBJECT = (
  "boxes",
  "labels",
  "masks",
  "polygons",
  "crowd",
  "area",
  "keypoints",
)

_EPS = 1e-3


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Bounds of boxes under an affine map.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame; `matrix` acts in the index
    frame and is applied as it is: a matrix from OUTPUT to INPUT takes boxes
    found in the output back to the input.

  Args:
    boxes: [..., 4].
    matrix: affine map [3, 3].

  Returns:
    Bounds of the moved corners, [..., 4], same dtype; not clipped.

  Raises:
    ValueError: if `matrix` is no affine map, or `boxes` are not [..., 4].

  Example:
    >>> from vision_jax.data import transform_boxes
    >>> print(transform_boxes(np.array([0.0, 0, 2, 1]), np.diag([2.0, 2, 1])))
    [-0.5 -0.5  3.5  1.5]

  Source:
    Interface of this library.
  """
  matrix = affine_matrix(matrix, "transform_boxes")
  boxes = np.asarray(boxes)
  if boxes.shape[-1:] != (4,):
    raise ValueError(
      f"transform_boxes: `boxes` must be [..., 4], got {boxes.shape}."
    )
  corners = boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]
  moved = _moved_points(matrix, corners - 0.5) + 0.5
  bounds = np.concatenate([moved.min(-2), moved.max(-2)], -1)
  return bounds.astype(boxes.dtype if boxes.dtype.kind == "f" else np.float32)


def move_objects(
  example: Mapping[str, Any],
  matrix: np.ndarray,
  size: tuple[int, int],
  min_visible: float,
) -> dict[str, Any]:
  """Moves the entries of `PER_OBJECT`; geometry.py says how.

  Args:
    example: entries that fit its picture, at least one of `PER_OBJECT`.
    matrix: affine map [3, 3], index frame, OUTPUT to INPUT.
    size: (height, width) of the new picture.
    min_visible: smallest share of an object that must stay visible.

  Returns:
    The moved entries of the objects that stay.

  Source:
    Interface of this library.
  """
  push = np.linalg.inv(matrix)
  growth = abs(np.linalg.det(push[:2, :2]))
  new = {name: example[name] for name in PER_OBJECT if name in example}
  # Later entries know better what is visible.
  share = np.ones(len(next(iter(new.values()))))
  if "keypoints" in new:
    old = new["keypoints"]
    new["keypoints"] = _moved_keypoints(old, push, size)
    had = (old[..., 2] > 0).any(-1)
    share = np.where(had, (new["keypoints"][..., 2] > 0).any(-1), share)
  if "boxes" in new:
    whole = transform_boxes(np.asarray(new["boxes"], np.float64), push)
    boxes = np.clip(whole, 0, np.array(size[::-1] * 2))
    share = _box_areas(boxes) / np.maximum(_box_areas(whole), 1e-12)
  if "polygons" in new:
    moved = [
      [_moved_points(push, p - 0.5) + 0.5 for p in outlines]
      for outlines in new["polygons"]
    ]
    clipped = [[_clipped(p, size) for p in outlines] for outlines in moved]
    before = np.array([sum(map(_outline_area, p)) for p in moved])
    after = np.array([sum(map(_outline_area, p)) for p in clipped])
    share = np.where(before > 0, after / np.maximum(before, 1e-12), share)
    new["polygons"] = [
      [p.astype(np.float32) for p in outlines if len(p) > 2]
      for outlines in clipped
    ]
  if "masks" in new:
    share = _mask_shares(new["masks"], push, size, share)
    had = new["masks"].any((1, 2))
    new["masks"] = _moved_masks(new["masks"], matrix, size)
    share = np.where(had & ~new["masks"].any((1, 2)), 0, share)
  if "boxes" in new:
    across, along = np.abs(matrix[[0, 1], [1, 0]]), np.abs(np.diag(matrix)[:2])
    turns = bool(across.max() > 1e-9 and along.max() > 1e-9)
    for i in np.flatnonzero(turns | (np.abs(boxes - whole) > _EPS).any(-1)):
      boxes[i] = _tight_box(boxes[i], new, int(i), turns)
    new["boxes"] = boxes.astype(np.float32)
  if "area" in new:
    new["area"] = (new["area"] * growth * share).astype(np.float32)
  kept = np.flatnonzero((share >= min_visible) & (share > 0))
  return {
    name: [value[i] for i in kept] if name == "polygons" else value[kept]
    for name, value in new.items()
  }


def _moved_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Points [..., 2] under the matrix, float64."""
  return np.asarray(points, np.float64) @ matrix[:2, :2].T + matrix[:2, 2]


def _moved_keypoints(
  keypoints: np.ndarray, push: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
  """Keypoints [N, K, 3]; 0, 0, 0 where absent or outside the picture."""
  points = _moved_points(push, keypoints[..., :2])
  limit = np.array(size[::-1]) - 0.5
  inside = ((points >= -0.5) & (points < limit)).all(-1, keepdims=True)
  moved = np.concatenate([points, keypoints[..., 2:]], -1)
  present = inside & (keypoints[..., 2:] > 0)
  return np.where(present, moved, 0).astype(np.float32)


def _mask_shares(
  masks: np.ndarray,
  push: np.ndarray,
  size: tuple[int, int],
  otherwise: np.ndarray,
) -> np.ndarray:
  """Share [N] of each mask's pixels that stay inside; empty: `otherwise`."""
  stays = resample(np.ones(size, np.uint8), push, masks.shape[1:], nearest=True)
  before = np.count_nonzero(masks, axis=(1, 2))
  after = np.count_nonzero(masks & stays, axis=(1, 2))
  return np.where(before > 0, after / np.maximum(before, 1), otherwise)


def _moved_masks(
  masks: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
  """Masks [N, H, W]: 1 where at least half of a pixel is covered."""
  new = np.zeros((len(masks), *size), np.uint8)
  for mask, target in zip(masks, new, strict=True):
    np.greater_equal(resample(mask * np.uint8(255), matrix, size), 128, target)
  return new


def _clipped(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The part of an outline inside the picture (Sutherland and Hodgman)."""
  for axis, limit in enumerate(size[::-1]):
    for depth in (lambda x: x, lambda x, limit=limit: limit - x):
      here = depth(points[:, axis])
      following = np.roll(points, -1, 0)
      there = depth(following[:, axis])
      inside = here >= 0
      crosses = inside != (there >= 0)
      along = np.where(crosses, here / np.where(crosses, here - there, 1), 0)
      crossing = points + along[:, None] * (following - points)
      both = np.stack([points, crossing], 1).reshape(-1, 2)
      points = both[np.stack([inside, crosses], 1).reshape(-1)]
  return np.clip(points, 0, size[::-1])


def _outline_area(points: np.ndarray) -> float:
  """Area inside an outline [P, 2]."""
  x, y = points.T
  return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _box_areas(boxes: np.ndarray) -> np.ndarray:
  """Areas of boxes [N, 4]."""
  return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), -1)


def _tight_box(
  box: np.ndarray, new: Mapping[str, Any], i: int, turns: bool
) -> np.ndarray:
  """Bounds of what is left of object i; `box` if nothing tells."""
  outlines = new.get("polygons", {i: []})[i]
  if outlines:
    points = np.concatenate(outlines)
    bounds = [*points.min(0), *points.max(0)]
  elif "masks" in new and new["masks"][i].any():
    rows, columns = (np.flatnonzero(new["masks"][i].any(k)) for k in (1, 0))
    bounds = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
  else:
    return box
  if turns:
    return np.array(bounds, np.float64)
  # The sides that were not cut are known better than a mask's pixels tell.
  low, high = np.maximum(box[:2], bounds[:2]), np.minimum(box[2:], bounds[2:])
  return np.concatenate([low, high]) if (low < high).all() else box


def affine_matrix(
  matrix: np.ndarray, function: str = "affine_example"
) -> np.ndarray:
  """An affine map as float64 [3, 3], or an error."""
  matrix = np.asarray(matrix, np.float64)
  if matrix.shape != (3, 3) or matrix[2].tolist() != [0, 0, 1]:
    raise ValueError(
      f"{function}: `matrix` must be [3, 3] with last row 0, 0, 1, got shape"
      f" {matrix.shape}{f' and {matrix[2]}' if matrix.shape == (3, 3) else ''}."
    )
  (a, b, x), (c, d, y) = matrix[:2].tolist()
  if not (math.isfinite(x + y) and 1e-12 < abs(a * d - b * c) < math.inf):
    raise ValueError(
      f"{function}: `matrix` must be finite and not singular, got"
      f" {matrix.tolist()}."
    )
  return matrix
