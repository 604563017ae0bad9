"""Networks by name: parameters as torchvision has them, endpoints as papers.

Every network is a Flax module with
``apply(variables, images [B, H, W, 3], train=False) -> (logits, endpoints)``.
``MODELS`` lists the constructors by name. Darknet-53 and Xception, which
torchvision does not have, keep the layers of darknet and Keras.
"""

from collections.abc import Callable

import flax.linen as nn

from vision_jax.nn.backbones.alex import AlexNet, alexnet
from vision_jax.nn.backbones.darknet import Darknet, DarknetConv, darknet53
from vision_jax.nn.backbones.densenet import (
  DenseNet,
  densenet121,
  densenet161,
  densenet169,
  densenet201,
)
from vision_jax.nn.backbones.mobilenet import (
  MobileNetV2,
  MobileNetV3,
  mobilenet_v2,
  mobilenet_v3_large,
  mobilenet_v3_large_features,
  mobilenet_v3_small,
)
from vision_jax.nn.backbones.resnet import (
  ResNet,
  resnet14_small,
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
from vision_jax.nn.backbones.squeezenet import (
  SqueezeNet,
  squeezenet1_0,
  squeezenet1_1,
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
from vision_jax.nn.backbones.xception_net import Xception, xception

__all__ = [
  "MODELS",
  "VGG",
  "AlexNet",
  "Darknet",
  "DarknetConv",
  "DenseNet",
  "MobileNetV2",
  "MobileNetV3",
  "ResNet",
  "SqueezeNet",
  "Xception",
  "alexnet",
  "darknet53",
  "densenet121",
  "densenet161",
  "densenet169",
  "densenet201",
  "fold_batch_norm",
  "mobilenet_v2",
  "mobilenet_v3_large",
  "mobilenet_v3_large_features",
  "mobilenet_v3_small",
  "resnet14_small",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "resnet152",
  "resnet_small",
  "resnext50_32x4d",
  "resnext101_32x8d",
  "resnext101_64x4d",
  "squeezenet1_0",
  "squeezenet1_1",
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
  "xception",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
  "alexnet": alexnet,
  "darknet53": darknet53,
  "densenet121": densenet121,
  "densenet161": densenet161,
  "densenet169": densenet169,
  "densenet201": densenet201,
  "mobilenet_v2": mobilenet_v2,
  "mobilenet_v3_large": mobilenet_v3_large,
  "mobilenet_v3_small": mobilenet_v3_small,
  "resnet18": resnet18,
  "resnet34": resnet34,
  "resnet50": resnet50,
  "resnet101": resnet101,
  "resnet152": resnet152,
  "resnet14_small": resnet14_small,
  "resnet_small": resnet_small,
  "resnext50_32x4d": resnext50_32x4d,
  "resnext101_32x8d": resnext101_32x8d,
  "resnext101_64x4d": resnext101_64x4d,
  "squeezenet1_0": squeezenet1_0,
  "squeezenet1_1": squeezenet1_1,
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
  "xception": xception,
}
