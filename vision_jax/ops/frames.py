"""The four coordinate frames of an image, and the converters between them.

==============  ==============================  ==========================
Frame           Image width W covers            Centre of column i
==============  ==============================  ==========================
*index*         [-0.5, W - 0.5]                 i
*continuous*    [0, W]                          i + 0.5
*unit*          [0, 1]                          (i + 0.5) / W
*ndc*           [-1, 1] (edges), or             (2 i + 1) / W - 1, or
                centres with `align_corners`    2 i / (W - 1) - 1
==============  ==============================  ==========================

Points are [..., 2] in the order (x, y); a `size` is (height, width). Key points
and heatmaps use the index frame, boxes the continuous frame. Only the functions
of this module convert. All accept any floating or integer array and return at
least float32, and all are affine, so that they work under jit, vmap, grad, jvp.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
  "continuous_to_index",
  "continuous_to_unit",
  "feature_to_image",
  "image_to_feature",
  "index_to_continuous",
  "index_to_ndc",
  "ndc_to_index",
  "resize_matrix",
  "unit_to_continuous",
]


def _as_points(function: str, points: jax.Array) -> jax.Array:
  """Checks [..., 2] and promotes to float32 or wider."""
  points = jnp.asarray(points)
  if points.ndim < 1 or points.shape[-1] != 2:
    raise ValueError(
      f"{function}: `points` must be [..., 2] in the order (x, y), got shape "
      f"{points.shape}."
    )
  return points.astype(jnp.promote_types(points.dtype, jnp.float32))


def _check_size(function: str, name: str, size: Sequence[int]) -> None:
  """Checks a (height, width) pair of static positive integers."""
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      f"{function}: `{name}` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )


def _scale_xy(points: jax.Array, scale: Sequence[float]) -> jax.Array:
  """Multiplies x and y by the two entries of `scale`."""
  return points * jnp.broadcast_to(
    jnp.asarray(scale, points.dtype), points.shape
  )


def index_to_continuous(points: jax.Array) -> jax.Array:
  """Points of the index frame in the continuous frame.

  Convention:
    Order (x, y). The centre of the first pixel goes from (0, 0) to (0.5, 0.5).

  Args:
    points: positions, index frame, [..., 2].

  Returns:
    The same positions, continuous frame, [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.index_to_continuous(jnp.array([0.0, 3.0])))
    [0.5 3.5]

  Source:
    Definition; box frame as in He et al., Mask R-CNN (RoIAlign), 2017.
  """
  return _as_points("index_to_continuous", points) + 0.5


def continuous_to_index(points: jax.Array) -> jax.Array:
  """Points of the continuous frame in the index frame.

  Convention:
    Order (x, y). The centre of the first pixel goes from (0.5, 0.5) to (0, 0).

  Args:
    points: positions, continuous frame, [..., 2].

  Returns:
    The same positions, index frame, [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.continuous_to_index(jnp.array([0.5, 3.5])))
    [0. 3.]

  Source:
    Inverse of `index_to_continuous`.
  """
  return _as_points("continuous_to_index", points) - 0.5


def continuous_to_unit(points: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Points of the continuous frame in the unit frame.

  Convention:
    Order (x, y); `size` is (height, width). The outer edges of the image are 0
    and 1.

  Args:
    points: positions, continuous frame (pixels), [..., 2].
    size: height and width of the image, static integers.

  Returns:
    The same positions, unit frame, [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2] or `size` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.continuous_to_unit(jnp.array([4.0, 1.0]), (2, 8)))
    [0.5 0.5]

  Source:
    Kirillov et al., PointRend, CVPR 2020, section 3 (point coordinates).
  """
  points = _as_points("continuous_to_unit", points)
  _check_size("continuous_to_unit", "size", size)
  return _scale_xy(points, (1 / size[1], 1 / size[0]))


def unit_to_continuous(points: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Points of the unit frame in the continuous frame.

  Convention:
    Order (x, y); `size` is (height, width). 0 and 1 are the outer edges.

  Args:
    points: positions, unit frame, [..., 2].
    size: height and width of the image, static integers.

  Returns:
    The same positions, continuous frame (pixels), [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2] or `size` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.unit_to_continuous(jnp.array([0.5, 0.5]), (2, 8)))
    [4. 1.]

  Source:
    Inverse of `continuous_to_unit`.
  """
  points = _as_points("unit_to_continuous", points)
  _check_size("unit_to_continuous", "size", size)
  return _scale_xy(points, (size[1], size[0]))


def index_to_ndc(
  points: jax.Array, size: tuple[int, int], *, align_corners: bool = False
) -> jax.Array:
  """Points of the index frame in normalised device coordinates.

  Convention:
    Order (x, y); `size` is (height, width). -1 and 1 are the outer edges of the
    image, or, with `align_corners`, the centres of the first and last pixel.

  Args:
    points: positions, index frame (pixels), [..., 2].
    size: height and width of the image, static integers.
    align_corners: which of the two definitions of -1 and 1 holds, as in
      `torch.nn.functional.affine_grid` and `grid_sample`.

  Returns:
    The same positions, ndc frame, [..., 2]. With `align_corners` and a side of
    one pixel, index 0 becomes 0, as in `affine_grid`.

  Raises:
    ValueError: if `points` is not [..., 2] or `size` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.index_to_ndc(jnp.array([7.0, 0.0]), (2, 8)))
    [ 0.875 -0.5  ]
    >>> print(ops.index_to_ndc(jnp.array([7.0, 0.0]), (2, 8),
    ...                        align_corners=True))
    [ 1. -1.]

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, section 3.2; torch.
  """
  points = _as_points("index_to_ndc", points)
  _check_size("index_to_ndc", "size", size)
  if not align_corners:
    return _scale_xy(points + 0.5, (2 / size[1], 2 / size[0])) - 1
  last = [max(side - 1, 1) for side in (size[1], size[0])]
  middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
  return _scale_xy(
    points - jnp.broadcast_to(middle.astype(points.dtype), points.shape),
    [2 / side for side in last],
  )


def ndc_to_index(
  points: jax.Array, size: tuple[int, int], *, align_corners: bool = False
) -> jax.Array:
  """Points in normalised device coordinates in the index frame.

  Convention:
    Order (x, y); `size` is (height, width). -1 and 1 are the outer edges of the
    image, or, with `align_corners`, the centres of the first and last pixel.

  Args:
    points: positions, ndc frame, [..., 2].
    size: height and width of the image, static integers.
    align_corners: which of the two definitions of -1 and 1 holds, as in
      `torch.nn.functional.grid_sample`.

  Returns:
    The same positions, index frame (pixels), [..., 2]. With `align_corners` and
    a side of one pixel every coordinate becomes 0, as in `grid_sample`.

  Raises:
    ValueError: if `points` is not [..., 2] or `size` is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.ndc_to_index(jnp.array([0.875, -0.5]), (2, 8)))
    [7. 0.]

  Source:
    Inverse of `index_to_ndc`; torch `grid_sample`.
  """
  points = _as_points("ndc_to_index", points)
  _check_size("ndc_to_index", "size", size)
  if not align_corners:
    return _scale_xy(points + 1, (size[1] / 2, size[0] / 2)) - 0.5
  return _scale_xy(points + 1, ((size[1] - 1) / 2, (size[0] - 1) / 2))


def feature_to_image(
  points: jax.Array, *, stride: float, offset: float
) -> jax.Array:
  """Image position of the centre of each feature cell, x = stride u + offset.

  Convention:
    Order (x, y); both sides in the index frame. A layer with kernel k, stride t
    and left padding p turns (stride, offset) = (s, o) of its input into
    (s t, o + s ((k - 1) / 2 - p)); the image itself has (1, 0).

  Args:
    points: cells of a feature map, index frame (may be fractional), [..., 2].
    stride: image pixels per feature cell.
    offset: image position of the centre of cell 0, pixels.

  Returns:
    Positions in the image, index frame (pixels), [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.feature_to_image(jnp.array([0, 2]), stride=8, offset=3.5))
    [ 3.5 19.5]

  Source:
    Araujo et al., Computing Receptive Fields of Convolutional Neural Networks,
    Distill 2019 (effective stride and centre).
  """
  return _as_points("feature_to_image", points) * stride + offset


def image_to_feature(
  points: jax.Array, *, stride: float, offset: float
) -> jax.Array:
  """Position of image points on a feature map, u = (x - offset) / stride.

  Convention:
    Order (x, y); both sides in the index frame. Not clamped to the map.

  Args:
    points: positions in the image, index frame (pixels), [..., 2].
    stride: image pixels per feature cell.
    offset: image position of the centre of cell 0, pixels.

  Returns:
    Fractional cells, index frame of the feature map, [..., 2].

  Raises:
    ValueError: if `points` is not [..., 2].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.image_to_feature(jnp.array([3.5, 19.5]), stride=8,
    ...                            offset=3.5))
    [0. 2.]

  Source:
    Inverse of `feature_to_image`.
  """
  return (_as_points("image_to_feature", points) - offset) / stride


def resize_matrix(
  size_in: tuple[int, int],
  size_out: tuple[int, int],
  *,
  convention: str = "exact",
) -> np.ndarray:
  """Homography from an image to its resized copy.

  With scales s = size_out / size_in, "exact" is x' = s (x + 0.5) - 0.5, which
  is where `resize` (without `align_corners`) puts a point; "diag" is the plain
  x' = s x of several published evaluations, off by (s - 1) / 2 pixels. A ground
  truth `homography_0to1` between two images that are resized by T0 and T1
  becomes T1 @ homography_0to1 @ inv(T0).

  Convention:
    Sizes are (height, width); acts on homogeneous (x, y, 1), index frame, and
    maps the original to the resized image.

  Args:
    size_in: size of the original image.
    size_out: size of the resized image.
    convention: "exact" or "diag".

  Returns:
    Constant matrix, NumPy float64 [3, 3].

  Raises:
    ValueError: if a size is not positive or the convention is unknown.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.resize_matrix((4, 8), (8, 4)))
    [[ 0.5   0.   -0.25]
     [ 0.    2.    0.5 ]
     [ 0.    0.    1.  ]]

  Source:
    Half-pixel centres, as in torch `interpolate(align_corners=False)`.
  """
  _check_size("resize_matrix", "size_in", size_in)
  _check_size("resize_matrix", "size_out", size_out)
  if convention not in ("exact", "diag"):
    raise ValueError(
      'resize_matrix: `convention` must be "exact" or "diag", got '
      f"{convention!r}."
    )
  scale_y, scale_x = (o / i for o, i in zip(size_out, size_in, strict=True))
  matrix = np.diag([scale_x, scale_y, 1.0])
  if convention == "exact":
    matrix[:2, 2] = (scale_x - 1) / 2, (scale_y - 1) / 2
  return matrix
