"""Two-tone patterns and outlines: what the generated sets are drawn with.

A pattern is a function of a plane measured in its own periods; it returns the
share of the second colour, between 0 and 1, at every point. An outline is a
closed polygon inside the unit circle.
"""

import types
from collections.abc import Callable, Mapping

import cv2
import numpy as np

__all__ = ["OUTLINES", "PATTERNS", "draw_outline", "draw_pattern"]

_TAU = 2 * np.pi

# (u, v) in periods [H, W], the size of a pixel in periods, random numbers.
_Pattern = Callable[
  [np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray
]


def _edge(distance: np.ndarray, width: float) -> np.ndarray:
  """0 where `distance` < 0 and 1 where > 0, with a ramp of the given width."""
  return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


def _zigzag(x: np.ndarray) -> np.ndarray:
  """Triangle wave of period 1: distance to the nearest integer, in [0, .5]."""
  return np.abs(x - np.rint(x))


def _bars(x: np.ndarray, pixel: float, duty: float = 0.5) -> np.ndarray:
  """Bars of period 1 centred on the integers, `duty` wide."""
  return _edge(duty / 2 - _zigzag(x), pixel)


def _smooth(rng, shape: tuple[int, int], cell: float) -> np.ndarray:
  """Smooth noise [H, W] in [0, 1] whose blobs are about `cell` pixels wide."""
  height, width = shape
  cell = max(cell, 1.5)
  grid = rng.random((int(height / cell) + 4, int(width / cell) + 4), np.float32)
  top, left = rng.random(2)
  matrix = np.array([[1 / cell, 0, 1 + left], [0, 1 / cell, 1 + top]])
  noise = cv2.warpAffine(
    grid,
    matrix,
    (width, height),
    flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )
  return np.clip(noise, 0, 1)


def _ramp(u, v, pixel, rng):
  del v, pixel, rng
  low, high = u.min(), u.max()
  return (u - low) / max(high - low, np.float32(1e-6))


def _stripes(u, v, pixel, rng):
  del v
  return _bars(u, pixel, rng.uniform(0.35, 0.65))


def _checks(u, v, pixel, rng):
  del rng
  square_u = 1 - 2 * _bars(u, pixel)
  square_v = 1 - 2 * _bars(v, pixel)
  return 0.5 + 0.5 * square_u * square_v


def _dots(u, v, pixel, rng):
  if rng.random() < 0.5:  # every other column is shifted by half a period
    v = v + 0.5 * (np.rint(u) % 2)
  radius = rng.uniform(0.24, 0.36)
  return _edge(radius - np.hypot(_zigzag(u), _zigzag(v)), pixel)


def _bricks(u, v, pixel, rng):
  v = v * np.float32(1.4)
  pixel = pixel * 1.4
  mortar = rng.uniform(0.10, 0.18)
  course = np.floor(v)
  across = v - course
  along = u * np.float32(0.7) + 0.5 * (course % 2)
  gap = np.minimum(np.minimum(across, 1 - across), 2 * _zigzag(along))
  return _edge(gap - mortar, pixel)


def _waves(u, v, pixel, rng):
  length, height = rng.uniform(1.8, 3.0), rng.uniform(0.25, 0.4)
  shift = np.float32(height) * np.sin(v * np.float32(_TAU / length))
  return _bars(u + shift, pixel * 1.4, rng.uniform(0.4, 0.6))


def _white_noise(u, v, pixel, rng):
  del v, pixel
  height, width = u.shape
  if rng.random() < 0.5:
    return rng.random((height, width), np.float32)
  coarse = rng.random(((height + 1) // 2, (width + 1) // 2), np.float32)
  return coarse.repeat(2, 0).repeat(2, 1)[:height, :width]


def _smooth_noise(u, v, pixel, rng):
  del v
  noise = _smooth(rng, u.shape, 0.6 / pixel)
  return np.clip((noise - 0.5) * np.float32(1.6) + 0.5, 0, 1)


def _cells(u, v, pixel, rng):
  # One random site in each unit square; the two nearest sites of a point lie
  # almost always in the 3 x 3 squares around it.
  sites = 0.12 + 0.76 * rng.random((16, 16, 2), np.float32)
  column, row = np.floor(u), np.floor(v)
  first = np.full(u.shape, 9.0, np.float32)
  second = first
  for dy in (-1, 0, 1):
    i = (row + dy).astype(np.int32)
    for dx in (-1, 0, 1):
      j = (column + dx).astype(np.int32)
      site = sites[i & 15, j & 15]
      distance = np.hypot(j + site[..., 0] - u, i + site[..., 1] - v)
      second = np.minimum(second, np.maximum(first, distance))
      first = np.minimum(first, distance)
  return _edge(second - first - rng.uniform(0.10, 0.18), 1.5 * pixel)


def _grid(u, v, pixel, rng):
  line = rng.uniform(0.09, 0.14)
  return _edge(line - np.minimum(_zigzag(u), _zigzag(v)), pixel)


def _rings(u, v, pixel, rng):
  x, y = rng.uniform(-0.5, 0.5, 2)
  radius = np.hypot(u - np.float32(x), v - np.float32(y))
  return _bars(radius + np.float32(rng.random()), pixel)


def _chevrons(u, v, pixel, rng):
  length, height = rng.uniform(1.6, 2.6), rng.uniform(1.8, 2.6)
  shift = np.float32(height) * _zigzag(v * np.float32(1 / length))
  return _bars(u + shift, pixel * 1.5, rng.uniform(0.4, 0.6))


def _hexagons(u, v, pixel, rng):
  # Two interleaved rectangular lattices; a cell is the set of points nearest
  # to one site, in the metric whose circles are hexagons.
  root = np.float32(np.sqrt(3))
  u1, v1 = np.rint(u), np.rint(v / root) * root
  u2 = np.floor(u) + np.float32(0.5)
  v2 = (np.floor(v / root) + np.float32(0.5)) * root

  def reach(du, dv):
    du, dv = np.abs(du), np.abs(dv)
    return np.maximum(du, 0.5 * du + 0.5 * root * dv)

  inside = np.minimum(reach(u - u1, v - v1), reach(u - u2, v - v2))
  return _edge(np.float32(0.5 - rng.uniform(0.05, 0.09)) - inside, pixel)


def _triangles(u, v, pixel, rng):
  del rng
  third = np.float32(np.sqrt(3) / 2)
  product = np.ones_like(u)
  for direction in (v, third * u - 0.5 * v, third * u + 0.5 * v):
    # A square wave that changes sign at the integers.
    wave = 1 - 2 * _bars(0.5 * direction + np.float32(0.25), 0.5 * pixel)
    product = product * wave
  return 0.5 + 0.5 * product


def _crosshatch(u, v, pixel, rng):
  half = rng.uniform(0.42, 0.56)  # the lines cross at 48 to 64 degrees
  line = rng.uniform(0.12, 0.18)
  c, s = np.float32(np.cos(half)), np.float32(np.sin(half))
  first = _zigzag(np.float32(1.5) * (c * u + s * v))
  second = _zigzag(np.float32(1.5) * (c * u - s * v))
  return _edge(line - np.minimum(first, second), 1.5 * pixel)


def _spiral(u, v, pixel, rng):
  x, y = rng.uniform(-0.4, 0.4, 2)
  u, v = u - np.float32(x), v - np.float32(y)
  arms = int(rng.integers(2, 4)) * (1 if rng.random() < 0.5 else -1)
  turns = np.arctan2(v, u) * np.float32(arms / _TAU)
  return _bars(np.hypot(u, v) + turns, pixel)


def _marble(u, v, pixel, rng):
  noise = _smooth(rng, u.shape, 1.8 / pixel) + 0.5 * _smooth(
    rng, u.shape, 0.8 / pixel
  )
  veins = np.abs(
    np.sin(np.float32(np.pi) * (0.6 * u + np.float32(2.6) * noise))
  )
  return np.sqrt(veins)


def _plaid(u, v, pixel, rng):
  wide, narrow = rng.uniform(0.3, 0.42), rng.uniform(0.08, 0.12)

  def weave(x):
    return np.maximum(
      _bars(x, pixel, wide), 0.7 * _bars(x + np.float32(0.5), pixel, narrow)
    )

  return 0.5 * (weave(u * np.float32(0.7)) + weave(v * np.float32(0.7)))


def _confetti(u, v, pixel, rng):
  # One oblong in most unit squares, at a random place, angle and strength.
  table = rng.random((16, 16, 4), np.float32)
  value = np.zeros(u.shape, np.float32)
  for shift in (0.0, 0.5):
    column, row = np.floor(u + shift), np.floor(v + shift)
    piece = table[
      row.astype(np.int32) & 15, (column + 32 * shift).astype(np.int32) & 15
    ]
    x = u + shift - column - np.float32(0.35) - np.float32(0.3) * piece[..., 0]
    y = v + shift - row - np.float32(0.35) - np.float32(0.3) * piece[..., 1]
    angle = np.float32(np.pi) * piece[..., 2]
    c, s = np.cos(angle), np.sin(angle)
    along, across = np.abs(c * x + s * y), np.abs(s * x - c * y)
    inside = np.minimum(np.float32(0.30) - along, np.float32(0.13) - across)
    strength = np.where(piece[..., 3] < 0.3, 0.0, 0.3 + piece[..., 3] * 0.7)
    value = np.maximum(value, strength * _edge(inside, pixel))
  return value


def _scales(u, v, pixel, rng):
  # Rows of overlapping discs, each row half a disc aside and above the last.
  line = rng.uniform(0.07, 0.11)
  v = v * np.float32(1.6)
  row = np.floor(v)
  value = np.zeros(u.shape, np.float32)
  taken = np.zeros(u.shape, bool)
  for back in (0, 1):
    x = u + 0.5 * ((row - back) % 2)
    y = (v - row + back) * np.float32(0.5)
    radius = np.hypot(_zigzag(x), y)
    here = (radius < 0.56) & ~taken
    rim = _edge(radius - np.float32(0.56 - line), pixel)
    shade = np.float32(0.35) * y
    value = np.where(here, np.maximum(rim, shade), value)
    taken |= here
  return np.where(taken, value, np.float32(1.0))


def _wood(u, v, pixel, rng):
  height, width = u.shape
  x, y = rng.uniform(-2.5, 2.5), rng.uniform(-6.0, 6.0)
  bend = _smooth(rng, (height, width), 2.5 / pixel)
  radius = np.hypot(u - np.float32(x), np.float32(0.18) * (v - np.float32(y)))
  phase = np.float32(1.3) * radius + np.float32(0.8) * bend
  rings = phase - np.floor(phase)  # early wood brightens, then falls at once
  fibres = rng.random(64, np.float32)
  fine = fibres[np.floor(u * np.float32(0.35 / pixel)).astype(np.int32) & 63]
  return np.clip(0.8 * rings * rings + 0.1 + 0.25 * (fine - 0.5), 0, 1)


PATTERNS: Mapping[str, _Pattern] = types.MappingProxyType(
  {
    "ramp": _ramp,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "bricks": _bricks,
    "waves": _waves,
    "white_noise": _white_noise,
    "smooth_noise": _smooth_noise,
    "cells": _cells,
    "grid": _grid,
    "rings": _rings,
    "chevrons": _chevrons,
    "hexagons": _hexagons,
    "triangles": _triangles,
    "crosshatch": _crosshatch,
    "spiral": _spiral,
    "marble": _marble,
    "plaid": _plaid,
    "confetti": _confetti,
    "scales": _scales,
    "wood": _wood,
  }
)
"""Pattern functions by name, in a fixed order."""


def draw_pattern(
  rng: np.random.Generator,
  name: str,
  shape: tuple[int, int],
  *,
  period: float = 8.0,
  angle: float = 0.0,
) -> np.ndarray:
  """Draws one two-tone pattern.

  Convention:
    Layout [H, W]. The origin of the pattern's plane is the middle of the
    picture; its u axis is turned from x towards y by `angle`.

  Args:
    rng: source of the pattern's free parameters.
    name: a key of `PATTERNS`.
    shape: (height, width), pixels.
    period: size of one period, pixels, at least 2.
    angle: radians.

  Returns:
    Share of the second colour, float32 [H, W] in [0, 1].

  Raises:
    KeyError: if `name` is no pattern.
    ValueError: if `shape` is empty or `period` below 2.

  Example:
    >>> from vision_jax.data import draw_pattern
    >>> draw_pattern(np.random.default_rng(0), "stripes", (6, 9)).shape
    (6, 9)

  Source:
    Elementary formulas of this project; GENERATED.md describes their use.
  """
  if name not in PATTERNS:
    raise KeyError(
      f"draw_pattern: `name` must be one of {' '.join(PATTERNS)}, got {name!r}."
    )
  height, width = shape
  if height < 1 or width < 1:
    raise ValueError(
      f"draw_pattern: `shape` must be at least (1, 1), got {shape}."
    )
  if period < 2:
    raise ValueError(
      f"draw_pattern: `period` must be at least 2 pixels, got {period}."
    )
  x = np.arange(width, dtype=np.float32)[None, :] - np.float32((width - 1) / 2)
  y = np.arange(height, dtype=np.float32)[:, None] - np.float32(
    (height - 1) / 2
  )
  c, s = np.float32(np.cos(angle) / period), np.float32(np.sin(angle) / period)
  offset = rng.random(2, np.float32)
  # Patterns with a centre keep it in the picture: the offset is within one
  # period.
  u, v = c * x + s * y + offset[0], c * y - s * x + offset[1]
  return PATTERNS[name](u, v, 1.0 / period, rng).astype(np.float32, copy=False)


def _polar(radius: np.ndarray, turn: np.ndarray) -> np.ndarray:
  """Polygon [P, 2] with the given radii at the given angles."""
  return np.array([radius * np.cos(turn), radius * np.sin(turn)]).T


def _regular(corners: int) -> Callable[[np.random.Generator], np.ndarray]:
  def outline(rng):
    del rng
    return _polar(np.ones(corners), np.arange(corners) * (_TAU / corners))

  return outline


def _star(rng):
  points = int(rng.integers(4, 8))
  radius = np.where(np.arange(2 * points) % 2, rng.uniform(0.42, 0.65), 1.0)
  return _polar(radius, np.arange(2 * points) * (np.pi / points))


def _cross(rng):
  arm = rng.uniform(0.28, 0.45)
  quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
  turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
  parts = [quarter]
  for _ in range(3):
    parts.append(parts[-1] @ turn)
  return np.concatenate(parts) / np.hypot(1.0, arm)


def _ellipse(rng):
  turn = np.arange(48) * (_TAU / 48)
  return _polar(np.ones(48), turn) * [1.0, rng.uniform(0.45, 0.9)]


def _superellipse(rng):
  turn = np.arange(48) * (_TAU / 48)
  power = 2 / rng.uniform(1.4, 5.0)
  c, s = np.cos(turn), np.sin(turn)
  points = np.stack(
    [
      np.sign(c) * np.abs(c) ** power,
      rng.uniform(0.6, 1.0) * np.sign(s) * np.abs(s) ** power,
    ],
    -1,
  )
  return points / np.hypot(points[:, 0], points[:, 1]).max()


def _blob(rng):
  turn = np.arange(64) * (_TAU / 64)
  radius = np.ones(64)
  for order, amplitude in ((2, 0.22), (3, 0.18), (4, 0.12), (5, 0.08)):
    size, phase = rng.uniform(0, amplitude), rng.uniform(0, _TAU)
    radius = radius + size * np.cos(order * turn + phase)
  return _polar(radius / radius.max(), turn)


def _gear(rng):
  turn = np.arange(96) * (_TAU / 96)
  teeth, depth = int(rng.integers(5, 10)), rng.uniform(0.1, 0.22)
  radius = 1 - depth + depth * np.tanh(3 * np.sin(teeth * turn))
  return _polar(radius / radius.max(), turn)


def _kidney(rng):
  turn = np.arange(64) * (_TAU / 64)
  depth = rng.uniform(0.45, 0.65)
  radius = 1 - depth * np.exp(-(((turn - np.pi) / 0.5) ** 2))
  return _polar(radius, turn)


OUTLINES: Mapping[str, Callable[[np.random.Generator], np.ndarray]] = (
  types.MappingProxyType(
    {
      "disk": _regular(48),
      "ellipse": _ellipse,
      "triangle": _regular(3),
      "square": _regular(4),
      "hexagon": _regular(6),
      "star": _star,
      "cross": _cross,
      "superellipse": _superellipse,
      "blob": _blob,
      "gear": _gear,
      "kidney": _kidney,
    }
  )
)
"""Closed polygons inside the unit circle by name, in a fixed order."""


def draw_outline(
  rng: np.random.Generator,
  name: str,
  shape: tuple[int, int],
  *,
  centre: tuple[float, float],
  radius: float,
  angle: float = 0.0,
  hole: float = 0.0,
) -> np.ndarray:
  """Draws a filled outline as a mask with smooth edges.

  Convention:
    Layout [H, W]; `centre` is (x, y) in the index frame.

  Args:
    rng: source of the outline's free parameters.
    name: a key of `OUTLINES`.
    shape: (height, width) of the mask, pixels.
    centre: (x, y) of the centre of the outline, pixels.
    radius: radius of the circle around the outline, pixels.
    angle: rotation from x towards y, radians.
    hole: radius of a cut-out of the same outline, as a share of `radius`.

  Returns:
    Coverage, float32 [H, W] in [0, 1].

  Raises:
    KeyError: if `name` is no outline.

  Note:
    OpenCV's smooth edge lies about half a pixel outside the polygon.

  Example:
    >>> from vision_jax.data import draw_outline
    >>> mask = draw_outline(np.random.default_rng(0), "disk", (21, 31),
    ...                     centre=(15.0, 10.0), radius=8.0)
    >>> float(mask[10, 15]), float(mask[0, 0])
    (1.0, 0.0)

  Source:
    Elementary formulas of this project; GENERATED.md describes their use.
  """
  if name not in OUTLINES:
    raise KeyError(
      f"draw_outline: `name` must be one of {' '.join(OUTLINES)}, got {name!r}."
    )
  c, s = np.cos(angle), np.sin(angle)
  points = OUTLINES[name](rng) @ np.array([[c, s], [-s, c]]) * radius
  contours = [points + centre]
  if hole > 0:
    contours.append(points * hole + centre)
  fixed = [np.rint(contour * 16).astype(np.int32) for contour in contours]
  mask = np.zeros(shape, np.uint8)
  cv2.fillPoly(mask, fixed, 255, lineType=cv2.LINE_AA, shift=4)
  return mask * np.float32(1 / 255)
