"""Thin-plate splines: the smoothest map with given values at given points."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.grid_sampling import pixel_centres
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = [
  "ThinPlateSpline",
  "apply_thin_plate_spline",
  "control_lattice",
  "thin_plate_grid",
  "thin_plate_spline",
]

ThinPlateSpline = tuple[jax.Array, jax.Array]
"""Weights of the control points [..., K, 2] and affine part [..., 3, 2]."""


def control_lattice(rows: int, columns: int | None = None) -> np.ndarray:
  """A lattice of control points over the ndc frame.

  Args:
    rows: points from -1 to 1 in y.
    columns: points from -1 to 1 in x; as many as rows if None.

  Returns:
    Points (x, y), row by row, NumPy float64 [rows * columns, 2].

  Raises:
    ValueError: if there are fewer than 2 rows or columns.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.control_lattice(2))
    [[-1. -1.]
     [ 1. -1.]
     [-1.  1.]
     [ 1.  1.]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, section 4.1 (4 x 4).
  """
  columns = rows if columns is None else columns
  if min(rows, columns) < 2:
    raise ValueError(
      "control_lattice: `rows` and `columns` must be at least 2, got "
      f"{rows} and {columns}."
    )
  y, x = np.meshgrid(
    np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"
  )
  return np.stack([x.ravel(), y.ravel()], axis=-1)


def _radial(square: jax.Array, xp) -> jax.Array:
  """U = r^2 ln r of r^2; 0 at 0, with derivative 0."""
  positive = xp.where(square > 0, square, 1)
  return xp.where(square > 0, 0.5 * square * xp.log(positive), 0)


def thin_plate_spline(
  control: np.ndarray, values: jax.Array
) -> ThinPlateSpline:
  """The thin-plate spline that has given values at its control points.

  f(q) = a_0 + A q + sum_k w_k U(|q - c_k|) with U(r) = r^2 ln r, where the sum
  of the w_k and of their moments w_k c_k is 0.

  Convention:
    Any frame for the control points and any for the values.

  Args:
    control: c, constant points (x, y), not on a line, [K, 2], K >= 3. The
      system is inverted in float64 when the function is traced.
    values: f(c), [..., K, 2].

  Returns:
    Weights w [..., K, 2], and rows a_0, A^T [..., 3, 2].

  Raises:
    ValueError: if a shape is wrong, or the points coincide or lie on a line.

  Example:
    >>> from vision_jax import ops
    >>> corners = ops.control_lattice(2)
    >>> weights, affine = ops.thin_plate_spline(corners, 2 * corners + 1)
    >>> print(affine.round(3) + 0.0)
    [[1. 1.]
     [2. 0.]
     [0. 2.]]

  Source:
    Bookstein, Principal warps: thin-plate splines and the decomposition of
    deformations, 1989.
  """
  control = np.asarray(control, np.float64)
  if control.ndim != 2 or control.shape[1] != 2 or len(control) < 3:
    raise ValueError(
      "thin_plate_spline: `control` must be [K, 2] with K at least 3, got shape"
      f" {control.shape}."
    )
  count = len(control)
  values = as_shape("thin_plate_spline", "values", values, count, 2)
  square = np.sum((control[:, None] - control[None]) ** 2, axis=-1)
  system = np.zeros((count + 3, count + 3))
  system[:count, :count] = _radial(square, np)
  system[:count, count] = system[count, :count] = 1
  system[:count, count + 1 :] = control
  system[count + 1 :, :count] = control.T
  if np.linalg.cond(system) > 1e12:
    raise ValueError(
      "thin_plate_spline: `control` must be different points that do not lie on"
      f" a line, got {count} whose system is singular."
    )
  inverse = np.linalg.inv(system)[:, :count]
  solved = jnp.einsum(
    "jk,...kc->...jc",
    jnp.asarray(inverse, values.dtype),
    values,
    precision="highest",
  )
  return solved[..., :count, :], solved[..., count:, :]


def apply_thin_plate_spline(
  spline: ThinPlateSpline, control: np.ndarray, points: jax.Array
) -> jax.Array:
  """Values of a thin-plate spline at points.

  Convention:
    Points in the frame of the control points.

  Args:
    spline: from `thin_plate_spline`, leading axes [*B].
    control: c, [K, 2].
    points: q, [N, 2], the same for all splines.

  Returns:
    Values [*B, N, 2].

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> corners = ops.control_lattice(2)
    >>> spline = ops.thin_plate_spline(corners, 2 * corners + 1)
    >>> print(ops.apply_thin_plate_spline(spline, corners,
    ...                                   jnp.array([[0.5, -0.5]])).round(3))
    [[2. 0.]]

  Source:
    Bookstein, 1989, equation 5.
  """
  points = as_float(points)
  if points.ndim != 2 or points.shape[1] != 2:
    raise ValueError(
      "apply_thin_plate_spline: `points` must be [N, 2], got shape "
      f"{points.shape}."
    )
  weights, affine = spline
  centres = jnp.asarray(control, points.dtype)
  square = jnp.sum((points[:, None] - centres[None]) ** 2, axis=-1)
  basis = jnp.concatenate(
    [_radial(square, jnp), jnp.ones((len(points), 1), points.dtype), points], -1
  )
  coefficients = jnp.concatenate([weights, affine], axis=-2)
  return jnp.einsum("nj,...jc->...nc", basis, coefficients, precision="highest")


def thin_plate_grid(
  values: jax.Array,
  size: Sequence[int],
  *,
  control: np.ndarray | None = None,
  align_corners: bool = False,
) -> jax.Array:
  """Where the pixels of an output read their input, under a spline.

  Convention:
    Both sides in the ndc frame, order (x, y); maps OUTPUT to INPUT: place c_k
    of the output reads the input at `values[k]`.

  Args:
    values: where the control points read, [..., K, 2].
    size: (height, width) of the output.
    control: the control points, [K, 2]; the 4 x 4 lattice if None.
    align_corners: which ndc frame; pass the same to `grid_sample`.

  Returns:
    Positions [..., *size, 2] for `grid_sample`.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> grid = ops.thin_plate_grid(ops.control_lattice(4), (1, 2))
    >>> print(grid.round(3) + 0.0)
    [[[-0.5  0. ]
      [ 0.5  0. ]]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, section 3.2.
  """
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      "thin_plate_grid: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  control = control_lattice(4) if control is None else control
  spline = thin_plate_spline(control, values)
  dtype = spline[0].dtype
  y, x = (pixel_centres(side, align_corners) for side in size)
  points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
  grid = apply_thin_plate_spline(spline, control, jnp.asarray(points, dtype))
  return grid.reshape(*grid.shape[:-2], *size, 2)
