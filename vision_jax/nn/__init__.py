"""Flax modules: layers that can be intercepted, and backbones."""

from vision_jax.nn import backbones
from vision_jax.nn.convolution import conv2d
from vision_jax.nn.excitation import TopDownRule, top_down
from vision_jax.nn.inspection import (
  EndpointInfo,
  LayerInfo,
  endpoint_info,
  layer_table,
)
from vision_jax.nn.layer_outputs import layer_stride, read_layers
from vision_jax.nn.layers import (
  AdaptiveAvgPool,
  Add,
  AvgPool,
  BatchNorm,
  Concat,
  Conv,
  Dense,
  Dropout,
  HardSigmoid,
  HardSwish,
  LeakyRelu,
  MaxPool,
  Multiply,
  Relu,
  Relu6,
  Sigmoid,
  SqueezeExcitation,
)

__all__ = [
  "AdaptiveAvgPool",
  "Add",
  "AvgPool",
  "BatchNorm",
  "Concat",
  "Conv",
  "Dense",
  "Dropout",
  "EndpointInfo",
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
  "TopDownRule",
  "backbones",
  "conv2d",
  "endpoint_info",
  "layer_stride",
  "layer_table",
  "read_layers",
  "top_down",
]
