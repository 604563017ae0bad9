"""A generated set for detection and segmentation: twelve kinds of shapes.

Version 1, frozen in GENERATED.md.
"""

from typing import Any, NamedTuple

import cv2
import numpy as np

from vision_jax.data.generated import (
  mask_truth,
  patterns,
  silhouettes,
  streams,
)

__all__ = ["SHAPES_VERSION", "SHAPE_NAMES", "shapes"]

SHAPES_VERSION = 1

SHAPE_NAMES = tuple(silhouettes.SILHOUETTES)
"""The classes; a label is a position in this tuple."""

_TAU = 2 * np.pi
_MOST = 8  # objects
_TRIES = 30  # places for an object before it is left out
_SMALLEST, _LARGEST = 0.08, 0.70  # diameter, of the side
_NUM_COLOURS = 8
_FLAT, _RAMP = 0.25, 0.40  # share of flat fills; of flat fills and ramps
_CONTRAST = 150  # of 765: red, green and blue together
_STEPS = np.linspace(0, 1, 256)[:, None, None]
_PATTERNS = (
  "stripes",
  "checks",
  "dots",
  "smooth_noise",
  "waves",
  "grid",
  "crosshatch",
  "marble",
)


class _Piece(NamedTuple):
  """One placed object: its coverage in a window of the picture."""

  label: int
  diameter: float
  window: tuple[slice, slice]
  coverage: np.ndarray  # uint8 [h, w], 255 inside
  total: int  # pixels of the silhouette, beyond the picture too


def _draw_piece(rng: np.random.Generator, label: int, size: int) -> _Piece:
  """A silhouette at a random place, size and angle."""
  u = rng.random(12)
  diameter = size * _SMALLEST * (_LARGEST / _SMALLEST) ** u[8]
  c, s = np.cos(_TAU * u[9]), np.sin(_TAU * u[9])
  turn = np.array([[c, s], [-s, c]]) * (diameter / 2)
  polygons = [
    polygon @ turn
    for polygon in silhouettes.make_silhouette(SHAPE_NAMES[label], u[:8])
  ]
  centre = u[10:] * size
  low = np.floor(polygons[0].min(0) + centre).astype(int) - 1
  high = np.ceil(polygons[0].max(0) + centre).astype(int) + 1
  width, height = high - low
  coverage = silhouettes.fill_polygons(
    [polygon + (centre - low) for polygon in polygons],
    (int(height), int(width)),
    fine=8 if diameter < 32 else 4,
  )
  total = int(np.count_nonzero(coverage >= 128))
  first, last = np.maximum(low, 0), np.minimum(high, size)
  rows, columns = slice(first[1], last[1]), slice(first[0], last[0])
  part = coverage[
    rows.start - low[1] : rows.stop - low[1],
    columns.start - low[0] : columns.stop - low[0],
  ]
  return _Piece(label, diameter, (rows, columns), part, total)


def _enough(visible: np.ndarray, total: np.ndarray) -> bool:
  """Whether at least 40 % and four pixels are visible, of each object."""
  return bool(((5 * visible >= 2 * total) & (visible >= 4)).all())


def _place(
  rng: np.random.Generator, labels: np.ndarray, size: int
) -> tuple[list[_Piece], np.ndarray]:
  """Objects from back to front, and the number of the object at each pixel."""
  owner = np.full((size, size), -1, np.int8)
  pieces: list[_Piece] = []
  total = np.zeros(_MOST, int)
  visible = np.zeros(_MOST, int)
  for label in labels:
    number = len(pieces)
    for _ in range(_TRIES):
      piece = _draw_piece(rng, int(label), size)
      inside = piece.coverage >= 128
      under = owner[piece.window][inside]
      after = visible - np.bincount(under + 1, minlength=_MOST + 1)[1:]
      after[number], total[number] = under.size, piece.total
      if _enough(after[: number + 1], total[: number + 1]):
        pieces.append(piece)
        owner[piece.window][inside] = number
        visible = after
        break
  return pieces, owner


def _fill(
  rng: np.random.Generator,
  palette: np.ndarray,
  shape: tuple[int, int],
  period: float,
  under: np.ndarray | None = None,
) -> np.ndarray:
  """One colour, a ramp or a pattern of two, uint8 [h, w, 3].

  Colours that more than a fifth of `under`, uint8 [P, 3], what the fill
  covers, comes near to are taken last.
  """
  kind, angle = rng.random(), rng.uniform(0, _TAU)
  name = _PATTERNS[int(rng.integers(len(_PATTERNS)))]
  order = rng.permutation(_NUM_COLOURS)
  if under is not None:
    apart = np.abs(palette[order][:, None] - under.astype(np.int16))
    alike = (apart.sum(-1) < _CONTRAST).mean(1) > 0.2
    order = order[np.argsort(alike, kind="stable")]
  first, second = palette[order[0]], palette[order[1]]
  if kind < _FLAT:
    return np.full((*shape, 3), first, np.uint8)
  share = patterns.draw_pattern(
    rng,
    "ramp" if kind < _RAMP else name,
    shape,
    period=period,
    angle=angle,
  )
  table = np.rint(first + _STEPS * (second - first)).astype(np.uint8)
  return cv2.applyColorMap(cv2.convertScaleAbs(share, None, 255), table)


def _background(
  rng: np.random.Generator, palette: np.ndarray, size: int
) -> np.ndarray:
  """Textured regions under small debris, uint8 [size, size, 3]."""
  x = np.arange(size, dtype=np.float32) / np.float32(size)
  nearest = np.full((size, size), np.inf, np.float32)
  canvas = np.empty((size, size, 3), np.uint8)
  for _ in range(int(rng.integers(2, 5))):
    # The nearest site takes a pixel; a wave bends the border.
    u = rng.random(5).astype(np.float32)
    along, across = np.square(x - u[0]), np.square(x - u[1])
    wave = np.float32(0.02) * np.sin(np.float32(_TAU) * (u[2] + 2 * x))
    distance = (across + u[3] * wave)[:, None] + (along + u[4] * wave)
    period = max(size * rng.uniform(0.04, 0.14), 2.0)
    fill = _fill(rng, palette, (size, size), period)
    closer = (distance < nearest).view(np.uint8)
    cv2.copyTo(fill, closer, canvas)
    cv2.min(distance, nearest, nearest)
  count = int(rng.integers(25))
  draws = rng.random((count, 6))
  turn = (draws[:, :3] + [0, 1, 2]) * (_TAU / 3)
  corners = np.stack([np.cos(turn), np.sin(turn)], -1)
  corners *= 0.01 + 0.015 * draws[:, 3, None, None]
  corners += draws[:, None, 4:]
  fixed = np.rint(corners * (16 * size) - 8).astype(np.int32)
  colours = palette[rng.integers(_NUM_COLOURS, size=count)].tolist()
  for debris, colour in zip(fixed, colours, strict=True):
    cv2.fillPoly(canvas, [debris], colour, lineType=cv2.LINE_AA, shift=4)
  return canvas


def _photometric(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
  """Gamma, contrast, brightness, blur on half the pictures, and noise."""
  gamma = np.exp(rng.uniform(-0.3, 0.3))
  table = 255 * np.linspace(0, 1, 256) ** gamma
  counts = cv2.calcHist(
    [canvas.reshape(len(canvas), -1)], [0], None, [256], [0, 256]
  )
  mean = float(table @ counts[:, 0]) / canvas.size
  table = (table - mean) * rng.uniform(0.7, 1.2) + mean
  table += 255 * rng.uniform(-0.1, 0.1)
  image = cv2.LUT(canvas, table.astype(np.float32))
  if rng.random() < 0.5:
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
  sigma = 255 * rng.uniform(0, 0.04)
  # Two random bytes in place of a Gaussian: a tenth of the time.
  pair = np.frombuffer(rng.bytes(2 * image.size), np.uint8)
  pair = pair.reshape(2, *image.shape)
  noise = cv2.add(pair[0], pair[1], dtype=cv2.CV_32F)
  scale = sigma / np.sqrt((256**2 - 1) / 6)
  # Rounded and cut to 0..255 in the same pass.
  return cv2.addWeighted(
    image, 1.0, noise, scale, -255 * scale, dtype=cv2.CV_8U
  )


def _draw(
  rng: np.random.Generator, pieces: list[_Piece], size: int
) -> np.ndarray:
  """The picture before the photometric change, uint8 [size, size, 3]."""
  palette = rng.integers(256, size=(_NUM_COLOURS, 3)).astype(np.int16)
  canvas = _background(rng, palette, size)
  for piece in pieces:
    shape = piece.coverage.shape
    longest = max(0.12 * size, 2.0)
    period = np.clip(piece.diameter / rng.uniform(1.7, 5.0), 2.0, longest)
    under = canvas[piece.window]
    step = 1 + min(shape) // 10
    seen = under[::step, ::step][piece.coverage[::step, ::step] >= 128]
    if not seen.size:
      seen = under[piece.coverage >= 128]
    fill = _fill(rng, palette, shape, float(period), seen)
    weight = piece.coverage * np.float32(1 / 255)
    canvas[piece.window] = cv2.blendLinear(fill, under, weight, 1 - weight)
  return canvas


def shapes(seed: int, index: int, *, size: int = 128) -> dict[str, Any]:
  """Draws one example: 1 to 8 textured shapes over textured clutter.

  Later objects hide earlier ones; of every object at least 40 % of the
  silhouette is visible. The classes are drawn before and independently of
  everything else, and all colours and patterns come from one palette for
  objects and background alike.

  Convention:
    Layout [size, size, 3], RGB; boxes and polygons in the continuous frame.
    (seed, index) fixes the example for each `size`; lengths scale with
    `size`. Objects are listed from back to front.

  Args:
    seed: number of the set.
    index: number of the example in the set.
    size: side, pixels, at least 32.

  Returns:
    A dictionary: `image` uint8 [size, size, 3]; `boxes` float32 [N, 4], tight
    around the visible part; `labels` int32 [N], positions in `SHAPE_NAMES`;
    `masks` uint8 0/1 [N, size, size], visible parts, which do not overlap;
    `polygons`, for each object a list of float32 [P, 2]; `area` float32 [N],
    pixels of the masks; `crowd` bool [N], all False; `semantic` uint8
    [size, size], 0 or label + 1.

  Raises:
    ValueError: if `size` is below 32, or `seed` or `index` out of range.

  Example:
    >>> from vision_jax.data import SHAPE_NAMES, shapes
    >>> example = shapes(0, 2)
    >>> example["image"].shape, example["boxes"].shape
    ((128, 128, 3), (8, 4))

  Source:
    GENERATED.md, "Shapes, version 1".
  """
  if size < 32:
    raise ValueError(f"shapes: `size` must be at least 32, got {size}.")
  domain = streams.Domain.SHAPES
  rng = streams.random_stream(streams.Domain.SHAPE_LABELS, seed, index)
  labels = rng.integers(len(SHAPE_NAMES), size=int(rng.integers(1, _MOST + 1)))
  # Places, fills and the photometric change have streams of their own: what
  # one draws does not shift what the others get.
  rng = streams.random_stream(domain, seed, index)
  pieces, owner = _place(rng, labels, size)
  canvas = _draw(
    streams.random_stream(domain, seed, index, item=1), pieces, size
  )
  rng = streams.random_stream(domain, seed, index, item=2)
  numbers = np.arange(len(pieces), dtype=np.int8)
  masks = (owner == numbers[:, None, None]).view(np.uint8)
  placed = np.array([piece.label for piece in pieces], np.int32)
  classes = np.zeros(256, np.uint8)  # of an object's number; 255: none
  classes[: len(placed)] = placed + 1
  return {
    "image": _photometric(rng, canvas),
    "boxes": np.stack([mask_truth.mask_box(mask) for mask in masks]),
    "labels": placed,
    "masks": masks,
    "polygons": [mask_truth.mask_polygons(mask) for mask in masks],
    "area": np.array([cv2.countNonZero(mask) for mask in masks], np.float32),
    "crowd": np.zeros(len(pieces), bool),
    "semantic": cv2.LUT(owner.view(np.uint8), classes),
  }
