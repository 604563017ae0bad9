"""Rotation and zoom: descriptors of a picture as it looks turned and resized.

ELF's descriptor is upright and has one scale, its published weakness (matching
score 0.06 at 90 degrees, 0.26 at zoom 2). The key points of one picture are
therefore described in several views of it, and the view that resembles the
other picture most is used for all of them: two pictures of a scene differ, to
a first approximation, by one rotation and one zoom. Or each point is described
in the view that fits its own scale, which needs no other picture.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.nn import EndpointInfo
from vision_jax.systems.elf.extraction import (
  check_image,
  check_layers,
  read_descriptors,
)
from vision_jax.systems.elf.settings import ElfConfig, preprocess

__all__ = [
  "choose_view",
  "describe_at_scale",
  "describe_views",
  "keypoint_scales",
  "view_matrix",
]


def view_matrix(
  size: tuple[int, int], rotation: float, scale: float
) -> tuple[np.ndarray, tuple[int, int]]:
  """Homography from a picture to its view, and the size of the view.

  The picture is resized by `scale` and turned about its centre on a canvas
  that holds it whole.

  Convention:
    Index frame, (x, y); a positive rotation turns x towards y (clockwise as
    seen, y pointing down).

  Args:
    size: (height, width) of the picture, pixels.
    rotation: degrees.
    scale: magnification.

  Returns:
    Matrix float64 [3, 3] and (height, width) of the view.

  Raises:
    ValueError: if `scale` is not positive or leaves no pixel.

  Example:
    >>> from vision_jax.systems import elf
    >>> matrix, size = elf.view_matrix((10, 20), 90.0, 1.0)
    >>> print(size, (matrix @ [0, 0, 1]).round(6))
    (20, 10) [9. 0. 1.]

  Source:
    Definition.
  """
  height, width = (round(n * scale) for n in size)
  if not scale > 0 or min(height, width) < 1:
    raise ValueError(
      "view_matrix: `scale` must be positive and leave a pixel of "
      f"{size[0]} x {size[1]}, got {scale}."
    )
  angle = math.radians(rotation)
  c, s = round(math.cos(angle), 12), round(math.sin(angle), 12)
  high = math.ceil(round(abs(c) * height + abs(s) * width, 6))
  wide = math.ceil(round(abs(s) * height + abs(c) * width, 6))
  turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
  to_centre, from_centre = np.eye(3), np.eye(3)
  to_centre[:2, 2] = (1 - width) / 2, (1 - height) / 2
  from_centre[:2, 2] = (wide - 1) / 2, (high - 1) / 2
  shrink = ops.resize_matrix(size, (height, width))
  return from_centre @ turn @ to_centre @ shrink, (high, wide)


def pixel_grid(size: tuple[int, int]) -> jax.Array:
  """The places (x, y) of all pixels, [H, W, 2]."""
  height, width = size
  return jnp.stack(
    jnp.meshgrid(jnp.arange(width * 1.0), jnp.arange(height * 1.0)), -1
  )


def enlarge_map(
  features: jax.Array, geometry: EndpointInfo, size: tuple[int, int]
) -> jax.Array:
  """A feature map [h, w, C] read at every pixel of the picture, [H, W, C]."""
  cells = ops.image_to_feature(
    pixel_grid(size), stride=geometry.stride, offset=geometry.offset
  )
  return ops.sample(features, cells, padding="edge")


def warp_picture(
  image: jax.Array, matrix: jax.Array, size: tuple[int, int]
) -> jax.Array:
  """The picture whose pixel p is `image` at the place `matrix` sends p to."""
  grid = pixel_grid(size)
  places = ops.apply_homography(matrix, grid.reshape(-1, 2))
  return ops.sample(image, places.reshape(grid.shape), padding="edge")


def _view(image: jax.Array, rotation: float, scale: float):
  """The picture turned and resized, and the matrix to it."""
  size = image.shape[0], image.shape[1]
  matrix, canvas = view_matrix(size, rotation, scale)
  small = round(size[0] * scale), round(size[1] * scale)
  if small != size:
    image = ops.resize(image, small, antialias=True)
  if rotation % 360 == 0:
    return image, matrix
  inverse = ops.resize_matrix(size, small) @ np.linalg.inv(matrix)
  back = jnp.asarray(inverse, jnp.float32)
  return warp_picture(image, back, canvas), matrix


@functools.partial(
  jax.jit, static_argnames=("module", "config", "rotations", "scales")
)
def _describe_views(module, variables, image, xy, config, rotations, scales):
  views = []
  for scale in scales:
    for rotation in rotations:
      view, matrix = _view(image, rotation, scale)
      x = preprocess(view, config)
      moved = ops.apply_homography(jnp.asarray(matrix, xy.dtype), xy)
      views.append(read_descriptors(module, variables, x, moved, config))
  return jnp.stack(views)


def describe_views(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  keypoints: ops.Keypoints,
  config: ElfConfig | None = None,
  *,
  rotations: Sequence[float] = (0.0,),
  scales: Sequence[float] = (1.0,),
) -> jax.Array:
  """Descriptors of key points in turned and resized views of their picture.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3].
    keypoints: of the image, from `extract`.
    config: settings; None means the defaults.
    rotations: degrees, clockwise as seen.
    scales: magnifications.

  Returns:
    Descriptors [V, K, D], V = len(scales) len(rotations), rotations running
    fastest; 0 where a key point is not valid.

  Raises:
    ValueError: if a layer is unknown, a scale is not positive, or `image` is
      malformed, not finite or not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> config = elf.ElfConfig(max_keypoints=9)
    >>> k = elf.extract(net, variables, image, config)
    >>> elf.describe_views(net, variables, image, k, config,
    ...                    rotations=(0, 90)).shape
    (2, 9, 128)

  Source:
    Benbihi et al., ELF (arXiv 1907.03261), section 3 for one view.
  """
  image = check_image("describe_views", image)
  config = config or ElfConfig()
  check_layers("describe_views", module, config.descriptor_layers)
  views = _describe_views(
    module,
    variables,
    image,
    keypoints.xy,
    config,
    tuple(float(r) for r in rotations),
    tuple(float(s) for s in scales),
  )
  return jnp.where(keypoints.valid[:, None], views, 0.0)


@jax.jit
def choose_view(
  keypoints: ops.Keypoints, views: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The view in which the other picture's points look most alike.

  The score of a view is the mean similarity of the pairs that are each
  other's nearest, times their number.

  Args:
    keypoints: of the other picture, with descriptors [K0, D].
    views: descriptors in every view [V, K1, D], from `describe_views`.
    valid: bool [K1], which of the points described exist.

  Returns:
    Number of the best view, int32, and its descriptors [K1, D].

  Example:
    >>> from vision_jax import ops
    >>> from vision_jax.systems import elf
    >>> k = ops.Keypoints(jnp.zeros((2, 2)), jnp.ones(2), jnp.ones(2, bool),
    ...                   jnp.eye(2))
    >>> views = jnp.stack([-jnp.eye(2), jnp.eye(2)])
    >>> int(elf.choose_view(k, views, k.valid)[0])
    1

  Source:
    Voting for one similarity of the whole picture, as generalised Hough
    voting does for objects: Lowe, IJCV 2004, section 7.3.
  """

  def score(descriptors):
    table = ops.similarity(
      keypoints.descriptors, descriptors, valid0=keypoints.valid, valid1=valid
    )
    return ops.match_mutual(table).scores.sum()

  best = jnp.argmax(jax.vmap(score)(views)).astype(jnp.int32)
  return best, views[best]


def keypoint_scales(
  saliency_map: jax.Array,
  keypoints: ops.Keypoints,
  config: ElfConfig | None = None,
  *,
  sigma: float = 1.6,
  intervals: int = 3,
  octaves: int = 3,
) -> jax.Array:
  """The scale of each key point: where a map stands out most around it.

  The largest absolute difference of Gaussians of the denoised map, over
  scales, within one pixel of the point. The width of a saliency peak is that of
  the network's own filters more than that of the scene; the grey picture
  follows a zoom better (experiments/elf).

  Args:
    saliency_map: of the layer that detected, or the picture, [H, W, C].
    keypoints: detected there.
    config: uses `denoise_blur`; None means the defaults.
    sigma: the finest scale, pixels.
    intervals: scales for each octave.
    octaves: how far the search goes.

  Returns:
    Scales float32 [K], pixels.

  Raises:
    ValueError: if the map is not [H, W, C].

  Example:
    >>> from vision_jax import ops
    >>> from vision_jax.systems import elf
    >>> x = jnp.arange(-40.0, 41.0)
    >>> blob = jnp.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 6.0**2))
    >>> k = ops.Keypoints(jnp.array([[40.0, 40.0]]), jnp.ones(1),
    ...                   jnp.ones(1, bool), None)
    >>> scale = elf.keypoint_scales(blob[..., None], k)
    >>> bool(5.0 < scale[0] < 8.0)
    True

  Source:
    Lowe, IJCV 2004, section 3, on a saliency map.
  """
  if saliency_map.ndim != 3:
    raise ValueError(
      "keypoint_scales: `saliency_map` must be [H, W, C], got "
      f"{saliency_map.shape}."
    )
  return _keypoint_scales(
    saliency_map,
    keypoints.xy,
    (config or ElfConfig()).denoise_blur,
    sigma,
    intervals,
    octaves,
  )


@functools.partial(
  jax.jit, static_argnames=("blur", "sigma", "intervals", "octaves")
)
def _keypoint_scales(saliency_map, xy, blur, sigma, intervals, octaves):
  gray = ops.gaussian_blur(saliency_map.mean(-1), size=blur[0], sigma=blur[1])
  stack, scales = ops.difference_of_gaussians(
    gray, sigma=sigma, intervals=intervals, octaves=octaves
  )
  strength = jax.lax.reduce_window(
    jnp.abs(stack), -jnp.inf, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME"
  )
  column, row = jnp.round(xy).astype(jnp.int32).T
  best = jnp.argmax(strength[:, row, column], 0)
  # G(k s) - G(s) answers strongest to a blob of s sqrt(k).
  return scales[best] * 2.0 ** (0.5 / intervals)


def describe_at_scale(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  keypoints: ops.Keypoints,
  config: ElfConfig | None = None,
  *,
  reference: float = 3.2,
  levels: Sequence[float] = (1.0, 0.79, 0.63, 0.5, 0.4, 0.31),
) -> ops.Keypoints:
  """Key points described at the level of a pyramid that fits their scale.

  A point of scale s is read in the level nearest to reference / s (in ratio),
  so that a zoomed picture is described as the picture is.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3].
    keypoints: with `scale`, from `keypoint_scales`.
    config: settings; None means the defaults.
    reference: scale that is described in the picture itself, pixels.
    levels: magnifications of the pyramid.

  Returns:
    The key points with other descriptors.

  Raises:
    ValueError: if the key points have no scale, a layer is unknown, or `image`
      is malformed, not finite or not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((96, 80, 3), np.float32)
    >>> config = elf.ElfConfig(max_keypoints=9)
    >>> k = elf.extract(net, variables, image, config)
    >>> k = k._replace(scale=jnp.full(9, 6.4))
    >>> elf.describe_at_scale(net, variables, image, k, config,
    ...                       levels=(1.0, 0.5)).descriptors.shape
    (9, 128)

  Source:
    Lowe, IJCV 2004, section 6 (a key point is described in the image of its
    scale).
  """
  if keypoints.scale is None:
    raise ValueError(
      "describe_at_scale: `keypoints` must have a scale, got None; see "
      "`keypoint_scales`."
    )
  views = describe_views(
    module, variables, image, keypoints, config, scales=levels
  )
  wanted = jnp.log(reference / jnp.maximum(keypoints.scale, 1e-6))
  distance = jnp.abs(wanted[None] - jnp.log(jnp.asarray(levels))[:, None])
  nearest = jnp.argmin(distance, 0)
  chosen = jnp.take_along_axis(views, nearest[None, :, None], 0)[0]
  return keypoints._replace(descriptors=chosen)
