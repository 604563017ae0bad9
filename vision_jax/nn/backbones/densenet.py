"""DenseNet-BC (Huang et al., arXiv 1608.06993), torchvision's names."""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = [
  "DenseNet",
  "densenet121",
  "densenet161",
  "densenet169",
  "densenet201",
]

_BOTTLENECK = 4  # channels of a 1x1 convolution, in growth rates


class _DenseLayer(nn.Module):
  """Adds `growth_rate` channels, computed from all channels so far."""

  growth_rate: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    y = x
    convs = ((_BOTTLENECK * self.growth_rate, 1), (self.growth_rate, 3))
    for k, (features, size) in enumerate(convs, 1):
      y = layers.BatchNorm(**self.norm, name=f"norm{k}")(y)
      y = layers.Relu(name=f"relu{k}")(y)
      y = layers.Conv(
        features, size, use_bias=False, dtype=self.dtype, name=f"conv{k}"
      )(y)
    return layers.Concat(name="concat")([x, y])


class _DenseBlock(nn.Module):
  """A sequence of dense layers."""

  num_layers: int
  growth_rate: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    for k in range(1, self.num_layers + 1):
      x = _DenseLayer(
        self.growth_rate, self.norm, self.dtype, name=f"denselayer{k}"
      )(x)
    return x


class _Transition(nn.Module):
  """Halves the channels and the sides."""

  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    features = x.shape[-1] // 2
    x = layers.BatchNorm(**self.norm, name="norm")(x)
    x = layers.Relu(name="relu")(x)
    x = layers.Conv(features, 1, use_bias=False, dtype=self.dtype, name="conv")(
      x
    )
    return layers.AvgPool(2, name="pool")(x)


class _Features(nn.Module):
  """Stem, dense blocks and the transitions between them."""

  growth_rate: int
  num_layers: tuple[int, ...]
  width: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    endpoints = {}
    x = layers.Conv(
      self.width, 7, 2, use_bias=False, dtype=self.dtype, name="conv0"
    )(x)
    x = layers.BatchNorm(**self.norm, name="norm0")(x)
    x = endpoints["conv0"] = layers.Relu(name="relu0")(x)
    x = endpoints["pool0"] = layers.MaxPool(3, 2, 1, name="pool0")(x)
    for k, count in enumerate(self.num_layers, 1):
      x = _DenseBlock(
        count, self.growth_rate, self.norm, self.dtype, name=f"denseblock{k}"
      )(x)
      endpoints[f"denseblock{k}"] = x
      if k < len(self.num_layers):
        x = _Transition(self.norm, self.dtype, name=f"transition{k}")(x)
        endpoints[f"transition{k}"] = x
    x = layers.BatchNorm(**self.norm, name="norm5")(x)
    x = endpoints["relu5"] = layers.Relu(name="relu5")(x)
    return x, endpoints


class DenseNet(nn.Module):
  """DenseNet: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `conv0` (after ReLU), `pool0`, `denseblock1` .. `denseblock4`
  (before the normalisation that follows), `transition1` .. `transition3`,
  `relu5`, `pooled` [B, C]. Parameter paths joined by "." are torchvision's.

  Attributes:
    growth_rate: channels that each dense layer adds.
    num_layers: dense layers of the blocks.
    width: channels of the stem.
    num_classes: size of the logits; None drops the classifier.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  growth_rate: int
  num_layers: tuple[int, ...]
  width: int = 64
  num_classes: int | None = 1000
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    norm = {
      "use_running_average": not train,
      "axis_name": self.axis_name,
      "dtype": self.dtype,
    }
    x, endpoints = _Features(
      self.growth_rate,
      self.num_layers,
      self.width,
      norm,
      self.dtype,
      name="features",
    )(images)
    x = layers.AdaptiveAvgPool((1, 1), name="avgpool")(x)
    x = endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    return layers.Dense(self.num_classes, dtype=self.dtype, name="classifier")(
      x
    ), endpoints


def densenet121(num_classes: int | None = 1000, **kwargs: Any) -> DenseNet:
  """DenseNet-121."""
  return DenseNet(32, (6, 12, 24, 16), num_classes=num_classes, **kwargs)


def densenet161(num_classes: int | None = 1000, **kwargs: Any) -> DenseNet:
  """DenseNet-161: growth rate 48, 96 channels after the stem."""
  return DenseNet(48, (6, 12, 36, 24), 96, num_classes=num_classes, **kwargs)


def densenet169(num_classes: int | None = 1000, **kwargs: Any) -> DenseNet:
  """DenseNet-169."""
  return DenseNet(32, (6, 12, 32, 32), num_classes=num_classes, **kwargs)


def densenet201(num_classes: int | None = 1000, **kwargs: Any) -> DenseNet:
  """DenseNet-201."""
  return DenseNet(32, (6, 12, 48, 32), num_classes=num_classes, **kwargs)
