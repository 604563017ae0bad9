"""Xception (Chollet, arXiv 1610.02357) with the layer names of Keras.

There are no weights of torchvision for it. The names of the layers are those
of `keras.applications`; its unnamed shortcut layers are called
``block{k}_shortcut`` and ``block{k}_shortcut_bn`` here.
"""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = ["Xception", "xception"]

# Channels of the separable convolutions of the blocks that halve the sides.
_ENTRY = {2: (128, 128), 3: (256, 256), 4: (728, 728)}
_EXIT = {13: (728, 1024)}
_MIDDLE = {k: (728, 728, 728) for k in range(5, 13)}
_BLOCKS = _ENTRY | _MIDDLE | _EXIT


class _SeparableConv(nn.Module):
  """A depthwise 3x3 convolution and a 1x1 one, nothing between them."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    channels = x.shape[-1]
    x = layers.Conv(
      channels,
      3,
      groups=channels,
      use_bias=False,
      dtype=self.dtype,
      name="depthwise",
    )(x)
    return layers.Conv(
      self.features, 1, use_bias=False, dtype=self.dtype, name="pointwise"
    )(x)


class Xception(nn.Module):
  """Xception: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `block1_conv1`, `block1` (both after ReLU); `block2` .. `block13`,
  the sums; `block{k}_sepconv1` for k = 2, 3, 4, 13, after the ReLU that
  follows, at the stride of the block before; `block14_sepconv1` and `block14`
  (after ReLU); `pooled` [B, C].

  The pools pad as Keras does, asymmetrically where a side is even: the offset
  of a map depends on the size of the image (`nn.endpoint_info`).

  Attributes:
    num_classes: size of the logits; None drops the classifier.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_classes: int | None = 1000
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""

    def norm(x: jax.Array, name: str) -> jax.Array:
      return layers.BatchNorm(
        use_running_average=not train,
        axis_name=self.axis_name,
        momentum=0.99,
        epsilon=1e-3,
        dtype=self.dtype,
        name=f"{name}_bn",
      )(x)

    def separable(x: jax.Array, features: int, name: str) -> jax.Array:
      return norm(_SeparableConv(features, self.dtype, name=name)(x), name)

    def conv(x: jax.Array, name: str, features: int, **options: Any):
      options |= {"use_bias": False, "dtype": self.dtype}
      return norm(layers.Conv(features, **options, name=name)(x), name)

    endpoints = {}
    x = conv(images, "block1_conv1", 32, kernel_size=3, stride=2, padding=0)
    x = endpoints["block1_conv1"] = layers.Relu(name="block1_conv1_act")(x)
    x = conv(x, "block1_conv2", 64, kernel_size=3, padding=0)
    x = endpoints["block1"] = layers.Relu(name="block1_conv2_act")(x)
    for k, widths in _BLOCKS.items():
      y = x
      for n, features in enumerate(widths, 1):
        name = f"block{k}_sepconv{n}"
        if (k, n) != (2, 1):  # its input is behind a ReLU already
          y = layers.Relu(name=f"{name}_act")(y)
        if n == 2 and len(widths) == 2:
          endpoints[f"block{k}_sepconv1"] = y
        y = separable(y, features, name)
      if k not in _MIDDLE:
        y = layers.MaxPool(3, 2, "SAME", name=f"block{k}_pool")(y)
        x = conv(x, f"block{k}_shortcut", widths[-1], kernel_size=1, stride=2)
      x = endpoints[f"block{k}"] = layers.Add(name=f"block{k}_add")(y, x)
    for n, features in enumerate((1536, 2048), 1):
      name = f"block14_sepconv{n}"
      x = layers.Relu(name=f"{name}_act")(separable(x, features, name))
      endpoints["block14" if n == 2 else name] = x
    x = layers.AdaptiveAvgPool((1, 1), name="avg_pool")(x)
    x = endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    logits = layers.Dense(
      self.num_classes, dtype=self.dtype, name="predictions"
    )(x)
    return logits, endpoints


def xception(num_classes: int | None = 1000, **kwargs: Any) -> Xception:
  """Xception with the layers of Keras."""
  return Xception(num_classes, **kwargs)
