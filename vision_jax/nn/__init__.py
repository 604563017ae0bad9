"""Flax modules: layers that can be intercepted, and backbones."""

from vision_jax.nn import backbones
from vision_jax.nn.canvas_masks import mask_canvas
from vision_jax.nn.convolution import conv2d
from vision_jax.nn.inspection import (
  EndpointInfo,
  LayerInfo,
  endpoint_info,
  layer_table,
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
from vision_jax.nn.pyramids import ConvBlock, FeaturePyramid

__all__ = [
  "AdaptiveAvgPool",
  "Add",
  "AvgPool",
  "BatchNorm",
  "Concat",
  "Conv",
  "ConvBlock",
  "ConvTranspose",
  "Dense",
  "Dropout",
  "EndpointInfo",
  "FeaturePyramid",
  "FrozenBatchNorm",
  "HardSigmoid",
  "HardSwish",
  "LayerInfo",
  "LeakyRelu",
  "MaxPool",
  "Multiply",
  "Relu",
  "Relu6",
  "Sigmoid",
  "SqueezeExcitation",
  "backbones",
  "batch_norm",
  "conv2d",
  "endpoint_info",
  "layer_table",
  "mask_canvas",
]
