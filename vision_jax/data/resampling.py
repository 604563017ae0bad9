"""Pictures and label maps under an affine map, with OpenCV.

A `matrix` [3, 3] acts on homogeneous (x, y, 1) in the index frame and maps
OUTPUT pixels to INPUT pixels, as everywhere in this library.
"""

import cv2
import numpy as np

__all__ = ["axis_matrix", "resample"]

_EXACT = 1e-6


def axis_matrix(
  scale: tuple[float, float], offset: tuple[float, float]
) -> np.ndarray:
  """Map that keeps the axes, given in the continuous frame.

  Convention:
    `x_in = scale_x * x_out + offset_x` in the continuous frame, y alike; the
    matrix acts in the index frame.

  Args:
    scale: (scale_x, scale_y).
    offset: (offset_x, offset_y), pixels.

  Returns:
    Float64 [3, 3].

  Example:
    >>> from vision_jax.data.resampling import axis_matrix
    >>> print(axis_matrix((2, 1), (0, 3)))
    [[2.  0.  0.5]
     [0.  1.  3. ]
     [0.  0.  1. ]]

  Source:
    Interface of this library.
  """
  (sx, sy), (ox, oy) = scale, offset
  return np.array(
    [
      [sx, 0.0, ox + 0.5 * (sx - 1)],
      [0.0, sy, oy + 0.5 * (sy - 1)],
      [0.0, 0.0, 1.0],
    ]
  )


def resample(
  pixels: np.ndarray,
  matrix: np.ndarray,
  size: tuple[int, int],
  *,
  fill: float | tuple[float, ...] = 0,
  nearest: bool = False,
) -> np.ndarray:
  """Draws a picture under an affine map.

  Bilinear; where the map shrinks, the picture is first made smaller by
  averaging over areas, so that fine patterns do not alias. Maps that keep the
  axes and whole pixels (resizing, crops, borders) use the pixels of the crop
  alone and repeat its edge; other maps blend with `fill` at the border.

  Convention:
    Layout [H, W] or [H, W, C]; index frame, OUTPUT to INPUT.

  Args:
    pixels: uint8, float32 or float64, up to 4 channels.
    matrix: affine map [3, 3], not singular.
    size: (height, width) of the result.
    fill: value outside the picture, one for all channels or one for each.
    nearest: takes the nearest pixel, for label maps.

  Returns:
    Array [height, width, ...] of the same dtype, in memory of its own.

  Example:
    >>> from vision_jax.data.resampling import axis_matrix, resample
    >>> print(resample(np.eye(2, dtype=np.uint8), axis_matrix((1, 1), (-1, 0)),
    ...                (2, 3), fill=9))
    [[9 1 0]
     [9 0 1]]

  Source:
    OpenCV `warpAffine` (bilinear, nearest) and `resize` (area, bilinear).
  """
  window = _window(matrix, pixels.shape[:2], size)
  if window is not None:
    source, target = window
    height, width = (part.stop - part.start for part in target)
    part = _resize(pixels[source], (height, width), nearest)
    if (height, width) == tuple(size):
      return part
    canvas = np.empty((*size, *pixels.shape[2:]), pixels.dtype)
    canvas[...] = fill
    canvas[target] = part
    return canvas
  if not nearest:
    pixels, matrix = _shrunk(pixels, matrix)
  flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
  drawn = cv2.warpAffine(
    np.ascontiguousarray(pixels),
    np.ascontiguousarray(matrix[:2], np.float64),
    (size[1], size[0]),
    flags=flags | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_CONSTANT,
    borderValue=fill if isinstance(fill, tuple) else (fill,) * 4,
  )
  return drawn.reshape((*size, *pixels.shape[2:]))


def _window(
  matrix: np.ndarray, size_in: tuple[int, ...], size_out: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
  """Where whole pixels become whole pixels, (source, target); else None."""
  (sx, across, x0), (along, sy, y0) = matrix[:2].tolist()
  if across or along:
    return None
  slices = []
  for scale, shift, inside, outside in (
    (sy, y0, size_in[0], size_out[0]),
    (sx, x0, size_in[1], size_out[1]),
  ):
    if scale <= 0:
      return None
    offset = shift + 0.5 * (1 - scale)
    low = max(-offset / scale, 0)
    high = min((inside - offset) / scale, outside)
    edges = (low, high, low * scale + offset, high * scale + offset)
    whole = [round(edge) for edge in edges]
    if max(abs(e - w) for e, w in zip(edges, whole, strict=True)) > _EXACT:
      return None
    if whole[0] >= whole[1] or whole[2] >= whole[3]:
      return None
    slices += [slice(*whole[2:]), slice(*whole[:2])]
  return (slices[0], slices[2]), (slices[1], slices[3])


def _resize(
  pixels: np.ndarray, size: tuple[int, int], nearest: bool
) -> np.ndarray:
  """Resizes; averages over areas along the axes that shrink."""
  height, width = pixels.shape[:2]
  if (height, width) == size:
    return np.ascontiguousarray(pixels)
  if nearest:
    rows, columns = (
      (2 * np.arange(new) + 1) * old // (2 * new)
      for old, new in zip((height, width), size, strict=True)
    )
    return pixels[rows][:, columns]
  smaller = (min(height, size[0]), min(width, size[1]))
  drawn = np.ascontiguousarray(pixels)
  for step, method in ((smaller, cv2.INTER_AREA), (size, cv2.INTER_LINEAR)):
    if drawn.shape[:2] != step:
      drawn = cv2.resize(drawn, step[::-1], interpolation=method)
  return drawn.reshape((*size, *pixels.shape[2:]))


def _shrunk(
  pixels: np.ndarray, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """A smaller picture and the rest of the map, where the map shrinks."""
  height, width = pixels.shape[:2]
  # How many input pixels one output pixel spans along each input axis.
  span = np.hypot(matrix[:2, 0], matrix[:2, 1])
  smaller = (
    max(round(height / max(span[1], 1)), 1),
    max(round(width / max(span[0], 1)), 1),
  )
  if smaller == (height, width):
    return pixels, matrix
  scale = (smaller[1] / width, smaller[0] / height)
  return _resize(pixels, smaller, False), axis_matrix(scale, (0, 0)) @ matrix
