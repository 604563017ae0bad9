"""Reading images and volumes at grids: `affine_grid` and `grid_sample`.

As torch's functions of these names, channels last, in two and three dimensions,
with every mode in both, any number of grids for one image, a value for what
lies outside, and defined results for coordinates that are no numbers.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops import interpolation
from vision_jax.ops.floats import at_least_float32
from vision_jax.ops.matrix_tools import map_lattice

__all__ = ["affine_grid", "grid_sample", "pixel_centres"]

_METHODS = ("gather", "matmul")


def affine_grid(
  theta: jax.Array, size: Sequence[int], *, align_corners: bool = False
) -> jax.Array:
  """Where the pixels of an output read their input, under affine maps.

  Convention:
    Both sides in the ndc frame; theta maps OUTPUT to INPUT; order (x, y) or
    (x, y, z). -1 and 1 are the outer edges, or with `align_corners` the centres
    of the first and last pixel; 1 pixel lies at 0.

  Args:
    theta: the maps, [..., 2, 3] or [..., 3, 4].
    size: of the output, (height, width) or (depth, height, width).
    align_corners: see above; pass the same to `grid_sample`.

  Returns:
    Positions [..., *size, 2 or 3], float32 or wider. Products are exact to
    float32 on every device.

  Raises:
    ValueError: if `theta` is neither of the two shapes, or `size` does not
      belong to it or is not positive.

  Example:
    >>> from vision_jax import ops
    >>> theta = jnp.array([[1.0, 0, 0], [0, 1, 0.5]])
    >>> print(ops.affine_grid(theta, (1, 2)))
    [[[-0.5  0.5]
      [ 0.5  0.5]]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, equation 1;
    torch.nn.functional.affine_grid.
  """
  theta = jnp.asarray(theta)
  dims = theta.shape[-2] if theta.ndim >= 2 else 0
  if dims not in (2, 3) or theta.shape[-1] != dims + 1:
    raise ValueError(
      "affine_grid: `theta` must be [..., 2, 3] or [..., 3, 4], got shape "
      f"{theta.shape}."
    )
  if len(size) != dims or min(size) < 1:
    raise ValueError(
      f"affine_grid: `size` must be {dims} numbers, all at least 1, for `theta`"
      f" of shape {theta.shape}, got {tuple(size)}."
    )
  dtype = jnp.promote_types(theta.dtype, jnp.float32)
  lines = [
    jnp.asarray(pixel_centres(side, align_corners), dtype)
    for side in reversed(size)
  ]
  return map_lattice(theta.astype(dtype), lines)


def pixel_centres(side: int, align_corners: bool) -> np.ndarray:
  """Centres of the pixels of one axis, ndc frame, float64."""
  index = np.arange(side)
  if not align_corners:
    return (2 * index + 1) / side - 1
  return 2 * index / max(side - 1, 1) - (side > 1)


def grid_sample(
  image: jax.Array,
  grid: jax.Array,
  *,
  mode: str = "bilinear",
  padding_mode: str = "zeros",
  align_corners: bool = False,
  fill_value: jax.Array | float | None = None,
  method: str = "gather",
) -> jax.Array:
  """Values of images or volumes at the positions of grids.

  Convention:
    Layout [..., H, W, C] or [..., D, H, W, C]; positions in the ndc frame, in
    the order (x, y) or (x, y, z). -1 and 1 are the outer edges of the image, or
    with `align_corners` the centres of its first and last pixel.

  Args:
    image: images [*B, H, W, C] or volumes [*B, D, H, W, C]; integers are read
      as float32. The last axis of `grid` says which.
    grid: positions [*B, ..., 2] or [*B, ..., 3], with any axes in between: many
      grids of one image do not copy it. Read in float32 or wider.
    mode: "nearest" (halves round to even), "bilinear" (in volumes trilinear) or
      "bicubic" (tricubic; Keys with a = -0.75, may overshoot).
    padding_mode: what lies outside: "zeros" (fades over one pixel), "border"
      (the nearest pixel) or "reflection" (mirrored at the outer edges, or with
      `align_corners` at the centres of the end pixels).
    align_corners: see above; `affine_grid` must be given the same.
    fill_value: value outside instead of 0 with "zeros", a number or one for
      each channel, [C].
    method: "gather", or "matmul": products with one weight for each pixel of a
      line, without scatter in the derivative. Deterministic on a GPU and fast
      on a TPU for sides up to about 64; equal up to rounding.

  Returns:
    Values [*B, ..., C] in the dtype of a floating image. Where a coordinate is
    NaN: NaN, with derivative 0. Where one is infinite: the value far outside,
    0 or `fill_value`, the border, NaN with "reflection"; any finite number is
    safe. Derivatives are torch's: to the right at a pixel centre, 0 in `grid`
    on and beyond a border, 0 everywhere for "nearest".

  Raises:
    ValueError: if shapes do not belong together, the image has no pixels, a
      name is unknown, or `fill_value` is given without "zeros".

  Example:
    >>> from vision_jax import ops
    >>> image = jnp.array([[1.0, 0, 0, 2], [6, 3, 2, 1]])[..., None]
    >>> up = jnp.array([[1.0, 0, 0], [0, 1, 1]])  # one pixel of two
    >>> grid = ops.affine_grid(up, (2, 4))
    >>> print(ops.grid_sample(image, grid)[..., 0])
    [[6. 3. 2. 1.]
     [0. 0. 0. 0.]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, equation 5;
    torch.nn.functional.grid_sample.
  """
  image, grid = interpolation.as_image(image), jnp.asarray(grid)
  dims = _check_grid(image, grid)
  interpolation.check_choices(
    "grid_sample",
    mode=(mode, interpolation.MODES),
    padding_mode=(padding_mode, interpolation.PADDING_MODES),
    method=(method, _METHODS),
  )
  if fill_value is not None and padding_mode != "zeros":
    raise ValueError(
      'grid_sample: `fill_value` must come with padding_mode="zeros", got '
      f"{padding_mode!r}; leave it out."
    )
  grid = at_least_float32(grid)
  # Finite numbers stay finite in pixels; infinite ones have their own rule.
  grid = jnp.where(jnp.isfinite(grid), interpolation.limit(grid), grid)
  sides = jnp.array(image.shape[-2 : -2 - dims : -1], grid.dtype)
  sides = sides.reshape(*[1] * (grid.ndim - 1), dims)
  # The order of torch's operations: pixel centres are met exactly alike.
  if align_corners:
    points = (grid + 1) / 2 * (sides - 1)
  else:
    points = ((grid + 1) * sides - 1) / 2
  points = jnp.where(jnp.isinf(grid), grid, points)  # also times 0
  return interpolation.read(
    image,
    points,
    mode=mode,
    padding_mode=padding_mode,
    align_corners=align_corners,
    fill_value=fill_value,
    dense=method == "matmul",
  )


def _check_grid(image: jax.Array, grid: jax.Array) -> int:
  """Number of dimensions, 2 or 3."""
  dims = grid.shape[-1] if grid.ndim else 0
  if dims not in (2, 3):
    raise ValueError(
      "grid_sample: `grid` must be [..., 2] in the order (x, y), or [..., 3] in"
      f" the order (x, y, z), got shape {grid.shape}."
    )
  if image.ndim < dims + 1 or 0 in image.shape[-1 - dims : -1]:
    layout = "[..., H, W, C]" if dims == 2 else "[..., D, H, W, C]"
    raise ValueError(
      f"grid_sample: `image` must be {layout} with at least one pixel for a "
      f"grid of {dims} coordinates, got shape {image.shape}."
    )
  lead = image.shape[: -1 - dims]
  if grid.shape[: len(lead)] != lead:
    raise ValueError(
      f"grid_sample: `grid` must begin with the batch axes of `image`, {lead}, "
      f"got shape {grid.shape}."
    )
  return dims
