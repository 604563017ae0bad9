"""A generated set for a small classifier: which pattern fills the object?

Version 1, frozen in GENERATED.md.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from vision_jax.data.generated import patterns, streams

__all__ = [
  "TEXTURE_NAMES",
  "TEXTURE_VERSION",
  "texture_batch",
  "texture_label",
  "textures",
]

TEXTURE_VERSION = 1

TEXTURE_NAMES = (
  "stripes",
  "checks",
  "dots",
  "bricks",
  "waves",
  "white_noise",
  "smooth_noise",
  "cells",
  "grid",
  "rings",
  "chevrons",
  "hexagons",
  "triangles",
  "crosshatch",
  "spiral",
  "marble",
  "plaid",
  "confetti",
  "scales",
  "wood",
)
"""The classes; a label is a position in this tuple."""

_OUTLINES = (  # a third each: smooth, convex, concave
  ("ellipse", "superellipse", "blob"),
  ("disk", "square", "hexagon"),
  ("star", "gear", "kidney"),
)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TAU = 2 * np.pi


def texture_label(seed: int, index: int) -> int:
  """The class of one example.

  Every run of 20 indices that starts at a multiple of 20 holds each class
  once, in an order of its own.

  Args:
    seed: number of the set.
    index: number of the example.

  Returns:
    A position in `TEXTURE_NAMES`.

  Raises:
    ValueError: if `seed` or `index` is out of range.

  Example:
    >>> from vision_jax.data import texture_label
    >>> sorted(texture_label(0, i) for i in range(20)) == list(range(20))
    True

  Source:
    GENERATED.md, "Textures, version 1".
  """
  if index < 0:
    raise ValueError(f"texture_label: `index` must be at least 0, got {index}.")
  block, place = divmod(int(index), len(TEXTURE_NAMES))
  rng = streams.random_stream(streams.Domain.TEXTURE_LABELS, seed, block)
  return int(rng.permutation(len(TEXTURE_NAMES))[place])


def _two_colours(rng: np.random.Generator) -> np.ndarray:
  """Two colours [2, 3] in [0, 1], at least 0.25 apart in brightness."""
  while True:
    colours = rng.random((2, 3), np.float32)
    if abs(float((colours[1] - colours[0]) @ _LUMA)) >= 0.25:
      return colours


def _paste(
  rng: np.random.Generator,
  image: np.ndarray,
  *,
  outline: str,
  centre: np.ndarray,
  radius: float,
  name: str | None,
  period: float,
) -> None:
  """Pastes one outline, filled with a pattern or one colour, in place."""
  size = image.shape[0]
  low = np.maximum(np.floor(centre - radius).astype(int) - 1, 0)
  high = np.minimum(np.ceil(centre + radius).astype(int) + 2, size)
  shape = (int(high[1] - low[1]), int(high[0] - low[0]))
  mask = patterns.draw_outline(
    rng,
    outline,
    shape,
    centre=tuple(centre - low),
    radius=radius,
    angle=rng.uniform(0, _TAU),
  )
  colours = _two_colours(rng)
  fill = colours[0]
  if name is not None:
    share = patterns.draw_pattern(
      rng, name, shape, period=period, angle=rng.uniform(0, _TAU)
    )
    fill = share[..., None] * (colours[1] - colours[0])
    fill += colours[0]
  under = image[low[1] : high[1], low[0] : high[0]]
  change = fill - under
  change *= mask[..., None]
  under += change


def _clutter(rng: np.random.Generator, size: int) -> np.ndarray:
  """A background [size, size, 3] that is independent of the class."""
  corners = rng.random((2, 2, 3), np.float32)
  image = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
  for _ in range(int(rng.integers(5, 11))):
    kind = rng.random()
    if kind < 0.45:
      name, radius = None, rng.uniform(0.08, 0.28)
    elif kind < 0.65:
      name, radius = "ramp", rng.uniform(0.08, 0.28)
    else:  # a decoy: a small piece of any class
      name = TEXTURE_NAMES[int(rng.integers(len(TEXTURE_NAMES)))]
      radius = rng.uniform(0.06, 0.12)
    family = _OUTLINES[int(rng.integers(3))]
    _paste(
      rng,
      image,
      outline=family[int(rng.integers(3))],
      centre=rng.uniform(0, size, 2),
      radius=radius * size,
      name=name,
      period=max(rng.uniform(0.06, 0.12) * size, 2.0),
    )
  return image


def _photometric(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Gamma, contrast, brightness, blur on half the pictures, and noise."""
  image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
  mean = np.float32(image.mean())
  image = (image - mean) * np.float32(rng.uniform(0.7, 1.2)) + mean
  image += np.float32(rng.uniform(-0.1, 0.1))
  if rng.random() < 0.5:
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
  noise = rng.standard_normal(image.shape, np.float32)
  return image + noise * np.float32(rng.uniform(0, 0.04))


def textures(
  seed: int, index: int, *, size: int = 64
) -> tuple[np.ndarray, int]:
  """Draws one example: an object filled with the pattern of its class.

  Outline, size (35 to 80 % of the side), place, rotation, period, both
  colours, the cluttered background with its decoys (small pieces of random
  classes) and the photometric change are drawn before, or independently of,
  the class. Only the pattern inside the object depends on it.

  Convention:
    Layout [size, size, 3], RGB. (seed, index) fixes the example for each
    `size`; lengths scale with `size`.

  Args:
    seed: number of the set.
    index: number of the example in the set.
    size: side, pixels, at least 32.

  Returns:
    The picture, uint8 [size, size, 3], and its label, a position in
    `TEXTURE_NAMES`.

  Raises:
    ValueError: if `size` is below 32, or `seed` or `index` out of range.

  Example:
    >>> from vision_jax.data import TEXTURE_NAMES, textures
    >>> image, label = textures(0, 5)
    >>> image.shape, TEXTURE_NAMES[label]
    ((64, 64, 3), 'crosshatch')

  Source:
    GENERATED.md, "Textures, version 1".
  """
  if size < 32:
    raise ValueError(f"textures: `size` must be at least 32, got {size}.")
  label = texture_label(seed, index)
  domain = streams.Domain.TEXTURES
  image = _clutter(streams.random_stream(domain, seed, index), size)
  # The object and the photometric change have streams of their own: what the
  # pattern of a class draws must not shift what the others get.
  rng = streams.random_stream(domain, seed, index, item=1)
  diameter = rng.uniform(0.35, 0.80) * size
  family = _OUTLINES[int(rng.integers(3))]
  _paste(
    rng,
    image,
    outline=family[int(rng.integers(3))],
    centre=rng.uniform(0.5 * diameter, size - 0.5 * diameter, 2),
    radius=0.5 * diameter,
    name=TEXTURE_NAMES[label],
    period=max(diameter / rng.uniform(2.5, 5.5), 0.086 * size),
  )
  rng = streams.random_stream(domain, seed, index, item=2)
  image = _photometric(rng, image)
  return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), label


def texture_batch(
  seed: int, indices: Sequence[int] | np.ndarray, *, size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
  """Draws several examples of `textures`.

  Convention:
    Layout [B, size, size, 3], RGB.

  Args:
    seed: number of the set.
    indices: numbers of the examples, [B].
    size: side, pixels, at least 32.

  Returns:
    Pictures, uint8 [B, size, size, 3], and labels, int32 [B].

  Raises:
    ValueError: if `size`, `seed` or an index is out of range.

  Example:
    >>> from vision_jax.data import texture_batch
    >>> images, labels = texture_batch(0, range(4))
    >>> images.shape, labels.dtype.name
    ((4, 64, 64, 3), 'int32')

  Source:
    GENERATED.md, "Textures, version 1".
  """
  indices = np.asarray(indices)
  images = np.empty((len(indices), size, size, 3), np.uint8)
  labels = np.empty(len(indices), np.int32)
  for place, index in enumerate(indices):
    images[place], labels[place] = textures(seed, int(index), size=size)
  return images, labels
