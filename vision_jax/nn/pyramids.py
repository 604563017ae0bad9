"""Feature pyramids: maps of several strides with one number of channels.

Lin et al., "Feature Pyramid Networks for Object Detection" (arXiv 1612.03144);
names of the parameters as in torchvision.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers
from vision_jax.ops import sampling

__all__ = ["ConvBlock", "FeaturePyramid"]


class ConvBlock(nn.Module):
  """Convolution "0", then normalisation "1" and ReLU "2" where wanted.

  A normalised convolution has no bias.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel.
    use_norm: whether batch normalisation follows.
    use_relu: whether a ReLU follows.
    dilation: distance between taps.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.
    kernel_init: how kernels start; None is that of `Conv`.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> block = nn.ConvBlock(8, 3)
    >>> block.apply(block.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 8)
  """

  features: int
  kernel_size: int
  use_norm: bool = False
  use_relu: bool = True
  dilation: int = 1
  axis_name: str | None = None
  dtype: Any = None
  kernel_init: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, features]."""
    x = layers.Conv(
      self.features,
      self.kernel_size,
      dilation=self.dilation,
      use_bias=not self.use_norm,
      dtype=self.dtype,
      kernel_init=self.kernel_init,
      name="0",
    )(x)
    if self.use_norm:
      x = layers.BatchNorm(
        use_running_average=not train,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name="1",
      )(x)
    return layers.Relu(name="2")(x) if self.use_relu else x


class _Level(nn.Module):
  """One convolution for each map, named by its number."""

  features: int
  kernel_size: int
  options: dict[str, Any]

  @nn.compact
  def __call__(self, maps, train):
    return [
      ConvBlock(
        self.features,
        self.kernel_size,
        use_relu=False,
        **self.options,
        name=str(k),
      )(x, train=train)
      for k, x in enumerate(maps)
    ]


class Subsample(nn.Module):
  """Every second cell of every second row: the coarsest level of a pyramid."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C]."""
    return x[:, ::2, ::2]


class FeaturePyramid(nn.Module):
  """Maps of falling resolution -> maps with `features` channels each.

  A 1x1 convolution of each map, to which the next coarser sum is added,
  enlarged without interpolation, and a 3x3 convolution of each sum. One more
  level is the coarsest one, subsampled.

  Attributes:
    features: channels of all results.
    use_norm: whether batch normalisation follows each convolution.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> maps = [jnp.ones((1, 8, 12, 3)), jnp.ones((1, 4, 6, 5))]
    >>> pyramid = nn.FeaturePyramid(16)
    >>> variables = pyramid.init(jax.random.key(0), maps)
    >>> [x.shape for x in pyramid.apply(variables, maps)]
    [(1, 8, 12, 16), (1, 4, 6, 16), (1, 2, 3, 16)]
  """

  features: int = 256
  use_norm: bool = False
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, maps: Sequence[jax.Array], *, train: bool = False
  ) -> list[jax.Array]:
    """[B, H_l, W_l, C_l] of L levels -> [B, H_l, W_l, features] of L + 1."""
    options = {
      "use_norm": self.use_norm,
      "axis_name": self.axis_name,
      "dtype": self.dtype,
      "kernel_init": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
    }
    sums = _Level(self.features, 1, options, name="inner_blocks")(maps, train)
    for k in range(len(sums) - 2, -1, -1):
      above = sampling.resize(sums[k + 1], sums[k].shape[1:3], mode="nearest")
      sums[k] = layers.Add(name=f"add{k}")(sums[k], above)
    levels = _Level(self.features, 3, options, name="layer_blocks")(sums, train)
    return [*levels, Subsample(name="pool")(levels[-1])]
