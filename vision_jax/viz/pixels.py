"""Arrays to pictures: conversion, heat maps and grids.

All functions take NumPy (or JAX) arrays and return NumPy uint8 RGB pictures.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

__all__ = [
  "colorize",
  "image_grid",
  "overlay_heatmap",
  "to_picture",
]

_TEXT = (32, 33, 36)


def to_picture(image: Any) -> np.ndarray:
  """Picture of an image array, ready for a file or a screen.

  Convention:
    Layout [H, W, 3] or [H, W, 1] or [H, W]; RGB.

  Args:
    image: uint8 in [0, 255] or float in [0, 1] (clipped; NaN becomes 0),
      [H, W], [H, W, 1] or [H, W, 3]; grey images are repeated to RGB.

  Returns:
    uint8 [H, W, 3], a copy.

  Raises:
    ValueError: if the shape is none of these or an axis is empty.
    TypeError: if the type is neither uint8 nor float.

  Example:
    >>> from vision_jax import viz
    >>> viz.to_picture(np.array([[0.0, 0.5, 2.0]]))[0, :, 0]
    array([  0, 128, 255], dtype=uint8)

  Source:
    Definition; rounding half up.
  """
  array = np.asarray(image)
  if array.ndim == 2:
    array = array[..., None]
  if array.ndim != 3 or array.shape[-1] not in (1, 3) or 0 in array.shape:
    raise ValueError(
      "to_picture: `image` must be [H, W], [H, W, 1] or [H, W, 3] with no"
      f" empty axis, got {np.shape(image)}."
    )
  if array.dtype != np.uint8:
    if not np.issubdtype(array.dtype, np.floating):
      raise TypeError(
        f"to_picture: `image` must be uint8 or float, got {array.dtype};"
        " divide integers by their largest value first."
      )
    array = np.clip(np.nan_to_num(array.astype(np.float32)), 0.0, 1.0)
    array = np.floor(array * 255.0 + 0.5).astype(np.uint8)
  return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def colorize(
  heatmap: Any,
  *,
  colormap: str = "viridis",
  minimum: float | None = None,
  maximum: float | None = None,
) -> np.ndarray:
  """Colours of a scalar map by a table of matplotlib.

  Convention:
    Layout [H, W]; one colour per pixel.

  Args:
    heatmap: real values [H, W]; NaN takes the lowest colour.
    colormap: name known to matplotlib; "viridis", "magma" and "inferno" are
      perceptually even.
    minimum: value of the lowest colour; the smallest finite value by default.
    maximum: value of the highest colour; the largest by default.

  Returns:
    uint8 [H, W, 3]. A constant map takes the lowest colour.

  Raises:
    ValueError: if `heatmap` is not [H, W] or `colormap` is unknown.

  Example:
    >>> from vision_jax import viz
    >>> viz.colorize(np.array([[0.0, 1.0]]), colormap="gray")[0, :, 0]
    array([  0, 255], dtype=uint8)

  Source:
    The tables are matplotlib's.
  """
  values = _unit_range("colorize", heatmap, minimum=minimum, maximum=maximum)
  return np.floor(_table("colorize", colormap)(values) * 255 + 0.5).astype(
    np.uint8
  )[..., :3]


def overlay_heatmap(
  image: Any,
  heatmap: Any,
  *,
  alpha: float = 0.85,
  colormap: str = "inferno",
  percentile: float = 99.5,
  blur: float = 0.0,
  fade: bool = True,
  grey: bool = False,
) -> np.ndarray:
  """Heat map laid over its image.

  The map is scaled to [0, 1] between 0 (or its minimum, if negative) and a
  high percentile, so that one spike does not darken all else. With `fade` the
  opacity grows with the value, so that the image stays visible where the map
  is low.

  Convention:
    Layout [H, W, 3] and [h, w]; a map of another size covers the same extent
    and is resized bilinearly (half-pixel centres).

  Args:
    image: uint8 or float in [0, 1], [H, W, 3] or grey.
    heatmap: real values [h, w].
    alpha: largest opacity of the map, in [0, 1].
    colormap: name known to matplotlib.
    percentile: percentile of the map that takes the highest colour, in
      (0, 100].
    blur: deviation, in pixels of the image, of a Gaussian that smooths the map
      first; 0 for none. Maps of single bright pixels need one to be seen.
    fade: whether opacity is `alpha` times the scaled value instead of `alpha`.
    grey: whether the image loses its colours, so that those of the map stand
      out.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: if a shape or a setting is not as above.

  Example:
    >>> from vision_jax import viz
    >>> viz.overlay_heatmap(np.ones((4, 6)), np.zeros((2, 3))).min()
    np.uint8(255)

  Source:
    Alpha compositing.
  """
  if not 0.0 <= alpha <= 1.0:
    raise ValueError(
      f"overlay_heatmap: `alpha` must be in [0, 1], got {alpha}."
    )
  if not 0.0 < percentile <= 100.0:
    raise ValueError(
      f"overlay_heatmap: `percentile` must be in (0, 100], got {percentile}."
    )
  if not 0.0 <= blur < np.inf:
    raise ValueError(f"overlay_heatmap: `blur` must be at least 0, got {blur}.")
  picture = to_picture(image)
  if grey:
    picture = to_picture(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
  height, width = picture.shape[:2]
  values: np.ndarray = np.nan_to_num(np.asarray(heatmap, np.float32))
  if values.ndim != 2 or 0 in values.shape:
    raise ValueError(
      f"overlay_heatmap: `heatmap` must be [h, w], got {values.shape}."
    )
  if values.shape != (height, width):
    values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
  if blur > 0.0:
    values = cv2.GaussianBlur(
      values, (0, 0), blur, borderType=cv2.BORDER_REPLICATE
    )
  values = _unit_range(
    "overlay_heatmap",
    values,
    minimum=min(0.0, float(values.min())),
    maximum=float(np.percentile(values, percentile)),
  )
  colors = _table("overlay_heatmap", colormap)(values)[..., :3] * 255.0
  opacity = alpha * (values if fade else np.ones_like(values))[..., None]
  blend = (1.0 - opacity) * picture + opacity * colors
  return np.floor(blend + 0.5).astype(np.uint8)


def image_grid(
  images: Sequence[Any],
  *,
  titles: Sequence[str] | None = None,
  columns: int | None = None,
  padding: int = 10,
  background: tuple[int, int, int] = (255, 255, 255),
  text_size: int = 16,
) -> np.ndarray:
  """Pictures side by side in rows, each with a title above it.

  Convention:
    Row-major order; images of different sizes are centred in equal cells.

  Args:
    images: at least one image as accepted by `to_picture`.
    titles: one text per image, or None.
    columns: pictures per row; by default the smallest square grid.
    padding: pixels around each cell.
    background: RGB colour between pictures.
    text_size: height of the titles' font in pixels.

  Returns:
    uint8 [H, W, 3].

  Raises:
    ValueError: if `images` is empty, or `titles` has another length.

  Example:
    >>> from vision_jax import viz
    >>> viz.image_grid([np.zeros((4, 6))] * 3, columns=3, padding=1).shape
    (6, 22, 3)

  Source:
    Definition.
  """
  pictures = [to_picture(image) for image in images]
  if not pictures:
    raise ValueError("image_grid: `images` must not be empty.")
  if titles is not None and len(titles) != len(pictures):
    raise ValueError(
      f"image_grid: `titles` must have {len(pictures)} entries, got"
      f" {len(titles)}."
    )
  columns = columns or int(np.ceil(np.sqrt(len(pictures))))
  columns = min(columns, len(pictures))
  rows = -(-len(pictures) // columns)
  height = max(p.shape[0] for p in pictures)
  width = max(p.shape[1] for p in pictures)
  bar = 0 if titles is None else int(text_size * 1.6)
  step = (height + bar + padding, width + padding)
  canvas = np.empty(
    (rows * step[0] + padding, columns * step[1] + padding, 3), np.uint8
  )
  canvas[:] = background
  corners = []
  for i, picture in enumerate(pictures):
    top = padding + (i // columns) * step[0]
    left = padding + (i % columns) * step[1]
    corners.append((left, top))
    y = top + bar + (height - picture.shape[0]) // 2
    x = left + (width - picture.shape[1]) // 2
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
  if titles is None:
    return canvas
  return _with_texts(canvas, titles, corners, text_size, width)


def _unit_range(
  function: str,
  heatmap: Any,
  *,
  minimum: float | None,
  maximum: float | None,
) -> np.ndarray:
  """Values scaled to [0, 1] between two limits; constant maps give 0."""
  values = np.asarray(heatmap, np.float32)
  if values.ndim != 2:
    raise ValueError(
      f"{function}: `heatmap` must be [H, W], got {values.shape}."
    )
  finite = values[np.isfinite(values)]
  low = minimum if minimum is not None else finite.min(initial=np.inf)
  high = maximum if maximum is not None else finite.max(initial=-np.inf)
  if not high > low:
    return np.zeros_like(values)
  return np.clip(np.nan_to_num((values - low) / (high - low)), 0.0, 1.0)


def _table(function: str, name: str) -> Any:
  """The matplotlib colour table of that name."""
  from matplotlib import colormaps  # heavy: only when a map is coloured

  if name not in colormaps:
    raise ValueError(
      f"{function}: `colormap` must be a name known to matplotlib (such as"
      f" viridis, magma, inferno, turbo), got '{name}'."
    )
  return colormaps[name]


def _with_texts(
  canvas: np.ndarray,
  texts: Sequence[str],
  corners: Sequence[tuple[int, int]],
  size: int,
  width: int,
) -> np.ndarray:
  """Canvas with one line of text at each corner, cut to a width."""
  picture = PIL.Image.fromarray(canvas)
  draw = PIL.ImageDraw.Draw(picture)
  font = PIL.ImageFont.load_default(size)
  for text, corner in zip(texts, corners, strict=True):
    while len(text) > 1 and draw.textlength(text, font=font) > width:
      text = text.rstrip("…")[:-1] + "…"
    draw.text(corner, text, fill=_TEXT, font=font)
  return np.array(picture)
