"""What the modules of matrices share: checks, stacking, exact products."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
  "as_float",
  "as_shape",
  "join_affine",
  "map_lattice",
  "product",
  "stack_matrix",
]


def as_float(x: Any) -> jax.Array:
  """At least float32."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def as_shape(function: str, name: str, x: Any, *tail: int) -> jax.Array:
  """The array as float, of shape [..., *tail]."""
  x = as_float(x)
  if x.shape[x.ndim - len(tail) :] != tail or x.ndim < len(tail):
    wanted = ", ".join(str(n) for n in tail)
    raise ValueError(
      f"{function}: `{name}` must be [..., {wanted}], got shape {x.shape}."
    )
  return x


def stack_matrix(rows: Sequence[Sequence[jax.Array | float]]) -> jax.Array:
  """Matrices from their entries, which broadcast."""
  entries = jnp.broadcast_arrays(
    *[jnp.asarray(entry) for row in rows for entry in row]
  )
  stacked = jnp.stack(entries, axis=-1)
  return stacked.reshape(*stacked.shape[:-1], len(rows), len(rows[0]))


def product(*matrices: jax.Array) -> jax.Array:
  """Matrix products that a TPU does not round to bfloat16."""
  lead = jnp.broadcast_shapes(*[matrix.shape[:-2] for matrix in matrices])
  result, *others = (
    jnp.broadcast_to(matrix, (*lead, *matrix.shape[-2:])) for matrix in matrices
  )
  for matrix in others:
    result = jnp.matmul(result, matrix, precision="highest")
  return result


def join_affine(linear: jax.Array, shift: jax.Array) -> jax.Array:
  """[[linear, shift], [0, 1]]."""
  dims = shift.shape[-1]
  dtype = jnp.promote_types(linear.dtype, shift.dtype)
  lead = jnp.broadcast_shapes(linear.shape[:-2], shift.shape[:-1])
  last = jnp.zeros((*lead, 1, dims + 1), dtype).at[..., dims].set(1)
  linear = jnp.broadcast_to(linear.astype(dtype), (*lead, dims, dims))
  shift = jnp.broadcast_to(shift.astype(dtype), (*lead, dims))
  top = jnp.concatenate([linear, shift[..., None]], axis=-1)
  return jnp.concatenate([top, last], axis=-2)


def map_lattice(matrix: jax.Array, lines: Sequence[jax.Array]) -> jax.Array:
  """Homogeneous maps of all points of a lattice.

  Args:
    matrix: [..., rows, D + 1].
    lines: coordinates along each axis, x first.

  Returns:
    matrix (x, y[, z], 1), [..., (D,) H, W, rows].
  """
  dims, lead = len(lines), matrix.shape[:-2]
  m = matrix.reshape(*lead, *[1] * dims, *matrix.shape[-2:])
  total = m[..., dims]
  for axis, line in enumerate(lines):
    shape = [1] * total.ndim
    shape[len(lead) + dims - 1 - axis] = len(line)
    # Not a matrix product, which a TPU would round to bfloat16.
    total = total + m[..., axis] * line.reshape(shape)
  size = [len(line) for line in reversed(lines)]
  return jnp.broadcast_to(total, (*lead, *size, matrix.shape[-2]))
