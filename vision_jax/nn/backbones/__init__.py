"""Networks by name: parameters as torchvision has them, endpoints as papers.

Every network is a Flax module with
``apply(variables, images [B, H, W, 3], train=False) -> (logits, endpoints)``.
``MODELS`` lists the constructors by name.
"""

from collections.abc import Callable

import flax.linen as nn

from vision_jax.nn.backbones.alex import AlexNet, alexnet
from vision_jax.nn.backbones.resnet import (
  ResNet,
  resnet18,
  resnet34,
  resnet50,
  resnet101,
  resnet152,
  resnet_small,
  resnext50_32x4d,
  resnext101_32x8d,
  resnext101_64x4d,
  wide_resnet50_2,
  wide_resnet101_2,
)
from vision_jax.nn.backbones.vgg import (
  VGG,
  fold_batch_norm,
  vgg11,
  vgg11_bn,
  vgg13,
  vgg13_bn,
  vgg16,
  vgg16_bn,
  vgg19,
  vgg19_bn,
  vgg_small,
)

__all__ = [
  "MODELS",
  "VGG",
  "AlexNet",
  "ResNet",
  "alexnet",
  "fold_batch_norm",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "resnet152",
  "resnet_small",
  "resnext50_32x4d",
  "resnext101_32x8d",
  "resnext101_64x4d",
  "vgg11",
  "vgg11_bn",
  "vgg13",
  "vgg13_bn",
  "vgg16",
  "vgg16_bn",
  "vgg19",
  "vgg19_bn",
  "vgg_small",
  "wide_resnet50_2",
  "wide_resnet101_2",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
  "alexnet": alexnet,
  "resnet18": resnet18,
  "resnet34": resnet34,
  "resnet50": resnet50,
  "resnet101": resnet101,
  "resnet152": resnet152,
  "resnet_small": resnet_small,
  "resnext50_32x4d": resnext50_32x4d,
  "resnext101_32x8d": resnext101_32x8d,
  "resnext101_64x4d": resnext101_64x4d,
  "vgg11": vgg11,
  "vgg11_bn": vgg11_bn,
  "vgg13": vgg13,
  "vgg13_bn": vgg13_bn,
  "vgg16": vgg16,
  "vgg16_bn": vgg16_bn,
  "vgg19": vgg19,
  "vgg19_bn": vgg19_bn,
  "vgg_small": vgg_small,
  "wide_resnet50_2": wide_resnet50_2,
  "wide_resnet101_2": wide_resnet101_2,
}
