"""Rotations and rigid motions of space."""

import jax
import jax.numpy as jnp

from vision_jax.ops.matrix_tools import (
  as_float,
  as_shape,
  join_affine,
  product,
  stack_matrix,
)

__all__ = ["axis_angle_to_rotation", "quaternion_to_rotation", "rigid_matrix"]


def axis_angle_to_rotation(vector: jax.Array) -> jax.Array:
  """Rotation about an axis by an angle, the length of the vector.

  Convention:
    Right-handed: about z by a small angle, x turns towards y.

  Args:
    vector: axis times angle in radians, [..., 3]; 0 is the identity, with its
      derivative.

  Returns:
    Matrices [..., 3, 3].

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.axis_angle_to_rotation(jnp.array([0, 0, jnp.pi / 2])).round(3)
    ...       + 0.0)
    [[ 0. -1.  0.]
     [ 1.  0.  0.]
     [ 0.  0.  1.]]

  Source:
    Rodrigues' formula; Hartley and Zisserman, Multiple View Geometry, 2nd
    edition, A4.3.2.
  """
  vector = as_shape("axis_angle_to_rotation", "vector", vector, 3)
  square = jnp.sum(vector**2, axis=-1)[..., None, None]
  small = square < 1e-8  # below, the first terms of the series are exact
  angle = jnp.sqrt(jnp.where(small, 1.0, square))
  sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
  half = jnp.sin(angle / 2) / angle
  cosine = jnp.where(small, 0.5 - square / 24, 2 * half**2)
  x, y, z = (vector[..., k] for k in range(3))
  zero = jnp.zeros_like(x)
  cross = stack_matrix([[zero, -z, y], [z, zero, -x], [-y, x, zero]])
  eye = jnp.broadcast_to(jnp.eye(3, dtype=vector.dtype), cross.shape)
  return eye + sine * cross + cosine * product(cross, cross)


def quaternion_to_rotation(quaternion: jax.Array) -> jax.Array:
  """Rotation of a quaternion (w, x, y, z) of any length but 0.

  Args:
    quaternion: real part first, [..., 4]; normalised here, so a network may
      give any four numbers. 0 counts as (1, 0, 0, 0), with derivative 0.

  Returns:
    Matrices [..., 3, 3].

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.quaternion_to_rotation(jnp.array([1.0, 0, 0, 1])).round(3)
    ...       + 0.0)
    [[ 0. -1.  0.]
     [ 1.  0.  0.]
     [ 0.  0.  1.]]

  Source:
    Shoemake, Animating rotation with quaternion curves, 1985.
  """
  q = as_shape("quaternion_to_rotation", "quaternion", quaternion, 4)
  square = jnp.sum(q**2, axis=-1, keepdims=True)
  identity = jnp.zeros_like(q).at[..., 0].set(1)
  q = jnp.where(square > 0, q, identity)
  q = q / jnp.sqrt(jnp.where(square > 0, square, 1))
  w, x, y, z = (q[..., k] for k in range(4))
  return stack_matrix(
    [
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
  )


def rigid_matrix(
  rotation: jax.Array,
  translation: jax.Array,
  *,
  scale: jax.Array | float = 1.0,
) -> jax.Array:
  """The map p -> scale R p + t as one matrix, in the plane or in space.

  Args:
    rotation: R, [..., D, D], D 2 or 3; any linear map gives an affine one.
    translation: t, [..., D].
    scale: factor, [...].

  Returns:
    Matrices [..., D + 1, D + 1].

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.rigid_matrix(jnp.eye(2), jnp.array([3.0, 4.0]), scale=2.0))
    [[2. 0. 3.]
     [0. 2. 4.]
     [0. 0. 1.]]

  Source:
    Definition.
  """
  rotation, translation = as_float(rotation), as_float(translation)
  dims = translation.shape[-1] if translation.ndim else 0
  if dims not in (2, 3) or rotation.shape[-2:] != (dims, dims):
    raise ValueError(
      "rigid_matrix: `rotation` [..., D, D] and `translation` [..., D] must "
      f"have the same D, 2 or 3, got shapes {rotation.shape} and "
      f"{translation.shape}."
    )
  return join_affine(rotation * as_float(scale)[..., None, None], translation)
