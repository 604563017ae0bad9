"""Semantic FPN: every cell of a feature pyramid takes part in its class.

  module = semantic_fpn.semantic_fpn_resnet50(num_classes=19)
  logits = module.apply(variables, images)["out"]

Kirillov et al., "Panoptic Feature Pyramid Networks", 2019 (arXiv 1901.02446).
The ResNets are detectron2's: their stride is in the first 1x1 convolution and
their norms are constants; `weights.from_detectron2` reads its files.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from vision_jax import ops
from vision_jax.nn import backbones
from vision_jax.nn.pyramids import FeaturePyramid
from vision_jax.nn.segmentation_heads import (
  CoarseSegmentation,
  SemanticFPNHead,
)

__all__ = [
  "MODELS",
  "PyramidBackbone",
  "SemanticFPN",
  "semantic_fpn_resnet50",
  "semantic_fpn_resnet101",
]

_LEVELS = ("layer1", "layer2", "layer3", "layer4")


class PyramidBackbone(nn.Module):
  """A network for features with a pyramid: maps P2 to P5.

  Attributes:
    body: `apply(variables, images, train) -> (any, endpoints)`.
    fpn: the pyramid.
    levels: endpoints of the body that it stands on, strides 4, 8, 16, 32.
  """

  body: nn.Module
  fpn: nn.Module
  levels: tuple[str, ...] = _LEVELS

  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> list[jax.Array]:
    """Images [B, H, W, 3] -> maps of falling resolution."""
    _, endpoints = self.body(images, train=train)
    maps = [endpoints[name] for name in self.levels]
    return self.fpn(maps, train=train)[: len(maps)]


class SemanticFPN(nn.Module):
  """Pyramid, head and enlargement to the size of the images.

  `apply(variables, images, train=False) -> {"out": [B, H, W, K]}`. As in
  detectron2, normalised images are padded with zeros below and to the right, to
  sides that are multiples of `divisor`, and the scores are cut.

  Attributes:
    backbone: `apply(variables, images, train) -> [P2, P3, P4, P5]`.
    classifier: head of the maps from `lowest` on.
    lowest: level of the finest map the head reads, 2 or 3. The fine features
      for PointRend are P2 all the same.
    divisor: stride of the coarsest map, by which the sides are divisible.
  """

  backbone: nn.Module
  classifier: nn.Module
  lowest: int = 2
  divisor: int = 32

  @property
  def num_classes(self) -> int:
    """K."""
    return self.classifier.num_classes

  def coarse(
    self, images: jax.Array, *, train: bool = False
  ) -> CoarseSegmentation:
    """Scores before enlargement and fine features, of padded images."""
    maps = self.backbone(images, train=train)
    return CoarseSegmentation(self.classifier(maps[self.lowest - 2 :]), maps[0])

  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    """Images [B, H, W, 3] -> scores [B, H, W, K]."""
    height, width = images.shape[1:3]
    images = ops.pad_to_multiple(images, self.divisor)
    logits = self.coarse(images, train=train).logits
    logits = ops.resize(logits, (images.shape[1], images.shape[2]))
    return {"out": logits[:, :height, :width]}


def _semantic_fpn(
  resnet: Callable[..., nn.Module],
  num_classes: int | None,
  *,
  lowest: int = 2,
  frozen_norm: bool = True,
  stride_in_1x1: bool = True,
  features: int = 256,
  axis_name: str | None = None,
  dtype: Any = None,
) -> SemanticFPN:
  common = {"axis_name": axis_name, "dtype": dtype}
  strides = tuple(2**k for k in range(lowest, 6))
  return SemanticFPN(
    PyramidBackbone(
      resnet(
        None,
        stride_in_1x1=stride_in_1x1,
        frozen_norm=frozen_norm,
        **common,
      ),
      FeaturePyramid(features, **common),
    ),
    SemanticFPNHead(
      19 if num_classes is None else num_classes,
      strides,
      strides[0],
      dtype=dtype,
    ),
    lowest,
  )


def semantic_fpn_resnet50(
  num_classes: int | None = 19, **kwargs: Any
) -> SemanticFPN:
  """Semantic FPN on ResNet-50."""
  return _semantic_fpn(backbones.resnet50, num_classes, **kwargs)


def semantic_fpn_resnet101(
  num_classes: int | None = 19, **kwargs: Any
) -> SemanticFPN:
  """Semantic FPN on ResNet-101."""
  return _semantic_fpn(backbones.resnet101, num_classes, **kwargs)


MODELS: dict[str, Callable[..., SemanticFPN]] = {
  "semantic_fpn_resnet50": semantic_fpn_resnet50,
  "semantic_fpn_resnet101": semantic_fpn_resnet101,
}
