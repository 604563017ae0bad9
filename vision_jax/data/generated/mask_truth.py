"""The truth of a mask: its box and its outlines, along the edges of pixels."""

import cv2
import numpy as np

__all__ = ["mask_box", "mask_polygons"]


def mask_box(mask: np.ndarray) -> np.ndarray:
  """The tight box around the non-zero pixels of a mask.

  Convention:
    (x1, y1, x2, y2) in the continuous frame: x2 and y2 are one more than the
    last column and row.

  Args:
    mask: any type, [H, W].

  Returns:
    Float32 [4]; zeros where the mask is empty.

  Example:
    >>> from vision_jax.data import mask_box
    >>> mask = np.zeros((5, 8), np.uint8)
    >>> mask[2, 3:6] = 1
    >>> print(mask_box(mask))
    [3. 2. 6. 3.]

  Source:
    Interface of this library.
  """
  x, y, width, height = cv2.boundingRect((mask != 0).view(np.uint8))
  return np.array([x, y, x + width, y + height], np.float32)


def mask_polygons(mask: np.ndarray) -> list[np.ndarray]:
  """The outlines of a mask as polygons along the edges of its pixels.

  One polygon for each connected part (diagonal neighbours belong together). A
  hole is joined to the outline around it by a cut that is walked twice, as
  COCO files need it, where a polygon cannot be subtracted.

  Convention:
    Points (x, y) in the continuous frame, all of them corners of pixels. The
    polygon of one pixel (i, j) is the square [j, j + 1) x [i, i + 1).

  Args:
    mask: uint8 or bool [H, W], non-zero inside.

  Returns:
    Polygons, float32 [P, 2] each; none for an empty mask. Filled again (by
    COCO's tools, or by any even-odd rule) they are the mask, exactly, and
    their signed areas add up to its pixels.

  Example:
    >>> from vision_jax.data import mask_polygons
    >>> mask = np.zeros((5, 8), np.uint8)
    >>> mask[2, 3:6] = 1
    >>> print(mask_polygons(mask)[0].tolist())
    [[3.0, 2.0], [3.0, 3.0], [6.0, 3.0], [6.0, 2.0]]

  Source:
    Border following: S. Suzuki, K. Abe, CVGIP 1985 (OpenCV), on a mask of
    twice the size, whose border pixels name the edges.
  """
  left, top, right, bottom = mask_box(mask).astype(int)
  part = (mask[top:bottom, left:right] != 0).astype(np.uint8)
  if not part.size:
    return []
  contours, hierarchy = cv2.findContours(
    part.repeat(2, 0).repeat(2, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
  )
  # A border pixel f of the enlarged mask lies in pixel f // 2, in the half
  # that touches the edge (f + 1) // 2: that is true of outer borders and of
  # those around holes, since both consist of pixels of the mask.
  rings = [
    _without_idle_points((contour[:, 0] + 1) // 2) for contour in contours
  ]
  polygons = []
  for number, (_, _, hole, parent) in enumerate(hierarchy[0]):
    if parent >= 0:
      continue
    ring = rings[number]
    while hole >= 0:
      ring = _join(ring, rings[hole])
      hole = hierarchy[0][hole][0]
    polygons.append((ring + np.array([left, top])).astype(np.float32))
  return polygons


def _without_idle_points(ring: np.ndarray) -> np.ndarray:
  """A closed ring [P, 2] without repeated points and those within an edge."""
  step = ring - np.concatenate([ring[-1:], ring[:-1]])
  moves = step.any(1)
  ring, step = ring[moves], step[moves]
  after = np.concatenate([step[1:], step[:1]])
  return ring[step[:, 0] * after[:, 1] != step[:, 1] * after[:, 0]]


def _join(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
  """One ring that walks `ring`, crosses to `hole`, walks it and comes back."""
  distance = np.abs(ring[:, None] - hole[None]).sum(-1)
  i, j = np.unravel_index(distance.argmin(), distance.shape)
  there = np.concatenate([ring[i:], ring[: i + 1]])
  return np.concatenate([there, hole[j:], hole[: j + 1]])
