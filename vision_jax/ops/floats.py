"""The floating type that results are computed in."""

import jax
import jax.numpy as jnp

__all__ = ["at_least_float32"]


def at_least_float32(x: jax.Array) -> jax.Array:
  """float16 and bfloat16 -> float32; float32 and float64 as they are.

  Scores and boxes of predictions are computed in this type: a network in
  bfloat16 is ranked in float32, and a whole system can be asked in float64,
  where rounding decides nothing.

  Args:
    x: an array of any shape.

  Returns:
    The same values, [...]; integers become float32.

  Example:
    >>> import jax.numpy as jnp
    >>> from vision_jax import ops
    >>> ops.at_least_float32(jnp.ones(3, jnp.bfloat16)).dtype
    dtype('float32')

  Source:
    Interface of this library.
  """
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
