"""Silhouettes of the generated shapes, thin ones and holed ones included.

A silhouette is a list of closed polygons inside the unit circle; what an odd
number of them encloses is inside. `patterns.OUTLINES` holds single polygons
around their centre; here the centre may be empty.
"""

import types
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

__all__ = ["SILHOUETTES", "fill_polygons", "make_silhouette"]

_TAU = 2 * np.pi

# Random numbers in [0, 1), [8] -> polygons [P, 2].
_Silhouette = Callable[[np.ndarray], list[np.ndarray]]


def _between(low: float, high: float, share: float) -> float:
  """The value at a share of the way from `low` to `high`."""
  return low + (high - low) * share


def _regular(corners: int) -> np.ndarray:
  """Corners of a regular polygon [P, 2]; a square lies along the axes."""
  turn = (np.arange(corners) + 0.5) * (_TAU / corners)
  return np.stack([np.cos(turn), np.sin(turn)], -1)


_CIRCLE = _regular(48)


def _disk(u):
  del u
  return [_CIRCLE]


def _triangle(u):
  del u
  return [_regular(3)]


def _square(u):
  del u
  return [_regular(4)]


def _star(u):
  points = _regular(10)
  points[::2] *= _between(0.36, 0.46, u[0])
  return [points]


def _cross(u):
  arm = _between(0.22, 0.34, u[0])
  quarter = np.array([[1.0, -arm], [1.0, arm], [arm, arm]])
  turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
  parts = [quarter]
  for _ in range(3):
    parts.append(parts[-1] @ turn)
  return [np.concatenate(parts)]


def _hourglass(u):
  waist, height = _between(0.10, 0.20, u[0]), _between(0.8, 1.1, u[1])
  right = [[1.0, -height], [waist, 0.0], [1.0, height]]
  left = [[-1.0, height], [-waist, 0.0], [-1.0, -height]]
  return [np.array(right + left)]


def _bar(u):
  half = _between(0.14, 0.22, u[0])
  return [np.array([[-1, -half], [1, -half], [1, half], [-1, half]])]


def _angle(u):
  wide, short = _between(0.30, 0.42, u[0]), _between(0.75, 1.0, u[1])
  corner = [[0.0, 0.0], [2.0, 0.0], [2.0, wide], [wide, wide]]
  return [np.array([*corner, [wide, 2 * short], [0.0, 2 * short]])]


def _ring(u):
  return [_CIRCLE, _CIRCLE * _between(0.52, 0.66, u[0])]


def _frame(u):
  return [_regular(4), _regular(4) * _between(0.52, 0.66, u[0])]


def _crescent(u):
  # A disk without a second one; both pass through the two horns.
  half, bulge = _between(0.90, 1.15, u[0]), _between(0.30, 0.55, u[1])
  horn = np.array([np.cos(half), np.sin(half)])
  turn = np.linspace(half, _TAU - half, 32)
  outer = np.stack([np.cos(turn), np.sin(turn)], -1)
  # The inner arc meets the x axis at horn_x - bulge.
  radius = (horn[1] ** 2 + bulge**2) / (2 * bulge)
  centre = horn[0] - bulge + radius
  end = np.arctan2(horn[1], horn[0] - centre)
  turn = np.linspace(_TAU - end, end, 24)[1:-1]
  inner = np.stack([np.cos(turn), np.sin(turn)], -1) * radius
  return [np.concatenate([outer, inner + np.array([centre, 0.0])])]


def _blob(u):
  turn = np.arange(48) * (_TAU / 48)
  radius = np.ones(48)
  for place, (order, low, high) in enumerate(
    ((2, 0.15, 0.28), (3, 0.12, 0.26), (4, 0.0, 0.12))
  ):
    size = _between(low, high, u[2 * place])
    radius += size * np.cos(order * turn + _TAU * u[2 * place + 1])
  return [np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1)]


SILHOUETTES: Mapping[str, _Silhouette] = types.MappingProxyType(
  {
    "disk": _disk,
    "triangle": _triangle,
    "square": _square,
    "star": _star,
    "cross": _cross,
    "hourglass": _hourglass,
    "bar": _bar,
    "angle": _angle,
    "ring": _ring,
    "frame": _frame,
    "crescent": _crescent,
    "blob": _blob,
  }
)
"""Silhouettes by name, in a fixed order: eight numbers to polygons."""


def make_silhouette(name: str, parameters: np.ndarray) -> list[np.ndarray]:
  """Makes the polygons of a silhouette.

  Convention:
    The middle of the silhouette's box is (0, 0); its farthest point is at
    distance 1.

  Args:
    name: a key of `SILHOUETTES`.
    parameters: numbers in [0, 1) that fix proportions, [8]; the last one
      stretches x against y by up to 1.25.

  Returns:
    Polygons, float64 [P, 2] each; the first is the outer one, a second one is
    a hole.

  Raises:
    KeyError: if `name` is no silhouette.

  Example:
    >>> from vision_jax.data.generated import silhouettes
    >>> [p.shape for p in silhouettes.make_silhouette("frame", np.ones(8))]
    [(4, 2), (4, 2)]

  Source:
    Elementary formulas of this project; GENERATED.md describes their use.
  """
  if name not in SILHOUETTES:
    raise KeyError(
      f"make_silhouette: `name` must be one of {' '.join(SILHOUETTES)}, got "
      f"{name!r}."
    )
  polygons = SILHOUETTES[name](parameters)
  stretch = np.array([1.0, _between(0.8, 1.0, parameters[7])])
  polygons = [polygon * stretch for polygon in polygons]
  middle = (polygons[0].min(0) + polygons[0].max(0)) / 2
  polygons = [polygon - middle for polygon in polygons]
  reach = np.hypot(polygons[0][:, 0], polygons[0][:, 1]).max()
  return [polygon / reach for polygon in polygons]


def fill_polygons(
  polygons: Sequence[np.ndarray], shape: tuple[int, int], *, fine: int = 4
) -> np.ndarray:
  """Fills polygons with smooth edges: the share of each pixel that is inside.

  Convention:
    Layout [H, W]; points (x, y) in the continuous frame. What an odd number
    of polygons encloses is inside.

  Args:
    polygons: points, float [P, 2] each.
    shape: (height, width), pixels.
    fine: sub-pixels along each side of a pixel.

  Returns:
    Coverage, uint8 [H, W], 255 inside.

  Note:
    The edge lies about half a sub-pixel outside the polygon.

  Example:
    >>> from vision_jax.data.generated import silhouettes
    >>> square = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]])
    >>> mask = silhouettes.fill_polygons([square], (4, 5))
    >>> int(mask[1, 1]), int(mask[0, 0])
    (255, 0)

  Source:
    Interface of this library.
  """
  fixed = [
    np.rint(polygon * (16 * fine) - 8).astype(np.int32) for polygon in polygons
  ]
  height, width = shape
  mask = np.zeros((height * fine, width * fine), np.uint8)
  cv2.fillPoly(mask, fixed, 255, shift=4)
  if fine == 1:
    return mask
  return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
