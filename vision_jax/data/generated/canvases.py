"""Dead-leaves canvases: generated pictures to train local features on.

Version 1, frozen in GENERATED.md.
"""

import cv2
import numpy as np

from vision_jax.data.generated import patterns, streams

__all__ = ["DEAD_LEAVES_VERSION", "dead_leaves"]

DEAD_LEAVES_VERSION = 1

_NUM_LEAVES = 600
_SMALLEST = 14.0  # pixels across, on a canvas of 512
_LARGEST_FIRST, _LARGEST_LAST = 240.0, 60.0
_FLAT = 0.35  # share of leaves of one colour
_TEXTURES = (
  "ramp",
  "stripes",
  "checks",
  "dots",
  "white_noise",
  "smooth_noise",
  "bricks",
  "waves",
)
_OUTLINES = (
  "disk",
  "ring",
  "ellipse",
  "triangle",
  "square",
  "star",
  "hexagon",
  "cross",
)


def _texture(
  rng: np.random.Generator, shape: tuple[int, int], *, flat: float
) -> np.ndarray:
  """A texture, or with probability `flat` one colour, [H, W, 3] in 0..255."""
  colours = rng.uniform(0, 255, (2, 3)).astype(np.float32)
  if rng.random() < flat:
    return np.broadcast_to(colours[0], (*shape, 3))
  share = patterns.draw_pattern(
    rng,
    _TEXTURES[int(rng.integers(len(_TEXTURES)))],
    shape,
    period=float(np.exp(rng.uniform(np.log(5.0), np.log(36.0)))),
    angle=rng.uniform(0, 2 * np.pi),
  )
  return colours[0] + share[..., None] * (colours[1] - colours[0])


def dead_leaves(seed: int, index: int, *, size: int = 512) -> np.ndarray:
  """Draws a canvas of textured shapes that hide each other.

  A full-size texture is covered by 600 shapes of 8 kinds, each in one colour
  or filled with one of 8 textures in two random colours. The density of the
  size S follows 1 / S**2 between 14 pixels and a limit that falls from 240 to
  60, so that no shape is buried by later large ones.

  Convention:
    Layout [size, size, 3], RGB. (seed, index) fixes the canvas; `size` cuts
    or extends the plane that the same shapes are scattered on, in proportion
    to its area: lengths stay in pixels.

  Args:
    seed: number of the set.
    index: number of the canvas in the set.
    size: side, pixels, at least 32.

  Returns:
    Uint8 [size, size, 3].

  Raises:
    ValueError: if `size` is below 32, or `seed` or `index` out of range.

  Example:
    >>> from vision_jax.data import dead_leaves
    >>> canvas = dead_leaves(0, 3, size=64)
    >>> canvas.shape, canvas.dtype.name
    ((64, 64, 3), 'uint8')

  Source:
    J. Matheron's dead-leaves model with the 1/S**2 law of A. Lee, D. Mumford,
    J. Huang, "Occlusion models for natural images", IJCV 2001.
  """
  if size < 32:
    raise ValueError(
      f"dead_leaves: `size` must be at least 32 pixels, got {size}."
    )
  rng = streams.random_stream(streams.Domain.DEAD_LEAVES, seed, index)
  canvas = np.array(_texture(rng, (size, size), flat=0.0), np.float32)
  count = max(1, round(_NUM_LEAVES * (size / 512) ** 2))
  for number in range(count):
    progress = number / max(count - 1, 1)
    largest = _LARGEST_FIRST + progress * (_LARGEST_LAST - _LARGEST_FIRST)
    # The inverse of the distribution function of 1 / S**2.
    inverse = rng.uniform(1 / largest, 1 / _SMALLEST)
    radius = 0.5 / inverse
    kind = _OUTLINES[int(rng.integers(len(_OUTLINES)))]
    angle, hole = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 0.75)
    x, y = rng.uniform(0, size, 2)
    left, top = int(x - radius) - 1, int(y - radius) - 1
    side = int(2 * radius) + 4
    mask = patterns.draw_outline(
      rng,
      "disk" if kind == "ring" else kind,
      (side, side),
      centre=(x - left, y - top),
      radius=radius,
      angle=angle,
      hole=hole if kind == "ring" else 0.0,
    )
    leaf = _texture(rng, (side, side), flat=_FLAT)
    rows = slice(max(top, 0), min(top + side, size))
    columns = slice(max(left, 0), min(left + side, size))
    part = (
      slice(rows.start - top, rows.stop - top),
      slice(columns.start - left, columns.stop - left),
    )
    under = canvas[rows, columns]
    under += mask[part][..., None] * (leaf[part] - under)
  blurred: np.ndarray = cv2.GaussianBlur(canvas, (0, 0), 0.6)
  noise = rng.standard_normal(canvas.shape, np.float32)
  blurred = blurred + noise * np.float32(3.0)
  return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
