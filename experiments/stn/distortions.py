"""The five distortions of the digits: R, RTS, P, E and TC.

Each example has parameters of its own, fixed by (seed, index) whatever the
picture: rendered digits and MNIST are distorted alike. GENERATED.md, "Digits".
"""

import functools
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.data import Domain, random_stream

__all__ = ["SIDES", "clutter", "distort", "draw_parameters"]

SIDES = {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}
"""Side of the distorted pictures, pixels, by distortion."""

# Each but TC is undone by a transformer of this family.
_FAMILIES = {"R": "affine", "RTS": "affine", "P": "projective", "E": "tps"}
_DIGIT = 28  # side of what is distorted
_NUM_PIECES = 16
_PIECE = 6
_CHUNK = 1000


def _turned(
  angle: float, scale: float, shift: np.ndarray, side: int
) -> np.ndarray:
  """Affine parameters of a digit turned, scaled and moved by pixels."""
  c, s = math.cos(angle) / scale, math.sin(angle) / scale
  linear = np.array([[c, s], [-s, c]])
  offset = -linear @ shift / (_DIGIT / 2)
  return np.column_stack([linear * side / _DIGIT, offset]).ravel()


def _rotation(rng: np.random.Generator, side: int) -> np.ndarray:
  angle = math.radians(rng.uniform(-90, 90))
  return _turned(angle, 1.0, np.zeros(2), side)


def _rotation_scale_translation(
  rng: np.random.Generator, side: int
) -> np.ndarray:
  """The box of the digit is inside the picture before it turns."""
  angle = math.radians(rng.uniform(-45, 45))
  scale = rng.uniform(0.7, 1.2)
  room = (side - scale * _DIGIT) / 2
  return _turned(angle, scale, rng.uniform(-room, room, 2), side)


def _is_convex(corners: np.ndarray) -> bool:
  """Whether four corners in order turn the same way, with a fair area."""
  edges = np.roll(corners, -1, 0) - corners
  following = np.roll(edges, -1, 0)
  turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
  area = cv2.contourArea(corners.astype(np.float32))
  return bool((turns > 0).all()) and area > 0.25 * 2.0 * 2.0


def _projection(rng: np.random.Generator, side: int) -> np.ndarray:
  """Corners of the scaled picture, moved by N(0, 5 pixels), seen again."""
  del side
  corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
  scale = rng.uniform(0.75, 1.0)
  while True:
    moved = scale * corners + rng.normal(0, 5, (4, 2)) / (_DIGIT / 2)
    if _is_convex(moved):
      break
  matrix = cv2.getPerspectiveTransform(
    moved.astype(np.float32), corners.astype(np.float32)
  )
  return (matrix / matrix[2, 2]).ravel()[:8]


def _elastic(rng: np.random.Generator, side: int) -> np.ndarray:
  """Where 16 control points of the output read: moved by N(0, 1.5 pixels)."""
  del side
  moves = rng.normal(0, 1.5, (16, 2)) / (_DIGIT / 2)
  return (ops.control_lattice(4) + moves).ravel()


def _clutter(rng: np.random.Generator, side: int) -> np.ndarray:
  """Corner of the digit, then corner in another digit and corner of a piece.

  [1 + 2 * 16, 2] whole numbers and 16 numbers in [0, 1) that choose digits.
  """
  corner = rng.integers(0, side - _DIGIT + 1, (1, 2))
  sources = rng.integers(0, _DIGIT - _PIECE + 1, (_NUM_PIECES, 2))
  targets = rng.integers(0, side - _PIECE + 1, (_NUM_PIECES, 2))
  others = np.column_stack([rng.random(_NUM_PIECES), np.zeros(_NUM_PIECES)])
  return np.concatenate([corner, sources, targets, others])


_DRAW = {
  "R": _rotation,
  "RTS": _rotation_scale_translation,
  "P": _projection,
  "E": _elastic,
  "TC": _clutter,
}


def draw_parameters(kind: str, seed: int, index: int) -> np.ndarray:
  """What is done to one digit.

  Args:
    kind: a key of `SIDES`.
    seed: number of the set.
    index: number of the example.

  Returns:
    The parameters of the map from output to input, ndc frames, as
    `ops.transform_grid` takes them: affine [6] for R and RTS, projective [8]
    for P, spline [32] for E. For TC [49, 2], see `clutter`.
  """
  item = list(_DRAW).index(kind)
  rng = random_stream(Domain.DIGIT_DISTORTIONS, seed, index, item=item)
  return _DRAW[kind](rng, SIDES[kind])


@functools.partial(jax.jit, static_argnums=2)
def _warp(images: jax.Array, parameters: jax.Array, kind: str) -> jax.Array:
  """[N, 28, 28] -> [N, S, S]; four samples to a pixel, averaged."""
  side = SIDES[kind]
  grid = ops.transform_grid(_FAMILIES[kind], parameters, (2 * side, 2 * side))
  fine = ops.grid_sample(images[..., None], grid)[..., 0]
  return fine.reshape(-1, side, 2, side, 2).mean((2, 4))


def clutter(images: np.ndarray, parameters: np.ndarray) -> np.ndarray:
  """Each digit somewhere on a larger picture, among pieces of other digits.

  Args:
    images: [N, 28, 28].
    parameters: [N, 49, 2] of `draw_parameters("TC", ...)`: (x, y) of the digit;
      of the 16 pieces in their digits; of the pieces in the picture; and the
      digits they come from, as shares of N.

  Returns:
    [N, 60, 60], the brightest of what lies on top of each other.
  """
  count, side = len(images), SIDES["TC"]
  canvas = np.zeros((count, side, side), images.dtype)
  for picture, image, drawn in zip(canvas, images, parameters, strict=True):
    places = drawn[: 1 + 2 * _NUM_PIECES].astype(int)
    x, y = places[0]
    picture[y : y + _DIGIT, x : x + _DIGIT] = image
    others = (drawn[1 + 2 * _NUM_PIECES :, 0] * count).astype(int)
    sources = places[1 : 1 + _NUM_PIECES]
    targets = places[1 + _NUM_PIECES :]
    for other, (u, v), (x, y) in zip(others, sources, targets, strict=True):
      piece = images[other, v : v + _PIECE, u : u + _PIECE]
      area = picture[y : y + _PIECE, x : x + _PIECE]
      np.maximum(area, piece, out=area)
  return canvas


def distort(kind: str, images: np.ndarray, seed: int) -> np.ndarray:
  """Distorts a set; example i by what (seed, i) draws.

  Args:
    kind: a key of `SIDES`.
    images: uint8 [N, 28, 28].
    seed: number of the set.

  Returns:
    uint8 [N, S, S], S of `SIDES`.

  Raises:
    ValueError: if the kind is unknown or the shape wrong.

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, appendix A.4.
  """
  if kind not in SIDES:
    raise ValueError(
      f"distort: `kind` must be one of {', '.join(SIDES)}, got {kind!r}."
    )
  if images.shape[1:] != (_DIGIT, _DIGIT):
    raise ValueError(
      f"distort: `images` must be [N, {_DIGIT}, {_DIGIT}], got {images.shape}."
    )
  parameters = np.stack(
    [draw_parameters(kind, seed, index) for index in range(len(images))]
  )
  if kind == "TC":
    return clutter(images, parameters)
  result = np.empty((len(images), SIDES[kind], SIDES[kind]), np.uint8)
  for start in range(0, len(images), _CHUNK):
    part = slice(start, start + _CHUNK)
    warped = _warp(
      jnp.asarray(images[part], jnp.float32),
      jnp.asarray(parameters[part], jnp.float32),
      kind,
    )
    result[part] = np.rint(np.clip(warped, 0, 255))
  return result
