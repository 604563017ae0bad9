"""Layers as modules, so that every one of them can be intercepted.

Convolutions, dense layers, batch normalisation, ReLU, pooling, additions and
concatenations are all module calls: `flax.linen.intercept_methods` can read
activations, replace derivative rules or mask padding without a change to a
backbone. Layout [B, H, W, C]. Padding is explicit and symmetric, as in torch.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import convolution
from vision_jax.ops import pooling, sampling

__all__ = [
  "AdaptiveAvgPool",
  "Add",
  "AvgPool",
  "BatchNorm",
  "Concat",
  "Conv",
  "Dense",
  "Dropout",
  "MaxPool",
  "Relu",
]

Dense = nn.Dense
Dropout = nn.Dropout


class Conv(nn.Module):
  """2D convolution with torch's padding and He-normal (fan-out) kernels.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel.
    stride: step in pixels.
    padding: zeros on each side; None keeps the size at stride 1.
    dilation: distance between taps.
    groups: number of channel groups.
    use_bias: whether a bias is added.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> variables = nn.Conv(8, 3, stride=2).init(jax.random.key(0), x)
    >>> nn.Conv(8, 3, stride=2).apply(variables, x).shape
    (1, 3, 4, 8)
  """

  features: int
  kernel_size: int
  stride: int = 1
  padding: int | None = None
  dilation: int = 1
  groups: int = 1
  use_bias: bool = True
  dtype: Any = None

  def pad(self) -> int:
    """Zeros added on each side."""
    if self.padding is not None:
      return self.padding
    return self.dilation * (self.kernel_size - 1) // 2

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, features]."""
    kernel = self.param(
      "kernel",
      nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
      (
        self.kernel_size,
        self.kernel_size,
        x.shape[-1] // self.groups,
        self.features,
      ),
      jnp.float32,
    )
    bias = None
    if self.use_bias:
      bias = self.param(
        "bias", nn.initializers.zeros, (self.features,), jnp.float32
      )
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    y = convolution.conv2d(
      x,
      kernel,
      stride=self.stride,
      padding=self.pad(),
      dilation=self.dilation,
      groups=self.groups,
    )
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class BatchNorm(nn.BatchNorm):
  """Batch normalisation with exact variance and torch's constants.

  Flax's `momentum` is the share that is kept: torch's 0.1 is 0.9 here. The
  running variance is the biased one (torch stores the unbiased).

  Attributes:
    momentum: share of the running statistics that an update keeps.
    epsilon: added to the variance.
    use_fast_variance: False: E[(x - E[x])^2], exact for large means.
  """

  momentum: float = 0.9
  epsilon: float = 1e-5
  use_fast_variance: bool = False


class Relu(nn.Module):
  """max(x, 0), elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return nn.relu(x)


class MaxPool(nn.Module):
  """`ops.max_pool` as a module.

  Attributes:
    window: side of the window.
    stride: step; None means `window`.
    padding: -inf on each side.
    ceil_mode: keep a partial last window.
  """

  window: int = 2
  stride: int | None = None
  padding: int = 0
  ceil_mode: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, C]."""
    return pooling.max_pool(
      x,
      window=self.window,
      stride=self.stride,
      padding=self.padding,
      ceil_mode=self.ceil_mode,
    )


class AvgPool(nn.Module):
  """Mean of each window; padding counts as zeros (torch's default).

  Attributes:
    window: side of the window.
    stride: step; None means `window`.
    padding: zeros on each side.
  """

  window: int = 2
  stride: int | None = None
  padding: int = 0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, C]."""
    stride = self.window if self.stride is None else self.stride
    pads = [(self.padding, self.padding)] * 2
    return nn.avg_pool(x, (self.window,) * 2, (stride,) * 2, pads)


class AdaptiveAvgPool(nn.Module):
  """Means over a fixed number of cells, as torch.nn.AdaptiveAvgPool2d.

  Attributes:
    size: rows and columns of the result; cell i of n pixels averages
      floor(i n / size) .. ceil((i + 1) n / size).
  """

  size: tuple[int, int]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C]."""
    if tuple(self.size) == (1, 1):
      return x.mean((-3, -2), keepdims=True)
    return sampling.resize(x, self.size, mode="area")


class Add(nn.Module):
  """Sum of two maps (a residual addition)."""

  @nn.compact
  def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """[...], [...] -> [...]."""
    return x + y


class Concat(nn.Module):
  """Maps joined along the channels."""

  @nn.compact
  def __call__(self, xs: Sequence[jax.Array]) -> jax.Array:
    """[..., C0], [..., C1], ... -> [..., C0 + C1 + ...]."""
    return jnp.concatenate(list(xs), axis=-1)
