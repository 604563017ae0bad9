"""Image files in and out, in one convention and with one kind of error.

Pictures arrive as float32 [H, W, 3], RGB, in [0, 1], upright, whatever the
file holds. What cannot be read raises `ImageError` with one line that names
the file and the reason.
"""

import os
import pathlib
from collections.abc import Iterable

import numpy as np
import PIL.Image
import PIL.ImageOps

__all__ = [
  "IMAGE_SUFFIXES",
  "ImageError",
  "list_images",
  "read_image",
  "to_uint8",
  "write_image",
]

IMAGE_SUFFIXES = (
  ".bmp",
  ".gif",
  ".jpeg",
  ".jpg",
  ".pbm",
  ".pgm",
  ".png",
  ".pnm",
  ".ppm",
  ".tif",
  ".tiff",
  ".webp",
)

_PathLike = str | os.PathLike[str]

# Beyond these a float picture is taken for one in 0..255, not for overshoot.
_LOWEST, _HIGHEST = -0.5, 1.5


class ImageError(ValueError):
  """A picture file that cannot be read or written; the text is one line.

  Example:
    >>> from vision_jax.data import ImageError, read_image
    >>> try:
    ...   read_image("no/such/file.png")
    ... except ImageError as error:
    ...   print(error)
    read_image: `path` must be an image file, got 'no/such/file.png' (no such \
file); check the path.
  """


def _one_line(error: BaseException) -> str:
  """The message of an exception without line breaks, or its type's name."""
  if isinstance(error, OSError) and error.strerror:
    text = error.strerror
  else:
    text = str(error)
  return " ".join(text.split()) or type(error).__name__


def _failure(path: _PathLike, reason: str, remedy: str) -> ImageError:
  return ImageError(
    f"read_image: `path` must be an image file, got {os.fspath(path)!r}"
    f" ({reason}); {remedy}."
  )


def _over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
  """Composites values [H, W, C] with alpha [H, W, 1] over white."""
  return values * alpha + (1.0 - alpha)


def _pixels(image: PIL.Image.Image, path: _PathLike) -> np.ndarray:
  """Float32 [H, W, 3] in [0, 1] of a loaded, upright picture."""
  mode = image.mode
  if mode == "F" or mode.startswith("I"):
    grey = np.asarray(image)
    if mode == "F":
      limit = 1.0
      bad = not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 1
      expected = "finite and in [0, 1]"
    else:
      limit = 65535.0
      bad = grey.min() < 0 or grey.max() > limit
      expected = "in 0..65535"
    if bad:
      raise _failure(
        path,
        f"pixel values of mode {mode!r} are not {expected}",
        "rescale them and save again",
      )
    values = grey.astype(np.float32)[..., None] / np.float32(limit)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
      alpha = (grey != transparent).astype(np.float32)[..., None]
      values = _over_white(values, alpha)
    return np.repeat(values, 3, axis=-1)
  has_alpha = mode in ("RGBA", "LA", "PA", "RGBa", "La")
  if has_alpha or "transparency" in image.info:
    if mode in ("RGBa", "La"):  # premultiplied
      image = image.convert({"RGBa": "RGBA", "La": "LA"}[mode])
    rgba = np.asarray(image.convert("RGBA"), np.float32) / np.float32(255)
    return _over_white(rgba[..., :3], rgba[..., 3:])
  return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def read_image(path: _PathLike) -> np.ndarray:
  """Reads a picture of any common kind as RGB in [0, 1].

  Convention:
    Layout [H, W, 3], RGB. Grey, 1-bit and 16-bit grey are repeated over the
    three channels; 16-bit grey is divided by 65535, 8-bit data by 255 (colour
    files of 16 bits per channel keep their upper 8 bits). Transparent pixels
    are composited over white. CMYK is converted without a colour profile, and
    embedded profiles are not applied. The EXIF orientation is applied. Of a
    file with several frames the first is read.

  Args:
    path: file name.

  Returns:
    Float32 [H, W, 3] with finite values in [0, 1], H and W at least 1.

  Raises:
    ImageError: if there is no such file, or it is a folder, empty, truncated,
      of zero size, too large, or no picture.
    TypeError: if `path` is no path.

  Example:
    >>> import os, tempfile
    >>> from vision_jax.data import read_image, write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   name = os.path.join(folder, "a.png")
    ...   write_image(name, np.ones((4, 6, 3), np.float32))
    ...   read_image(name).shape
    (4, 6, 3)

  Source:
    Pillow's decoders; EXIF 2.32, tag 0x0112.
  """
  path = os.fspath(path)
  if not isinstance(path, str):
    raise TypeError(f"read_image: `path` must be a str path, got {path!r}.")
  try:
    with open(path, "rb") as stream:
      if not stream.read(1):
        raise _failure(path, "the file is empty", "write it again")
  except FileNotFoundError:
    raise _failure(path, "no such file", "check the path") from None
  except IsADirectoryError:
    raise _failure(
      path, "it is a folder", "name a file, or expand it with list_images"
    ) from None
  except (OSError, ValueError) as error:  # ValueError: a null character
    if isinstance(error, ImageError):
      raise
    raise _failure(path, _one_line(error), "check the path") from None
  remedy = "save it again, for example as PNG"
  try:
    image = PIL.Image.open(path)
  except PIL.UnidentifiedImageError:
    raise _failure(
      path,
      "not a known image format, cut off in its header, or of zero size",
      remedy,
    ) from None
  except PIL.Image.DecompressionBombError as error:
    raise _failure(path, _one_line(error), "make it smaller") from None
  except Exception as error:
    raise _failure(path, _one_line(error), remedy) from None
  with image:
    if 0 in image.size:
      raise _failure(
        path, f"zero size, {image.size[0]} x {image.size[1]} pixels", remedy
      )
    try:
      image.load()
    except Exception as error:  # decoders raise many types on broken data
      raise _failure(
        path, f"truncated or damaged: {_one_line(error)}", remedy
      ) from None
    try:
      orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF data do not make the picture unreadable
      orientation = 1
    try:
      pixels = _pixels(image, path)
    except ImageError:
      raise
    except Exception as error:
      raise _failure(
        path, f"mode {image.mode!r}: {_one_line(error)}", remedy
      ) from None
  return np.ascontiguousarray(_upright(pixels, orientation))


def _upright(pixels: np.ndarray, orientation: object) -> np.ndarray:
  """Applies an EXIF orientation (1..8; others count as 1) to [H, W, C]."""
  if orientation in (5, 6, 7, 8):
    pixels = pixels.transpose(1, 0, 2)
  if orientation in (2, 3, 6, 7):
    pixels = pixels[:, ::-1]
  if orientation in (3, 4, 7, 8):
    pixels = pixels[::-1]
  return pixels


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Rounds a picture in [0, 1] to 8 bits.

  Convention:
    Any layout. `round(255 * clip(image, 0, 1))`; overshoot as interpolation
    and noise make it (down to -0.5 and up to 1.5) is clipped.

  Args:
    image: float [...], bool [...] (False, True become 0, 255) or uint8 [...]
      (returned as it is).

  Returns:
    Uint8 [...].

  Raises:
    ValueError: if a value is not finite, or so far outside [0, 1] that the
      picture must be on another scale.
    TypeError: if `image` is of another dtype.

  Example:
    >>> from vision_jax.data import to_uint8
    >>> print(to_uint8(np.array([0.0, 0.5, 1.0, 1.01])))
    [  0 128 255 255]

  Source:
    The scale of 8-bit files; rounding is to the nearest, halves to even.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if image.dtype == np.bool_:
    return image.astype(np.uint8) * np.uint8(255)
  # Kind "V" holds bfloat16, which NumPy does not count among the floats.
  if image.dtype.kind != "f" and image.dtype.name != "bfloat16":
    raise TypeError(
      "to_uint8: `image` must be float, bool or uint8, got"
      f" {image.dtype.name}; divide integers by their largest value."
    )
  values = image.astype(np.float32)
  if values.size and not np.isfinite(values).all():
    raise ValueError(
      "to_uint8: `image` must be finite, got NaN or infinite values."
    )
  if values.size and (values.min() < _LOWEST or values.max() > _HIGHEST):
    raise ValueError(
      "to_uint8: `image` must be in [0, 1], got values in"
      f" [{values.min():g}, {values.max():g}]; divide a picture in 0..255 by"
      " 255."
    )
  return np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)


def write_image(path: _PathLike, image: np.ndarray) -> None:
  """Writes a picture; the suffix of `path` chooses the format.

  Convention:
    Layout [H, W, 3] RGB, [H, W, 4] RGB and alpha, [H, W] or [H, W, 1] grey.
    JPEG and WebP are written at quality 95; JPEG has no alpha.

  Args:
    path: file name; its folder must exist.
    image: as `to_uint8` takes it.

  Raises:
    ImageError: if the file cannot be written, or its format is not known.
    ValueError: if `image` has another layout, zero size or bad values.
    TypeError: if `image` is of another dtype.

  Example:
    >>> import os, tempfile
    >>> from vision_jax.data import write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   write_image(os.path.join(folder, "a.png"), np.zeros((2, 3)))
    ...   os.listdir(folder)
    ['a.png']

  Source:
    Pillow's encoders.
  """
  image = np.asarray(image)
  is_picture = image.ndim == 2 or (
    image.ndim == 3 and image.shape[-1] in (1, 3, 4)
  )
  if not is_picture or 0 in image.shape:
    raise ValueError(
      "write_image: `image` must be [H, W], [H, W, 1], [H, W, 3] or"
      f" [H, W, 4] and not empty, got shape {image.shape}."
    )
  pixels = to_uint8(image)
  if pixels.ndim == 3 and pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  path = os.fspath(path)
  try:
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=95)
  except Exception as error:
    reason = _one_line(error)
    raise ImageError(
      f"write_image: `path` must be a writable image file, got {path!r}"
      f" ({reason}); use an existing folder and a suffix such as .png."
    ) from None


def list_images(
  paths: _PathLike | Iterable[_PathLike], *, recursive: bool = False
) -> list[pathlib.Path]:
  """Expands files and folders into a list of picture files.

  Convention:
    The order of `paths` is kept; the files of one folder are sorted by name.
    Of a folder only files with a suffix in `IMAGE_SUFFIXES` (any case) and
    no leading dot are taken; a file that is named itself is always taken. A
    file reached twice is listed once.

  Args:
    paths: one path or several.
    recursive: whether folders inside folders are searched too.

  Returns:
    The files; at least one.

  Raises:
    ImageError: if a path does not exist or a folder holds no picture.

  Example:
    >>> import os, tempfile
    >>> from vision_jax.data import list_images, write_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   for name in ("b.png", "a.png"):
    ...     write_image(os.path.join(folder, name), np.zeros((2, 3)))
    ...   [path.name for path in list_images(folder)]
    ['a.png', 'b.png']

  Source:
    Behaviour of this project; no published reference.
  """
  if isinstance(paths, (str, os.PathLike)):
    paths = [paths]
  found: dict[pathlib.Path, None] = {}
  for path in map(pathlib.Path, paths):
    if path.is_dir():
      inside = path.rglob("*") if recursive else path.iterdir()
      files = sorted(
        entry
        for entry in inside
        if entry.suffix.lower() in IMAGE_SUFFIXES
        and not any(
          part.startswith(".") for part in entry.relative_to(path).parts
        )
        and entry.is_file()
      )
      if not files:
        raise ImageError(
          "list_images: `paths` must hold images, got folder"
          f" {str(path)!r} without any; known suffixes are"
          f" {' '.join(IMAGE_SUFFIXES)}."
        )
      found.update(dict.fromkeys(files))
    elif path.exists():
      found[path] = None
    else:
      raise ImageError(
        f"list_images: `paths` must exist, got {str(path)!r}; check the path."
      )
  if not found:
    raise ImageError(
      "list_images: `paths` must name at least one file or folder, got none."
    )
  return list(found)
