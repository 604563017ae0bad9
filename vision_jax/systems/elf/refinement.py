"""Coarse to fine: matches of ELF moved to where shallow features agree.

A detector's peaks are integers, ten pixels apart, and found in each picture by
itself, so even correct matches are a few pixels off. The features that were
matched at a deep layer are aligned again at shallower and shallower ones, as
DFM does with the same kind of network: Efe, Ince, Alatan, "DFM: A Performance
Baseline for Deep Feature Matching", CVPR workshops 2021 (arXiv 2106.07791).
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax import ops
from vision_jax.systems.elf.extraction import (
  check_image,
  check_layers,
  layer_geometry,
)
from vision_jax.systems.elf.settings import ElfConfig, preprocess
from vision_jax.systems.elf.views import warp_picture

__all__ = ["refine_homography", "refine_matches"]

_STEPS = 5  # of least squares at each layer


def _default_layers(module: nn.Module) -> tuple[str, ...]:
  """The last endpoint of each of the strides 8, 4 and 2, deep to shallow."""
  by_stride = {g.stride: name for name, g in layer_geometry(module).items()}
  return tuple(by_stride[s] for s in (8, 4, 2) if s in by_stride)


def _unit_map(features: jax.Array) -> jax.Array:
  """Cells minus the mean cell, with length 1."""
  features = features - features.mean((0, 1), keepdims=True)
  squared = jnp.sum(features**2, -1, keepdims=True)
  return features * jax.lax.rsqrt(jnp.maximum(squared, 1e-12))


def _windows(features: jax.Array, cells: jax.Array, reach: int) -> jax.Array:
  """Features around every cell (x, y) [K, 2]: [K, 2 reach + 1, ..., C]."""
  steps = np.arange(-reach, reach + 1, dtype=np.float32)
  grid = np.stack(np.meshgrid(steps, steps), -1)
  return ops.sample(features, cells[:, None, None] + grid[None], padding="edge")


def _search(map0, map1, cells0, cells1, *, radius: int, patch: int):
  """Moves `cells1` [K, 2] by whole cells to where patches agree best."""
  a = _windows(map0, cells0, patch)
  b = _windows(map1, cells1, patch + radius)
  side = 2 * radius + 1

  def add(scores, offset):
    i, j = offset
    here = lax.dynamic_slice_in_dim(
      lax.dynamic_slice_in_dim(b, i, side, 1), j, side, 2
    )
    return scores + jnp.einsum(
      "kc,kyxc->kyx", a[:, i, j], here, precision="highest"
    ), None

  offsets = np.indices((2 * patch + 1,) * 2).reshape(2, -1).T
  zero = jnp.zeros((len(cells1), side, side))
  scores, _ = lax.scan(add, zero, jnp.asarray(offsets))
  best = jnp.argmax(scores.reshape(len(cells1), -1), -1)
  y, x = jnp.divmod(best, side)
  return cells1 + jnp.stack([x, y], -1) - radius


def _slopes(windows: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Derivatives in x and y; the windows lose a cell on every side."""
  x = (windows[:, 1:-1, 2:] - windows[:, 1:-1, :-2]) / 2
  y = (windows[:, 2:, 1:-1] - windows[:, :-2, 1:-1]) / 2
  return x, y


def _register(map0, map1, cells0, cells1, *, patch: int, steps: int):
  """Moves `cells1` [K, 2] by fractions of a cell: least squares of patches.

  Each step solves b + J d = a for the move d, J the mean slope of both patches
  (Benhimane, Malis, IROS 2004, "efficient second-order minimization").
  """
  a = _windows(map0, cells0, patch + 1)
  slopes_a = _slopes(a)
  a = a[:, 1:-1, 1:-1]

  def step(cells, _):
    b = _windows(map1, cells, patch + 1)
    x, y = ((p + q) / 2 for p, q in zip(slopes_a, _slopes(b), strict=True))
    rest = a - b[:, 1:-1, 1:-1]
    xx, xy, yy, rx, ry = (
      jnp.sum(p * q, (1, 2, 3))
      for p, q in ((x, x), (x, y), (y, y), (x, rest), (y, rest))
    )
    damping = 1e-3 * (xx + yy) + 1e-9
    xx, yy = xx + damping, yy + damping
    move = jnp.stack([yy * rx - xy * ry, xx * ry - xy * rx], -1)
    move = move / (xx * yy - xy**2)[:, None]
    return cells + jnp.clip(move, -0.5, 0.5), None

  moved, _ = lax.scan(step, cells1, length=steps)
  # A patch without structure drifts; it stays where the search left it.
  near = jnp.abs(moved - cells1).max(-1, keepdims=True) <= 1.0
  return jnp.where(near, moved, cells1)


@functools.partial(
  jax.jit, static_argnames=("module", "layers", "radius", "patch", "config")
)
def _refine(
  module, variables, images, xy0, xy1, homography, layers, radius, patch, config
):
  image0, image1 = images
  start = xy1
  if homography is not None:
    # Picture 1 as picture 0 would see it, if the homography were right.
    image1 = warp_picture(image1, homography, image0.shape[:2])
    xy1 = ops.apply_homography(jnp.linalg.inv(homography), xy1)
  maps0, maps1 = (
    module.apply(variables, preprocess(image, config)[None])[1]
    for image in (image0, image1)
  )
  info = layer_geometry(module)
  for name in layers:
    frame = {"stride": info[name].stride, "offset": info[name].offset}
    pair = _unit_map(maps0[name][0]), _unit_map(maps1[name][0])
    cells0, cells1 = (ops.image_to_feature(p, **frame) for p in (xy0, xy1))
    cells1 = _search(*pair, cells0, cells1, radius=radius, patch=patch)
    cells1 = _register(*pair, cells0, cells1, patch=patch, steps=_STEPS)
    xy1 = ops.feature_to_image(cells1, **frame)
  if homography is not None:
    xy1 = ops.apply_homography(homography, xy1)
  return jnp.where(jnp.isfinite(xy1).all(-1, keepdims=True), xy1, start)


def refine_matches(
  module: nn.Module,
  variables: dict,
  image0: jax.Array | np.ndarray,
  image1: jax.Array | np.ndarray,
  keypoints0: ops.Keypoints,
  keypoints1: ops.Keypoints,
  matches: ops.Matches,
  config: ElfConfig | None = None,
  *,
  layers: Sequence[str] | None = None,
  radius: int = 2,
  patch: int = 2,
  homography: jax.Array | np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Moves the points of image 1 to where the features of image 0 agree best.

  For each layer in turn, a patch of features around the point of image 0 is
  compared with those around the point of image 1; the point moves to the best
  cell and from there, by least squares, to a fraction of a cell. Points of
  image 0 stay; identical pictures leave those of image 1 where they are.

  Convention:
    Index frame, (x, y). One pair; batch with vmap.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image0: RGB in [0, 1], float (or uint8) [H, W, 3].
    image1: likewise; it may have another size.
    keypoints0: of image 0.
    keypoints1: of image 1.
    matches: between them, from `match`.
    config: uses the preprocessing; None means the defaults.
    layers: endpoints to align at, deep to shallow; None takes the last of the
      strides 8, 4 and 2, for a VGG ("pool3", "pool2", "pool1").
    radius: how far a point may move at each layer, cells.
    patch: patches have (2 patch + 1)^2 cells.
    homography: [3, 3], image 0 to image 1, if one is known roughly (from
      `ops.estimate_homography`): image 1 is warped by it first, so that
      rotation and scale no longer disturb the comparison.

  Returns:
    Points of image 0 and of image 1, float32 [M, 2] each, in the order of
    `matches`; rows that are not valid are 0.

  Raises:
    ValueError: if a layer is unknown, `radius` or `patch` is out of range, or
      an image is malformed, not finite or not in [0, 1].
    TypeError: if an image is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> k = elf.extract(net, variables, image, elf.SETTINGS["vgg_small"])
    >>> xy0, xy1 = elf.refine_matches(net, variables, image, image, k, k,
    ...                               elf.match(k, k), layers=("pool1",))
    >>> bool(jnp.median(abs(xy0 - xy1)) < 1e-3)
    True

  Source:
    DFM (arXiv 2106.07791), sections 3.2 and 3.3; there a point moves among the
    2 x 2 cells below it, here in a window and to a fraction of a cell.
  """
  image0 = check_image("refine_matches", image0)
  image1 = check_image("refine_matches", image1)
  layers = _default_layers(module) if layers is None else tuple(layers)
  check_layers("refine_matches", module, layers)
  if radius < 1 or patch < 0:
    raise ValueError(
      "refine_matches: `radius` must be at least 1 and `patch` at least 0, "
      f"got {radius} and {patch}."
    )
  xy0 = keypoints0.xy[matches.index0]
  xy1 = keypoints1.xy[matches.index1]
  moved = _refine(
    module,
    variables,
    (image0, image1),
    xy0,
    xy1,
    None if homography is None else jnp.asarray(homography, jnp.float32),
    layers,
    radius,
    patch,
    config or ElfConfig(),
  )
  valid = matches.valid[:, None]
  return jnp.where(valid, xy0, 0.0), jnp.where(valid, moved, 0.0)


def refine_homography(
  module: nn.Module,
  variables: dict,
  image0: jax.Array | np.ndarray,
  image1: jax.Array | np.ndarray,
  keypoints0: ops.Keypoints,
  keypoints1: ops.Keypoints,
  matches: ops.Matches,
  config: ElfConfig | None = None,
  *,
  layers: Sequence[str] | None = None,
  threshold: float = 3.0,
) -> tuple[jax.Array, jax.Array, ops.HomographyEstimate | None]:
  """Refines the matches of a plane, and the homography between them, in turn.

  `refine_matches` as the pictures are; a homography by RANSAC; once more with
  image 1 seen through it; the homography again. For planar scenes and turning
  cameras. Not jitted as a whole: RANSAC runs on the CPU.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image0: RGB in [0, 1], float (or uint8) [H, W, 3].
    image1: likewise; it may have another size.
    keypoints0: of image 0.
    keypoints1: of image 1.
    matches: between them, from `match`.
    config: uses the preprocessing; None means the defaults.
    layers: as in `refine_matches`.
    threshold: of RANSAC, pixels.

  Returns:
    Points of image 0 and of image 1, as from `refine_matches`, and the
    homography; None, with the points of the first pass, if RANSAC found none.

  Raises:
    ValueError: as `refine_matches`.
    TypeError: as `refine_matches`.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((96, 80, 3), np.float32)
    >>> k = elf.extract(net, variables, image, elf.SETTINGS["vgg_small"])
    >>> _, _, estimate = elf.refine_homography(
    ...     net, variables, image, image, k, k, elf.match(k, k),
    ...     layers=("pool1",))
    >>> print(abs(estimate.matrix - np.eye(3)).max() < 0.1)
    True

  Source:
    DFM (arXiv 2106.07791), section 3.1, which estimates the homography first
    and matches the warped picture.
  """
  refine = functools.partial(
    refine_matches,
    module,
    variables,
    image0,
    image1,
    keypoints0,
    keypoints1,
    matches,
    config,
    layers=layers,
  )

  def estimate(points):
    xy0, xy1 = (np.asarray(p) for p in points)
    if int(matches.valid.sum()) < 4:
      return None
    found = ops.estimate_homography(
      xy0, xy1, valid=np.asarray(matches.valid), threshold=threshold
    )
    return found if found.success else None

  points = refine()
  rough = estimate(points)
  if rough is None:
    return *points, None
  again = refine(homography=rough.matrix)
  fine = estimate(again)
  return (*points, rough) if fine is None else (*again, fine)
