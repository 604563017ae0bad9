"""Layers as modules, so that every one of them can be intercepted.

Convolutions, dense layers, batch normalisation, activations, pooling, sums,
products and concatenations are all module calls:
`flax.linen.intercept_methods` can read activations, replace derivative rules
or mask padding without a change to a backbone. Layout [B, H, W, C]. Padding
is explicit and symmetric, as in torch. At a kink of an activation the
derivative is torch's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import convolution
from vision_jax.nn.normalization import (
  BatchNorm,
  FrozenBatchNorm,
  batch_norm,
)
from vision_jax.ops import pooling, sampling

__all__ = [
  "AdaptiveAvgPool",
  "Add",
  "AvgPool",
  "BatchNorm",
  "Concat",
  "Conv",
  "ConvTranspose",
  "Dense",
  "Dropout",
  "FrozenBatchNorm",
  "HardSigmoid",
  "HardSwish",
  "LeakyRelu",
  "MaxPool",
  "Multiply",
  "Relu",
  "Relu6",
  "Sigmoid",
  "SqueezeExcitation",
  "batch_norm",
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
    kernel_init: how the kernel starts, instead of He-normal.

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
  kernel_init: Any = None

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
      self.kernel_init
      or nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal"),
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


class ConvTranspose(nn.Module):
  """2D transposed convolution with torch's padding and kernel.

  The result has (n - 1) stride - 2 padding + kernel_size cells along an axis.
  The kernel [k, k, out, in] is that of the convolution whose transpose this
  is, as in torch.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel.
    stride: cells of the result per cell of the input.
    padding: cells cut off on each side.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> layer = nn.ConvTranspose(8, 4, stride=2, padding=1)
    >>> layer.apply(layer.init(jax.random.key(0), x), x).shape
    (1, 10, 14, 8)
  """

  features: int
  kernel_size: int
  stride: int = 1
  padding: int = 0
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, features]."""
    size, stride = self.kernel_size, self.stride
    kernel = self.param(
      "kernel",
      nn.initializers.variance_scaling(
        2.0, "fan_out", "truncated_normal", in_axis=-2, out_axis=-1
      ),
      (size, size, self.features, x.shape[-1]),
      jnp.float32,
    )
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), jnp.float32
    )
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    if size == stride and self.padding == 0:
      # Nothing overlaps: one product, its results laid side by side.
      y = jnp.einsum("...hwc,ijfc->...hiwjf", x, kernel)
      high, wide = x.shape[-3] * stride, x.shape[-2] * stride
      y = y.reshape(*x.shape[:-3], high, wide, self.features)
    else:
      pad = size - 1 - self.padding
      y = jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1].transpose(0, 1, 3, 2),
        (1, 1),
        ((pad, pad), (pad, pad)),
        lhs_dilation=(stride, stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
    return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class Relu(nn.Module):
  """max(x, 0), elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return nn.relu(x)


class LeakyRelu(nn.Module):
  """x where it is positive, `negative_slope` x elsewhere.

  Attributes:
    negative_slope: share of the negative values that is kept.
  """

  negative_slope: float = 0.01

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return jnp.where(x > 0, x, self.negative_slope * x)


class Relu6(nn.Module):
  """min(max(x, 0), 6), elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return _relu6(x)


class HardSigmoid(nn.Module):
  """min(max(x + 3, 0), 6) / 6, elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return _relu6(x + 3) / 6


class HardSwish(nn.Module):
  """x min(max(x + 3, 0), 6) / 6, elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return x * _relu6(x + 3) / 6


class Sigmoid(nn.Module):
  """1 / (1 + exp(-x)), elementwise."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[...] -> [...]."""
    return nn.sigmoid(x)


def _relu6(x: jax.Array) -> jax.Array:
  """Zero derivative at both ends, which minimum and maximum would halve."""
  return jnp.where(x <= 0, 0, jnp.where(x >= 6, 6, x)).astype(x.dtype)


class MaxPool(nn.Module):
  """`ops.max_pool` as a module.

  Attributes:
    window: side of the window.
    stride: step; None means `window`.
    padding: -inf on each side; or "SAME" for ceil(size / stride) cells, as in
      Keras: where the padding is odd, right and bottom get more.
    ceil_mode: keep a partial last window.
  """

  window: int = 2
  stride: int | None = None
  padding: int | str = 0
  ceil_mode: bool = False

  def pads(self, size: Sequence[int]) -> tuple[int, int]:
    """Padding (above, to the left) of a map of `size` rows and columns."""
    if isinstance(self.padding, int):
      return self.padding, self.padding
    step = self.window if self.stride is None else self.stride
    if self.padding != "SAME" or not 1 < step <= self.window:
      raise ValueError(
        'MaxPool: `padding` must be a number, or "SAME" for a stride of 2 to '
        f"{self.window}, got {self.padding!r} for a stride of {step}."
      )
    low = [max((-(-n // step) - 1) * step + self.window - n, 0) for n in size]
    return low[0] // 2, low[1] // 2

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, C]."""
    return pooling.max_pool(
      x,
      window=self.window,
      stride=self.stride,
      padding=self.pads(x.shape[-3:-1]),
      ceil_mode=self.ceil_mode or self.padding == "SAME",
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


class Multiply(nn.Module):
  """Product of a map and gates (squeeze and excitation)."""

  @nn.compact
  def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """[B, H, W, C], [B, 1, 1, C] or the same shape -> [B, H, W, C]."""
    return x * y


class SqueezeExcitation(nn.Module):
  """Channels scaled by gates that are computed from their means.

  Hu et al., "Squeeze-and-Excitation Networks" (arXiv 1709.01507); names as in
  torchvision.

  Attributes:
    features: width of the hidden layer.
    gate: makes the module that turns its output into gates.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 8))
    >>> module = nn.SqueezeExcitation(2)
    >>> module.apply(module.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 8)
  """

  features: int
  gate: Callable[..., nn.Module] = Sigmoid
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, C]."""
    y = AdaptiveAvgPool((1, 1), name="avgpool")(x)
    y = Conv(self.features, 1, dtype=self.dtype, name="fc1")(y)
    y = Relu(name="activation")(y)
    y = Conv(x.shape[-1], 1, dtype=self.dtype, name="fc2")(y)
    y = self.gate(name="scale_activation")(y)
    return Multiply(name="scale")(x, y)
