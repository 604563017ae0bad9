r"""DASR: regions for instance search from a network trained to classify.

Xiao, Zhao, Lin, Hong, Ngo, "Deeply Activated Salient Region for Instance
Search" (arXiv 2002.00185). Nothing is trained:

1. the response map is the channel mean of a late feature map, and its local
   maxima are seeds (`ops.seed_cells`);
2. each seed is propagated down to the pixels (`nn.top_down`);
3. the pixels above a percentile have second moments, whose ellipse has a
   rectangle: the region (`ops.region_moments`, `ops.moment_box`);
4. features inside the region describe it (`describe_regions`).

DASR* starts from every peak and keeps the regions that overlap little.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import layers
from vision_jax.nn.excitation import TopDownRule, top_down
from vision_jax.nn.layer_outputs import layer_stride, read_layers
from vision_jax.ops.box_suppression import nms

__all__ = [
  "SETTINGS",
  "DasrConfig",
  "describe_regions",
  "find_regions",
  "make_config",
  "pixel_maps",
  "star",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DasrConfig:
  """Settings of DASR; defaults are the paper's for ResNet-50.

  Attributes:
    response_layer: layer whose channel mean is the response map.
    feature_layer: layer whose features describe the regions.
    start: "features", the channel mean (DASR); "classes", for comparison: the
      class maps of the last layer, as PRM, whose seeds are the strongest class
      of each peak. Needs a classifier `fc`.
    seeds: which cells are propagated, see `ops.seed_cells`.
    max_regions: at most so many seeds for each scale.
    rule: of the top-down pass.
    stop_at: path of a layer at which the pass ends; None goes to the pixels.
    threshold: "percentile" of all pixels, or "mass" of the map.
    percentile: pixels above it are kept.
    mass: share of the mass that is kept.
    weighted: moments weigh pixels by their mass.
    num_deviations: half a box in standard deviations; the root of 3 is exact
      for rectangles, 2 for ellipses.
    beta: regions that overlap a better one by more than this IoU are dropped
      (DASR*); None keeps all (DASR).
    scales: sizes at which the image is looked at, relative to its own.
    pool: "box", mean over the box; "mask", mean over its kept pixels, weighted
      (what DASR-m is taken to be).
    gem_power: power of the mean.
    chunk: seeds propagated together; bounds the memory.
    mean: per channel, in the order of `channel_order`.
    std: per channel.
    channel_order: order in which the network reads the channels.
  """

  response_layer: str = "layer4"
  feature_layer: str = "layer4.0"
  start: Literal["features", "classes"] = "features"
  seeds: ops.SeedRule = "peaks_mean"
  max_regions: int = 32
  rule: TopDownRule = "prm"
  stop_at: str | None = None
  threshold: Literal["percentile", "mass"] = "percentile"
  percentile: float = 95.0
  mass: float = 0.9
  weighted: bool = False
  num_deviations: float = 2.0
  beta: float | None = None
  scales: tuple[float, ...] = (1.0,)
  pool: Literal["box", "mask"] = "box"
  gem_power: float = 1.0
  chunk: int = 8
  mean: tuple[float, ...] = (0.485, 0.456, 0.406)
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  channel_order: Literal["RGB", "BGR"] = "RGB"


SETTINGS: dict[str, DasrConfig] = {
  "resnet50": DasrConfig(),
  "resnet18": DasrConfig(feature_layer="layer4"),
  "vgg16": DasrConfig(response_layer="relu5_3", feature_layer="relu5_3"),
  "resnet_small": DasrConfig(feature_layer="layer4", max_regions=8, chunk=4),
  "vgg_small": DasrConfig(
    response_layer="relu4_2",
    feature_layer="relu4_2",
    max_regions=8,
    chunk=4,
  ),
}


def make_config(model: str, preprocess: Any, **changes: Any) -> DasrConfig:
  """The settings of DASR for a network and the weights it was given.

  A network without an entry in `SETTINGS` takes that of its family.

  Args:
    model: name of the network, as in `vision_jax.weights.resolve`.
    preprocess: what the weights expect, a `vision_jax.weights.Preprocess`.
    **changes: fields of `DasrConfig` to set otherwise.

  Returns:
    The configuration.

  Raises:
    TypeError: if `changes` has a name that is not a field of `DasrConfig`.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import dasr
    >>> _, _, preprocess = weights.resolve("resnet_small", "bundled")
    >>> config = dasr.make_config("resnet_small", preprocess, chunk=4)
    >>> config.feature_layer, config.max_regions, config.chunk
    ('layer4', 8, 4)

  Source:
    Interface of this library; what its entries cite.
  """
  known = [f.name for f in dataclasses.fields(DasrConfig)]
  unknown = sorted(set(changes) - set(known))
  if unknown:
    raise TypeError(
      f"make_config: unknown settings {', '.join(unknown)}; DasrConfig has "
      f"{', '.join(known)}."
    )
  family = "vgg16" if "vgg" in model else "resnet50"
  return dataclasses.replace(
    SETTINGS.get(model, SETTINGS[family]),
    **{
      "mean": tuple(v / preprocess.scale for v in preprocess.mean),
      "std": tuple(v / preprocess.scale for v in preprocess.std),
      "channel_order": preprocess.channel_order,
    }
    | changes,
  )


def star(config: DasrConfig, *, beta: float = 0.3) -> DasrConfig:
  """DASR*: every peak is a seed, and overlapping regions are dropped.

  Args:
    config: settings of DASR.
    beta: largest IoU of two regions that are kept.

  Returns:
    The settings of DASR*.

  Example:
    >>> from vision_jax.systems import dasr
    >>> dasr.star(dasr.DasrConfig()).seeds
    'peaks_all'

  Source:
    wlzhao22/DASR; the deck's beta is this overlap.
  """
  return dataclasses.replace(config, seeds="peaks_all", beta=beta)


def _normal(image: jax.Array, config: DasrConfig) -> jax.Array:
  """What the network reads."""
  if config.channel_order == "BGR":
    image = image[..., ::-1]
  mean, std = (jnp.array([[v]], image.dtype) for v in (config.mean, config.std))
  return (image - mean) / std


def _apply(
  module: nn.Module, variables: Mapping[str, Any], config: DasrConfig
) -> Any:
  """Image -> the map that is seeded: features, or class maps."""

  def features(x):
    found = read_layers(module, variables, x[None], [config.response_layer])
    return found[config.response_layer][0]

  if config.start == "features":
    return features
  params = variables["params"]
  if "fc" not in params:
    raise ValueError(
      'find_regions: start="classes" needs a network whose classifier is a '
      f"layer `fc`, got {', '.join(params)}; use a ResNet with its classifier."
    )
  classes = params["fc"]["kernel"].shape[1]
  classifier = layers.Dense(classes)
  return lambda x: classifier.apply({"params": params["fc"]}, features(x))


def _seeds(
  activity: jax.Array, config: DasrConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """One-hot mass [P, h, w(, K)], scores and valid of the seeds."""
  height, width = activity.shape[:2]
  by_class = config.start == "classes"
  response = activity.max(-1) if by_class else activity.mean(-1)
  cells, scores, valid = ops.seed_cells(
    response, seeds=config.seeds, max_seeds=config.max_regions
  )
  index = cells[:, 1] * width + cells[:, 0]
  mass = jax.nn.one_hot(index, height * width).reshape(-1, height, width)
  mass = mass * valid[:, None, None]
  if by_class:
    best = jax.nn.one_hot(activity.argmax(-1), activity.shape[-1])
    mass = mass[..., None] * best[None]
  return mass, scores, valid


def _maps(module, variables, image, config):
  """Pixel maps [P, H, W] of one scale, and scores and valid of the seeds."""
  apply, normal = _apply(module, variables, config), _normal(image, config)
  mass, scores, valid = _seeds(apply(normal), config)
  maps = top_down(
    apply,
    normal,
    mass,
    rule=config.rule,
    stop_at=config.stop_at,
    chunk=config.chunk,
  )
  maps = jnp.maximum(maps, 0)
  if maps.shape[1:] != image.shape[:2]:
    maps = ops.resize(maps[..., None], image.shape[:2])[..., 0]
  return maps, scores, valid


def _regions(module, variables, image, config):
  """Boxes, scores, valid and kept pixels of one scale."""
  maps, scores, valid = _maps(module, variables, image, config)
  if config.threshold == "mass":
    kept = ops.mass_pixels(maps, share=config.mass)
  else:
    kept = ops.brightest_pixels(maps, percentile=config.percentile)
  moments = ops.region_moments(kept * maps if config.weighted else kept)
  boxes = ops.moment_box(*moments, num_deviations=config.num_deviations)
  height, width = image.shape[:2]
  limit = jnp.array([[width, height, width, height]], boxes.dtype)
  boxes = jnp.clip(boxes, 0, limit)
  full = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(-1)
  valid = valid & full & kept.any((-2, -1))
  return boxes, scores, valid, kept


def _check(image: jax.Array, config: DasrConfig) -> None:
  if image.ndim != 3 or image.shape[-1] != 3:
    raise ValueError(
      f"find_regions: `image` must be [H, W, 3], got {image.shape}."
    )
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise TypeError(
      f"find_regions: `image` must be floating point in [0, 1], got "
      f"{image.dtype}; divide bytes by 255."
    )
  if not config.scales or min(config.scales) <= 0:
    raise ValueError(
      f"find_regions: `config.scales` must be positive, got {config.scales}."
    )


@functools.partial(jax.jit, static_argnames=("module", "config"))
def _find(module, variables, image, config):
  height, width = image.shape[:2]
  found = []
  for scale in config.scales:
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    seen = image
    if size != (height, width):
      seen = ops.resize(image, size, antialias=scale < 1)
    boxes, scores, valid, kept = _regions(module, variables, seen, config)
    grow = jnp.array([[width / size[1], height / size[0]] * 2], boxes.dtype)
    if size != (height, width):
      kept = ops.resize(kept[..., None], (height, width), mode="nearest-exact")[
        ..., 0
      ]
    found.append((boxes * grow, scores, valid, kept))
  boxes, scores, valid, kept = (
    jnp.concatenate(parts) for parts in zip(*found, strict=True)
  )
  if config.beta is None:
    order = jnp.argsort(-jnp.where(valid, scores, -jnp.inf))  # stable
    chosen = valid[order]
  else:
    order, chosen = nms(
      boxes,
      scores,
      valid,
      iou_threshold=config.beta,
      max_outputs=len(boxes),
    )
    order = jnp.maximum(order, 0)
  return ops.Detections(
    boxes=jnp.where(chosen[:, None], boxes[order], 0),
    scores=jnp.where(chosen, scores[order], 0),
    labels=jnp.zeros(len(boxes), jnp.int32),
    valid=chosen,
    masks=kept[order] & chosen[:, None, None],
  )


def find_regions(
  module: nn.Module,
  variables: Mapping[str, Any],
  image: jax.Array,
  config: DasrConfig,
) -> ops.Detections:
  """Salient regions of an image, best first.

  One compilation for each size of image.

  Convention:
    Boxes in the continuous frame of `image`, clipped to it.

  Args:
    module: a network of `vision_jax.nn.backbones`.
    variables: its variables.
    image: RGB in [0, 1], float [H, W, 3]; the paper's longer side is 512.
    config: the settings.

  Returns:
    `ops.Detections` of config.max_regions rows for each scale, sorted by the
    value of the response map; `masks` bool [N, H, W], the pixels that were
    kept. An image without a peak has no valid row.

  Raises:
    ValueError: if `image` is not [H, W, 3], a layer is unknown or has no rule.
    TypeError: if `image` is not floating point.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import dasr
    >>> module, variables, how = weights.resolve("resnet_small", "random")
    >>> config = dasr.make_config("resnet_small", how, max_regions=4)
    >>> image = jax.random.uniform(jax.random.key(0), (64, 96, 3))
    >>> regions = dasr.find_regions(module, variables, image, config)
    >>> regions.boxes.shape, regions.masks.shape
    ((4, 4), (4, 64, 96))

  Source:
    Xiao et al. (arXiv 2002.00185); wlzhao22/DASR.
  """
  image = jnp.asarray(image)
  _check(image, config)
  return _find(module, variables, image, config)


@functools.partial(jax.jit, static_argnames=("module", "config"))
def _pixel_maps(module, variables, image, config):
  return _maps(module, variables, image, config)


def pixel_maps(
  module: nn.Module,
  variables: Mapping[str, Any],
  image: jax.Array,
  config: DasrConfig,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The maps of pixels from which `find_regions` takes its boxes, at scale 1.

  Args:
    module: as `find_regions`.
    variables: as `find_regions`.
    image: as `find_regions`.
    config: as `find_regions`; rows are in the order of the seeds.

  Returns:
    Maps [P, H, W], not below 0; scores [P] and valid [P] of the seeds.

  Raises:
    ValueError: as `find_regions`.
    TypeError: as `find_regions`.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import dasr
    >>> module, variables, how = weights.resolve("resnet_small", "random")
    >>> config = dasr.make_config("resnet_small", how, max_regions=4)
    >>> image = jax.random.uniform(jax.random.key(0), (64, 96, 3))
    >>> dasr.pixel_maps(module, variables, image, config)[0].shape
    (4, 64, 96)

  Source:
    Xiao et al. (arXiv 2002.00185); wlzhao22/DASR, before its percentile.
  """
  image = jnp.asarray(image)
  _check(image, config)
  return _pixel_maps(module, variables, image, config)


@functools.partial(jax.jit, static_argnames=("module", "config"))
def _describe(module, variables, image, regions, config):
  found = read_layers(
    module, variables, _normal(image, config)[None], [config.feature_layer]
  )
  features = found[config.feature_layer][0]
  stride = layer_stride(module, config.feature_layer)
  size = (features.shape[0], features.shape[1])
  weights = ops.box_weights(
    regions.boxes, size, stride=stride, valid=regions.valid
  )
  if config.pool == "mask":
    if regions.masks is None:
      raise ValueError(
        'describe_regions: pool="mask" needs `regions.masks`; use regions '
        "from `find_regions`."
      )
    inside = ops.mask_weights(
      regions.masks, size, stride=stride, valid=regions.valid
    )
    inside = inside * (weights > 0)
    total = inside.sum((-2, -1), keepdims=True)
    weights = jnp.where(
      total > 0, inside / jnp.where(total > 0, total, 1), weights
    )
  return ops.unit_rows(
    ops.pool_regions(features, weights, power=config.gem_power)
  )


def describe_regions(
  module: nn.Module,
  variables: Mapping[str, Any],
  image: jax.Array,
  regions: ops.Detections,
  config: DasrConfig,
) -> jax.Array:
  """Descriptors of regions: features of one layer, averaged inside.

  Args:
    module: a network of `vision_jax.nn.backbones`.
    variables: its variables.
    image: RGB in [0, 1], float [H, W, 3].
    regions: boxes in the continuous frame of `image`, from any source.
    config: uses `feature_layer`, `pool`, `gem_power` and the normalisation.

  Returns:
    Unit vectors [N, C]; 0 where a region is not valid or outside.

  Raises:
    ValueError: if `image` is not [H, W, 3], or masks are asked for and missing.

  Example:
    >>> from vision_jax import ops, weights
    >>> from vision_jax.systems import dasr
    >>> module, variables, how = weights.resolve("resnet_small", "random")
    >>> config = dasr.make_config("resnet_small", how)
    >>> box = ops.Detections(jnp.array([[8.0, 8.0, 40.0, 30.0]]), jnp.ones(1),
    ...                      jnp.zeros(1, int), jnp.ones(1, bool))
    >>> image = jax.random.uniform(jax.random.key(0), (64, 96, 3))
    >>> dasr.describe_regions(module, variables, image, box, config).shape
    (1, 128)

  Source:
    wlzhao22/MSAR (pooling of the whole image's features inside a box).
  """
  image = jnp.asarray(image)
  _check(image, config)
  return _describe(module, variables, image, regions, config)
