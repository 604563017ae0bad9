"""The one convolution every layer calls.

Two formulations of the same sum: XLA's convolution, and, for a small kernel
over few channels (the first layer of a VGG), a product with the gathered
patches. On a CPU the second makes the derivative with respect to the image,
which saliency needs, several times faster: XLA would convolve 64 channels
down to 3, a shape its kernels do badly. (For the 7 x 7 kernel of a ResNet the
patches cost more than they save.)
"""

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["conv2d"]

_MOST_TAPS = 36  # kernel elements over all channels: 3 x 3 x 4


def _patches(x: jax.Array, size: int, stride: int, dilation: int) -> jax.Array:
  """[B, H, W, C] -> [B, h, w, size * size * C], taps in row-major order."""
  reach = dilation * (size - 1) + 1
  rows = (x.shape[1] - reach) // stride + 1
  cols = (x.shape[2] - reach) // stride + 1
  views = [
    x[
      :,
      i : i + (rows - 1) * stride + 1 : stride,
      j : j + (cols - 1) * stride + 1 : stride,
    ]
    for i in range(0, reach, dilation)
    for j in range(0, reach, dilation)
  ]
  return jnp.concatenate(views, axis=-1)


def conv2d(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  padding: int = 0,
  dilation: int = 1,
  groups: int = 1,
) -> jax.Array:
  """2D convolution (correlation, as in every network) without bias.

  Convention:
    Layout [B, H, W, C]; kernel [k, k, C / groups, O]; zero padding on both
    sides of both axes.

  Args:
    x: features, float [B, H, W, C].
    kernel: weights, float [k, k, C / groups, O].
    stride: step in pixels.
    padding: zeros on each side.
    dilation: distance between taps.
    groups: number of channel groups.

  Returns:
    Features [B, h, w, O], h = (H + 2 padding - dilation (k - 1) - 1) //
    stride + 1.

  Raises:
    ValueError: if `x` is not [B, H, W, C], its channels do not fit the
      kernel, or it is smaller than the kernel's reach.

  Example:
    >>> from vision_jax.nn import conv2d
    >>> conv2d(jnp.ones((1, 5, 6, 3)), jnp.ones((3, 3, 3, 2))).shape
    (1, 3, 4, 2)

  Source:
    torch.nn.functional.conv2d; checked against it and a NumPy loop.
  """
  if x.ndim != 4 or x.shape[-1] != kernel.shape[2] * groups:
    raise ValueError(
      "conv2d: `x` must be [B, H, W, C] with C = "
      f"{kernel.shape[2] * groups} channels, got shape {x.shape}."
    )
  reach = dilation * (kernel.shape[0] - 1) + 1
  if min(x.shape[1], x.shape[2]) + 2 * padding < reach:
    raise ValueError(
      f"conv2d: `x` must be at least {reach - 2 * padding} pixels high and "
      f"wide for this kernel, got {x.shape[1]} x {x.shape[2]}; use a larger "
      "image or an earlier layer."
    )
  on_cpu = jax.default_backend() == "cpu"
  few = kernel.shape[0] ** 2 * x.shape[-1] <= _MOST_TAPS
  if on_cpu and few and groups == 1 and kernel.shape[0] > 1:
    pad = (padding, padding)
    x = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
    patches = _patches(x, kernel.shape[0], stride, dilation)
    return jnp.matmul(patches, kernel.reshape(-1, kernel.shape[-1]))
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding), (padding, padding)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )
