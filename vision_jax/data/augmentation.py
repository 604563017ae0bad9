"""Random changes of examples: flips, crops, affine maps, colours, noise.

A *transform* is a function `(example, rng) -> example`; `rng` is a NumPy
generator that the pipeline makes for this transform of this example in this
epoch. The functions here take settings and return a transform. All transforms
can be pickled, so that worker processes can run them. How boxes, masks,
polygons and keypoints move stands at the head of `geometry.py`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.colours import adjust_colours
from vision_jax.data.geometry import affine_example, flip_horizontal
from vision_jax.data.resampling import axis_matrix

__all__ = [
  "Transform",
  "as_transform",
  "random_affine",
  "random_colours",
  "random_flip",
  "random_noise",
  "random_resized_crop",
  "random_scale_crop",
]

Example = dict[str, Any]
Transform = Callable[[Example, np.random.Generator], Example]


def as_transform(
  function: Callable[..., Mapping[str, Any]], **settings: Any
) -> Transform:
  """Makes a transform of a function of an example that draws nothing.

  Args:
    function: `(example, **settings) -> example`, at the top level of a module
      if worker processes are to run it.
    **settings: passed to it.

  Returns:
    The transform.

  Example:
    >>> from vision_jax.data import as_transform, letterbox
    >>> transform = as_transform(letterbox, size=(64, 64))
    >>> example = {"image": np.zeros((30, 40, 3), np.uint8)}
    >>> transform(example, np.random.default_rng(0))["image"].shape
    (64, 64, 3)

  Source:
    Interface of this library.
  """
  return functools.partial(_without_draws, function, settings)


def _without_draws(
  function: Callable[..., Mapping[str, Any]],
  settings: Mapping[str, Any],
  example: Example,
  rng: np.random.Generator,
) -> Example:
  del rng
  return dict(function(example, **settings))


def random_flip(
  *, probability: float = 0.5, swap: Sequence[int] | None = None
) -> Transform:
  """Mirrors examples left to right.

  Args:
    probability: how often.
    swap: permutation of the keypoints, as `flip_horizontal` takes it.

  Returns:
    The transform.

  Raises:
    ValueError: if `probability` is not in [0, 1].

  Example:
    >>> from vision_jax.data import random_flip
    >>> example = {"image": np.array([[[1], [2]]], np.uint8)}
    >>> flip = random_flip(probability=1.0)
    >>> print(flip(example, np.random.default_rng(0))["image"][..., 0])
    [[2 1]]

  Source:
    Interface of this library.
  """
  _check_range("random_flip", "probability", (0, probability), 0, 1)
  swap = None if swap is None else tuple(swap)
  return functools.partial(_flip, probability, swap)


def _flip(
  probability: float,
  swap: tuple[int, ...] | None,
  example: Example,
  rng: np.random.Generator,
) -> Example:
  if rng.random() < probability:
    return flip_horizontal(example, swap=swap)
  return example


def random_resized_crop(
  size: tuple[int, int],
  *,
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
  min_visible: float = 0.1,
) -> Transform:
  """Cuts out a window of random area and aspect and resizes it.

  Ten windows are tried; if none fits, the largest window in the middle whose
  aspect is in `ratio` is taken.

  Args:
    size: (height, width) of the result.
    scale: range of the window's share of the area, uniform.
    ratio: range of its width / height, log-uniform.
    min_visible: as `affine_example` takes it.

  Returns:
    The transform.

  Raises:
    ValueError: on an empty range or one beyond its limits.

  Example:
    >>> from vision_jax.data import random_resized_crop
    >>> example = {"image": np.zeros((30, 40, 3), np.uint8)}
    >>> crop = random_resized_crop((16, 24))
    >>> crop(example, np.random.default_rng(0))["image"].shape
    (16, 24, 3)

  Source:
    C. Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6;
    the draws are torchvision's.
  """
  _check_range("random_resized_crop", "scale", scale, 1e-6, 1)
  _check_range("random_resized_crop", "ratio", ratio, 1e-6, math.inf)
  return functools.partial(_resized_crop, size, scale, ratio, min_visible)


def _resized_crop(
  size: tuple[int, int],
  scale: tuple[float, float],
  ratio: tuple[float, float],
  min_visible: float,
  example: Example,
  rng: np.random.Generator,
) -> Example:
  height, width = example["image"].shape[:2]
  for _ in range(10):
    area = height * width * rng.uniform(*scale)
    aspect = _log_uniform(rng, ratio)
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      top = int(rng.integers(height - h + 1))
      left = int(rng.integers(width - w + 1))
      break
  else:
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(round(height * aspect), 1))
    h = min(height, max(round(width / aspect), 1))
    top, left = (height - h) // 2, (width - w) // 2
  matrix = axis_matrix((w / size[1], h / size[0]), (left, top))
  return affine_example(example, matrix, size, min_visible=min_visible)


def random_scale_crop(
  size: tuple[int, int],
  *,
  scale: tuple[float, float] = (0.5, 2.0),
  min_visible: float = 0.1,
  fill: float | tuple[float, ...] = 0,
) -> Transform:
  """Resizes by a random factor, keeping the aspect, and cuts or pads.

  At factor 1 the picture just fits into the result. Where the resized picture
  is longer than the result, a random part of it is taken; where it is shorter,
  it is put at a random place and the rest is filled.

  Args:
    size: (height, width) of the result.
    scale: range of the factor, log-uniform.
    min_visible: as `affine_example` takes it.
    fill: value of `image` beside the picture.

  Returns:
    The transform.

  Raises:
    ValueError: on an empty range or one beyond its limits.

  Example:
    >>> from vision_jax.data import random_scale_crop
    >>> example = {"image": np.zeros((30, 40, 3), np.uint8)}
    >>> crop = random_scale_crop((16, 24))
    >>> crop(example, np.random.default_rng(0))["image"].shape
    (16, 24, 3)

  Source:
    G. Ghiasi et al., "Simple copy-paste is a strong data augmentation method
    for instance segmentation", CVPR 2021 (scale jittering).
  """
  _check_range("random_scale_crop", "scale", scale, 1e-6, math.inf)
  return functools.partial(_scale_crop, size, scale, min_visible, fill)


def _scale_crop(
  size: tuple[int, int],
  scale: tuple[float, float],
  min_visible: float,
  fill: float | tuple[float, ...],
  example: Example,
  rng: np.random.Generator,
) -> Example:
  old, canvas = np.array(example["image"].shape[:2]), np.array(size)
  factor = (canvas / old).min() * _log_uniform(rng, scale)
  new = np.maximum(np.rint(old * factor), 1)
  room = canvas - new
  low, high = np.minimum(room, 0), np.maximum(room, 0)
  corner = rng.integers(low.astype(int), high.astype(int), endpoint=True)
  (sy, sx), (oy, ox) = old / new, -old / new * corner
  return affine_example(
    example,
    axis_matrix((sx, sy), (ox, oy)),
    size,
    min_visible=min_visible,
    fill=fill,
  )


def random_affine(
  size: tuple[int, int],
  *,
  angle: float = 30.0,
  scale: tuple[float, float] = (0.75, 1.25),
  shift: float = 0.05,
  shear: float = 0.0,
  min_visible: float = 0.1,
  fill: float | tuple[float, ...] = 0,
) -> Transform:
  """Turns, scales, shears and shifts about the middle.

  Without any of these the picture just fits into the result, in its middle.

  Args:
    size: (height, width) of the result.
    angle: largest turn to either side, degrees, uniform.
    scale: range of the factor, log-uniform.
    shift: largest shift to either side, share of the result's sides, uniform.
    shear: largest angle by which the y axis leans, degrees, uniform.
    min_visible: as `affine_example` takes it.
    fill: value of `image` beside the picture.

  Returns:
    The transform.

  Raises:
    ValueError: on an empty range or one beyond its limits.

  Example:
    >>> from vision_jax.data import random_affine
    >>> example = {"image": np.zeros((30, 40, 3), np.uint8)}
    >>> turn = random_affine((16, 24), angle=90)
    >>> turn(example, np.random.default_rng(0))["image"].shape
    (16, 24, 3)

  Source:
    Interface of this library.
  """
  _check_range("random_affine", "scale", scale, 1e-6, math.inf)
  _check_range("random_affine", "angle", (0, angle), 0, 180)
  _check_range("random_affine", "shift", (0, shift), 0, math.inf)
  _check_range("random_affine", "shear", (0, shear), 0, 80)
  ranges = (angle, scale, shift, shear)
  return functools.partial(_affine, size, ranges, min_visible, fill)


def _affine(
  size: tuple[int, int],
  ranges: tuple[float, tuple[float, float], float, float],
  min_visible: float,
  fill: float | tuple[float, ...],
  example: Example,
  rng: np.random.Generator,
) -> Example:
  angle, scale, shift, shear = ranges
  turn = math.radians(rng.uniform(-angle, angle))
  lean = math.tan(math.radians(rng.uniform(-shear, shear)))
  old, canvas = np.array(example["image"].shape[:2]), np.array(size)
  factor = (canvas / old).min() * _log_uniform(rng, scale)
  cos, sin = math.cos(turn), math.sin(turn)
  push = np.eye(3)
  push[:2, :2] = np.array([[cos, -sin], [sin, cos]]) @ [[1, lean], [0, 1]]
  push[:2, :2] *= factor
  middle_in, middle_out = (0.5 * (s[::-1] - 1.0) for s in (old, canvas))
  push[:2, 2] = middle_out - push[:2, :2] @ middle_in
  push[:2, 2] += rng.uniform(-shift, shift, 2) * canvas[::-1]
  matrix = np.linalg.inv(push)
  matrix[2] = 0, 0, 1
  return affine_example(
    example, matrix, size, min_visible=min_visible, fill=fill
  )


def random_colours(
  *,
  brightness: float = 0.4,
  contrast: float = 0.4,
  saturation: float = 0.4,
  hue: float = 0.1,
) -> Transform:
  """Changes brightness, contrast, saturation and hue of `image`.

  Args:
    brightness: factors are uniform in 1 - brightness to 1 + brightness.
    contrast: the same for the contrast.
    saturation: the same for the saturation.
    hue: turns are uniform in -hue to hue, shares of the full circle.

  Returns:
    The transform.

  Raises:
    ValueError: if one of the first three is not in [0, 1], or `hue` not in
      [0, 0.5].

  Example:
    >>> from vision_jax.data import random_colours
    >>> example = {"image": np.full((1, 1, 3), 100, np.uint8)}
    >>> jitter = random_colours(contrast=0)
    >>> grey = jitter(example, np.random.default_rng(0))["image"]
    >>> bool(60 <= grey.min() <= grey.max() <= 140)
    True

  Source:
    `adjust_colours`; ranges as torchvision's `ColorJitter`.
  """
  spans = (brightness, contrast, saturation)
  names = ("brightness", "contrast", "saturation")
  for name, span in zip(names, spans, strict=True):
    _check_range("random_colours", name, (0, span), 0, 1)
  _check_range("random_colours", "hue", (0, hue), 0, 0.5)
  return functools.partial(_colours, (*spans, hue))


def _colours(
  spans: tuple[float, float, float, float],
  example: Example,
  rng: np.random.Generator,
) -> Example:
  draws = (rng.uniform(-1, 1, 4) * spans).tolist()
  image = adjust_colours(
    example["image"],
    brightness=1 + draws[0],
    contrast=1 + draws[1],
    saturation=1 + draws[2],
    hue=draws[3],
  )
  return {**example, "image": image}


def random_noise(*, sigma: tuple[float, float] = (0.0, 0.04)) -> Transform:
  """Adds white Gaussian noise to `image`, independent in all channels.

  Args:
    sigma: range of the standard deviation, uniform; 1 is the whole range of
      values (255 steps of a uint8 picture).

  Returns:
    The transform.

  Raises:
    ValueError: on an empty range or one beyond [0, 1].

  Example:
    >>> from vision_jax.data import random_noise
    >>> example = {"image": np.full((100, 100, 3), 0.5, np.float32)}
    >>> noise = random_noise(sigma=(0.1, 0.1))
    >>> print(noise(example, np.random.default_rng(0))["image"].std().round(2))
    0.1

  Source:
    Interface of this library.
  """
  _check_range("random_noise", "sigma", sigma, 0, 1)
  return functools.partial(_noise, sigma)


def _noise(
  sigma: tuple[float, float], example: Example, rng: np.random.Generator
) -> Example:
  image = example["image"]
  limit = 255 if image.dtype == np.uint8 else 1
  noise = rng.standard_normal(image.shape, np.float32)
  noise *= np.float32(rng.uniform(*sigma) * limit)
  noisy = np.clip(image + noise, 0, limit)
  if limit == 255:
    np.rint(noisy, out=noisy)
  return {**example, "image": noisy.astype(image.dtype)}


def _log_uniform(
  rng: np.random.Generator, values: tuple[float, float]
) -> float:
  return math.exp(rng.uniform(math.log(values[0]), math.log(values[1])))


def _check_range(
  function: str,
  name: str,
  values: tuple[float, float],
  low: float,
  high: float,
) -> None:
  """Refuses an empty range and one beyond its limits."""
  if not (low <= values[0] <= values[1] <= high):
    raise ValueError(
      f"{function}: `{name}` must be within [{low:g}, {high:g}] and not empty,"
      f" got {values[1] if values[0] == 0 == low else values}."
    )
