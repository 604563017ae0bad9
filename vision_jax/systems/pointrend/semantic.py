"""PointRend for semantic segmentation, on any coarse network.

  module = pointrend.PointRend(deeplab.deeplabv3_resnet50(21), nn.PointHead(21))
  logits = module.apply(variables, images)["out"]

A network of points reads fine features and the coarse scores. In training it
sees points drawn where the coarse scores are uncertain; in prediction the
coarse scores are subdivided to the size of the images. The cheapest way to one:
take a published network as it is, and train the head of points alone
(`with_coarse_variables`, `semantic_losses(..., freeze_coarse=True)`).

Kirillov et al., "PointRend: Image Segmentation as Rendering", 2020 (arXiv
1912.08193), sections 3 and 5.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import aspp, backbones
from vision_jax.nn.point_heads import PointHead
from vision_jax.nn.segmentation_heads import CoarseSegmentation
from vision_jax.systems import deeplab, semantic_fpn
from vision_jax.systems.deeplab import segment

__all__ = [
  "MODELS",
  "PointRend",
  "pointrend_deeplabv3_resnet50",
  "pointrend_semantic_fpn_resnet50",
  "pointrend_semantic_fpn_resnet101",
  "pointrend_small",
  "segment",
  "semantic_losses",
  "with_coarse_variables",
]

Terms = dict[str, tuple[jax.Array, jax.Array]]


class PointRend(nn.Module):
  """A coarse network and a head of points.

  `apply(variables, images, train=False) -> {"out": [B, H, W, K]}`, subdivided
  to the size of the images with the settings below.

  Attributes:
    coarse: network with a method `coarse(images, train) -> CoarseSegmentation`,
      such as `deeplab.Segmenter` or `semantic_fpn.SemanticFPN`.
    point_head: `PointHead` of as many classes.
    num_points: N, points of a step; the cells of a map of stride 16 of the
      released 1024 x 2048 images.
    num_steps: doublings; then the scores are enlarged to the images. None: as
      many as reach the size of the images.
    padding: what points near the border read, as `ops.point_sample`. Released
      heads were trained with "zeros".
  """

  coarse: nn.Module
  point_head: nn.Module
  num_points: int = 8192
  num_steps: int | None = None
  padding: str = "zeros"

  @property
  def num_classes(self) -> int:
    """K."""
    return self.point_head.num_classes

  def maps(
    self, images: jax.Array, *, train: bool = False
  ) -> CoarseSegmentation:
    """Images [B, H, W, 3] -> coarse scores and fine features."""
    return self.coarse.coarse(images, train=train)

  @property
  def divisor(self) -> int:
    """What the sides of the coarse network's images are padded to."""
    return getattr(self.coarse, "divisor", 1)

  def at_points(self, maps: CoarseSegmentation, points: jax.Array) -> jax.Array:
    """Scores [B, N, K] at points of the unit frame [B, N, 2]."""
    read = functools.partial(read_points, padding=self.padding)
    seen = jax.vmap(read)(maps.fine, maps.logits, points)
    return self.point_head(*seen)

  def refine(
    self,
    images: jax.Array,
    *,
    num_points: int | None = None,
    num_steps: int | None = None,
    uncertainty: Callable[[jax.Array], jax.Array] = ops.margin_uncertainty,
    threshold: float | None = None,
    max_rounds: int = 1,
  ) -> tuple[ops.Refinement, CoarseSegmentation]:
    """All steps of the subdivision of a batch, and what they started from.

    Args:
      images: [B, H, W, 3]; the maps are of images padded to `divisor`.
      num_points: N; by default that of the module.
      num_steps: by default that of the module.
      uncertainty: as `ops.refine`; for every one of the B maps.
      threshold: as `ops.refine`.
      max_rounds: as `ops.refine`.

    Returns:
      Refinement with a leading axis B, and the coarse maps.
    """
    images = ops.pad_to_multiple(images, self.divisor)
    maps = self.maps(images)
    size = (images.shape[1], images.shape[2])
    steps = self.num_steps if num_steps is None else num_steps
    sizes = step_sizes(maps.logits.shape[1:3], size, steps)
    # A function of arrays, which vmap may take.
    head, variables = self.point_head.unbind()

    def one(fine, logits):
      def evaluate(points):
        seen = read_points(fine, logits, points, padding=self.padding)
        return head.apply(variables, *seen)

      return ops.refine(
        logits,
        evaluate,
        sizes,
        num_points=self.num_points if num_points is None else num_points,
        uncertainty=uncertainty,
        threshold=threshold,
        max_rounds=max_rounds,
      )

    return jax.vmap(one)(maps.fine, ops.at_least_float32(maps.logits)), maps

  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    """Images [B, H, W, 3] -> scores [B, H, W, K].

    In training use `semantic_losses`; here `train` only updates statistics.
    """
    height, width = images.shape[1:3]
    images = ops.pad_to_multiple(images, self.divisor)
    if train or self.is_initializing():
      maps = self.maps(images, train=train)
      points = jnp.full((len(images), 1, 2), 0.5)
      self.at_points(maps, points)
      logits = maps.logits
    else:
      logits = self.refine(images)[0].logits
    logits = ops.resize(logits, (images.shape[1], images.shape[2]))
    return {"out": logits[:, :height, :width]}

  def losses(
    self,
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    num_points: int,
    train: bool,
    freeze_coarse: bool,
    ignore: int,
    hardest: float,
    sampling: Mapping[str, Any],
  ) -> Terms:
    """See `semantic_losses`."""
    images = ops.pad_to_multiple(images, self.divisor)
    labels = ops.pad_to_multiple(labels, self.divisor, value=ignore)
    maps = self.maps(images, train=train and not freeze_coarse)
    if freeze_coarse:
      maps = jax.lax.stop_gradient(maps)

    def draw(key, logits):
      return ops.sample_uncertain_points(
        key, logits, num_points, padding=self.padding, **sampling
      )

    points = jax.vmap(draw)(keys, maps.logits)
    logits = ops.at_least_float32(self.at_points(maps, points))
    targets = jax.vmap(ops.sample_labels)(labels, points)
    losses, valid = ops.label_losses(logits, targets, ignore=ignore)
    terms: Terms = {"points": (losses.sum(), valid.sum())}
    if not freeze_coarse:
      terms["coarse"] = ops.segmentation_loss(
        maps.logits, labels, ignore=ignore, hardest=hardest
      )
      if maps.aux is not None:
        total, count = ops.segmentation_loss(maps.aux, labels, ignore=ignore)
        terms["aux"] = (0.5 * total, count)
    return terms


def read_points(
  fine: jax.Array | tuple[jax.Array, ...],
  logits: jax.Array,
  points: jax.Array,
  *,
  padding: str,
) -> tuple[jax.Array, jax.Array]:
  """What a head of points sees: channels of all fine maps, coarse scores."""
  read = functools.partial(ops.point_sample, padding=padding)
  seen = [read(one, points) for one in jax.tree.leaves(fine)]
  return jnp.concatenate(seen, -1), read(logits, points)


def step_sizes(
  coarse: tuple[int, ...], images: tuple[int, int], num_steps: int | None
) -> tuple[tuple[int, int], ...]:
  """Sizes of the maps; warns where they exceed the images."""
  height, width = coarse
  if num_steps is None:
    return ops.subdivision_sizes((height, width), images)
  sizes = tuple((height * 2**k, width * 2**k) for k in range(1, num_steps + 1))
  if sizes and (sizes[-1][0] > images[0] or sizes[-1][1] > images[1]):
    warnings.warn(
      f"PointRend: {num_steps} steps give maps of {sizes[-1]}, larger than the "
      f"images, {images}: masks become worse there; use fewer steps.",
      stacklevel=2,
    )
  return sizes


def semantic_losses(
  keys: jax.Array,
  module: PointRend,
  variables: Mapping[str, Any],
  images: jax.Array,
  labels: jax.Array,
  *,
  num_points: int,
  freeze_coarse: bool = False,
  train: bool = True,
  ignore: int = 255,
  hardest: float = 1.0,
  oversample: float = 3.0,
  importance: float = 0.75,
  uncertainty: Callable[[jax.Array], jax.Array] = ops.margin_uncertainty,
  rngs: dict[str, jax.Array] | None = None,
) -> tuple[Terms, Mapping[str, Any]]:
  """Terms of the training loss.

  "coarse": cross-entropy of the coarse scores at the size of the labels.
  "points": cross-entropy of the scores of points drawn where the coarse scores
  are uncertain. "aux": half of that of an auxiliary head. The gradient of the
  points reaches the coarse network through what they read, not through where
  they lie.

  Args:
    keys: a random key for each example, [B] (`train.example_keys`).
    module: the network.
    variables: its variables.
    images: normalised images, [B, H, W, 3].
    labels: class of each pixel, integers [B, H, W]; padding carries `ignore`.
    num_points: N for each image; the released models take the number of cells
      of a map of stride 16.
    freeze_coarse: train the head of points alone: the coarse network runs as in
      prediction and gets no gradient.
    train: whether batch normalisation and dropout of the coarse network train.
    ignore: the label that does not count.
    hardest: share of the pixels that the coarse term counts, as
      `ops.segmentation_loss`.
    oversample: k, as `ops.sample_uncertain_points`.
    importance: beta, as `ops.sample_uncertain_points`.
    uncertainty: function of logits.
    rngs: for dropout.

  Returns:
    ({term: (sum, count)}, updated collections), as `train.make_step` expects.
    Finite where nothing is labelled: then all are (0, 0).

  Example:
    >>> from vision_jax import nn
    >>> from vision_jax.systems import deeplab, pointrend
    >>> coarse = deeplab.lraspp_mobilenet_v3_large(3)
    >>> module = pointrend.PointRend(coarse, nn.PointHead(3, width=8))
    >>> images = jnp.zeros((1, 32, 48, 3))
    >>> labels = jnp.zeros((1, 32, 48), jnp.int32)
    >>> def terms(key):
    ...   variables = module.init(key, images)
    ...   return pointrend.semantic_losses(
    ...     key[None], module, variables, images, labels, num_points=6)[0]
    >>> shapes = jax.eval_shape(terms, jax.random.key(0))
    >>> sorted(shapes)
    ['coarse', 'points']

  Source:
    Kirillov et al., PointRend, 2020, section 5 and appendix B.
  """
  settings = {
    "oversample": oversample,
    "importance": importance,
    "uncertainty": uncertainty,
  }
  terms, updates = module.apply(
    variables,
    keys,
    images,
    labels,
    num_points=num_points,
    train=train,
    freeze_coarse=freeze_coarse,
    ignore=ignore,
    hardest=hardest,
    sampling=settings,
    method="losses",
    mutable=["batch_stats"],
    rngs=rngs,
  )
  return terms, updates


def with_coarse_variables(
  key: jax.Array, module: PointRend, coarse: Mapping[str, Any]
) -> dict[str, Any]:
  """Variables of a new head of points on a network that is there.

  Args:
    key: random key of the head.
    module: the network.
    coarse: variables of `module.coarse`, such as `weights.from_torchvision`
      gives them.

  Returns:
    Variables of `module`: "coarse" as given, "point_head" new.

  Raises:
    ValueError: if `coarse` is not of `module.coarse`.

  Example:
    >>> from vision_jax import nn, weights
    >>> from vision_jax.systems import deeplab, pointrend
    >>> coarse = deeplab.lraspp_mobilenet_v3_large(3)
    >>> module = pointrend.PointRend(coarse, nn.PointHead(3, width=8))
    >>> variables = pointrend.with_coarse_variables(
    ...   jax.random.key(0), module, weights.random_variables(coarse))
    >>> sorted(variables["params"]["point_head"])
    ['fc1', 'fc2', 'fc3', 'predictor']

  Source:
    Contract of this library.
  """
  images = jnp.zeros((1, 64, 64, 3))
  expected = jax.eval_shape(module.coarse.init, key, images)
  if jax.tree.map(jnp.shape, dict(coarse)) != jax.tree.map(jnp.shape, expected):
    raise ValueError(
      "with_coarse_variables: `coarse` must be variables of `module.coarse`, "
      "got a tree of other names or shapes."
    )
  maps = jax.eval_shape(
    lambda v: module.coarse.apply(v, images, method="coarse"), dict(coarse)
  )
  assert isinstance(maps, CoarseSegmentation)
  head = module.point_head.init(
    key,
    jnp.zeros((1, 1, sum(f.shape[-1] for f in jax.tree.leaves(maps.fine)))),
    jnp.zeros((1, 1, maps.logits.shape[-1])),
  )
  result: dict[str, Any] = {name: {"coarse": v} for name, v in coarse.items()}
  result["params"]["point_head"] = head["params"]
  return result


def pointrend_semantic_fpn_resnet50(
  num_classes: int | None = 19, **kwargs: Any
) -> PointRend:
  """PointRend on Semantic FPN with ResNet-50, as detectron2 has it."""
  coarse = semantic_fpn.semantic_fpn_resnet50(num_classes, **kwargs)
  head = PointHead(coarse.num_classes, coarse_each_layer=False)
  return PointRend(coarse, head)


def pointrend_semantic_fpn_resnet101(
  num_classes: int | None = 19, **kwargs: Any
) -> PointRend:
  """PointRend on Semantic FPN with ResNet-101, as detectron2 has it."""
  coarse = semantic_fpn.semantic_fpn_resnet101(num_classes, **kwargs)
  head = PointHead(coarse.num_classes, coarse_each_layer=False)
  return PointRend(coarse, head)


def pointrend_deeplabv3_resnet50(
  num_classes: int | None = 21, **kwargs: Any
) -> PointRend:
  """PointRend on torchvision's DeepLabV3 with ResNet-50."""
  coarse = deeplab.deeplabv3_resnet50(num_classes, **kwargs)
  return PointRend(coarse, PointHead(coarse.num_classes))


def pointrend_small(num_classes: int | None = 13, **kwargs: Any) -> PointRend:
  """A small one for generated shapes, on `backbones.resnet14_small`.

  Coarse scores at stride 16, fine features at stride 4; trained by
  `experiments/segmentation`.
  """
  classes = 13 if num_classes is None else num_classes
  coarse = deeplab.Segmenter(
    backbones.resnet14_small(**kwargs),
    aspp.DeepLabHead(classes, (1, 2), 64, **kwargs),
    features=("layer3",),
  )
  return PointRend(coarse, PointHead(classes, width=64), num_points=256)


MODELS: dict[str, Callable[..., PointRend]] = {
  "pointrend_deeplabv3_resnet50": pointrend_deeplabv3_resnet50,
  "pointrend_semantic_fpn_resnet50": pointrend_semantic_fpn_resnet50,
  "pointrend_semantic_fpn_resnet101": pointrend_semantic_fpn_resnet101,
  "pointrend_small": pointrend_small,
}
