"""From an image to ELF key points, and their matches; section 3 of the paper.

The steps are the functions of this file: `saliency`, `detect`, `describe`;
`extract` chains them, `match` compares.
"""

import functools
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.nn import endpoint_info
from vision_jax.systems.elf.settings import ElfConfig, preprocess

__all__ = ["describe", "detect", "extract", "match", "saliency"]


def detect(
  saliency_map: jax.Array,
  config: ElfConfig,
  *,
  region: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Key points of a saliency map.

  Mean over channels, division by the maximum, blur, Kapur threshold (of a
  second blur), greedy non-maximum suppression, border, K best.

  Convention:
    Index frame, (x, y), integer positions. One map; batch with vmap.

  Args:
    saliency_map: non-negative, float [H, W, C].
    config: the detector's settings.
    region: bool [H, W]; points are taken only where it is True.

  Returns:
    xy float32 [K, 2], scores [K] in [0, 1] and valid bool [K]. A map that is
    zero everywhere, or not finite, has no key points.

  Raises:
    ValueError: if the map is not [H, W, C] or is smaller than the border and
      the blurs allow.

  Example:
    >>> from vision_jax.systems import elf
    >>> spot = jnp.zeros((48, 64, 3)).at[20, 30].set(1.0)
    >>> xy, scores, valid = elf.detect(spot, elf.ElfConfig(max_keypoints=4))
    >>> print(xy[0], valid)
    [30. 20.] [ True False False False]

  Source:
    ELF, sec. 3; order of the steps and 8-bit rounding: authors' code.
  """
  if saliency_map.ndim != 3:
    raise ValueError(
      f"detect: `saliency_map` must be [H, W, C], got {saliency_map.shape}."
    )
  height, width = saliency_map.shape[:2]
  _check_size("detect", "saliency_map", height, width, config)
  return _detect(saliency_map, config, region)


@functools.partial(jax.jit, static_argnames="config")
def _detect(saliency_map, config, region):
  height, width = saliency_map.shape[:2]
  gray = saliency_map.mean(-1)
  peak = gray.max()
  usable = (peak > 0) & jnp.isfinite(peak)
  gray = jnp.where(usable, gray / jnp.where(usable, peak, 1.0), 0.0)
  (k_noise, s_noise), (k_thr, s_thr) = (
    config.denoise_blur,
    config.threshold_blur,
  )
  if config.quantize:
    levels = jnp.floor(255 * gray)
    smooth = jnp.round(ops.gaussian_blur(levels, size=k_noise, sigma=s_noise))
    coarse = jnp.round(ops.gaussian_blur(levels, size=k_thr, sigma=s_thr))
    smooth = smooth / 255
  else:
    smooth = ops.gaussian_blur(gray, size=k_noise, sigma=s_noise)
    coarse = 255 * ops.gaussian_blur(gray, size=k_thr, sigma=s_thr)
  threshold = jnp.zeros((), smooth.dtype)
  if config.threshold == "kapur":
    bins = jnp.clip(jnp.floor(coarse), 0, 255).astype(jnp.int32)
    threshold = ops.kapur_threshold(ops.histogram(bins)) / 255
  candidates = smooth > threshold
  if region is not None:
    candidates = candidates & region
  kept = ops.suppress_points(smooth, candidates, radius=config.radius)
  inside = np.zeros((height, width), bool)
  b = config.border
  inside[b : height - b, b : width - b] = True
  return ops.top_points(
    smooth,
    kept & inside,
    num_points=config.max_keypoints,
    radius=config.radius,
  )


def describe(
  features: Sequence[jax.Array],
  xy: jax.Array,
  *,
  strides: Sequence[int],
  offsets: Sequence[float],
  image_size: tuple[int, int],
  config: ElfConfig,
) -> jax.Array:
  """Descriptors: feature maps read at the key points, L2-normalised.

  Convention:
    Points in the index frame of the image; cell u of a map looks at pixel
    x = stride u + offset.

  Args:
    features: maps [h, w, C_l] of one image.
    xy: key points [K, 2].
    strides: input pixels per cell of each map.
    offsets: image position of cell 0 of each map.
    image_size: (height, width) of the image.
    config: uses `sampling` and `center`.

  Returns:
    Unit vectors [K, sum of C_l]; every map has the same weight.

  Example:
    >>> from vision_jax.systems import elf
    >>> maps = [jnp.ones((4, 4, 8))]
    >>> d = elf.describe(maps, jnp.zeros((2, 2)), strides=[4], offsets=[1.5],
    ...                  image_size=(16, 16), config=elf.ElfConfig())
    >>> d.shape, round(float(jnp.linalg.norm(d[0])), 3)
    ((2, 8), 1.0)

  Source:
    ELF, sec. 3. "paper" sampling: u = x / W (w - 1), authors' code.
  """
  parts = []
  for values, stride, offset in zip(features, strides, offsets, strict=True):
    cells = np.array([values.shape[1], values.shape[0]], np.float32)
    if config.sampling == "paper":
      size = np.array([image_size[1], image_size[0]], np.float32)
      position = xy * ((cells - 1) / size)[None]
    else:
      position = ops.image_to_feature(xy, stride=stride, offset=offset)
    if config.center:
      values = values - values.mean((0, 1), keepdims=True)
    parts.append(_normalize(ops.sample(values, position, padding="edge")))
  return jnp.concatenate(parts, -1) / np.sqrt(np.float32(len(parts)))


def read_descriptors(
  module: nn.Module,
  variables: dict,
  x: jax.Array,
  xy: jax.Array,
  config: ElfConfig,
) -> jax.Array:
  """Descriptors [K, D] of points of a network input [H, W, 3]."""
  info = layer_geometry(module)
  geometry = [info[name] for name in config.descriptor_layers]
  _, endpoints = module.apply(variables, x[None])
  return describe(
    [endpoints[name][0] for name in config.descriptor_layers],
    xy,
    strides=[g.stride for g in geometry],
    offsets=[g.offset for g in geometry],
    image_size=(x.shape[0], x.shape[1]),
    config=config,
  )


def _normalize(x: jax.Array) -> jax.Array:
  """Unit rows; the square is bounded below so that zero rows stay finite."""
  squared = jnp.sum(x * x, -1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def _check_size(
  function: str, argument: str, height: int, width: int, config: ElfConfig
) -> None:
  """Raises if an image is too small for the border and the blurs."""
  taps = max(config.denoise_blur[0], config.threshold_blur[0])
  least = max(2 * config.border + 1, taps // 2 + 1)
  if min(height, width) < least:
    raise ValueError(
      f"{function}: `{argument}` must be at least {least} pixels high and "
      f"wide for a border of {config.border}, got {height} x {width}; "
      "enlarge the image or lower `border`."
    )


def check_image(function: str, image: jax.Array | np.ndarray) -> jax.Array:
  """Float RGB in [0, 1]; integer images are scaled, bad values refused."""
  if image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
    raise ValueError(
      f"{function}: `image` must be [H, W, 3] or [B, H, W, 3] and not "
      f"empty, got shape {image.shape}."
    )
  if image.dtype == np.uint8:
    return jnp.asarray(image, jnp.float32) / 255
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f"{function}: `image` must be float in [0, 1] or uint8, got "
      f"{image.dtype}."
    )
  if not isinstance(image, jax.core.Tracer):
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
      raise ValueError(f"{function}: `image` must be finite, got NaN or Inf.")
    if low < -0.5 or high > 1.5:
      raise ValueError(
        f"{function}: `image` must be in [0, 1], got values from {low:.3g} "
        f"to {high:.3g}; divide by 255?"
      )
  return jnp.asarray(image)


# The network is followed once, not at every call.
layer_geometry = functools.lru_cache(maxsize=64)(endpoint_info)


def check_layers(
  function: str, module: nn.Module, wanted: Sequence[str]
) -> dict:
  """Geometry of the endpoints; names the known ones if any is missing."""
  info = layer_geometry(module)
  unknown = [name for name in wanted if name not in info]
  if unknown:
    raise ValueError(
      f"{function}: layers must be endpoints of {type(module).__name__}, "
      f"got {unknown}; known: {', '.join(info)}."
    )
  return info


@functools.partial(jax.jit, static_argnames=("module", "layers", "config"))
def _saliency(module, variables, image, layers, config):
  def features(x):
    _, endpoints = module.apply(variables, x[None])
    return {name: endpoints[name][0] for name in layers}

  def one(single):
    return ops.saliency(features, preprocess(single, config))

  return one(image) if image.ndim == 3 else jax.vmap(one)(image)


def saliency(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  layers: str | Sequence[str],
  config: ElfConfig | None = None,
) -> dict[str, jax.Array]:
  r"""Saliency of several layers in one jitted call.

  :math:`|F^T \partial F / \partial I|` for each layer F; the derivative is
  with respect to the normalised image.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3] or [B, H, W, 3].
    layers: names of endpoints.
    config: uses the preprocessing; None means the defaults.

  Returns:
    Name -> saliency, float32, shape of `image`.

  Raises:
    ValueError: if a layer is unknown, or `image` is malformed, not finite or
      not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    >>> maps = elf.saliency(net, variables, image, ["pool1", "pool2"])
    >>> maps["pool2"].shape
    (32, 48, 3)

  Source:
    ELF, eq. 1.
  """
  image = check_image("saliency", image)
  names = (layers,) if isinstance(layers, str) else tuple(layers)
  check_layers("saliency", module, names)
  return _saliency(module, variables, image, names, config or ElfConfig())


@functools.partial(jax.jit, static_argnames=("module", "config"))
def _extract(module, variables, image, config, region):
  def features(x):
    return module.apply(variables, x[None])[1][config.saliency_layer][0]

  def one(single, region):
    x = preprocess(single, config)
    # Both calls run the same layers; the compiler merges the forward passes.
    gradient = ops.saliency(features, x)
    xy, scores, valid = detect(gradient, config, region=region)
    descriptors = read_descriptors(module, variables, x, xy, config)
    descriptors = jnp.where(valid[:, None], descriptors, 0.0)
    return ops.Keypoints(xy, scores, valid, descriptors)

  if image.ndim == 3:
    return one(image, region)
  return jax.vmap(one, in_axes=(0, None if region is None else 0))(
    image, region
  )


def extract(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  config: ElfConfig | None = None,
  *,
  region: jax.Array | None = None,
) -> ops.Keypoints:
  """Detects and describes the key points of one image or a batch.

  Jitted: one compilation for each image size, network and configuration.

  Convention:
    Index frame, (x, y): the centre of the first pixel is (0, 0).

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3] or [B, H, W, 3].
    config: settings, for example `SETTINGS["vgg16"]`; None means the
      defaults.
    region: bool [H, W] (or [B, H, W]); points are taken only where True.

  Returns:
    `Keypoints` of `config.max_keypoints` rows (with a leading B for a batch),
    best first. Rows with `valid` False are padding and 0. A constant image
    has no valid row.

  Raises:
    ValueError: if a layer is unknown, or `image` is malformed, too small, not
      finite or not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> k = elf.extract(net, variables, image, elf.SETTINGS["vgg_small"])
    >>> k.xy.shape, k.descriptors.shape
    ((500, 2), (500, 192))

  Source:
    ELF (arXiv 1907.03261), sec. 3.
  """
  image = check_image("extract", image)
  config = config or ElfConfig()
  height, width = image.shape[-3:-1]
  _check_size("extract", "image", height, width, config)
  wanted = (config.saliency_layer, *config.descriptor_layers)
  check_layers("extract", module, wanted)
  return _extract(module, variables, image, config, region)


@functools.partial(jax.jit, static_argnames=("mode", "ratio", "max_distance"))
def _match(keypoints0, keypoints1, mode, ratio, max_distance):
  def one(a, b):
    table = ops.similarity(
      a.descriptors, b.descriptors, valid0=a.valid, valid1=b.valid
    )
    if mode == "dual_softmax":
      return ops.match_dual_softmax(table)
    if mode == "greedy":
      return ops.match_greedy(2 - 2 * table, valid0=a.valid, valid1=b.valid)
    function = ops.match_mutual if mode == "mutual" else ops.match_one_way
    return function(table, ratio=ratio, max_distance=max_distance)

  batched = keypoints0.xy.ndim == 3
  return (jax.vmap(one) if batched else one)(keypoints0, keypoints1)


def match(
  keypoints0: ops.Keypoints,
  keypoints1: ops.Keypoints,
  *,
  mode: Literal["mutual", "one_way", "dual_softmax", "greedy"] = "mutual",
  ratio: float | None = None,
  max_distance: float | None = None,
) -> ops.Matches:
  """Matches the descriptors of two images, or of two batches, pair by pair.

  Args:
    keypoints0: from image 0; descriptors [K0, D] or [B, K0, D].
    keypoints1: from image 1; descriptors [K1, D] or [B, K1, D].
    mode: "mutual" (each is the other's nearest), "one_way", "dual_softmax" or
      "greedy" (globally cheapest pairs first).
    ratio: Lowe's ratio, for "mutual" and "one_way".
    max_distance: largest L2 distance, for "mutual" and "one_way".

  Returns:
    `Matches` of K0 rows; row i is about key point i of image 0.

  Raises:
    ValueError: if `mode` is unknown, does not take the limits given, or the
      descriptors differ in length or batch.

  Example:
    >>> from vision_jax import ops
    >>> from vision_jax.systems import elf
    >>> k = ops.Keypoints(jnp.zeros((2, 2)), jnp.ones(2), jnp.ones(2, bool),
    ...                   jnp.eye(2))
    >>> print(elf.match(k, k).index1)
    [0 1]

  Source:
    ELF, sec. 4 (mutual nearest neighbours).
  """
  modes = ("mutual", "one_way", "dual_softmax", "greedy")
  if mode not in modes:
    raise ValueError(f"match: `mode` must be one of {modes}, got {mode!r}.")
  if mode in modes[2:] and not (ratio is None and max_distance is None):
    raise ValueError(
      f"match: `ratio` and `max_distance` must be None for mode {mode!r}; use "
      "mode 'mutual' or 'one_way'."
    )
  shapes = keypoints0.descriptors.shape, keypoints1.descriptors.shape
  if shapes[0][-1] != shapes[1][-1] or shapes[0][:-2] != shapes[1][:-2]:
    raise ValueError(
      "match: `keypoints1` must have descriptors of the length and batch of "
      f"`keypoints0`, {shapes[0]}, got {shapes[1]}; were they made by the same "
      "network and settings?"
    )
  return _match(keypoints0, keypoints1, mode, ratio, max_distance)
