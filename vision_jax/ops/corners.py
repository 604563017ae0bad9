"""Corners: where a map with any number of channels changes in two directions.

Harris, Stephens, "A combined corner and edge detector", 1988; Shi, Tomasi,
"Good features to track", 1994; Brown, Szeliski, Winder, "Multi-image matching
using multi-scale oriented patches", 2005 (harmonic mean). For several channels
the structure tensors are summed, which no orthogonal mixing of the channels
changes (Di Zenzo, 1986).
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops import filters, scale_space

__all__ = ["harris_response", "structure_tensor"]

_TINY = 1e-30  # below it the derivative of a root is taken as 0
_SOBEL = (np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0]))


def structure_tensor(
  features: jax.Array,
  *,
  derivative_sigma: float | None = 1.0,
  integration_sigma: float = 1.5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  r"""Structure tensor :math:`G * \sum_c \nabla F_c \nabla F_c^T`.

  Convention:
    Layout [H, W, C]; borders mirror without repeating the edge. One map; batch
    with vmap.

  Args:
    features: float [H, W, C].
    derivative_sigma: scale of the Gaussian derivatives, cells; None for Sobel
      filters (divided by 8).
    integration_sigma: scale of the average G, cells; its kernel reaches 3
      standard deviations.

  Returns:
    The entries yy, xy and xx, float [H, W] each.

  Raises:
    ValueError: if `features` is not [H, W, C] or too small, or a scale is not
      positive.

  Example:
    >>> from vision_jax.ops import structure_tensor
    >>> ramp = jnp.broadcast_to(2.0 * jnp.arange(40.0)[:, None], (30, 40, 1))
    >>> yy, xy, xx = structure_tensor(ramp)
    >>> print(jnp.abs(jnp.stack([yy, xy, xx]))[:, 15, 20].round(3))
    [0. 0. 4.]

  Source:
    Harris, Stephens (1988); Di Zenzo (1986) for the sum over channels.
  """
  if features.ndim != 3:
    raise ValueError(
      f"structure_tensor: `features` must be [H, W, C], got {features.shape}."
    )
  axes = (-3, -2)
  if derivative_sigma is None:
    slope, smooth = _SOBEL
    down, right = (
      filters.correlate_axis(
        filters.correlate_axis(features, slope / 8, along), smooth, across
      )
      for along, across in (axes, axes[::-1])
    )
  else:
    down, right = (
      scale_space.gaussian_derivative(
        features, sigma=derivative_sigma, orders=orders, axes=axes
      )
      for orders in ((1, 0), (0, 1))
    )
  size = 2 * round(3 * integration_sigma) + 1
  yy, xy, xx = (
    filters.gaussian_blur((a * b).sum(-1), size=size, sigma=integration_sigma)
    for a, b in ((down, down), (down, right), (right, right))
  )
  return yy, xy, xx


def harris_response(
  features: jax.Array,
  *,
  measure: Literal["harmonic", "harris", "min_eigenvalue"] = "harmonic",
  k: float = 0.04,
  derivative_sigma: float | None = 1.0,
  integration_sigma: float = 1.5,
  normalize: bool = True,
) -> jax.Array:
  r"""How much of a corner each cell of a feature map is.

  With M the structure tensor: "harmonic" :math:`\det M / (\mathrm{tr} M +
  10^{-9})`, "harris" :math:`\max(0, \det M - k\, \mathrm{tr}^2 M)`,
  "min_eigenvalue" the smaller eigenvalue of M.

  Convention:
    Layout [H, W, C]; the result is per cell of the map (`ops.frames` brings
    positions to the image). One map; batch with vmap.

  Args:
    features: float [H, W, C]; a grey image is C = 1.
    measure: which function of M.
    k: weight of the squared trace, for "harris".
    derivative_sigma: as `structure_tensor`.
    integration_sigma: as `structure_tensor`.
    normalize: divide the features by their root mean square first, so that
      responses of different layers can be compared.

  Returns:
    Response, float [H, W], not negative.

  Raises:
    ValueError: if `measure` is unknown, `features` is not [H, W, C] or too
      small, or a scale is not positive.

  Example:
    >>> from vision_jax.ops import harris_response
    >>> square = jnp.zeros((40, 40, 1)).at[20:, 20:].set(1.0)
    >>> response = harris_response(square)
    >>> divmod(int(response.argmax()), 40)
    (21, 21)

  Source:
    Harris, Stephens (1988), with the sum over channels; on a feature map of a
    pretrained network it is the "new direction" of ELF's slides.
  """
  measures = ("harmonic", "harris", "min_eigenvalue")
  if measure not in measures:
    raise ValueError(
      f"harris_response: `measure` must be one of {measures}, got {measure!r}."
    )
  if normalize:
    scale = jnp.sqrt(jnp.maximum(jnp.mean(jnp.square(features)), _TINY))
    features = features / (scale + 1e-8)
  yy, xy, xx = structure_tensor(
    features,
    derivative_sigma=derivative_sigma,
    integration_sigma=integration_sigma,
  )
  trace = xx + yy
  determinant = xx * yy - xy * xy
  if measure == "harmonic":
    return jnp.maximum(determinant, 0.0) / (trace + 1e-9)
  if measure == "harris":
    return jnp.maximum(determinant - k * trace**2, 0.0)
  root = jnp.sqrt(jnp.maximum((xx - yy) ** 2 / 4 + xy**2, _TINY))
  return jnp.maximum(trace / 2 - root, 0.0)
