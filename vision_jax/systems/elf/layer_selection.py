"""Which layer's saliency? Chosen by scale space, or by warping pictures.

The paper picks, by eye, the highest layer whose saliency still localises. Two
rules replace the eye: the scale at which a layer's energy varies most (deeper
layers vary at larger scales), and how well the detector finds its own points
again in warped copies of a picture. Neither needs labels.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.systems.elf.extraction import (
  check_image,
  check_layers,
  detect,
  layer_geometry,
)
from vision_jax.systems.elf.settings import ElfConfig, preprocess
from vision_jax.systems.elf.views import enlarge_map, warp_picture

__all__ = [
  "LayerChoice",
  "energy_scales",
  "select_layer",
  "self_repeatability",
]

_SIGMAS = tuple(float(s) for s in np.geomspace(0.7, 12.0, 18))
_NUM_PEAKS = 100


class LayerChoice(NamedTuple):
  """The answer of `select_layer`.

  Attributes:
    layer: the endpoint chosen.
    values: for each candidate the number that decided: a scale in pixels, or
      a repeatability.
    saturated: candidates whose scale is that of the end of the search, so that
      the true one may be larger.
  """

  layer: str
  values: dict[str, float]
  saturated: tuple[str, ...] = ()


def _energy_profile(energy: jax.Array) -> jax.Array:
  """Mean of the strongest blob responses of a map [H, W] at every scale."""

  def strength(sigma):
    response = jnp.abs(ops.laplacian_of_gaussian(energy, sigma=sigma))
    around = jax.lax.reduce_window(
      response, -jnp.inf, jax.lax.max, (3, 3), (1, 1), "SAME"
    )
    peaks = jnp.where(response >= around, response, 0.0)
    return jax.lax.top_k(peaks.reshape(-1), _NUM_PEAKS)[0].mean()

  return jnp.stack([strength(sigma) for sigma in _SIGMAS])


@functools.partial(jax.jit, static_argnames=("module", "layers", "config"))
def _energy_scales(module, variables, image, layers, config):
  info = layer_geometry(module)
  _, endpoints = module.apply(variables, preprocess(image, config)[None])
  best = []
  for name in layers:
    energy = jnp.linalg.norm(endpoints[name][0], axis=-1, keepdims=True)
    whole = enlarge_map(energy, info[name], image.shape[:2])[..., 0]
    profile = _energy_profile(whole / (whole.std() + 1e-12))
    best.append(jnp.argmax(profile))
  return jnp.asarray(_SIGMAS, jnp.float32)[jnp.stack(best)]


def energy_scales(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  layers: Sequence[str],
  config: ElfConfig | None = None,
) -> jax.Array:
  r"""Scale at which the energy of each layer varies most.

  The energy is the length of the feature vector, brought to the picture's
  size and divided by its deviation; the scale is the :math:`\sigma` of the
  largest mean of the 100 strongest maxima of :math:`\sigma^2 |\nabla^2 G_\sigma
  * E|`, among 18 from 0.7 to 12 pixels.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3].
    layers: names of endpoints, [L].
    config: uses the preprocessing; None means the defaults.

  Returns:
    Scales float32 [L], pixels of the image.

  Raises:
    ValueError: if a layer is unknown, or `image` is malformed, not finite or
      not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> elf.energy_scales(net, variables, image, ["pool1"]).shape
    (1,)

  Source:
    Lindeberg, "Feature Detection with Automatic Scale Selection", IJCV 1998,
    applied to the energy of feature maps.
  """
  image = check_image("energy_scales", image)
  check_layers("energy_scales", module, layers)
  return _energy_scales(
    module, variables, image, tuple(layers), config or ElfConfig()
  )


@functools.partial(jax.jit, static_argnames=("count", "size"))
def _random_matrices(seed: int, count: int, size: tuple[int, int]):
  """Homographies about the centre: 15 degrees, 0.8 to 1.25, corners 10 %."""
  height, width = size
  keys = jax.random.split(jax.random.key(seed), 3)
  angle = jnp.deg2rad(
    jax.random.uniform(keys[0], (count,), minval=-15.0, maxval=15.0)
  )
  zoom = 1.25 ** jax.random.uniform(keys[1], (count,), minval=-1.0, maxval=1.0)
  jitter = jax.random.uniform(keys[2], (count, 4, 2), minval=-0.1, maxval=0.1)
  corners = jnp.array(
    [[0.0, 0.0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
  )
  centre = corners.mean(0)[None]
  side = jnp.array([[width, height]], jnp.float32)
  c, s = zoom * jnp.cos(angle), zoom * jnp.sin(angle)
  turn = jnp.stack([jnp.stack([c, -s], -1), jnp.stack([s, c], -1)], -2)
  moved = (corners - centre)[None] + jitter * side[None]
  moved = jnp.einsum("nij,nkj->nki", turn, moved) + centre[None]
  return jax.vmap(lambda m: ops.homography_from_points(corners, m))(moved)


@functools.partial(
  jax.jit, static_argnames=("module", "layers", "config", "threshold")
)
def _self_repeatability(
  module, variables, image, matrices, layers, config, threshold
):
  height, width = image.shape[:2]

  def points(picture):
    def features(x):
      _, endpoints = module.apply(variables, x[None])
      return {name: endpoints[name][0] for name in layers}

    maps = ops.saliency(features, preprocess(picture, config))
    return {name: detect(maps[name], config) for name in layers}

  first = points(image)
  size = jnp.array([[width - 0.5, height - 0.5]])

  def inside(xy):
    return ((xy >= -0.5) & (xy < size)).all(-1)

  def shares(matrix):
    inverse = jnp.linalg.inv(matrix)
    second = points(warp_picture(image, inverse, (height, width)))
    out = []
    for name in layers:
      (xy0, _, valid0), (xy1, _, valid1) = first[name], second[name]
      warped = ops.apply_homography(matrix, xy0)
      seen0 = valid0 & inside(warped)
      seen1 = valid1 & inside(ops.apply_homography(inverse, xy1))
      squared = ((warped[:, None] - xy1[None]) ** 2).sum(-1)
      near = (squared <= threshold**2) & seen0[:, None] & seen1[None]
      # Points are farther apart than twice the threshold: one near, or none.
      count = jnp.maximum(jnp.minimum(seen0.sum(), seen1.sum()), 1)
      out.append(near.any(1).sum() / count)
    return jnp.stack(out)

  return jax.lax.map(shares, matrices).mean(0)


def self_repeatability(
  module: nn.Module,
  variables: dict,
  image: jax.Array | np.ndarray,
  layers: Sequence[str],
  config: ElfConfig | None = None,
  *,
  seed: int = 0,
  num_warps: int = 10,
  threshold: float = 3.0,
) -> jax.Array:
  """How many of its own points the detector finds in warped copies.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    image: RGB in [0, 1], float (or uint8) [H, W, 3].
    layers: names of endpoints, [L].
    config: the detector's settings; None means the defaults.
    seed: of the random homographies (rotation up to 15 degrees, scale 0.8 to
      1.25, corners moved by up to 10 % of the sides).
    num_warps: copies.
    threshold: largest distance of a point found again, pixels; less than half
      the suppression radius.

  Returns:
    Mean repeatability of each layer, float32 [L].

  Raises:
    ValueError: if a layer is unknown, `threshold` is too large, or `image` is
      malformed, not finite or not in [0, 1].
    TypeError: if `image` is neither float nor uint8.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> shares = elf.self_repeatability(net, variables, image, ["pool1"],
    ...                                 num_warps=2)
    >>> bool((shares >= 0).all() and (shares <= 1).all())
    True

  Source:
    The repeatability of Mikolajczyk et al., IJCV 2005, on homographies drawn
    as for SuperPoint (DeTone et al., arXiv 1712.07629, section 5.2).
  """
  image = check_image("self_repeatability", image)
  check_layers("self_repeatability", module, layers)
  config = config or ElfConfig()
  if not 0 < 2 * threshold < config.radius:
    raise ValueError(
      "self_repeatability: `threshold` must be positive and less than half "
      f"the radius of suppression, {config.radius}, got {threshold}."
    )
  height, width = image.shape[:2]
  matrices = _random_matrices(seed, num_warps, (height, width))
  return _self_repeatability(
    module, variables, image, matrices, tuple(layers), config, threshold
  )


def select_layer(
  module: nn.Module,
  variables: dict,
  images: Iterable[jax.Array | np.ndarray],
  layers: Sequence[str],
  config: ElfConfig | None = None,
  *,
  rule: Literal["scale", "repeatability"] = "scale",
  max_scale: float = 6.0,
) -> LayerChoice:
  """The layer whose saliency detects best, without labels.

  "scale": the deepest layer whose energy varies at no more than `max_scale`
  pixels (median over the images; use 20 or more), or the finest if none does.
  "repeatability": the largest mean `self_repeatability`.

  Args:
    module: backbone; `apply` returns (logits, endpoints).
    variables: its parameters and statistics.
    images: RGB in [0, 1], float (or uint8) [H, W, 3] each.
    layers: candidates, shallow to deep.
    config: the detector's settings; None means the defaults.
    rule: see above.
    max_scale: limit of "scale", pixels.

  Returns:
    The layer, and the numbers that decided.

  Raises:
    ValueError: if `rule` is unknown, or there is no image or no layer.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import elf
    >>> net, variables, _ = weights.load_model("vgg_small")
    >>> image = np.random.default_rng(0).random((64, 80, 3), np.float32)
    >>> elf.select_layer(net, variables, [image], ["pool1"]).layer
    'pool1'

  Source:
    Lindeberg, IJCV 1998, for the scale; the paper chooses by eye (ELF, arXiv
    1907.03261, section 4).
  """
  if rule not in ("scale", "repeatability"):
    raise ValueError(
      f"select_layer: `rule` must be 'scale' or 'repeatability', got {rule!r}."
    )
  measure = energy_scales if rule == "scale" else self_repeatability
  rows = [
    np.asarray(measure(module, variables, image, layers, config))
    for image in images
  ]
  if not rows or not len(layers):
    raise ValueError(
      "select_layer: `images` and `layers` must not be empty, got "
      f"{len(rows)} and {len(layers)}."
    )
  if rule == "repeatability":
    shares = np.mean(rows, 0)
    values = dict(zip(layers, shares.tolist(), strict=True))
    return LayerChoice(layers[int(shares.argmax())], values)
  scales = np.median(rows, 0)
  values = dict(zip(layers, scales.tolist(), strict=True))
  fine = [name for name in layers if values[name] <= max_scale]
  layer = fine[-1] if fine else layers[int(scales.argmin())]
  last = 0.99 * _SIGMAS[-1]
  saturated = tuple(n for n in layers if values[n] >= last)
  return LayerChoice(layer, values, saturated)
