"""Digits of many faces and strokes, in the form of MNIST.

Each face is kept once as distances to the edge of its glyphs, in a frame of
its own. An example bends that frame, reads the distances and thresholds them:
so one face gives strokes of any weight without steps. GENERATED.md, "Digits".
"""

import functools
import math
import pathlib
from collections.abc import Iterable

import cv2
import numpy as np

from vision_jax.data.generated.streams import Domain, random_stream

__all__ = [
  "DIGITS_VERSION",
  "DIGIT_FACES",
  "digit_batch",
  "digit_label",
  "digits",
]

DIGITS_VERSION = 1
"""Version of what `digits` draws; see GENERATED.md."""

# Single strokes, drawn by OpenCV, and outlines that Matplotlib brings along.
_HERSHEY = {
  "hershey_simplex": cv2.FONT_HERSHEY_SIMPLEX,
  "hershey_plain": cv2.FONT_HERSHEY_PLAIN,
  "hershey_duplex": cv2.FONT_HERSHEY_DUPLEX,
  "hershey_complex": cv2.FONT_HERSHEY_COMPLEX,
  "hershey_triplex": cv2.FONT_HERSHEY_TRIPLEX,
  "hershey_complex_italic": cv2.FONT_HERSHEY_COMPLEX | cv2.FONT_ITALIC,
}
_OUTLINES = (
  *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique")),
  *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique")),
  *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic")),
  *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic")),
  *("cmr10", "cmss10", "cmtt10", "cmti10"),
)
DIGIT_FACES: tuple[str, ...] = (*_HERSHEY, *_OUTLINES)
"""The faces that `digits` draws with."""

# The frame of a face: pixels of its side and of the height of a digit.
_SIDE = 128
_HEIGHT = 72.0
# Share of the side of a picture that an upright digit is high, as in MNIST.
_SHARE = 20 / 28


def _fit(mask: np.ndarray) -> np.ndarray:
  """A drawn glyph, its box brought to the frame's middle and height."""
  rows, columns = np.nonzero(mask)
  top, bottom = rows.min(), rows.max() + 1
  left, right = columns.min(), columns.max() + 1
  scale = _HEIGHT / (bottom - top)
  matrix = np.array(
    [
      [scale, 0, _SIDE / 2 - scale * (left + right) / 2 + 0.5 * (scale - 1)],
      [0, scale, _SIDE / 2 - scale * (top + bottom) / 2 + 0.5 * (scale - 1)],
    ]
  )
  return cv2.warpAffine(mask, matrix, (_SIDE, _SIDE), flags=cv2.INTER_AREA)


@functools.cache
def _distances(face: str, label: int) -> np.ndarray:
  """Distances to the edge, [128, 128], positive inside.

  For a face of single strokes, minus the distances to the strokes.
  """
  if face in _HERSHEY:
    mask = np.zeros((256, 256), np.uint8)
    scale = 160 / cv2.getTextSize("0", _HERSHEY[face], 1.0, 1)[0][1]
    cv2.putText(mask, str(label), (50, 210), _HERSHEY[face], scale, 255, 3)
    stroke = (_fit(mask) > 96).astype(np.uint8)
    return -cv2.distanceTransform(1 - stroke, cv2.DIST_L2, 5)
  import matplotlib
  from PIL import Image, ImageDraw, ImageFont

  folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
  font = ImageFont.truetype(str(folder / f"{face}.ttf"), 200)
  picture = Image.new("L", (320, 320))
  ImageDraw.Draw(picture).text((90, 30), str(label), 255, font)
  inside = (_fit(np.asarray(picture)) > 127).astype(np.uint8)
  within, beyond = (
    cv2.distanceTransform(mask, cv2.DIST_L2, 5) for mask in (inside, 1 - inside)
  )
  return within - beyond


def digit_label(seed: int, index: int) -> int:
  """The digit that an example shows.

  Every aligned block of ten indices holds each digit once.

  Args:
    seed: number of the set.
    index: number of the example.

  Returns:
    0 to 9.

  Raises:
    ValueError: if `seed` or `index` is out of range.
    TypeError: if one of them is no integer.

  Example:
    >>> from vision_jax import data
    >>> sorted(data.digit_label(0, index) for index in range(10))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

  Source:
    GENERATED.md, "Digits".
  """
  block, place = divmod(index, 10)
  order = random_stream(Domain.DIGIT_LABELS, seed, block).permutation(10)
  return int(order[place])


def digits(seed: int, index: int, *, size: int = 28) -> tuple[np.ndarray, int]:
  """One upright digit, white on black, in the middle.

  Args:
    seed: number of the set.
    index: number of the example.
    size: side of the picture, pixels, at least 8; a digit is 20 / 28 of it
      high, give or take.

  Returns:
    Picture uint8 [size, size, 1] and digit.

  Raises:
    ValueError: if `seed`, `index` or `size` is out of range.
    TypeError: if `seed` or `index` is no integer.

  Example:
    >>> from vision_jax import data
    >>> image, label = data.digits(0, 0)
    >>> image.shape, image.dtype, label in range(10)
    ((28, 28, 1), dtype('uint8'), True)

  Source:
    GENERATED.md, "Digits"; the form is that of MNIST (LeCun et al., 1998).
  """
  if size < 8:
    raise ValueError(f"digits: `size` must be at least 8, got {size}.")
  label = digit_label(seed, index)
  rng = random_stream(Domain.DIGITS, seed, index)
  face = DIGIT_FACES[rng.integers(len(DIGIT_FACES))]
  angle = math.radians(rng.uniform(-8, 8))
  shear = rng.uniform(-0.3, 0.3)
  aspect = math.exp(rng.uniform(-0.2, 0.2))
  scale = math.exp(rng.uniform(-0.25, 0.0))
  weight = rng.uniform(0, 1)
  lattice = rng.normal(0, 3.5, (5, 5, 2)).astype(np.float32)
  level = rng.uniform(0.7, 1.0)

  # Pixels of the picture, four to each, to the frame of the face.
  side = 2 * size
  step = _HEIGHT / (_SHARE * side)
  line = (np.arange(side, dtype=np.float32) - (side - 1) / 2) * step
  cos, sin = math.cos(angle), math.sin(angle)
  x = (cos * line + sin * line[:, None]) / (scale * aspect)
  y = (cos * line[:, None] - sin * line) / (scale / aspect)
  bend = cv2.resize(lattice, (side, side), interpolation=cv2.INTER_CUBIC)
  middle = (_SIDE - 1) / 2
  x, y = x + shear * y + bend[..., 0] + middle, y + bend[..., 1] + middle
  inside = cv2.remap(
    _distances(face, label),
    x.astype(np.float32),
    y.astype(np.float32),
    cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REPLICATE,
  )
  # Half the width of a single stroke, or what an outline grows by.
  grow = 2.5 + 5 * weight if face in _HERSHEY else -1 + 4 * weight
  ink = np.clip(0.5 + (inside + grow) / step, 0, 1)
  ink = ink.reshape(size, 2, size, 2).mean((1, 3))
  return np.rint(255 * level * ink).astype(np.uint8)[..., None], label


def digit_batch(
  seed: int, indices: Iterable[int], *, size: int = 28
) -> tuple[np.ndarray, np.ndarray]:
  """Several examples of `digits`.

  Args:
    seed: number of the set.
    indices: numbers of the examples.
    size: side of a picture, pixels.

  Returns:
    Pictures uint8 [N, size, size, 1] and digits int32 [N].

  Raises:
    ValueError: if `seed`, an index or `size` is out of range.
    TypeError: if `seed` or an index is no integer.

  Example:
    >>> from vision_jax import data
    >>> images, labels = data.digit_batch(0, range(3))
    >>> images.shape, labels.shape
    ((3, 28, 28, 1), (3,))

  Source:
    GENERATED.md, "Digits".
  """
  pairs = [digits(seed, index, size=size) for index in indices]
  images = np.zeros((len(pairs), size, size, 1), np.uint8)
  labels = np.zeros(len(pairs), np.int32)
  for place, (image, label) in enumerate(pairs):
    images[place], labels[place] = image, label
  return images, labels
