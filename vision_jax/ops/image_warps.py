"""Images read through matrices: warps, crops, patches, reprojection.

Positions are in the index frame, boxes in the continuous frame. Everything ends
in `interpolation.read`, so modes, borders and numbers that are none behave as
in `grid_sample`. `antialias` reads a pyramid where the output is coarser than
the input.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops import interpolation
from vision_jax.ops.matrix_tools import as_float, as_shape, map_lattice, product
from vision_jax.ops.sampling import resize

__all__ = [
  "crop_and_resize",
  "patch_matrix",
  "reproject_depth",
  "warp",
  "warp_points",
]


def warp_points(
  matrix: jax.Array, size: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
  """Where the pixels of an output read their input.

  Convention:
    Index frame, order (x, y) or (x, y, z); the matrix maps output to input.
    Points whose denominator is not positive lie behind the horizon: the sign of
    a homography matters here.

  Args:
    matrix: [..., 2, 3] or [..., 3, 3]; of volumes [..., 3, 4] or [..., 4, 4].
      Three rows and columns are a homography of the plane.
    size: (height, width) or (depth, height, width) of the output.

  Returns:
    Positions [..., *size, 2 or 3], and bool [..., *size], False behind the
    horizon. There the position is 0, with derivative 0.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> matrix = jnp.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 1]])
    >>> points, valid = ops.warp_points(matrix, (1, 3))
    >>> print(valid)
    [[ True False False]]

  Source:
    Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 2.3.
  """
  matrix, dims = _check_matrix("warp_points", matrix)
  if len(size) != dims or min(size) < 1:
    raise ValueError(
      f"warp_points: `size` must be {dims} numbers, all at least 1, for a "
      f"matrix of shape {matrix.shape}, got {tuple(size)}."
    )
  lead, rows = matrix.shape[:-2], matrix.shape[-2]
  lines = [jnp.arange(side, dtype=matrix.dtype) for side in reversed(size)]
  total = map_lattice(matrix, lines)
  if rows == dims:
    return total, jnp.ones((*lead, *size), bool)
  magnitude = map_lattice(jnp.abs(matrix[..., dims:, :]), lines)[..., 0]
  valid = total[..., dims] > jnp.finfo(matrix.dtype).eps * magnitude
  valid |= jnp.isnan(total[..., dims])  # is to be seen in the result
  w = jnp.where(valid, total[..., dims], 1)
  points = jnp.where(valid[..., None], total[..., :dims], 0)
  return points / w[..., None], valid


def _check_matrix(function: str, matrix: jax.Array) -> tuple[jax.Array, int]:
  """The matrix as float, and whether it is of images or of volumes."""
  matrix = as_float(matrix)
  dims = matrix.shape[-1] - 1 if matrix.ndim >= 2 else 0
  if dims not in (2, 3) or matrix.shape[-2] not in (dims, dims + 1):
    raise ValueError(
      f"{function}: `matrix` must be [..., 2, 3], [..., 3, 3], [..., 3, 4] or"
      f" [..., 4, 4], got shape {matrix.shape}."
    )
  return matrix, dims


def warp(
  image: jax.Array,
  matrix: jax.Array,
  size: Sequence[int] | None = None,
  *,
  mode: str = "bilinear",
  padding_mode: str = "zeros",
  fill_value: jax.Array | float | None = None,
  antialias: bool = False,
) -> jax.Array:
  """An image or a volume seen through a matrix.

  Convention:
    Layout [..., H, W, C] or [..., D, H, W, C]; the matrix maps positions of the
    OUTPUT to positions of the input, index frame, order (x, y) or (x, y, z).

  Args:
    image: images [*B, H, W, C] or volumes [*B, D, H, W, C].
    matrix: [*B, ..., 2, 3] or [*B, ..., 3, 3]; for volumes [*B, ..., 3, 4] or
      [*B, ..., 4, 4]. Many matrices of one image do not copy it.
    size: of the output, (height, width) or (depth, height, width); that of the
      input if None.
    mode: as in `grid_sample`.
    padding_mode: as in `grid_sample`, "reflection" at the outer edges.
    fill_value: as in `grid_sample`; behind the horizon with every padding.
    antialias: of images, read a pyramid at the level at which neighbours of the
      output are one pixel apart (the larger of both directions).

  Returns:
    Images [*B, ..., *size, C]. Behind the horizon 0 or `fill_value`, with
    derivative 0; NaN where the matrix is NaN.

  Raises:
    ValueError: if shapes do not belong together or a name is unknown.

  Example:
    >>> from vision_jax import ops
    >>> image = jnp.arange(6.0).reshape(2, 3, 1)
    >>> right = jnp.array([[1.0, 0, 1], [0, 1, 0]])  # reads one to the right
    >>> print(ops.warp(image, right)[..., 0])
    [[1. 2. 0.]
     [4. 5. 0.]]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, section 3; levels as
    in Williams, Pyramidal parametrics, 1983.
  """
  image = interpolation.as_image(image)
  matrix, dims = _check_matrix("warp", matrix)
  lead = image.shape[: -1 - dims]
  if image.ndim < dims + 1 or matrix.shape[: len(lead)] != lead:
    raise ValueError(
      "warp: `image` must be [*B, H, W, C] (of volumes [*B, D, H, W, C]) and "
      f"`matrix` begin with the same *B, got shapes {image.shape} and "
      f"{matrix.shape}."
    )
  interpolation.check_choices(
    "warp",
    mode=(mode, interpolation.MODES),
    padding_mode=(padding_mode, interpolation.PADDING_MODES),
  )
  if antialias and dims == 3:
    raise ValueError("warp: `antialias` must be False for volumes, got True.")
  size = image.shape[-1 - dims : -1] if size is None else size
  points, valid = warp_points(matrix, size)
  outside = fill_value if padding_mode == "zeros" else None
  settings: dict[str, Any] = {
    "mode": mode,
    "padding_mode": padding_mode,
    "fill_value": outside,
  }
  if antialias:
    values = _read_pyramid(image, points, **settings)
  else:
    values = interpolation.read(image, points, **settings)
  fill = jnp.asarray(0 if fill_value is None else fill_value, values.dtype)
  fill = jnp.broadcast_to(fill, values.shape[-1:])
  fill = fill.reshape(*[1] * (values.ndim - 1), -1)
  return jnp.where(valid[..., None], values, fill)


def _spacing(points: jax.Array) -> jax.Array:
  """Distance in the input of neighbours in the output, [..., h, w]."""
  largest = jnp.zeros(points.shape[:-1], points.dtype)
  for axis in (-3, -2):
    if points.shape[axis] == 1:
      continue
    step = jnp.sqrt(jnp.sum(jnp.diff(points, axis=axis) ** 2, axis=-1))
    pad = [(0, 0)] * step.ndim
    pad[axis + 1] = (1, 1)
    step = jnp.pad(step, pad, mode="edge")
    count = points.shape[axis]
    before = lax.slice_in_dim(step, 0, count, axis=step.ndim + axis + 1)
    after = lax.slice_in_dim(step, 1, count + 1, axis=step.ndim + axis + 1)
    largest = jnp.maximum(largest, (before + after) / 2)
  return largest


def _read_pyramid(
  image: jax.Array, points: jax.Array, **settings: Any
) -> jax.Array:
  """Reads between the two levels whose pixels are as far apart as `points`."""
  spacing = lax.stop_gradient(_spacing(points))
  level = jnp.log2(jnp.maximum(spacing, 1))
  height, width = image.shape[-3:-1]
  top = max(height, width).bit_length() - 1
  level = jnp.clip(jnp.nan_to_num(level), 0, top)
  sides = jnp.array([width, height], points.dtype)
  sides = sides.reshape(*[1] * (points.ndim - 1), 2)
  total, current = jnp.zeros((), image.dtype), image
  for k in range(top + 1):
    if k:
      smaller = (max(1, height >> k), max(1, width >> k))
      current = resize(current, smaller, mode="area")
    ratio = (
      jnp.array(current.shape[-2:-4:-1], points.dtype).reshape(sides.shape)
      / sides
    )
    values = interpolation.read(
      current, (points + 0.5) * ratio - 0.5, **settings
    )
    weight = jnp.maximum(1 - jnp.abs(level - k), 0)[..., None]
    total = total + weight.astype(values.dtype) * values
  return total


def crop_and_resize(
  image: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  mode: str = "bilinear",
  padding_mode: str = "zeros",
  align_corners: bool = False,
  antialias: bool = False,
) -> jax.Array:
  """Boxes cut out of images and brought to one size.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame: an image covers [0, W] x [0, H],
    and output column j reads there at x1 + (j + 0.5) (x2 - x1) / w. With
    `align_corners` the corners are centres of pixels in the index frame, and
    the first and last column read at x1 and x2.

  Args:
    image: images [*B, H, W, C].
    boxes: [*B, ..., 4]; a box with x2 < x1 is mirrored.
    size: (height, width) of the crops.
    mode: as in `grid_sample`.
    padding_mode: what a box has beyond the image, as in `grid_sample`.
    align_corners: see above.
    antialias: as in `warp`.

  Returns:
    Crops [*B, ..., *size, C].

  Raises:
    ValueError: if shapes do not belong together or a name is unknown.

  Example:
    >>> from vision_jax import ops
    >>> image = jnp.arange(16.0).reshape(4, 4, 1)
    >>> crop = ops.crop_and_resize(image, jnp.array([0.0, 0, 4, 4]), (2, 2))
    >>> print(crop[..., 0])
    [[ 2.5  4.5]
     [10.5 12.5]]

  Source:
    He et al., Mask R-CNN, 2017 (no rounding of boxes); with `align_corners`
    tf.image.crop_and_resize.
  """
  boxes = as_shape("crop_and_resize", "boxes", boxes, 4)
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      "crop_and_resize: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  first, last = boxes[..., :2], boxes[..., 2:]
  sides = np.array(size[::-1])
  if align_corners:
    count = np.maximum(sides - 1, 1).astype(boxes.dtype)
    count = count.reshape(*[1] * (boxes.ndim - 1), 2)
    scale, shift = (last - first) / count, first
    alone = (sides == 1).reshape(count.shape)
    shift = jnp.where(alone, (first + last) / 2, shift)
  else:
    count = sides.astype(boxes.dtype).reshape(*[1] * (boxes.ndim - 1), 2)
    scale = (last - first) / count
    shift = first + scale / 2 - 0.5
  zero = jnp.zeros_like(scale[..., 0])
  rows = (
    jnp.stack([scale[..., 0], zero, shift[..., 0]], -1),
    jnp.stack([zero, scale[..., 1], shift[..., 1]], -1),
  )
  return warp(
    image,
    jnp.stack(rows, -2),
    size,
    mode=mode,
    padding_mode=padding_mode,
    antialias=antialias,
  )


def patch_matrix(
  points: jax.Array,
  half_width: jax.Array | float,
  size: int,
  *,
  angle: jax.Array | float = 0.0,
  align_corners: bool = True,
) -> jax.Array:
  """Matrices of square patches around points: local frames for `warp`.

  Convention:
    Order (x, y), index frame; maps pixels of the patch to the image. A
    direction at `angle` from +x towards +y becomes +x in the patch.

  Args:
    points: centres, [..., 2].
    half_width: from the centre to the first and last sample, or without
      `align_corners` to the outer edge, pixels, [...].
    size: side of the patch.
    angle: radians, [...].
    align_corners: see `half_width`.

  Returns:
    Matrices [..., 2, 3], for `warp(image, matrices, (size, size),
    antialias=True)`.

  Raises:
    ValueError: if a shape is wrong or `size` is below 2.

  Example:
    >>> from vision_jax import ops
    >>> matrix = ops.patch_matrix(jnp.array([10.0, 20.0]), 3.0, 7)
    >>> print(matrix + 0.0)
    [[ 1.  0.  7.]
     [ 0.  1. 17.]]

  Source:
    Yi et al., LIFT, 2016, section 3.2; its samples lie on the corners.
  """
  points = as_shape("patch_matrix", "points", points, 2)
  if size < 2:
    raise ValueError(f"patch_matrix: `size` must be at least 2, got {size}.")
  step = 2 * as_float(half_width) / (size - 1 if align_corners else size)
  angle = as_float(angle)
  c, s = step * jnp.cos(angle), step * jnp.sin(angle)
  c, s = (jnp.broadcast_to(v, points.shape[:-1]) for v in (c, s))
  middle = (size - 1) / 2
  x = points[..., 0] - middle * (c - s)
  y = points[..., 1] - middle * (s + c)
  return jnp.stack([jnp.stack([c, -s, x], -1), jnp.stack([s, c, y], -1)], -2)


def reproject_depth(
  depth: jax.Array,
  camera0: jax.Array,
  camera1: jax.Array,
  rotation: jax.Array,
  translation: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Where the pixels of a camera with known depth are seen by another.

  Reading image 1 at these points (`sample`) renders it from camera 0.

  Convention:
    Order (x, y), index frame. A point X0 of camera 0's coordinates (x right, y
    down, z forward) is X1 = R X0 + t in those of camera 1.

  Args:
    depth: z of each pixel of camera 0, [..., H, W].
    camera0: intrinsic matrices, [..., 3, 3].
    camera1: intrinsic matrices, [..., 3, 3].
    rotation: R, [..., 3, 3].
    translation: t, [..., 3].

  Returns:
    Positions in image 1, [..., H, W, 2], and bool [..., H, W], False where the
    point lies behind either camera; there the position is 0, with derivative 0.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> k = jnp.diag(jnp.array([100.0, 100.0, 1.0]))
    >>> points, valid = ops.reproject_depth(
    ...     jnp.full((1, 2), 2.0), k, k, jnp.eye(3), jnp.array([0.2, 0, 0]))
    >>> print(points)
    [[[10.  0.]
      [11.  0.]]]

  Source:
    Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 6.1.
  """
  name = "reproject_depth"
  depth = as_float(depth)
  if depth.ndim < 2:
    raise ValueError(
      f"{name}: `depth` must be [..., H, W], got shape {depth.shape}."
    )
  camera0 = as_shape(name, "camera0", camera0, 3, 3)
  camera1 = as_shape(name, "camera1", camera1, 3, 3)
  rotation = as_shape(name, "rotation", rotation, 3, 3)
  translation = as_shape(name, "translation", translation, 3)
  height, width = depth.shape[-2:]
  ray = product(camera1, rotation, jnp.linalg.inv(camera0))
  shift = product(camera1, translation[..., None])[..., 0]
  x = jnp.arange(width, dtype=depth.dtype)[None, :, None]
  y = jnp.arange(height, dtype=depth.dtype)[:, None, None]
  columns = [ray[..., None, None, :, k] for k in range(3)]
  x, y = (v.reshape(*[1] * (columns[0].ndim - 3), *v.shape) for v in (x, y))
  direction = columns[0] * x + columns[1] * y + columns[2]
  seen = direction * depth[..., None] + shift[..., None, None, :]
  valid = (depth > 0) & (seen[..., 2] > 0)
  z = jnp.where(valid, seen[..., 2], 1)
  points = jnp.where(valid[..., None], seen[..., :2], 0) / z[..., None]
  return points, valid
