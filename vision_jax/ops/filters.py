"""Filters on maps: Gaussian blur, histograms and the entropy threshold."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["gaussian_blur", "gaussian_kernel", "histogram", "kapur_threshold"]


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
  r"""Sampled Gaussian of odd length that sums to one.

  Computes :math:`w_i \propto \exp(-(i - (k-1)/2)^2 / (2 \sigma^2))`.

  Args:
    size: number of taps k, odd and positive.
    sigma: standard deviation in pixels, positive.

  Returns:
    Weights, NumPy float64 [k].

  Raises:
    ValueError: if `size` is even or not positive, or `sigma` not positive.

  Example:
    >>> from vision_jax.ops import gaussian_kernel
    >>> print(gaussian_kernel(3, 1.0).round(3))
    [0.274 0.452 0.274]

  Source:
    OpenCV `getGaussianKernel` for a given sigma; ELF (arXiv 1907.03261).
  """
  if size < 1 or size % 2 == 0:
    raise ValueError(
      f"gaussian_kernel: `size` must be odd and positive, got {size}."
    )
  if not sigma > 0:
    raise ValueError(f"gaussian_kernel: `sigma` must be > 0, got {sigma}.")
  offsets = np.arange(size) - (size - 1) / 2
  weights = np.exp(-(offsets**2) / (2 * sigma**2))
  return weights / weights.sum()


_MOST_SLICES = 15  # longer kernels are convolutions: shorter programs


def correlate_axis(x: jax.Array, weights: np.ndarray, axis: int) -> jax.Array:
  """Correlation along one axis with reflect-101 borders (no repeated edge)."""
  return _correlate_axis(x, jnp.asarray(weights, x.dtype), axis % x.ndim)


@functools.partial(jax.jit, static_argnames="axis")
def _correlate_axis(x, weights, axis):
  radius = len(weights) // 2
  pad = [(0, 0)] * x.ndim
  pad[axis] = (radius, radius)
  padded = jnp.pad(x, pad, mode="reflect")
  length = x.shape[axis]
  if len(weights) > _MOST_SLICES:
    lines = jnp.moveaxis(padded, axis, -1)
    total = lax.conv_general_dilated(
      lines.reshape(-1, 1, lines.shape[-1]),
      weights[None, None],
      (1,),
      "VALID",
      precision="highest",
    )
    total = total.reshape(*lines.shape[:-1], length)
    return jnp.moveaxis(total, -1, axis)
  total = jnp.zeros_like(x)
  for k in range(len(weights)):
    part = lax.slice_in_dim(padded, k, k + length, axis=axis)
    total = total + weights[k] * part
  return total


def gaussian_blur(
  maps: jax.Array,
  *,
  size: int,
  sigma: float,
  axes: tuple[int, int] = (-2, -1),
) -> jax.Array:
  """Separable Gaussian blur with reflect-101 borders.

  Convention:
    The two spatial axes are the last two, [..., H, W], unless `axes` names
    others, such as (-3, -2) for [..., H, W, C]. The border mirrors without
    repeating the edge pixel (OpenCV BORDER_REFLECT_101, SciPy "mirror").

  Args:
    maps: float [..., H, W].
    size: number of taps, odd; at most 2 min(H, W) - 1.
    sigma: standard deviation in pixels.
    axes: the vertical and the horizontal axis.

  Returns:
    Blurred maps, same shape and dtype.

  Raises:
    ValueError: if the kernel is malformed or too long for the maps.

  Example:
    >>> from vision_jax.ops import gaussian_blur
    >>> spot = jnp.zeros((5, 7)).at[2, 3].set(1.0)
    >>> print(round(float(gaussian_blur(spot, size=3, sigma=1.0)[2, 3]), 4))
    0.2042

  Source:
    ELF (arXiv 1907.03261), sec. 3; checked against SciPy `correlate1d`.
  """
  weights = gaussian_kernel(size, sigma)
  lengths = tuple(maps.shape[a] for a in axes)
  if size // 2 >= min(lengths):
    raise ValueError(
      f"gaussian_blur: `size` must be at most {2 * min(lengths) - 1} for "
      f"maps of {lengths[0]} x {lengths[1]}, got {size}."
    )
  for axis in axes:
    maps = correlate_axis(maps, weights, axis)
  return maps


def histogram(levels: jax.Array, *, num_bins: int = 256) -> jax.Array:
  """Counts of integer levels over all elements.

  Args:
    levels: integers in [0, num_bins), any shape; others are not counted.
    num_bins: number of bins.

  Returns:
    Counts, int32 [num_bins].

  Raises:
    TypeError: if `levels` are not integers.
    ValueError: if `num_bins` is not positive.

  Example:
    >>> from vision_jax.ops import histogram
    >>> print(histogram(jnp.array([[0, 3], [3, 255]]))[:5])
    [1 0 0 2 0]

  Source:
    Plain counting; checked against `numpy.bincount`.
  """
  if not jnp.issubdtype(levels.dtype, jnp.integer):
    raise TypeError(
      f"histogram: `levels` must be integers, got {levels.dtype}."
    )
  if num_bins < 1:
    raise ValueError(f"histogram: `num_bins` must be positive, got {num_bins}.")
  flat = levels.reshape(-1)
  bins = jnp.where((flat >= 0) & (flat < num_bins), flat, num_bins)
  return jnp.zeros(num_bins, jnp.int32).at[bins].add(1, mode="drop")


def kapur_threshold(counts: jax.Array) -> jax.Array:
  r"""Threshold that maximises the entropy of both sides of a histogram.

  With :math:`C_t = \sum_{i \le t} h_i` and :math:`C` the total, maximises

  .. math::
    E(t) = \ln C_t - \frac{1}{C_t} \sum_{i \le t} h_i \ln h_i
         + \ln(C - C_t) - \frac{1}{C - C_t} \sum_{i > t} h_i \ln h_i

  for t between the first and the last non-empty bin; the second half is 0
  where :math:`C_t = C`. Forward and reverse sums are accumulated separately.

  Args:
    counts: histogram, non-negative integers or floats [..., T].

  Returns:
    The bin t, int32 [...]: the first maximum, and 0 if no E(t) > 0.

  Raises:
    ValueError: if `counts` has no axis.

  Example:
    >>> from vision_jax.ops import kapur_threshold
    >>> h = jnp.zeros(256).at[:100].set(1).at[150:250].set(1)
    >>> int(kapur_threshold(h))
    99

  Source:
    Kapur, Sahoo, Wong, CVGIP 29 (1985); as used by ELF (arXiv 1907.03261).
  """
  if counts.ndim < 1:
    raise ValueError(
      "kapur_threshold: `counts` must be [..., T], got a scalar."
    )
  h = counts.astype(jnp.float32)
  hlogh = jnp.where(h > 0, h * jnp.log(jnp.where(h > 0, h, 1.0)), 0.0)

  def above(x):  # sum over i > t
    reverse = jnp.flip(jnp.cumsum(jnp.flip(x, -1), -1), -1)
    return jnp.concatenate([reverse[..., 1:], jnp.zeros_like(x[..., :1])], -1)

  def entropy(mass, total_hlogh):
    some = mass > 0
    safe = jnp.where(some, mass, 1.0)
    return jnp.where(some, jnp.log(safe) - total_hlogh / safe, 0.0)

  gain = entropy(jnp.cumsum(h, -1), jnp.cumsum(hlogh, -1))
  gain = gain + entropy(above(h), above(hlogh))
  filled = h > 0
  seen = jnp.cumsum(filled, -1) > 0
  to_come = jnp.flip(jnp.cumsum(jnp.flip(filled, -1), -1), -1) > 0
  gain = jnp.where(seen & to_come, gain, 0.0)
  best = jnp.argmax(gain, axis=-1)
  return jnp.where(jnp.max(gain, axis=-1) > 0, best, 0).astype(jnp.int32)
