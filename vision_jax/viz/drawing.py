"""Key points and matches drawn on images."""

from typing import Any

import cv2
import numpy as np

from vision_jax.viz.pixels import colorize, to_picture

__all__ = ["draw_keypoints", "draw_matches"]

_INLIER = (22, 199, 132)
_OUTLIER = (234, 67, 53)
_SHIFT = 4  # fractional bits of OpenCV's line coordinates


def draw_keypoints(
  image: Any,
  xy: Any,
  *,
  scores: Any = None,
  valid: Any = None,
  radius: float | None = None,
  color: tuple[int, int, int] = (255, 214, 10),
  colormap: str = "viridis",
) -> np.ndarray:
  """Image with a disc at every key point.

  Discs are antialiased and placed with sub-pixel accuracy over a dark rim, so
  that they can be seen on any background; the strongest are drawn last.

  Convention:
    Layout [H, W, 3]; points (x, y), index frame.

  Args:
    image: uint8 or float in [0, 1], [H, W, 3] or grey.
    xy: points [K, 2].
    scores: [K] or None; colours go from weak to strong by rank.
    valid: bool [K] or None; rows that are False are left out.
    radius: of the discs in pixels; by default 1/250 of the longer side, at
      least 2.
    color: RGB of all points when there are no scores.
    colormap: name known to matplotlib, used with `scores`.

  Returns:
    uint8 [H, W, 3]. Points that are not finite, or outside, are not drawn.

  Raises:
    ValueError: if a shape is not as above.

  Example:
    >>> from vision_jax import viz
    >>> out = viz.draw_keypoints(np.zeros((9, 9)), [[4.0, 3.0]], radius=1.0)
    >>> out[3, 4]
    array([255, 214,  10], dtype=uint8)

  Source:
    Coverage of a disc approximated by its distance to the pixel centre.
  """
  canvas = to_picture(image).astype(np.float32)
  points = _points("draw_keypoints", "xy", xy)
  keep = np.isfinite(points).all(-1)
  if valid is not None:
    keep &= _row_values("draw_keypoints", "valid", valid, len(points)) > 0
  colors = np.tile(np.asarray(color, np.float32), (len(points), 1))
  order = np.arange(len(points))
  if scores is not None:
    scores = _row_values("draw_keypoints", "scores", scores, len(points))
    order = np.argsort(scores, kind="stable")
    order = order[keep[order]]
    ranks = np.zeros(len(points), np.float32)
    # The first fifth of the table is too dark to be seen as a mark.
    ranks[order] = np.linspace(0.2, 1.0, len(order), dtype=np.float32)
    colors = colorize(ranks[None], colormap=colormap, minimum=0.0, maximum=1.0)[
      0
    ].astype(np.float32)
  else:
    order = order[keep]
  radius = radius or max(2.0, max(canvas.shape[:2]) / 250.0)
  for i in order:
    _disc(canvas, points[i], radius, colors[i])
  return np.floor(canvas + 0.5).astype(np.uint8)


def draw_matches(
  image0: Any,
  image1: Any,
  xy0: Any,
  xy1: Any,
  *,
  inliers: Any = None,
  max_lines: int = 250,
  gap: int = 12,
  alpha: float = 0.8,
  background: tuple[int, int, int] = (255, 255, 255),
) -> np.ndarray:
  """Two images side by side with a line for every match.

  Inliers are green and drawn on top, all others red and fainter. Without
  `inliers` the colour follows the height of the point in the first image. If
  there are more than `max_lines` matches, every n-th is shown, so that the
  share of inliers in the picture is that in the data.

  Convention:
    Layout [H, W, 3]; row i of `xy0` matches row i of `xy1`; points (x, y),
    index frame of their own image.

  Args:
    image0: left image, uint8 or float in [0, 1], [H0, W0, 3] or grey.
    image1: right image, [H1, W1, 3] or grey.
    xy0: points in the left image [M, 2].
    xy1: points in the right image [M, 2].
    inliers: bool [M], or None.
    max_lines: number of lines at most.
    gap: pixels between the images.
    alpha: opacity of the lines in [0, 1]; by default the more lines, the
      fainter they are, so that the images stay visible.
    background: RGB between the images and below the shorter one.

  Returns:
    uint8 [max(H0, H1), W0 + gap + W1, 3].

  Raises:
    ValueError: if shapes disagree or a setting is out of range.

  Example:
    >>> from vision_jax import viz
    >>> a, b = np.zeros((8, 10, 3)), np.zeros((6, 7, 3))
    >>> viz.draw_matches(a, b, [[2.0, 3.0]], [[4.0, 5.0]], gap=3).shape
    (8, 20, 3)

  Source:
    Lines by OpenCV, antialiased, 1/16 pixel.
  """
  left, right = to_picture(image0), to_picture(image1)
  points0 = _points("draw_matches", "xy0", xy0)
  points1 = _points("draw_matches", "xy1", xy1)
  if len(points0) != len(points1):
    raise ValueError(
      f"draw_matches: `xy1` must have as many rows as `xy0` ({len(points0)}),"
      f" got {len(points1)}."
    )
  if max_lines < 0:
    raise ValueError(
      f"draw_matches: `max_lines` must be at least 0, got {max_lines}."
    )
  if alpha is not None and not 0.0 <= alpha <= 1.0:
    raise ValueError(f"draw_matches: `alpha` must be in [0, 1], got {alpha}.")
  height = max(left.shape[0], right.shape[0])
  offset = left.shape[1] + gap
  canvas = np.empty((height, offset + right.shape[1], 3), np.uint8)
  canvas[:] = background
  canvas[: left.shape[0], : left.shape[1]] = left
  canvas[: right.shape[0], offset:] = right
  if inliers is not None:
    inliers = _row_values("draw_matches", "inliers", inliers, len(points0)) > 0
  shown = _every_nth(
    np.isfinite(points0).all(-1) & np.isfinite(points1).all(-1), max_lines
  )
  if alpha is None:
    alpha = float(np.clip(3.2 / np.sqrt(max(1, len(shown))), 0.3, 0.85))
  ends0, ends1 = points0[shown], points1[shown] + (offset, 0.0)
  if inliers is None:
    order, colors = (
      np.arange(len(shown)),
      _colors_by_height(ends0, left.shape[0]),
    )
    opacity = np.full(len(shown), alpha)
  else:
    good = inliers[shown]
    order = np.argsort(good, kind="stable")
    colors = np.where(good[:, None], _INLIER, _OUTLIER)
    opacity = np.where(good, alpha, 0.7 * alpha)
  thickness = max(1, round(max(canvas.shape[:2]) / 1600))
  # A layer per opacity: antialiased strokes first, then one blend.
  for value in np.unique(opacity):
    layer = canvas.copy()
    for i in order[opacity[order] == value]:
      _line(layer, ends0[i], ends1[i], colors[i], thickness)
    canvas = np.floor(
      (1.0 - value) * canvas + value * layer.astype(np.float32) + 0.5
    ).astype(np.uint8)
  marks = canvas.astype(np.float32)
  for i in order:
    for end in (ends0[i], ends1[i]):
      _disc(marks, end, 1.0 + thickness, colors[i].astype(np.float32))
  return np.floor(marks + 0.5).astype(np.uint8)


def _points(function: str, name: str, xy: Any) -> np.ndarray:
  """Points as float64 [K, 2]; an empty list is zero points."""
  points = np.asarray(xy, np.float64)
  if points.size == 0 and points.ndim <= 2:
    return points.reshape(0, 2)
  if points.ndim != 2 or points.shape[1] != 2:
    raise ValueError(
      f"{function}: `{name}` must be [K, 2], got {points.shape}."
    )
  return points


def _row_values(function: str, name: str, values: Any, rows: int) -> np.ndarray:
  """One number per point as float64 [K]."""
  array = np.asarray(values, np.float64)
  if array.shape != (rows,):
    raise ValueError(
      f"{function}: `{name}` must be [{rows}], one value per point, got"
      f" {array.shape}."
    )
  return array


def _every_nth(keep: np.ndarray, count: int) -> np.ndarray:
  """At most `count` evenly spread indices of the rows to keep."""
  rows = np.flatnonzero(keep)
  if len(rows) <= count:
    return rows
  if count == 0:
    return rows[:0]
  return rows[np.arange(count) * len(rows) // count]


def _colors_by_height(points: np.ndarray, height: int) -> np.ndarray:
  """One colour per point, from the top of the image to its bottom."""
  values = points[:, 1][None] / max(1, height - 1)
  return colorize(values, colormap="turbo", minimum=-0.1, maximum=1.1)[0]


def _line(
  canvas: np.ndarray,
  start: np.ndarray,
  end: np.ndarray,
  color: np.ndarray,
  thickness: int,
) -> None:
  """Draws one antialiased line in place."""
  scale = 1 << _SHIFT
  cv2.line(
    canvas,
    (round(start[0] * scale), round(start[1] * scale)),
    (round(end[0] * scale), round(end[1] * scale)),
    tuple(int(c) for c in color),
    thickness,
    cv2.LINE_AA,
    _SHIFT,
  )


def _disc(
  canvas: np.ndarray, center: np.ndarray, radius: float, color: np.ndarray
) -> None:
  """Draws one disc with a dark rim in place."""
  height, width = canvas.shape[:2]
  reach = radius + 2.0
  left = max(0, int(np.ceil(center[0] - reach)))
  right = min(width, int(np.floor(center[0] + reach)) + 1)
  top = max(0, int(np.ceil(center[1] - reach)))
  bottom = min(height, int(np.floor(center[1] + reach)) + 1)
  if left >= right or top >= bottom:
    return
  dx = np.arange(left, right, dtype=np.float32) - np.float32(center[0])
  dy = np.arange(top, bottom, dtype=np.float32) - np.float32(center[1])
  distance = np.sqrt(dx[None, :] ** 2 + dy[:, None] ** 2)[..., None]
  patch = canvas[top:bottom, left:right]
  rim = 0.6 * np.clip(radius + 1.5 - distance, 0.0, 1.0)
  patch *= 1.0 - rim
  inside = np.clip(radius + 0.5 - distance, 0.0, 1.0)
  patch += inside * (color - patch)
