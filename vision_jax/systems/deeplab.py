"""Semantic segmentation by a backbone and a head: FCN, DeepLab, LR-ASPP.

  module = deeplab.deeplabv3_resnet50()
  variables = module.init(key, images)
  logits = module.apply(variables, images)["out"]

`weights.from_torchvision("deeplabv3_resnet50", source)` gives the module with
published weights. The first six constructors are torchvision's networks, with
its parameter names; `deeplabv3_r103` and `deeplabv3_plus_r103` are
detectron2's, on the ResNet with a stem of three convolutions.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import aspp, backbones, segmentation_heads
from vision_jax.nn.segmentation_heads import CoarseSegmentation

__all__ = [
  "MODELS",
  "Segmenter",
  "deeplabv3_mobilenet_v3_large",
  "deeplabv3_plus_r103",
  "deeplabv3_r103",
  "deeplabv3_resnet50",
  "deeplabv3_resnet101",
  "fcn_resnet50",
  "fcn_resnet101",
  "lraspp_mobilenet_v3_large",
  "segment",
]

_RATES = {8: (12, 24, 36), 16: (6, 12, 18)}


class Segmenter(nn.Module):
  """Backbone, head and enlargement to the size of the images.

  `apply(variables, images, train=False) -> {"out": ..., "aux": ...}`, scores
  [B, H, W, K] at the size of the images; "aux" where there is such a head.

  Attributes:
    backbone: `apply(variables, images, train) -> (any, endpoints)`.
    classifier: module from the endpoints named in `features` to scores.
    aux_classifier: module from the endpoint `aux_feature` to scores, or None.
    features: endpoints for the classifier.
    aux_feature: endpoint for the auxiliary head.
    fine_feature: endpoint that `coarse` returns for PointRend, or several.
  """

  backbone: nn.Module
  classifier: nn.Module
  aux_classifier: nn.Module | None = None
  features: tuple[str, ...] = ("layer4",)
  aux_feature: str = "layer3"
  fine_feature: str | tuple[str, ...] = "layer1"

  @property
  def num_classes(self) -> int:
    """K."""
    return self.classifier.num_classes

  def coarse(
    self, images: jax.Array, *, train: bool = False
  ) -> CoarseSegmentation:
    """Images [B, H, W, 3] -> scores before enlargement and fine features."""
    _, endpoints = self.backbone(images, train=train)
    maps = [endpoints[name] for name in self.features]
    aux = None
    if self.aux_classifier is not None:
      aux = self.aux_classifier(endpoints[self.aux_feature], train=train)
    name = self.fine_feature
    if isinstance(name, str):
      fine = endpoints[name]
    else:
      fine = tuple(endpoints[n] for n in name)
    return CoarseSegmentation(self.classifier(*maps, train=train), fine, aux)

  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> dict[str, jax.Array]:
    """Images [B, H, W, 3] -> scores [B, H, W, K]."""
    result = self.coarse(images, train=train)
    size = (images.shape[1], images.shape[2])
    logits = {"out": ops.resize(result.logits, size)}
    if result.aux is not None:
      logits["aux"] = ops.resize(result.aux, size)
    return logits


def _on_resnet(
  resnet: Callable[..., nn.Module],
  head: Callable[..., nn.Module],
  num_classes: int | None,
  *,
  aux: bool,
  axis_name: str | None = None,
  dtype: Any = None,
  output_stride: int = 8,
  **options: Any,
) -> Segmenter:
  """ResNet, head and auxiliary FCN head as torchvision puts them together."""
  common = {"axis_name": axis_name, "dtype": dtype}
  classes = 21 if num_classes is None else num_classes
  return Segmenter(
    resnet(None, output_stride=output_stride, **common),
    head(classes, **options, **common),
    segmentation_heads.FCNHead(classes, **common) if aux else None,
  )


def _deeplab_head(
  num_classes: int, output_stride: int = 8, **common: Any
) -> nn.Module:
  return aspp.DeepLabHead(num_classes, _RATES[output_stride], **common)


def fcn_resnet50(
  num_classes: int | None = 21, *, aux: bool = True, **kwargs: Any
) -> Segmenter:
  """FCN on ResNet-50, output stride 8."""
  head = segmentation_heads.FCNHead
  return _on_resnet(backbones.resnet50, head, num_classes, aux=aux, **kwargs)


def fcn_resnet101(
  num_classes: int | None = 21, *, aux: bool = True, **kwargs: Any
) -> Segmenter:
  """FCN on ResNet-101, output stride 8."""
  head = segmentation_heads.FCNHead
  return _on_resnet(backbones.resnet101, head, num_classes, aux=aux, **kwargs)


def deeplabv3_resnet50(
  num_classes: int | None = 21,
  *,
  aux: bool = True,
  output_stride: int = 8,
  **kwargs: Any,
) -> Segmenter:
  """DeepLabV3 on ResNet-50; rates 12, 24, 36, or half at output stride 16."""
  head = functools.partial(_deeplab_head, output_stride=output_stride)
  return _on_resnet(
    backbones.resnet50,
    head,
    num_classes,
    aux=aux,
    output_stride=output_stride,
    **kwargs,
  )


def deeplabv3_resnet101(
  num_classes: int | None = 21,
  *,
  aux: bool = True,
  output_stride: int = 8,
  **kwargs: Any,
) -> Segmenter:
  """DeepLabV3 on ResNet-101; rates 12, 24, 36, or half at output stride 16."""
  head = functools.partial(_deeplab_head, output_stride=output_stride)
  return _on_resnet(
    backbones.resnet101,
    head,
    num_classes,
    aux=aux,
    output_stride=output_stride,
    **kwargs,
  )


def deeplabv3_mobilenet_v3_large(
  num_classes: int | None = 21,
  *,
  aux: bool = True,
  axis_name: str | None = None,
  dtype: Any = None,
) -> Segmenter:
  """DeepLabV3 on MobileNet V3 large, output stride 16.

  The rates are 12, 24, 36 all the same, as in torchvision.
  """
  common = {"axis_name": axis_name, "dtype": dtype}
  classes = 21 if num_classes is None else num_classes
  return Segmenter(
    backbones.mobilenet_v3_large_features(output_stride=16, **common),
    aspp.DeepLabHead(classes, **common),
    segmentation_heads.FCNHead(classes, **common) if aux else None,
    ("conv16",),
    "block4",
    "block2",
  )


def lraspp_mobilenet_v3_large(
  num_classes: int | None = 21,
  *,
  axis_name: str | None = None,
  dtype: Any = None,
) -> Segmenter:
  """Lite reduced ASPP on MobileNet V3 large, output strides 16 and 8."""
  common = {"axis_name": axis_name, "dtype": dtype}
  classes = 21 if num_classes is None else num_classes
  return Segmenter(
    backbones.mobilenet_v3_large_features(output_stride=16, **common),
    segmentation_heads.LRASPPHead(classes, **common),
    features=("conv16", "block4"),
    fine_feature="block2",
  )


def _r103(output_stride: int, **common: Any) -> nn.Module:
  """DeepLab's ResNet-101: stem of three convolutions, multi-grid 1, 2, 4."""
  return backbones.resnet101(
    None,
    stem_widths=(64, 64, 128),
    output_stride=output_stride,
    multi_grid=(1, 2, 4),
    dilate_first=True,
    **common,
  )


def deeplabv3_r103(
  num_classes: int | None = 19,
  *,
  output_stride: int = 16,
  pool_window: tuple[int, int] | None = (32, 64),
  axis_name: str | None = None,
  dtype: Any = None,
) -> Segmenter:
  """DeepLabV3 on ResNet-103, as detectron2 has it for Cityscapes.

  `pool_window`: cells that image pooling averages; (32, 64) is the released
  training crop, 512 x 1024, over 16; at output stride 8 take twice that.
  """
  common = {"axis_name": axis_name, "dtype": dtype}
  return Segmenter(
    _r103(output_stride, **common),
    aspp.DeepLabWindowHead(
      19 if num_classes is None else num_classes,
      _RATES[output_stride],
      pool_window,
      **common,
    ),
  )


def deeplabv3_plus_r103(
  num_classes: int | None = 19,
  *,
  output_stride: int = 16,
  pool_window: tuple[int, int] | None = (32, 64),
  axis_name: str | None = None,
  dtype: Any = None,
) -> Segmenter:
  """DeepLabV3+ on ResNet-103, as detectron2 has it for Cityscapes.

  `pool_window`: see `deeplabv3_r103`.
  """
  common = {"axis_name": axis_name, "dtype": dtype}
  return Segmenter(
    _r103(output_stride, **common),
    aspp.DeepLabPlusHead(
      19 if num_classes is None else num_classes,
      _RATES[output_stride],
      pool_window,
      **common,
    ),
    features=("layer4", "layer1"),
  )


MODELS: dict[str, Callable[..., Segmenter]] = {
  "deeplabv3_mobilenet_v3_large": deeplabv3_mobilenet_v3_large,
  "deeplabv3_plus_r103": deeplabv3_plus_r103,
  "deeplabv3_r103": deeplabv3_r103,
  "deeplabv3_resnet50": deeplabv3_resnet50,
  "deeplabv3_resnet101": deeplabv3_resnet101,
  "fcn_resnet50": fcn_resnet50,
  "fcn_resnet101": fcn_resnet101,
  "lraspp_mobilenet_v3_large": lraspp_mobilenet_v3_large,
}


@functools.partial(jax.jit, static_argnums=0)
def segment(module: nn.Module, variables: Any, images: jax.Array) -> jax.Array:
  """The class of every pixel.

  Compiled once for each size of images.

  Args:
    module: a `Segmenter`, `SemanticFPN` or `PointRend`.
    variables: its variables.
    images: normalised images, [B, H, W, 3].

  Returns:
    Classes, int32 [B, H, W].

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import deeplab
    >>> module = deeplab.lraspp_mobilenet_v3_large(num_classes=3)
    >>> variables = weights.random_variables(module)
    >>> deeplab.segment(module, variables, jnp.zeros((1, 33, 47, 3))).shape
    (1, 33, 47)

  Source:
    Contract of this library.
  """
  logits: Any = module.apply(variables, images)
  return logits["out"].argmax(-1).astype(jnp.int32)
