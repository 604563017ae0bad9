"""Boxes, masks and skeletons drawn on images."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from vision_jax.viz.pixels import colorize, to_picture

__all__ = ["draw_boxes", "draw_masks", "draw_skeletons"]

_SHIFT = 4  # fractional bits of OpenCV's coordinates
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_boxes(
  image: Any,
  boxes: Any,
  *,
  texts: Sequence[str] | None = None,
  valid: Any = None,
  thickness: int = 1,
) -> np.ndarray:
  """Image with the outline of every box, each in a colour of its own.

  Convention:
    Layout [H, W, 3]; boxes (x1, y1, x2, y2), continuous frame: an outline of
    thickness 1 covers the outermost pixels of its box.

  Args:
    image: uint8 or float in [0, 1], [H, W, 3] or grey.
    boxes: [N, 4], pixels.
    texts: one short text per box, written at its upper left corner, or None.
    valid: bool [N] or None; rows that are False are left out.
    thickness: of the lines, pixels.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: if a shape is not as above.

  Example:
    >>> from vision_jax import viz
    >>> out = viz.draw_boxes(np.zeros((9, 12)), [[2.0, 1.0, 10.0, 8.0]])
    >>> out[1, 2].any(), out[7, 9].any(), out[4, 5].any()
    (np.True_, np.True_, np.False_)

  Source:
    Definition.
  """
  canvas = to_picture(image).copy()
  rows = np.asarray(boxes, np.float64)
  rows = rows.reshape(0, 4) if rows.size == 0 else rows
  if rows.ndim != 2 or rows.shape[1] != 4:
    raise ValueError(f"draw_boxes: `boxes` must be [N, 4], got {rows.shape}.")
  if texts is not None and len(texts) != len(rows):
    raise ValueError(
      f"draw_boxes: `texts` must have {len(rows)} entries, got {len(texts)}."
    )
  colors = _colors(len(rows))
  for n in _kept("draw_boxes", valid, len(rows)):
    if not np.isfinite(rows[n]).all():
      continue
    x1, y1, x2, y2 = rows[n] - 0.5  # the index frame
    corners = ((x1 + 0.5, y1 + 0.5), (x2 - 0.5, y2 - 0.5))
    first, last = (tuple(round(v * 16) for v in c) for c in corners)
    cv2.rectangle(canvas, first, last, colors[n], thickness, cv2.LINE_8, _SHIFT)
    if texts is not None and texts[n]:
      _write(canvas, texts[n], (x1, y1), colors[n])
  return canvas


def draw_masks(
  image: Any, masks: Any, *, opacity: float = 0.45, valid: Any = None
) -> np.ndarray:
  """Image with every mask tinted in a colour of its own, and its rim.

  Convention:
    Layout [H, W, 3]; later masks lie over earlier ones.

  Args:
    image: uint8 or float in [0, 1], [H, W, 3] or grey.
    masks: bool, 0/1 or coverage in [0, 1], [N, H, W].
    opacity: of the tint.
    valid: bool [N] or None; rows that are False are left out.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: if a shape is not as above.

  Example:
    >>> from vision_jax import viz
    >>> masks = np.zeros((1, 5, 7), bool)
    >>> masks[0, 1:4, 2:5] = True
    >>> out = viz.draw_masks(np.zeros((5, 7)), masks)
    >>> out[2, 3].any(), out[0, 0].any()
    (np.True_, np.False_)

  Source:
    Definition.
  """
  canvas = to_picture(image).astype(np.float32)
  covers = np.asarray(masks, np.float32)
  covers = covers.reshape(0, *canvas.shape[:2]) if covers.size == 0 else covers
  if covers.shape[1:] != canvas.shape[:2]:
    raise ValueError(
      f"draw_masks: `masks` must be [N, {canvas.shape[0]}, "
      f"{canvas.shape[1]}], got {covers.shape}."
    )
  colors = _colors(len(covers))
  for n in _kept("draw_masks", valid, len(covers)):
    cover = np.clip(covers[n], 0, 1)
    inside = (cover > 0.5).astype(np.uint8)
    rim = inside - cv2.erode(inside, np.ones((3, 3), np.uint8))
    alpha = np.maximum(opacity * cover, 0.9 * rim)[..., None]
    canvas += alpha * (np.asarray(colors[n], np.float32) - canvas)
  return np.floor(canvas + 0.5).astype(np.uint8)


def draw_skeletons(
  image: Any,
  keypoints: Any,
  limbs: Sequence[tuple[int, int]],
  *,
  valid: Any = None,
  thickness: int = 2,
) -> np.ndarray:
  """Image with the joints and limbs of every figure.

  Joints that are hidden (v = 1) have a hollow disc, absent ones (v = 0) and
  their limbs are left out.

  Convention:
    Layout [H, W, 3]; keypoints (x, y, v), index frame.

  Args:
    image: uint8 or float in [0, 1], [H, W, 3] or grey.
    keypoints: [P, K, 3].
    limbs: pairs of positions along K.
    valid: bool [P] or None; figures that are False are left out.
    thickness: of the limbs, pixels.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: if a shape is not as above or a limb names no joint.

  Example:
    >>> from vision_jax import viz
    >>> joints = [[[2.0, 2.0, 2], [9.0, 2.0, 2]]]
    >>> out = viz.draw_skeletons(np.zeros((6, 12)), joints, [(0, 1)])
    >>> out[2, 5].any(), out[5, 5].any()
    (np.True_, np.False_)

  Source:
    Definition.
  """
  canvas = to_picture(image).copy()
  figures = np.asarray(keypoints, np.float64)
  if figures.size == 0:
    return canvas
  if figures.ndim != 3 or figures.shape[2] != 3:
    raise ValueError(
      f"draw_skeletons: `keypoints` must be [P, K, 3], got {figures.shape}."
    )
  count = figures.shape[1]
  if any(not 0 <= joint < count for limb in limbs for joint in limb):
    raise ValueError(
      f"draw_skeletons: `limbs` must name joints below {count}, got {limbs}."
    )
  colors = _colors(len(limbs))
  for n in _kept("draw_skeletons", valid, len(figures)):
    points = [tuple(round(v * 16) for v in joint[:2]) for joint in figures[n]]
    there = figures[n, :, 2] > 0
    for (a, b), color in zip(limbs, colors, strict=True):
      if there[a] and there[b]:
        ends = points[a], points[b]
        cv2.line(canvas, *ends, color, thickness, cv2.LINE_AA, _SHIFT)
    radius = (thickness + 1) * 16
    for k in np.flatnonzero(there):
      filled = cv2.FILLED if figures[n, k, 2] > 1 else 1
      white = (255, 255, 255)
      cv2.circle(canvas, points[k], radius, white, filled, cv2.LINE_AA, _SHIFT)
  return canvas


def _colors(count: int) -> list[tuple[int, int, int]]:
  """Bright colours far apart, in a fixed order."""
  places = (np.arange(count) * 0.618034) % 1.0
  rows = colorize(places[None], colormap="hsv", minimum=0.0, maximum=1.0)
  return [(int(r), int(g), int(b)) for r, g, b in rows[0]]


def _kept(function: str, valid: Any, count: int) -> np.ndarray:
  """Positions of the rows to draw."""
  if valid is None:
    return np.arange(count)
  keep = np.asarray(valid, bool)
  if keep.shape != (count,):
    raise ValueError(
      f"{function}: `valid` must be [{count}], got {keep.shape}."
    )
  return np.flatnonzero(keep)


def _write(
  canvas: np.ndarray,
  text: str,
  corner: tuple[float, float],
  color: tuple[int, int, int],
) -> None:
  """A text on a ground of the box's colour, inside the picture."""
  scale = max(canvas.shape[:2]) / 900 + 0.22
  (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
  x = int(np.clip(round(corner[0]), 0, max(canvas.shape[1] - width, 0)))
  y = int(np.clip(round(corner[1]), height + base, canvas.shape[0] - 1))
  ground = (x, y - height - base), (x + width, y)
  cv2.rectangle(canvas, *ground, color, cv2.FILLED)
  dark = (0, 0, 0) if sum(color) > 300 else (255, 255, 255)
  place = (x, y - base + 1)
  cv2.putText(canvas, text, place, _FONT, scale, dark, 1, cv2.LINE_AA)
