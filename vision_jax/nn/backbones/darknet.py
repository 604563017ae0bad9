"""Darknet-53 (Redmon, Farhadi, "YOLOv3", arXiv 1804.02767, table 1)."""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = ["Darknet", "DarknetConv", "darknet53"]


class DarknetConv(nn.Module):
  """Convolution, batch normalisation, leaky ReLU: darknet's one block.

  The padding is symmetric, also at stride 2. Of darknet's two rules for the
  variance the one its GPU code has is taken: sqrt(var + 1e-5).

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel.
    stride: step in pixels.
    train: normalise by the batch and update the running statistics.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.
  """

  features: int
  kernel_size: int
  stride: int = 1
  train: bool = False
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, features]."""
    x = layers.Conv(
      self.features,
      self.kernel_size,
      self.stride,
      use_bias=False,
      dtype=self.dtype,
      name="conv",
    )(x)
    x = layers.BatchNorm(
      use_running_average=not self.train,
      axis_name=self.axis_name,
      momentum=0.99,
      epsilon=1e-5,
      dtype=self.dtype,
      name="norm",
    )(x)
    return layers.LeakyRelu(0.1, name="leaky")(x)


class _Residual(nn.Module):
  """Half the channels, all of them again, and the sum with the input."""

  common: dict[str, Any]

  @nn.compact
  def __call__(self, x):
    features = x.shape[-1]
    y = DarknetConv(features // 2, 1, **self.common, name="conv1")(x)
    y = DarknetConv(features, 3, **self.common, name="conv2")(y)
    return layers.Add(name="add")(x, y)


class _Stage(nn.Module):
  """A convolution of stride 2 and residual blocks."""

  features: int
  num_blocks: int
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x):
    x = DarknetConv(self.features, 3, 2, **self.common, name="down")(x)
    for k in range(self.num_blocks):
      x = _Residual(self.common, name=str(k))(x)
    return x


class Darknet(nn.Module):
  """Darknet: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `conv0`, `stage1` .. `stage5` (strides 2 to 32; YOLOv3 reads the
  last three), `pooled` [B, C]. The layers are called in the order of
  darknet's configuration file, which is that of its files of weights.

  Attributes:
    num_blocks: residual blocks of the five stages.
    width: channels of the first convolution.
    num_classes: size of the logits; None drops the classifier.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_blocks: tuple[int, ...]
  width: int = 32
  num_classes: int | None = 1000
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    common = {
      "train": train,
      "axis_name": self.axis_name,
      "dtype": self.dtype,
    }
    x = DarknetConv(self.width, 3, **common, name="conv0")(images)
    endpoints = {"conv0": x}
    for k, count in enumerate(self.num_blocks, 1):
      x = _Stage(self.width * 2**k, count, common, name=f"stage{k}")(x)
      endpoints[f"stage{k}"] = x
    x = layers.AdaptiveAvgPool((1, 1), name="avgpool")(x)
    endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    # A convolution in darknet too, with a bias and no activation.
    x = layers.Conv(self.num_classes, 1, dtype=self.dtype, name="fc")(x)
    return x.reshape(x.shape[0], -1), endpoints


def darknet53(num_classes: int | None = 1000, **kwargs: Any) -> Darknet:
  """Darknet-53."""
  return Darknet((1, 2, 8, 8, 4), num_classes=num_classes, **kwargs)
