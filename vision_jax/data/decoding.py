"""Encoded pictures and maps, as sets hold them, to 8-bit arrays and back."""

import io

import cv2
import numpy as np
import PIL.Image

from vision_jax.data import images

__all__ = ["decode_map", "decode_picture", "encode_png", "picture_size"]

_PLAIN = ("RGB", "L", "1", "P", "CMYK", "YCbCr")
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"


def _open(data: bytes) -> PIL.Image.Image:
  """The picture of an encoded file, loaded as a whole.

  Raises:
    ImageError: if it is none, or truncated, or damaged; the text is a reason.
  """
  try:
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
  except PIL.UnidentifiedImageError:
    reason = "empty" if not data else "not of a known image format"
    raise images.ImageError(reason) from None
  except Exception as error:  # decoders raise many types on broken data
    reason = " ".join(str(error).split()) or type(error).__name__
    raise images.ImageError(f"truncated or damaged: {reason}") from None
  return image


def decode_picture(data: bytes) -> np.ndarray:
  """The pixels of an encoded picture, as `read_image` sees them, in 8 bits.

  Args:
    data: the bytes of a file.

  Returns:
    Uint8 [H, W, 3], RGB, upright; grey is repeated over the channels.

  Raises:
    ImageError: if the data are damaged; the text is a bare reason.
  """
  pixels = _plain_png(data)
  if pixels is not None:
    return pixels
  image = _open(data)
  try:
    orientation = image.getexif().get(_ORIENTATION, 1)
  except Exception:  # damaged EXIF data do not make the picture unreadable
    orientation = 1
  if image.mode in _PLAIN and "transparency" not in image.info:
    # What nearly every picture is, at a third of the time: no float array.
    pixels = np.asarray(image.convert("RGB"))
  else:
    pixels = images.to_uint8(images._pixels(image, "picture of a set"))
  return np.ascontiguousarray(images._upright(pixels, orientation))


def _plain_png(data: bytes) -> np.ndarray | None:
  """An RGB PNG of 8 bits by OpenCV, in half the time; None if it is not one.

  Also None if it is damaged, for Pillow to say how.
  """
  kind = data[:8], data[24:26]  # signature; bits and colour type of the header
  if kind != (_PNG, b"\x08\x02") or b"eXIf" in data or b"tRNS" in data:
    return None
  pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
  return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def decode_map(data: bytes) -> np.ndarray:
  """The numbers of an encoded map of classes: palettes are not applied.

  Args:
    data: the bytes of a file.

  Returns:
    Uint8 [H, W].

  Raises:
    ImageError: if the data are damaged or hold more than one 8-bit channel;
      the text is a bare reason.
  """
  image = _open(data)
  if image.mode not in ("L", "P", "1"):
    raise images.ImageError(f"a map of mode {image.mode!r}, not of 8 bits")
  return np.array(image, np.uint8)


def picture_size(data: bytes) -> tuple[int, int]:
  """(height, width) of an encoded picture, upright, read from its header.

  Raises:
    ImageError: if the data are damaged; the text is a bare reason.
  """
  try:
    with PIL.Image.open(io.BytesIO(data)) as image:
      width, height = image.size
      turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
  except Exception as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise images.ImageError(reason) from None
  return (width, height) if turned else (height, width)


def encode_png(pixels: np.ndarray) -> bytes:
  """A picture [H, W, 3] or a map [H, W], uint8, as PNG; nothing is lost."""
  stream = io.BytesIO()
  # Level 1: a tenth larger than level 6 on textures, several times as fast.
  PIL.Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
  return stream.getvalue()
