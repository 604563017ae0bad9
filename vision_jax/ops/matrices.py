"""Matrices of warps: similarities, homographies, and the change of frame.

All act on homogeneous columns (x, y, 1) or (x, y, z, 1), y downward, in the
index frame unless said. A warp's matrix maps OUTPUT to INPUT: it pulls.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.matrix_tools import (
  as_float,
  as_shape,
  join_affine,
  product,
  stack_matrix,
)

__all__ = [
  "homography_from_corners",
  "homography_from_parameters",
  "matrix_to_theta",
  "plane_homography",
  "similarity_matrix",
  "theta_to_matrix",
]

_SENSES = ("pull_ccw", "pull_cw")


def similarity_matrix(
  angle: jax.Array | float,
  *,
  sense: str,
  scale: jax.Array | float = 1.0,
  translation: jax.Array | Sequence[float] = (0.0, 0.0),
  center: jax.Array | Sequence[float] = (0.0, 0.0),
) -> jax.Array:
  """A warp's rotation about a point, with scale and translation.

  The output pixel p reads at center + translation + scale R (p - center).

  Convention:
    Order (x, y), y downward; maps output to input, so a scale above 1 shrinks
    what is seen and a positive translation moves it left and up.

  Args:
    angle: radians, [...].
    sense: which way what is seen turns for a positive angle. "pull_ccw":
      counter-clockwise on the screen, R = [[c, -s], [s, c]] (LIFT; a direction
      at that angle from +x towards +y becomes +x). "pull_cw": clockwise,
      R = [[c, s], [-s, c]].
    scale: factor of distances, [...].
    translation: (x, y) in pixels, [..., 2].
    center: the point turned about, [..., 2]; the middle of an image is
      ((W - 1) / 2, (H - 1) / 2).

  Returns:
    Matrices [..., 3, 3].

  Raises:
    ValueError: if `sense` is unknown or a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> quarter = ops.similarity_matrix(jnp.pi / 2, sense="pull_cw",
    ...                                 center=(1.0, 1.0))
    >>> corner = ops.apply_homography(quarter, jnp.array([[2.0, 0.0]]))
    >>> print(corner.round(3) + 0.0)
    [[0. 0.]]

  Source:
    Yi et al., LIFT, 2016, section 3.2 ("pull_ccw").
  """
  if sense not in _SENSES:
    raise ValueError(
      f"similarity_matrix: `sense` must be one of {', '.join(_SENSES)}, got "
      f"{sense!r}."
    )
  angle, scale = as_float(angle), as_float(scale)
  center = as_shape("similarity_matrix", "center", center, 2)
  shift = as_shape("similarity_matrix", "translation", translation, 2)
  c, s = scale * jnp.cos(angle), scale * jnp.sin(angle)
  if sense == "pull_cw":
    s = -s
  linear = stack_matrix([[c, -s], [s, c]])
  moved = product(linear, center[..., None])[..., 0]
  center, shift, moved = jnp.broadcast_arrays(center, shift, moved)
  return join_affine(linear, center + shift - moved)


def homography_from_parameters(parameters: jax.Array) -> jax.Array:
  """Homography whose last entry is 1 from its other eight, row by row.

  Args:
    parameters: [..., 8]; (1, 0, 0, 0, 1, 0, 0, 0) is the identity.

  Returns:
    Matrices [..., 3, 3].

  Raises:
    ValueError: if the shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.homography_from_parameters(jnp.arange(8.0)))
    [[0. 1. 2.]
     [3. 4. 5.]
     [6. 7. 1.]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, section 3.2.
  """
  parameters = as_shape(
    "homography_from_parameters", "parameters", parameters, 8
  )
  one = jnp.ones((*parameters.shape[:-1], 1), parameters.dtype)
  full = jnp.concatenate([parameters, one], axis=-1)
  return full.reshape(*full.shape[:-1], 3, 3)


def homography_from_corners(
  corners: jax.Array, *, source: jax.Array | None = None
) -> jax.Array:
  """Homography that maps four corners to four points, in closed form.

  Differentiable in both; as a parametrisation better scaled than the eight
  entries, since all numbers are pixels.

  Convention:
    Order (x, y); corners in order around the quadrangle. Any frame, the same
    for both.

  Args:
    corners: where the corners go, [..., 4, 2].
    source: the corners themselves, [..., 4, 2]; the unit square (0, 0), (1, 0),
      (1, 1), (0, 1) if None.

  Returns:
    Matrices [..., 3, 3], with last entry 1 if `source` is None. Not finite
    where three of four points lie on a line.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> corners = jnp.array([[1.0, 1.0], [3.0, 1.0], [3.0, 2.0], [1.0, 2.0]])
    >>> print(ops.homography_from_corners(corners) + 0.0)
    [[2. 0. 1.]
     [0. 1. 1.]
     [0. 0. 1.]]

  Source:
    Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, section
    2.2.3.
  """
  corners = as_shape("homography_from_corners", "corners", corners, 4, 2)
  p0, p1, p2, p3 = (corners[..., k, :] for k in range(4))
  d1, d2, d3 = p1 - p2, p3 - p2, p0 - p1 + p2 - p3

  def cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]

  g, h = cross(d3, d2) / cross(d1, d2), cross(d1, d3) / cross(d1, d2)
  u = p1 - p0 + g[..., None] * p1
  v = p3 - p0 + h[..., None] * p3
  matrix = stack_matrix(
    [
      [u[..., 0], v[..., 0], p0[..., 0]],
      [u[..., 1], v[..., 1], p0[..., 1]],
      [g, h, jnp.ones_like(g)],
    ]
  )
  if source is None:
    return matrix
  source = as_shape("homography_from_corners", "source", source, 4, 2)
  return product(matrix, jnp.linalg.inv(homography_from_corners(source)))


def plane_homography(
  camera0: jax.Array,
  camera1: jax.Array,
  rotation: jax.Array,
  translation: jax.Array,
  normal: jax.Array,
  distance: jax.Array | float,
) -> jax.Array:
  """Homography between two views of a plane, K1 (R + t n^T / d) K0^-1.

  Convention:
    Maps pixels of camera 0 to pixels of camera 1, index frame. A point X0 of
    camera 0's coordinates (x right, y down, z forward) is X1 = R X0 + t in
    those of camera 1; the plane is n^T X0 = d.

  Args:
    camera0: intrinsic matrices K0, [..., 3, 3].
    camera1: intrinsic matrices K1, [..., 3, 3].
    rotation: R, [..., 3, 3].
    translation: t, [..., 3].
    normal: n, [..., 3].
    distance: d, not 0, [...].

  Returns:
    Matrices [..., 3, 3]; their sign is that of the depth in camera 1, so that
    points behind it have a denominator below 0.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> k = jnp.diag(jnp.array([100.0, 100.0, 1.0]))
    >>> h = ops.plane_homography(k, k, jnp.eye(3), jnp.array([0.2, 0, 0]),
    ...                          jnp.array([0.0, 0, 1]), 2.0)
    >>> print(ops.apply_homography(h, jnp.array([[0.0, 0.0]])))
    [[10.  0.]]

  Source:
    Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 13.1.
  """
  name = "plane_homography"
  camera0 = as_shape(name, "camera0", camera0, 3, 3)
  camera1 = as_shape(name, "camera1", camera1, 3, 3)
  rotation = as_shape(name, "rotation", rotation, 3, 3)
  translation = as_shape(name, "translation", translation, 3)
  normal = as_shape(name, "normal", normal, 3)
  outer = translation[..., :, None] * normal[..., None, :]
  between = rotation + outer / as_float(distance)[..., None, None]
  return product(camera1, between, jnp.linalg.inv(camera0))


def _index_to_ndc_matrix(
  size: Sequence[int], align_corners: bool
) -> tuple[np.ndarray, np.ndarray]:
  """The map of pixel positions to the ndc frame, and its inverse; float64."""
  sides = np.array(size[::-1], np.float64)
  scale = 2 / np.maximum(sides - 1, 1) if align_corners else 2 / sides
  there = np.diag([*scale, 1.0])
  there[:-1, -1] = -scale * (sides - 1) / 2
  return there, np.linalg.inv(there)


def _check_sizes(
  function: str, name: str, matrix: jax.Array, sizes: Sequence[Sequence[int]]
) -> jax.Array:
  """The matrix as float; raises unless sizes have one side per dimension."""
  matrix = as_float(matrix)
  dims = matrix.shape[-1] - 1 if matrix.ndim >= 2 else 0
  if dims not in (2, 3) or matrix.shape[-2] != dims + 1:
    raise ValueError(
      f"{function}: `{name}` must be [..., 3, 3] or [..., 4, 4], got shape "
      f"{matrix.shape}."
    )
  for size in sizes:
    if len(size) != dims or min(size) < 1:
      raise ValueError(
        f"{function}: sizes must be {dims} numbers, all at least 1, for a "
        f"matrix of shape {matrix.shape}, got {tuple(size)}."
      )
  return matrix


def matrix_to_theta(
  matrix: jax.Array,
  size_in: Sequence[int],
  size_out: Sequence[int],
  *,
  align_corners: bool = False,
) -> jax.Array:
  """A warp's matrix of pixels as one of ndc positions.

  Do all geometry in pixels and convert last: a rotation of ndc positions of an
  image that is not square is no rotation.

  Convention:
    Maps output to input; `matrix` in the index frame, the result in the ndc
    frame. The first rows of an affine one are the theta of `affine_grid`.

  Args:
    matrix: [..., 3, 3], or [..., 4, 4] of volumes.
    size_in: (height, width) or (depth, height, width) of the input.
    size_out: the same of the output.
    align_corners: which ndc frame.

  Returns:
    Matrices of the shape of `matrix`.

  Raises:
    ValueError: if shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> down = jnp.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    >>> print(ops.matrix_to_theta(down, (4, 4), (4, 4))[:2])
    [[1.  0.  0. ]
     [0.  1.  0.5]]

  Source:
    N_in M N_out^-1 with N of torch's `affine_grid`.
  """
  matrix = _check_sizes(
    "matrix_to_theta", "matrix", matrix, (size_in, size_out)
  )
  there, _ = _index_to_ndc_matrix(size_in, align_corners)
  _, back = _index_to_ndc_matrix(size_out, align_corners)
  return product(
    jnp.asarray(there, matrix.dtype), matrix, jnp.asarray(back, matrix.dtype)
  )


def theta_to_matrix(
  theta: jax.Array,
  size_in: Sequence[int],
  size_out: Sequence[int],
  *,
  align_corners: bool = False,
) -> jax.Array:
  """A map of ndc positions as a warp's matrix of pixels.

  Convention:
    As `matrix_to_theta`, whose inverse this is.

  Args:
    theta: [..., 3, 3], or [..., 4, 4] of volumes, ndc frame.
    size_in: (height, width) or (depth, height, width) of the input.
    size_out: the same of the output.
    align_corners: which ndc frame.

  Returns:
    Matrices of the shape of `theta`, index frame.

  Raises:
    ValueError: if shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.theta_to_matrix(jnp.eye(3), (8, 8), (4, 4)))
    [[2.  0.  0.5]
     [0.  2.  0.5]
     [0.  0.  1. ]]

  Source:
    Inverse of `matrix_to_theta`.
  """
  theta = _check_sizes("theta_to_matrix", "theta", theta, (size_in, size_out))
  _, back = _index_to_ndc_matrix(size_in, align_corners)
  there, _ = _index_to_ndc_matrix(size_out, align_corners)
  return product(
    jnp.asarray(back, theta.dtype), theta, jnp.asarray(there, theta.dtype)
  )
