"""Flax modules: layers that can be intercepted, and backbones."""

from vision_jax.nn import (
  backbones,
)
from vision_jax.nn.aspp import (
  ASPP,
  DeepLabHead,
  DeepLabPlusHead,
  DeepLabWindowHead,
)
from vision_jax.nn.canvas_masks import (
  mask_canvas,
)
from vision_jax.nn.convolution import (
  conv2d,
)
from vision_jax.nn.excitation import (
  TopDownRule,
  top_down,
)
from vision_jax.nn.inspection import (
  EndpointInfo,
  LayerInfo,
  endpoint_info,
  layer_table,
)
from vision_jax.nn.layer_outputs import (
  layer_stride,
  read_layers,
)
from vision_jax.nn.layers import (
  AdaptiveAvgPool,
  Add,
  AvgPool,
  BatchNorm,
  Concat,
  Conv,
  ConvTranspose,
  Dense,
  Dropout,
  FrozenBatchNorm,
  HardSigmoid,
  HardSwish,
  LeakyRelu,
  MaxPool,
  Multiply,
  Relu,
  Relu6,
  Sigmoid,
  SqueezeExcitation,
  batch_norm,
)
from vision_jax.nn.point_heads import (
  CoarseMaskHead,
  ConvMaskHead,
  PointHead,
)
from vision_jax.nn.pyramids import (
  ConvBlock,
  FeaturePyramid,
)
from vision_jax.nn.segmentation_heads import (
  FCNHead,
  LRASPPHead,
  SemanticFPNHead,
)

__all__ = [
  "ASPP",
  "AdaptiveAvgPool",
  "Add",
  "AvgPool",
  "BatchNorm",
  "CoarseMaskHead",
  "Concat",
  "Conv",
  "ConvBlock",
  "ConvMaskHead",
  "ConvTranspose",
  "DeepLabHead",
  "DeepLabPlusHead",
  "DeepLabWindowHead",
  "Dense",
  "Dropout",
  "EndpointInfo",
  "FCNHead",
  "FeaturePyramid",
  "FrozenBatchNorm",
  "HardSigmoid",
  "HardSwish",
  "LRASPPHead",
  "LayerInfo",
  "LeakyRelu",
  "MaxPool",
  "Multiply",
  "PointHead",
  "Relu",
  "Relu6",
  "SemanticFPNHead",
  "Sigmoid",
  "SqueezeExcitation",
  "TopDownRule",
  "backbones",
  "batch_norm",
  "conv2d",
  "endpoint_info",
  "layer_stride",
  "layer_table",
  "mask_canvas",
  "read_layers",
  "top_down",
]
