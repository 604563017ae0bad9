"""Families of warps by name: numbers, the same at every size, to a grid.

What spatial transformers predict, registration descends on and the distorted
digits are drawn from. All parameters are of the ndc frame.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vision_jax.ops.grid_sampling import pixel_centres
from vision_jax.ops.matrices import homography_from_parameters
from vision_jax.ops.matrix_tools import as_float, map_lattice, stack_matrix
from vision_jax.ops.splines import control_lattice, thin_plate_grid

__all__ = ["TRANSFORMS", "Transform", "transform_grid"]


@dataclasses.dataclass(frozen=True)
class Transform:
  """A family of warps of the ndc frame.

  Attributes:
    identity: the parameters that change nothing.
    to_theta: parameters [..., P] to matrices [..., D + 1, D + 1] that map
      output to input, ndc frame; None for a spline, whose parameters are the
      places its control points read.
    num_dims: 2 for images, 3 for volumes.
  """

  identity: tuple[float, ...]
  to_theta: Callable[[jax.Array], jax.Array] | None
  num_dims: int = 2


def _rotation_translation(p: jax.Array) -> jax.Array:
  """Angle, x, y: the three parameters of a rigid motion, "pull_cw"."""
  c, s = jnp.cos(p[..., 0]), jnp.sin(p[..., 0])
  return stack_matrix([[c, s, p[..., 1]], [-s, c, p[..., 2]], [0.0, 0.0, 1.0]])


def _similarity(p: jax.Array) -> jax.Array:
  """(a, b, x, y): scale and rotation as a complex number, no angle to wrap."""
  a, b, x, y = (p[..., k] for k in range(4))
  return stack_matrix([[a, -b, x], [b, a, y], [0.0, 0.0, 1.0]])


def _attention(p: jax.Array) -> jax.Array:
  """(s, x, y): crop, translation and isotropic scale; equation 2."""
  s, x, y = (p[..., k] for k in range(3))
  return stack_matrix([[s, 0.0, x], [0.0, s, y], [0.0, 0.0, 1.0]])


def _affine(dims: int) -> Callable[[jax.Array], jax.Array]:
  """Theta row by row, equation 1; its analogue in space has 12 entries."""

  def to_theta(p: jax.Array) -> jax.Array:
    last = jnp.zeros((*p.shape[:-1], dims + 1), p.dtype).at[..., dims].set(1)
    full = jnp.concatenate([p, last], -1)
    return full.reshape(*p.shape[:-1], dims + 1, dims + 1)

  return to_theta


TRANSFORMS: dict[str, Transform] = {
  "rotation_translation": Transform((0, 0, 0), _rotation_translation),
  "similarity": Transform((1, 0, 0, 0), _similarity),
  "attention": Transform((1, 0, 0), _attention),
  "affine": Transform((1, 0, 0, 0, 1, 0), _affine(2)),
  "projective": Transform((1, 0, 0, 0, 1, 0, 0, 0), homography_from_parameters),
  "tps": Transform(tuple(control_lattice(4).ravel()), None),
  "affine3d": Transform((1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), _affine(3), 3),
}
"""The families by name."""


def theta_grid(
  theta: jax.Array, size: Sequence[int], align_corners: bool
) -> jax.Array:
  """Grid of matrices; infinity, far outside, behind the horizon."""
  dims = theta.shape[-1] - 1
  lines = [
    jnp.asarray(pixel_centres(side, align_corners), theta.dtype)
    for side in reversed(size)
  ]
  total = map_lattice(theta, lines)
  w = total[..., dims:]
  front = w > jnp.finfo(theta.dtype).eps
  return jnp.where(front, total[..., :dims], jnp.inf) / jnp.where(front, w, 1)


def transform_grid(
  name: str,
  parameters: jax.Array,
  size: Sequence[int],
  *,
  align_corners: bool = False,
) -> jax.Array:
  """Where the pixels of the output read, under a family of warps.

  Convention:
    Both sides in the ndc frame; maps output to input; order (x, y) or
    (x, y, z).

  Args:
    name: a key of `TRANSFORMS`.
    parameters: [..., P].
    size: (height, width) of the output; (depth, height, width) for "affine3d".
    align_corners: which ndc frame; pass the same to `ops.grid_sample`.

  Returns:
    Positions [..., *size, 2 or 3] for `ops.grid_sample`; infinite, and so
    padding without derivative, behind the horizon of a projective map.

  Raises:
    ValueError: if the name is unknown or a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.transform_grid("attention", jnp.array([0.5, 0.0, 0.25]),
    ...                          (1, 2)))
    [[[-0.25  0.25]
      [ 0.25  0.25]]]

  Source:
    Jaderberg et al., 2015, section 3.2.
  """
  transform = find_transform("transform_grid", name)
  parameters = as_float(parameters)
  count = len(transform.identity)
  if parameters.ndim < 1 or parameters.shape[-1] != count:
    raise ValueError(
      f"transform_grid: `parameters` of {name!r} must be [..., {count}], got "
      f"shape {parameters.shape}."
    )
  if transform.to_theta is None:
    places = parameters.reshape(*parameters.shape[:-1], count // 2, 2)
    return thin_plate_grid(places, size, align_corners=align_corners)
  if len(size) != transform.num_dims:
    raise ValueError(
      f"transform_grid: `size` must be {transform.num_dims} numbers for "
      f"{name!r}, got {tuple(size)}."
    )
  return theta_grid(transform.to_theta(parameters), size, align_corners)


def find_transform(function: str, name: str) -> Transform:
  """The family of that name."""
  if name not in TRANSFORMS:
    raise ValueError(
      f"{function}: the transform must be one of {', '.join(TRANSFORMS)}, got "
      f"{name!r}."
    )
  return TRANSFORMS[name]
