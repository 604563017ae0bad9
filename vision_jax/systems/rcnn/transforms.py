"""Pictures of any size to the sizes that a detector works at, on the host."""

from collections.abc import Sequence

import numpy as np
import PIL.Image

from vision_jax.systems.rcnn.settings import Settings

__all__ = ["canvas_sizes", "prepare_image", "resized_size"]

STRIDE = 32  # pictures are padded to a multiple


def resized_size(size: tuple[int, int], settings: Settings) -> tuple[int, int]:
  """(height, width) that a picture is resized to.

  Args:
    size: (height, width) of the picture.
    settings: of the detector.

  Returns:
    The shorter side is `min_size` unless the longer one would exceed
    `max_size`; in double precision, so that torchvision's quirk stays: its
    floor makes 799 of 800 for some sizes. At least one pixel.

  Raises:
    ValueError: if the picture has no pixels.

  Example:
    >>> from vision_jax.systems import rcnn
    >>> rcnn.resized_size((480, 640), rcnn.Settings())
    (800, 1066)
    >>> rcnn.resized_size((97, 161), rcnn.Settings())
    (799, 1327)

  Source:
    GeneralizedRCNNTransform of torchvision; ResizeShortestEdge of detectron2.
  """
  if min(size) < 1:
    raise ValueError(
      f"resized_size: `size` must be at least 1 x 1 pixel, got {size}."
    )
  if settings.resize == "torchvision":
    scale = min(settings.min_size / min(size), settings.max_size / max(size))
    height, width = (int(n * scale) for n in size)
  else:
    scale = settings.min_size / min(size)
    exact = [
      float(settings.min_size) if n == min(size) else scale * n for n in size
    ]
    shrink = min(1.0, settings.max_size / max(exact))
    height, width = (int(n * shrink + 0.5) for n in exact)
  return max(height, 1), max(width, 1)


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
  """The next multiples of 32."""
  height, width = (-(-n // STRIDE) * STRIDE for n in size)
  return height, width


def canvas_sizes(settings: Settings) -> tuple[tuple[int, int], ...]:
  """The canvases that hold every resized picture: one for each orientation.

  Args:
    settings: of the detector.

  Returns:
    (height, width) of each.

  Example:
    >>> from vision_jax.systems import rcnn
    >>> rcnn.canvas_sizes(rcnn.Settings())
    ((800, 1344), (1344, 800))

  Source:
    Interface of this library.
  """
  short = min(settings.min_size, settings.max_size)
  wide = padded_size((short, settings.max_size))
  return (wide,) if wide[0] == wide[1] else (wide, wide[::-1])


def choose_canvas(
  size: tuple[int, int], canvases: Sequence[tuple[int, int]]
) -> tuple[int, int]:
  """The smallest canvas that holds a picture of the padded size."""
  high, wide = padded_size(size)
  fit = [c for c in canvases if c[0] >= high and c[1] >= wide]
  if not fit:
    raise ValueError(
      f"predict: `canvases` must hold a picture of {high} x {wide} pixels, got "
      f"{list(canvases)}."
    )
  return min(fit, key=lambda c: c[0] * c[1])


def prepare_image(image: np.ndarray, settings: Settings) -> np.ndarray:
  """One picture, resized and normalised.

  Args:
    image: RGB in [0, 1], float [H, W, 3].
    settings: of the detector.

  Returns:
    float32 [h, w, 3], `resized_size`.

  Raises:
    ValueError: if it is not [H, W, 3], has no pixels, or holds NaN.
    TypeError: if it holds integers.

  Example:
    >>> from vision_jax.systems import rcnn
    >>> image = np.full((30, 40, 3), 0.485, np.float32)
    >>> out = rcnn.prepare_image(image, rcnn.Settings(min_size=15))
    >>> print(out.shape, out[0, 0].round(2) + 0)
    (15, 20, 3) [0.   0.13 0.35]

  Source:
    As `resized_size`; checked against torchvision.
  """
  image = check_image(image, "prepare_image")
  size = resized_size(image.shape[:2], settings)
  if settings.resize == "torchvision":
    image = _bilinear(image, size)
  else:
    # detectron2 resizes bytes, with Pillow's filter.
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    picture = PIL.Image.fromarray(pixels).resize(
      size[::-1], PIL.Image.Resampling.BILINEAR
    )
    image = np.asarray(picture, np.float32) / np.float32(255)
  if settings.channel_order == "BGR":
    image = image[..., ::-1]
  mean, std = (np.asarray(v, np.float32) for v in (settings.mean, settings.std))
  return (image * np.float32(settings.scale) - mean) / std


def check_image(image: np.ndarray, where: str) -> np.ndarray:
  """A picture as float32, or an error that says what is wrong with it."""
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise ValueError(
      f"{where}: an image must be [H, W, 3], got shape {image.shape}."
    )
  if image.dtype.kind != "f":
    raise TypeError(
      f"{where}: an image must be floating point in [0, 1], got "
      f"{image.dtype}; divide bytes by 255 first."
    )
  image = image.astype(np.float32, copy=False)
  if not np.isfinite(image).all():
    raise ValueError(f"{where}: an image must be finite, got NaN or infinity.")
  return image


def _bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """`ops.resize` on the host, where every size may be a new one."""
  for axis, count in enumerate(size):
    length = image.shape[axis]
    if count == length:
      continue
    step = np.float32(length) / np.float32(count)
    # One rounding, as a fused multiplication and addition has it.
    place = (np.arange(count) + 0.5) * np.float64(step) - 0.5
    place = np.maximum(place.astype(np.float32), 0)
    low = np.minimum(place.astype(np.int64), length - 1)
    high = np.minimum(low + 1, length - 1)
    shape = [1, 1, 1]
    shape[axis] = count
    part = (place - low).astype(np.float32).reshape(shape)
    image = (1 - part) * image.take(low, axis) + part * image.take(high, axis)
  return image
