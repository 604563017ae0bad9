"""Scale space: derivatives of Gaussians, blob responses and their extrema.

Lindeberg, "Feature Detection with Automatic Scale Selection", IJCV 1998; Lowe,
"Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops import filters

__all__ = [
  "difference_of_gaussians",
  "gaussian_derivative",
  "laplacian_of_gaussian",
  "scale_space_extrema",
]

_REACH = 5.0  # kernels are cut off at this many standard deviations


def _kernel(sigma: float, order: int) -> np.ndarray:
  """Sampled derivative of a Gaussian, exact on polynomials of its order.

  Correlation with it differentiates: a constant gives 1, x gives 1 and x^2 / 2
  gives 1 for the orders 0, 1 and 2, whatever the sampling did to the sums.
  """
  radius = max(1, round(_REACH * sigma))
  x = np.arange(-radius, radius + 1, dtype=np.float64)
  g = np.exp(-(x**2) / (2 * sigma**2))
  g /= g.sum()
  if order == 0:
    return g
  if order == 1:
    return x * g / (x**2 * g).sum()
  second = (x**2 - (x**2 * g).sum()) * g
  return 2 * second / (x**2 * second).sum()


def gaussian_derivative(
  maps: jax.Array,
  *,
  sigma: float,
  orders: tuple[int, int],
  axes: tuple[int, int] = (-2, -1),
) -> jax.Array:
  r"""Derivative of maps smoothed by a Gaussian, by one separable filter.

  Computes :math:`\partial_y^{a} \partial_x^{b} (G_\sigma * I)` for
  `orders` = (a, b).

  Convention:
    The two spatial axes are the last two, [..., H, W], unless `axes` names
    others, such as (-3, -2) for [..., H, W, C]. y grows downwards. Borders
    mirror without repeating the edge pixel; a kernel reaches 5 sigma and is
    cut where the map is too small to mirror so far.

  Args:
    maps: float [..., H, W].
    sigma: standard deviation, pixels.
    orders: order of the derivative along the vertical and the horizontal
      axis, 0, 1 or 2 each.
    axes: the vertical and the horizontal axis.

  Returns:
    Same shape and dtype; per pixel to the power of the orders.

  Raises:
    ValueError: if an order is not 0, 1 or 2, or `sigma` is not positive.

  Example:
    >>> from vision_jax.ops import gaussian_derivative
    >>> ramp = jnp.arange(40.0)[None] * jnp.ones((30, 1))
    >>> slope = gaussian_derivative(ramp, sigma=1.5, orders=(0, 1))
    >>> print(slope[15, 20].round(4))
    1.0

  Source:
    Lindeberg, IJCV 1998, section 2.
  """
  if not all(order in (0, 1, 2) for order in orders) or len(orders) != 2:
    raise ValueError(
      f"gaussian_derivative: `orders` must be two of 0, 1, 2, got {orders}."
    )
  if not sigma > 0:
    raise ValueError(f"gaussian_derivative: `sigma` must be > 0, got {sigma}.")
  for axis, order in zip(axes, orders, strict=True):
    weights = _kernel(sigma, order)
    most = maps.shape[axis] - 1  # mirroring cannot go farther
    extra = max(0, len(weights) // 2 - most)
    weights = weights[extra : len(weights) - extra]
    maps = filters.correlate_axis(maps, weights, axis)
  return maps


def laplacian_of_gaussian(
  maps: jax.Array, *, sigma: float, axes: tuple[int, int] = (-2, -1)
) -> jax.Array:
  r"""Scale-normalised Laplacian :math:`\sigma^2 \nabla^2 (G_\sigma * I)`.

  Bright blobs of standard deviation s give a minimum, in space and over
  sigma, at their centre and sigma = s.

  Convention:
    As `gaussian_derivative`.

  Args:
    maps: float [..., H, W].
    sigma: standard deviation, pixels.
    axes: the vertical and the horizontal axis.

  Returns:
    Same shape and dtype.

  Raises:
    ValueError: if `sigma` is not positive.

  Example:
    >>> from vision_jax.ops import laplacian_of_gaussian
    >>> x = jnp.arange(-20.0, 21.0)
    >>> blob = jnp.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 3.0**2))
    >>> print(laplacian_of_gaussian(blob, sigma=3.0)[20, 20].round(2))
    -0.5

  Source:
    Lindeberg, IJCV 1998, section 5.
  """
  down = gaussian_derivative(maps, sigma=sigma, orders=(2, 0), axes=axes)
  right = gaussian_derivative(maps, sigma=sigma, orders=(0, 2), axes=axes)
  return sigma**2 * (down + right)


def difference_of_gaussians(
  image: jax.Array,
  *,
  sigma: float = 1.6,
  intervals: int = 3,
  octaves: int = 3,
) -> tuple[jax.Array, jax.Array]:
  """Stack of differences of Gaussians, all at full resolution.

  Level s is G(k sigma_s) - G(sigma_s) with k = 2^(1/intervals) and sigma_s =
  sigma k^s. Nothing is subsampled: shapes stay static and positions exact.

  Convention:
    Layout [H, W]. One image; batch with vmap. The image itself is taken to
    have no blur.

  Args:
    image: float [H, W].
    sigma: scale of the first level, pixels.
    intervals: levels for each octave.
    octaves: octaves that `scale_space_extrema` can search: the stack has
      `intervals` x `octaves` + 2 levels.

  Returns:
    The stack [S, H, W] and the scales sigma_s float32 [S], pixels.

  Raises:
    ValueError: if `image` is not [H, W], or a setting is not positive.

  Example:
    >>> from vision_jax.ops import difference_of_gaussians
    >>> stack, scales = difference_of_gaussians(jnp.ones((40, 50)))
    >>> stack.shape, round(float(scales[3]), 3)
    ((11, 40, 50), 3.2)

  Source:
    Lowe, IJCV 2004, section 3.
  """
  if image.ndim != 2:
    raise ValueError(
      f"difference_of_gaussians: `image` must be [H, W], got {image.shape}."
    )
  if not (sigma > 0 and intervals >= 1 and octaves >= 1):
    raise ValueError(
      "difference_of_gaussians: `sigma`, `intervals` and `octaves` must be "
      f"positive, got {sigma}, {intervals} and {octaves}."
    )
  count = intervals * octaves + 2
  scales = sigma * 2.0 ** (np.arange(count + 1) / intervals)
  # Each level is blurred from the one before: the squares of the scales add.
  steps = np.sqrt(np.diff(scales**2, prepend=0.0))
  stack = _differences(image, tuple(steps.tolist()))
  return stack, jnp.asarray(scales[:-1], jnp.float32)


@functools.partial(jax.jit, static_argnames="steps")
def _differences(image, steps):
  levels = []
  for step in steps:
    image = gaussian_derivative(image, sigma=step, orders=(0, 0))
    levels.append(image)
  return jnp.diff(jnp.stack(levels), axis=0)


def scale_space_extrema(
  stack: jax.Array, *, threshold: float = 0.0
) -> jax.Array:
  """Pixels that are larger, or smaller, than all their 26 neighbours.

  Convention:
    Layout [S, H, W], scales ascending. Borders of all three axes are never
    extrema.

  Args:
    stack: float [S, H, W], for example of `difference_of_gaussians`.
    threshold: smallest absolute value of an extremum.

  Returns:
    Bool [S, H, W].

  Raises:
    ValueError: if `stack` is not [S, H, W].

  Example:
    >>> from vision_jax.ops import scale_space_extrema
    >>> stack = jnp.zeros((3, 5, 5)).at[1, 2, 3].set(-1.0)
    >>> print(jnp.argwhere(scale_space_extrema(stack)))
    [[1 2 3]]

  Source:
    Lowe, IJCV 2004, section 3.1.
  """
  if stack.ndim != 3:
    raise ValueError(
      f"scale_space_extrema: `stack` must be [S, H, W], got {stack.shape}."
    )
  return _extrema(stack) & (jnp.abs(stack) >= threshold)


@jax.jit
def _extrema(stack):
  padded = jnp.pad(stack, 1, constant_values=jnp.nan)
  neighbours = [
    lax.slice(
      padded,
      start,
      [
        first + length for first, length in zip(start, stack.shape, strict=True)
      ],
    )
    for start in itertools.product(range(3), repeat=3)
    if start != (1, 1, 1)
  ]
  largest = functools.reduce(jnp.maximum, neighbours)
  smallest = functools.reduce(jnp.minimum, neighbours)
  # Comparing with the NaN outside is False: borders drop out.
  return (stack > largest) | (stack < smallest)
