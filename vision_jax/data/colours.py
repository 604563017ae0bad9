"""Colours of a picture: brightness, contrast, saturation, hue."""

import math

import cv2
import numpy as np

__all__ = ["adjust_colours"]

_LUMA = (0.299, 0.587, 0.114)
_GREY = np.tile(_LUMA, (3, 1))
_YIQ = np.array(
  [_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)
_YIQ_INVERSE = np.linalg.inv(_YIQ)


def adjust_colours(
  image: np.ndarray,
  *,
  brightness: float = 1.0,
  contrast: float = 1.0,
  saturation: float = 1.0,
  hue: float = 0.0,
) -> np.ndarray:
  """Changes the colours of a picture.

  In this order: all values times `brightness`; differences from the mean grey
  times `contrast`; differences from each pixel's grey times `saturation`; a
  turn of the colour plane by `hue`, which keeps the grey. All four together
  are one affine map of the colours, so values are clipped once, at the end.

  Convention:
    Layout [H, W, 3], RGB; grey is 0.299 R + 0.587 G + 0.114 B.

  Args:
    image: uint8, or float in [0, 1].
    brightness: factor, at least 0.
    contrast: factor, at least 0.
    saturation: factor, at least 0; 0 gives grey.
    hue: turn, as a share of the full circle.

  Returns:
    Picture of the same dtype, clipped to its range.

  Raises:
    ValueError: if `image` is not [H, W, 3].
    TypeError: if it is neither uint8 nor float.

  Example:
    >>> from vision_jax.data import adjust_colours
    >>> image = np.full((1, 1, 3), (200, 100, 50), np.uint8)
    >>> print(adjust_colours(image, brightness=0.5)[0, 0])
    [100  50  25]
    >>> print(adjust_colours(image, saturation=0)[0, 0])
    [124 124 124]

  Source:
    The blends of Pillow's `ImageEnhance`; the turn is in the NTSC plane (I, Q).
  """
  if image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(
      f"adjust_colours: `image` must be [H, W, 3], got {image.shape}."
    )
  if image.dtype not in (np.uint8, np.float32, np.float64):
    raise TypeError(
      "adjust_colours: `image` must be uint8, float32 or float64, got"
      f" {image.dtype}."
    )
  # The mean grey is moved by neither saturation nor hue.
  red, green, blue = cv2.mean(image)[:3]
  mean = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
  table = np.empty((3, 4))
  table[:, 3] = (1 - contrast) * brightness * mean
  colours = (1 - saturation) * _GREY
  colours.flat[::4] += saturation
  if hue:
    cos, sin = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    colours = _YIQ_INVERSE @ turn @ _YIQ @ colours
  table[:, :3] = contrast * brightness * colours
  changed = cv2.transform(image, table)
  return changed if image.dtype == np.uint8 else np.clip(changed, 0, 1)
