"""Masks of objects and the two codes of COCO files: run lengths and polygons.

`mask_polygons` (generated/mask_truth.py) is the way back from a mask to
polygons.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask

__all__ = ["mask_to_rle", "polygons_to_mask", "rle_to_mask"]

# The rasteriser walks every pixel of an outline, so that one wild number
# would cost minutes and gigabytes.
_FARTHEST = 1e5


def mask_to_rle(mask: np.ndarray) -> dict[str, Any]:
  """Run lengths of a mask, compressed as COCO files hold them.

  Convention:
    Runs go down the columns and start with one of zeros.

  Args:
    mask: uint8 or bool [H, W], non-zero inside.

  Returns:
    `size`, [H, W], and `counts`, a str; ready for JSON and for pycocotools.

  Raises:
    ValueError: if `mask` is not [H, W].

  Example:
    >>> from vision_jax.data import mask_to_rle
    >>> mask_to_rle(np.eye(3))
    {'size': [3, 3], 'counts': '013000'}

  Source:
    pycocotools.
  """
  mask = np.asarray(mask)
  if mask.ndim != 2:
    raise ValueError(
      f"mask_to_rle: `mask` must be [H, W], got shape {mask.shape}."
    )
  rle = pycocotools.mask.encode(np.asfortranarray(mask != 0, np.uint8))
  return {
    "size": [int(side) for side in rle["size"]],
    "counts": rle["counts"].decode("ascii"),
  }


def _run_lengths(counts: str | bytes) -> np.ndarray:
  """The runs that a compressed code stands for, int64 [R].

  A run is written in groups of 5 bits, lowest first, as characters from "0";
  the sixth bit says that another group follows, the fifth of the last one is
  the sign. From the fourth run on it is the difference to the run before the
  last.
  """
  data = counts.encode("ascii") if isinstance(counts, str) else counts
  groups = np.frombuffer(data, np.uint8).astype(np.int64) - 48
  if groups.size and (groups.min() < 0 or groups.max() > 63):
    raise ValueError("a character that the code does not have")
  last = np.flatnonzero(groups < 32)
  if not groups.size or not last.size or last[-1] != groups.size - 1:
    raise ValueError("an end in the middle of a run")
  first = np.concatenate([[0], last[:-1] + 1])
  place = np.arange(groups.size) - np.repeat(first, last - first + 1)
  if place.max() > 7:
    raise ValueError("a run that no picture has")
  runs = np.add.reduceat((groups & 31) << (5 * place), first)
  is_negative = (groups[last] & 16) != 0
  runs -= np.where(is_negative, np.int64(1) << (5 * (last - first + 1)), 0)
  runs[1::2] = runs[1::2].cumsum()
  runs[2::2] = runs[2::2].cumsum()
  return runs


def rle_to_mask(rle: Mapping[str, Any]) -> np.ndarray:
  """The mask of run lengths, compressed or not.

  Args:
    rle: `size`, (H, W), and `counts`: a str or bytes (compressed), or the run
      lengths themselves.

  Returns:
    Uint8 [H, W], 0 and 1.

  Raises:
    ValueError: if a part is missing, the code is damaged, or the runs do not
      fill the picture.

  Example:
    >>> from vision_jax.data import rle_to_mask
    >>> print(rle_to_mask({"size": [2, 3], "counts": [1, 2, 3]}))
    [[0 1 0]
     [1 0 0]]

  Source:
    The code of pycocotools, which itself answers runs that do not fill the
    picture with whatever the memory holds; hence written here.
  """
  try:
    height, width = (int(side) for side in rle["size"])
    counts = rle["counts"]
    if isinstance(counts, (str, bytes)):
      runs = _run_lengths(counts)
    else:
      runs = np.asarray(counts, np.int64)
  except (KeyError, TypeError, ValueError, OverflowError) as error:
    raise ValueError(
      f"rle_to_mask: `rle` must hold `size` and `counts`, got {error!r}."
    ) from None
  if min(height, width) < 1 or runs.ndim != 1 or (runs < 0).any():
    raise ValueError(
      "rle_to_mask: `rle` must hold a size of at least 1 x 1 and runs of at"
      f" least 0, got size {height} x {width} and runs {runs.tolist()[:8]}."
    )
  if runs.sum() != height * width:
    raise ValueError(
      f"rle_to_mask: `rle` must hold runs that fill {height} x {width} pixels,"
      f" got {runs.sum()} in place of {height * width}."
    )
  values = (np.arange(len(runs)) & 1).astype(np.uint8)
  return cv2.transpose(np.repeat(values, runs).reshape(width, height))


def polygons_to_mask(
  polygons: Sequence[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
  """The mask of an object that is drawn as one or several polygons.

  Convention:
    Points (x, y) in the continuous frame, as COCO files hold them. A pixel
    belongs to the mask where any of the polygons has it; a polygon that
    crosses itself is filled by the even-odd rule.

  Args:
    polygons: outlines, float [P, 2] each, P at least 3.
    size: (height, width) of the mask, pixels.

  Returns:
    Uint8 [H, W], 0 and 1; zeros without any polygon.

  Raises:
    ValueError: if a polygon is not [P, 2] with P at least 3, or its points
      are not finite or farther than 100,000 pixels away.

  Example:
    >>> from vision_jax.data import polygons_to_mask
    >>> square = np.array([[1, 0], [3, 0], [3, 2], [1, 2]])
    >>> print(polygons_to_mask([square], (3, 4)))
    [[0 1 1 0]
     [0 1 1 0]
     [0 0 0 0]]

  Source:
    pycocotools: its rasteriser is what COCO's numbers rest on.
  """
  height, width = size
  if not len(polygons):
    return np.zeros((height, width), np.uint8)
  flat = []
  for polygon in polygons:
    points = np.asarray(polygon, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
      raise ValueError(
        "polygons_to_mask: `polygons` must be [P, 2] each with P at least 3,"
        f" got shape {points.shape}."
      )
    if not (np.abs(points) <= _FARTHEST).all():
      raise ValueError(
        "polygons_to_mask: `polygons` must be finite and within 100,000 pixels,"
        f" got {points[(~(np.abs(points) <= _FARTHEST)).any(1)][0].tolist()}."
      )
    flat.append(points.reshape(-1).tolist())
  codes = pycocotools.mask.frPyObjects(flat, height, width)
  merged = pycocotools.mask.merge(codes)
  return np.ascontiguousarray(pycocotools.mask.decode(merged))
