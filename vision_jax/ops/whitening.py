"""Whitening of descriptors: no direction counts more because it is common."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Whitening", "fit_whitening", "whiten"]

_TINY = 1e-24


class Whitening(NamedTuple):
  """A learned change of coordinates, from `fit_whitening`.

  Attributes:
    mean: of the descriptors it was learned from, float32 [D].
    projection: float32 [D, d]; columns by decreasing variance.
  """

  mean: jax.Array
  projection: jax.Array


def fit_whitening(
  descriptors: np.ndarray | jax.Array,
  *,
  num_dims: int | None = None,
  power: float = 0.5,
  shrinkage: float = 1e-3,
) -> Whitening:
  r"""Learns the whitening of a set of descriptors, without labels.

  The covariance is :math:`U \Lambda U^T`; the projection is :math:`U
  (\Lambda + \epsilon)^{-p}`, :math:`\epsilon` a fraction of the mean variance.
  Power 1/2 gives all directions the same variance, 0 is plain PCA.

  Args:
    descriptors: float [N, D], from pictures other than those described later.
    num_dims: directions d to keep; None means all.
    power: p, how strongly large variances are damped.
    shrinkage: :math:`\epsilon` as a share of the mean variance; keeps noise
      in directions of no variance small.

  Returns:
    The mean and the projection, computed in float64.

  Raises:
    ValueError: if `descriptors` is not [N, D] with N of at least 2 and finite,
      or `num_dims` is not between 1 and D.

  Example:
    >>> from vision_jax import ops
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(500, 3)) * [5.0, 1.0, 0.2]
    >>> learned = ops.fit_whitening(x, shrinkage=0.0)
    >>> mean, projection = (np.asarray(v) for v in learned)
    >>> print(np.cov(((x - mean) @ projection).T).round(3) + 0.0)
    [[1. 0. 0.]
     [0. 1. 0.]
     [0. 0. 1.]]

  Source:
    Jégou, Chum, "Negative evidences and co-occurences in image retrieval: the
    benefit of PCA and whitening", ECCV 2012, section 3.
  """
  x = np.asarray(descriptors, np.float64)
  if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
    raise ValueError(
      "fit_whitening: `descriptors` must be [N, D], N >= 2 and finite, got "
      f"shape {x.shape}; leave out rows that are not valid."
    )
  num_dims = x.shape[1] if num_dims is None else num_dims
  if not 1 <= num_dims <= x.shape[1]:
    raise ValueError(
      f"fit_whitening: `num_dims` must be between 1 and {x.shape[1]}, got "
      f"{num_dims}."
    )
  mean = x.mean(0)
  covariance = (x - mean).T @ (x - mean) / (len(x) - 1)
  variances, directions = np.linalg.eigh(covariance)  # ascending
  variances = np.maximum(variances[::-1][:num_dims], 0.0)
  directions = directions[:, ::-1][:, :num_dims]
  floor = shrinkage * np.trace(covariance) / x.shape[1] + _TINY
  gains = (variances + floor) ** -power
  return Whitening(
    jnp.asarray(mean, jnp.float32),
    jnp.asarray(directions * gains, jnp.float32),
  )


def whiten(descriptors: jax.Array, whitening: Whitening) -> jax.Array:
  """Descriptors in whitened coordinates, with length 1.

  Args:
    descriptors: float [..., D]; rows of zeros (padding) stay zero.
    whitening: from `fit_whitening`.

  Returns:
    Unit vectors [..., d].

  Raises:
    ValueError: if the descriptors have another length.

  Example:
    >>> from vision_jax import ops
    >>> samples = np.random.default_rng(0).normal(size=(9, 2))
    >>> learned = ops.fit_whitening(samples)
    >>> d = ops.whiten(jnp.array([[3.0, 4.0], [0.0, 0.0]]), learned)
    >>> print(jnp.linalg.norm(d, axis=1).round(5))
    [1. 0.]

  Source:
    As `fit_whitening`.
  """
  if descriptors.shape[-1] != whitening.mean.shape[0]:
    raise ValueError(
      f"whiten: `descriptors` must be [..., {whitening.mean.shape[0]}], got "
      f"{descriptors.shape}; use the whitening of the same layers."
    )
  exists = jnp.any(descriptors != 0, -1, keepdims=True)
  centred = descriptors - jnp.broadcast_to(whitening.mean, descriptors.shape)
  x = jnp.matmul(centred, whitening.projection, precision="highest")
  squared = jnp.sum(x * x, -1, keepdims=True)
  return jnp.where(exists, x * jax.lax.rsqrt(jnp.maximum(squared, _TINY)), 0.0)
