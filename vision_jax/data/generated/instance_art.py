"""What the generated instance search is drawn with: instances and clutter.

Both follow one law (smooth colours under discs, triangles and bars), so that
the statistics of a texture do not give an instance away.
"""

import cv2
import numpy as np

from vision_jax.data.generated import streams

__all__ = ["ART_SIDE", "draw_clutter", "draw_instance", "draw_primitive"]

ART_SIDE = 384  # pixels of an instance's own canvas

_TAU = 2 * np.pi


def draw_primitive(
  kind: int, centre: np.ndarray, size: float, angle: float
) -> np.ndarray:
  """Makes a disc (0), a triangle (1) or a bar (2), four times as long as wide.

  Convention:
    Points (x, y) in the frame of `centre`.

  Args:
    kind: 0, 1 or 2.
    centre: (x, y), pixels.
    size: diameter of the circle around a disc or triangle, length of a bar.
    angle: radians, from x towards y.

  Returns:
    A polygon, float64 [P, 2].

  Example:
    >>> from vision_jax.data.generated import instance_art
    >>> instance_art.draw_primitive(1, np.zeros(2), 10.0, 0.0).shape
    (3, 2)

  Source:
    Elementary formulas of this project.
  """
  if kind == 2:
    points = np.array([[4.0, 1.0], [-4.0, 1.0], [-4.0, -1.0], [4.0, -1.0]]) / 4
  else:
    turn = np.arange(3 if kind else 32) * (_TAU / (3 if kind else 32))
    points = np.stack([np.cos(turn), np.sin(turn)], -1)
  c, s = np.cos(angle), np.sin(angle)
  return points @ np.array([[c, s], [-s, c]]) * (size / 2) + centre


def _scatter(
  rng: np.random.Generator, canvas: np.ndarray, count: int, sizes: np.ndarray
) -> None:
  """Draws random primitives of random colours on a canvas, in place."""
  side = canvas.shape[0]
  u = rng.random((count, 4))
  kinds = rng.integers(3, size=count)
  colours = rng.integers(256, size=(count, 3)).tolist()
  for (x, y, share, turn), kind, colour in zip(u, kinds, colours, strict=True):
    size = sizes[0] + share * (sizes[1] - sizes[0])
    centre = np.array([x, y]) * side
    points = draw_primitive(int(kind), centre, size, _TAU * turn)
    fixed = np.rint(points * 16 - 8).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], colour, lineType=cv2.LINE_AA, shift=4)


def _enlarge(picture: np.ndarray, side: int) -> np.ndarray:
  """A picture [side, side, 3] by bicubic interpolation."""
  return cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)


def draw_instance(seed: int, instance: int) -> tuple[np.ndarray, np.ndarray]:
  """Draws one instance on its own canvas.

  A field of 6 x 6 random colours, enlarged; 12 primitives; a glyph of 5 x 5
  cells in one colour. Twins, instances 2 i and 2 i + 1, share the field and
  the silhouette and differ in primitives and glyph.

  Convention:
    Layout [H, W, 3], RGB; points in the continuous frame of the canvas.

  Args:
    seed: number of the set.
    instance: number of the instance in the set.

  Returns:
    The texture, uint8 [384, 384, 3], and the silhouette, a polygon float64
    [P, 2] of 4 to 9 points.

  Raises:
    ValueError: if `seed` or `instance` is out of range.

  Example:
    >>> from vision_jax.data.generated import instance_art
    >>> texture, silhouette = instance_art.draw_instance(0, 3)
    >>> texture.shape, silhouette.shape
    ((384, 384, 3), (6, 2))

  Source:
    GENERATED.md, "Instances, version 1".
  """
  domain = streams.Domain.INSTANCES
  rng = streams.random_stream(domain, seed, instance // 2)
  field = rng.integers(256, size=(6, 6, 3), dtype=np.uint8)
  count = int(rng.integers(4, 10))
  turn = np.arange(count) * (_TAU / count)
  radius = rng.uniform(0.65, 1.0, count) * 180
  silhouette = np.stack([np.cos(turn), np.sin(turn)], -1) * radius[:, None]
  # In two steps, which is four times faster: few pixels lie near the border.
  texture = _enlarge(_enlarge(field, 48), ART_SIDE)
  rng = streams.random_stream(
    domain, seed, instance // 2, item=1 + instance % 2
  )
  _scatter(rng, texture, 12, np.array([20.0, 110.0]))
  glyph = rng.integers(2, size=(5, 5)).astype(bool).repeat(40, 0).repeat(40, 1)
  low = ART_SIDE // 2 - 100
  texture[low : low + 200, low : low + 200][glyph] = rng.integers(256, size=3)
  return texture, silhouette + ART_SIDE / 2


def draw_clutter(rng: np.random.Generator, side: int) -> np.ndarray:
  """Draws a background: five octaves of value noise under 30 primitives.

  Grids of 4, 8, 16, 32 and 64 cells, each with half the amplitude of the one
  before; a gain for each channel. The sum of the coarser ones is enlarged
  bicubically to the next. Primitives measure 10 to 140 pixels of
  512 and follow the side.

  Convention:
    Layout [H, W, 3], RGB.

  Args:
    rng: source of the random numbers.
    side: pixels.

  Returns:
    Uint8 [side, side, 3], from 0 to 255.

  Example:
    >>> from vision_jax.data.generated import instance_art
    >>> instance_art.draw_clutter(np.random.default_rng(0), 64).shape
    (64, 64, 3)

  Source:
    GENERATED.md, "Instances, version 1".
  """
  gain = rng.uniform(0.5, 1.5, 3).astype(np.float32)
  noise = gain * rng.random((4, 4, 3), np.float32)
  for octave in range(1, 5):
    noise = _enlarge(noise, 4 << octave)
    noise += gain / 2**octave * rng.random(noise.shape, np.float32)
  # Cells have many pixels: half the side is enough for the smooth part.
  noise = _enlarge(noise, (side + 1) // 2)
  noise -= noise.min()
  canvas = cv2.convertScaleAbs(noise, None, 255 / float(noise.max()))
  canvas = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_LINEAR)
  _scatter(rng, canvas, 30, np.array([10.0, 140.0]) * (side / 512))
  return canvas
