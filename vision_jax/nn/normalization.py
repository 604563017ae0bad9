r"""Batch normalisation: exact variance, and a derivative that reads x twice.

For a map x [..., C] with n positions, on all devices together, per channel::

  m = sum x / n            v = sum (x - m)^2 / n       r = (v + epsilon)^(-1/2)
  z = r (x - m)            y = s z + b

and the directional derivative is, with a = s r / n::

  dy = n a dx - a sum dx - a z sum (z dx) + z ds + db

Its transpose needs two sums over positions, of g and of z g, for x, s and b
together. Differentiating the definitions step by step takes five.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

__all__ = ["BatchNorm", "FrozenBatchNorm", "batch_norm"]

_LEAST_SIZE = 1 << 16  # elements; the sum of a smaller map costs nothing
_BLOCK = 1024  # positions of a partial sum, at least


def _blocks(x: Any) -> int:
  """Blocks of positions for sums as products; 0 where XLA's sum is good.

  On a CPU XLA's reduction is five to ten times slower than a product with
  ones, and no more exact than one in blocks.
  """
  if jax.default_backend() != "cpu" or math.prod(x.shape) < _LEAST_SIZE:
    return 0
  count = math.prod(x.shape[:-1])
  return math.gcd(count, 1 << max(count // _BLOCK, 1).bit_length() - 1)


def _sum(x: jax.Array) -> jax.Array:
  """[..., C] -> [C]."""
  blocks = _blocks(x)
  if not blocks:
    return x.sum(tuple(range(x.ndim - 1)))
  parts = x.reshape(blocks, -1, x.shape[-1])
  ones = jnp.ones(parts.shape[:2], x.dtype)
  return jnp.einsum("bn,bnc->bc", ones, parts, precision="highest").sum(0)


def _spread(v: jax.Array, x: jax.Array) -> jax.Array:
  """[C] -> the shape of x; the transpose is `_sum`.

  XLA takes the product with ones for the broadcast that it is.
  """
  blocks = _blocks(x)
  if not blocks:
    return jnp.broadcast_to(v, x.shape)
  ones = jnp.ones((blocks, math.prod(x.shape[:-1]) // blocks), v.dtype)
  parts = jnp.broadcast_to(v, (blocks, *v.shape))
  spread = jnp.einsum("bn,bc->bnc", ones, parts, precision="highest")
  return spread.reshape(x.shape)


def _mean(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Mean over all positions of all devices, [C]."""
  mean = _sum(x) / (x.size // x.shape[-1])
  return mean if axis_name is None else jax.lax.pmean(mean, axis_name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalize(x, scale, bias, epsilon, axis_name):
  """Y of the formulas above, m [C] and v [C]."""
  mean = _mean(x, axis_name)
  centred = x - _spread(mean, x)
  variance = _mean(centred * centred, axis_name)
  factor = jax.lax.rsqrt(variance + epsilon) * scale
  return centred * _spread(factor, x) + _spread(bias, x), mean, variance


@_normalize.defjvp
def _normalize_jvp(epsilon, axis_name, primals, tangents):
  (x, scale, bias), (dx, dscale, dbias) = primals, tangents
  y, mean, variance = _normalize(x, scale, bias, epsilon, axis_name)
  root = jax.lax.rsqrt(variance + epsilon)
  z = (x - _spread(mean, x)) * _spread(root, x)
  factor = scale * root
  dmean, dz = _mean(dx, axis_name), _mean(z * dx, axis_name)
  dy = _spread(factor, x) * dx + _spread(dbias - factor * dmean, x)
  dy = dy + z * _spread(dscale - factor * dz, x)
  return (y, mean, variance), (dy, dmean, 2 * dz / root)


class BatchNorm(nn.Module):
  """Batch normalisation with torch's constants.

  In training the statistics are those of the batch over all devices of
  `axis_name`, computed in at least float32 with E[(x - E[x])^2], exact for
  large means. The running variance is the biased one (torch stores the
  unbiased); a momentum of torch, 0.1, is 0.9 here.

  Attributes:
    use_running_average: whether to normalise with the running statistics.
    axis_name: device axis over which training statistics are averaged; not
      looked at otherwise.
    momentum: share of the running statistics that an update keeps.
    epsilon: added to the variance.
    dtype: type of the result; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.array([[1.0], [3.0]])
    >>> norm = nn.BatchNorm(use_running_average=False)
    >>> variables = norm.init(jax.random.key(0), x)
    >>> y, updates = norm.apply(variables, x, mutable=["batch_stats"])
    >>> print(y.round(3).ravel(), updates["batch_stats"]["mean"])
    [-1.  1.] [0.2]
  """

  use_running_average: bool
  axis_name: str | None = None
  momentum: float = 0.9
  epsilon: float = 1e-5
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., C] -> [..., C]."""
    shape = (x.shape[-1],)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
    dtype = self.dtype or x.dtype
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if self.use_running_average:
      factor = jax.lax.rsqrt(var.value + self.epsilon) * scale
      y = (x - _spread(mean.value, x)) * _spread(factor, x) + _spread(bias, x)
      return y.astype(dtype)
    axis_name = None if self.is_initializing() else self.axis_name
    y, m, v = _normalize(x, scale, bias, self.epsilon, axis_name)
    if not self.is_initializing():
      keep = self.momentum
      mean.value = keep * mean.value + (1 - keep) * m.astype(mean.value.dtype)
      var.value = keep * var.value + (1 - keep) * v.astype(var.value.dtype)
    return y.astype(dtype)


class FrozenBatchNorm(nn.Module):
  """Batch normalisation whose every number is a constant.

  Scale, bias, mean and variance all stand in "batch_stats", so that no
  optimiser sees them and `train` changes nothing.

  Attributes:
    epsilon: added to the variance.
    dtype: type of the result; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> norm = nn.FrozenBatchNorm()
    >>> variables = norm.init(jax.random.key(0), jnp.ones((1, 2, 3, 4)))
    >>> sorted(variables), sorted(variables["batch_stats"])
    (['batch_stats'], ['bias', 'mean', 'scale', 'var'])
  """

  epsilon: float = 1e-5
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., C] -> [..., C]."""
    shape = (x.shape[-1],)
    mean, var, scale, bias = (
      self.variable("batch_stats", name, start, shape, jnp.float32).value
      for name, start in (
        ("mean", jnp.zeros),
        ("var", jnp.ones),
        ("scale", jnp.ones),
        ("bias", jnp.zeros),
      )
    )
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    shift = bias - mean * factor
    dtype = self.dtype or x.dtype
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (x * _spread(factor, x) + _spread(shift, x)).astype(dtype)


def batch_norm(
  *, use_running_average: bool, frozen: bool = False, **settings: Any
) -> nn.Module:
  """`BatchNorm`, or `FrozenBatchNorm` without what belongs to training.

  Args:
    use_running_average: see `BatchNorm`.
    frozen: which of the two.
    **settings: of `BatchNorm`.

  Returns:
    The module.

  Example:
    >>> from vision_jax import nn
    >>> nn.batch_norm(use_running_average=True, frozen=True, epsilon=0.0)
    FrozenBatchNorm(
        # attributes
        epsilon = 0.0
        dtype = None
    )

  Source:
    Interface of this library.
  """
  if not frozen:
    return BatchNorm(use_running_average=use_running_average, **settings)
  unused = ("axis_name", "momentum")
  kept = {k: v for k, v in settings.items() if k not in unused}
  return FrozenBatchNorm(**kept)
