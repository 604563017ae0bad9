"""Pixel values at points, and resizing.

`sample` reads an image at any positions; `resize` equals
`torch.nn.functional.interpolate` in every mode. A resize is one sparse linear
map per axis, computed here in float64 NumPy when the function is traced, and
applied as a weighted sum of gathers; the transposed map is applied in the same
way, so that the gradient is as fast as the function.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops import interpolation
from vision_jax.ops.floats import at_least_float32

__all__ = ["pad_to_multiple", "resize", "sample"]

_PADDINGS = {"edge": "border", "zeros": "zeros"}
_RESIZE_MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")

# Above this number of taps per output a dense product is as fast as gathers,
# and compiles sooner.
_MAX_TAPS = 32


def sample(
  image: jax.Array,
  points: jax.Array,
  *,
  mode: str = "bilinear",
  padding: str = "edge",
) -> jax.Array:
  """Values of an image at points, by interpolation between pixels.

  Convention:
    Layout [H, W, C]; points in order (x, y), index frame: (0, 0) is the centre
    of the first pixel. Weights are computed in float32 or wider.

  Args:
    image: the image or feature map, [H, W, C]; integers are read as float32.
    points: positions in pixels, [..., 2].
    mode: "nearest" (halves round to even), "bilinear", or "bicubic"
      (convolution with a = -0.75).
    padding: what lies outside the image: "edge", its nearest edge pixel, or
      "zeros".

  Returns:
    Values [..., C], in the dtype of a floating image. Finite for every point of
    a finite image: infinity is far outside, and NaN counts as outside with
    "zeros" and as coordinate 0 with "edge"; their gradients are 0.

  Raises:
    ValueError: if a shape is wrong, the image has no pixels, or `mode` or
      `padding` is unknown.

  Example:
    >>> from vision_jax import ops
    >>> image = jnp.arange(6.0).reshape(2, 3, 1)
    >>> print(ops.sample(image, jnp.array([[1.0, 0.0], [0.5, 0.5]])))
    [[1.]
     [2.]]

  Source:
    Keys, Cubic convolution interpolation, 1981; edges as torch `grid_sample`
    with padding_mode "border" and "zeros".
  """
  image, points = interpolation.as_image(image), jnp.asarray(points)
  if image.ndim != 3 or 0 in image.shape[:2]:
    raise ValueError(
      "sample: `image` must be [H, W, C] with at least one pixel, got shape "
      f"{image.shape}; use jax.vmap for a batch."
    )
  if points.ndim < 1 or points.shape[-1] != 2:
    raise ValueError(
      "sample: `points` must be [..., 2] in the order (x, y), got shape "
      f"{points.shape}."
    )
  interpolation.check_choices(
    "sample",
    mode=(mode, interpolation.MODES),
    padding=(padding, tuple(_PADDINGS)),
  )
  points = at_least_float32(points)
  # Three pixels outside, all taps are outside: the value no longer changes.
  far = jnp.broadcast_to(
    jnp.array([image.shape[1] + 2, image.shape[0] + 2], points.dtype),
    points.shape,
  )
  no_number = 0.0 if padding == "edge" else -3.0
  points = jnp.where(jnp.isnan(points), no_number, points)
  points = jnp.where(points > far, lax.stop_gradient(far), points)
  points = jnp.where(points < -3, -3.0, points)
  return interpolation.interpolate(
    image, points, mode=mode, padding_mode=_PADDINGS[padding]
  )


def _cubic(distance, a: float, xp):
  """Keys' kernel with parameter `a` at distances >= 0."""
  d = distance
  near = ((a + 2) * d - (a + 3)) * d * d + 1
  far = a * (((d - 5) * d + 8) * d - 4)
  return xp.where(d <= 1, near, xp.where(d < 2, far, 0.0))


class _Taps(NamedTuple):
  """Output i is sum_k weight[i, k] * input[source[i, k]]."""

  source: np.ndarray
  weight: np.ndarray


def resize(
  image: jax.Array,
  size: tuple[int, int],
  *,
  mode: str = "bilinear",
  antialias: bool = False,
  align_corners: bool = False,
) -> jax.Array:
  """Image at another size, equal to torch's `interpolate(size=size)`.

  Convention:
    Layout [..., H, W, C]; `size` is (height, width). Pixel centres map as
    x' + 0.5 = (x + 0.5) W' / W, or, with `align_corners`, the centres of the
    corner pixels stay at the corners. See `resize_matrix`.

  Args:
    image: images or feature maps, floating, [..., H, W, C]; the two nearest
      modes take any dtype.
    size: height and width of the result, static integers.
    mode: "nearest", "nearest-exact", "bilinear", "bicubic" or "area".
    antialias: widen the kernel when the image shrinks; bilinear and bicubic.
    align_corners: see the convention; bilinear and bicubic.

  Returns:
    Images [..., *size, C] of the same dtype, computed in float32 or wider.

  Raises:
    ValueError: if a shape is wrong, the image has no pixels, the mode is
      unknown or does not have the option that was set.
    TypeError: if an image of integers is to be interpolated.

  Example:
    >>> from vision_jax import ops
    >>> image = jnp.array([0.0, 4.0]).reshape(1, 2, 1)
    >>> print(ops.resize(image, (1, 4))[0, :, 0])
    [0. 1. 3. 4.]

  Note:
    As in torch: bicubic has a = -0.75, but a = -0.5 with `antialias`;
    "nearest" takes floor(i W / W') in float32 arithmetic and is shifted by up
    to half a pixel, which "nearest-exact" is not; `antialias` together with
    `align_corners` is not registered at the corners.

  Source:
    torch.nn.functional.interpolate, torch 2.13, compared live over all modes.
  """
  image = jnp.asarray(image)
  if image.ndim < 3 or 0 in image.shape[-3:-1]:
    raise ValueError(
      "resize: `image` must be [..., H, W, C] with at least one pixel, got "
      f"shape {image.shape}."
    )
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      "resize: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  interpolation.check_choices("resize", mode=(mode, _RESIZE_MODES))
  if (antialias or align_corners) and mode not in ("bilinear", "bicubic"):
    raise ValueError(
      "resize: `antialias` and `align_corners` must be False with mode "
      f"{mode!r}; they belong to bilinear and bicubic."
    )
  floating = jnp.issubdtype(image.dtype, jnp.floating)
  if not floating and not mode.startswith("nearest"):
    raise TypeError(
      f"resize: `image` must be floating for mode {mode!r}, got "
      f"{image.dtype}; convert it first."
    )
  result = image
  if floating:
    result = at_least_float32(image)
  # The axis that shrinks more first, which takes fewer products.
  ratio = [o / n for o, n in zip(size, image.shape[-3:-1], strict=True)]
  for k in (0, 1) if ratio[0] <= ratio[1] else (1, 0):
    if ratio[k] != 1:
      result = _resize_axis(
        result,
        axis=image.ndim - 3 + k,
        size=size[k],
        settings=(mode, antialias, align_corners),
      )
  return result.astype(image.dtype)


def _resize_taps(
  n: int, m: int, mode: str, antialias: bool, align_corners: bool
) -> _Taps:
  """Taps from `n` to `m` samples."""
  i = np.arange(m)
  if mode.startswith("nearest"):  # float32 decides as torch does
    shift = np.float32(0.5 if mode == "nearest-exact" else 0.0)
    source = (i.astype(np.float32) + shift) * (np.float32(n) / np.float32(m))
    index = np.minimum(np.floor(source).astype(np.int64), n - 1)[:, None]
    return _Taps(index, np.ones(index.shape))
  if mode == "area":
    start, stop = i * n // m, -((i + 1) * -n // m)
    k = np.arange((stop - start).max())
    weight = (k < (stop - start)[:, None]) / (stop - start)[:, None]
    return _Taps(np.minimum(start[:, None] + k, n - 1), weight)
  scale = (n - 1) / max(m - 1, 1) * (m > 1) if align_corners else n / m
  if antialias:
    center, width = scale * (i + 0.5), max(scale, 1.0)
    support = width * (1 if mode == "bilinear" else 2)
    start = np.maximum((center - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((center + support + 0.5).astype(np.int64), n)
    index = start[:, None] + np.arange((stop - start).max())
    distance = np.abs(index + 0.5 - center[:, None]) / width
    if mode == "bilinear":
      weight = np.maximum(1 - distance, 0)
    else:
      weight = _cubic(distance, -0.5, np)
    weight = np.where(index < stop[:, None], weight, 0)
    weight /= weight.sum(axis=1, keepdims=True)
    return _Taps(np.minimum(index, n - 1), weight)
  source = scale * i if align_corners else scale * (i + 0.5) - 0.5
  if mode == "bilinear":
    source = np.clip(source, 0, n - 1)
  base = np.floor(source)
  t = source - base
  if mode == "bilinear":
    offsets, weights = np.arange(2), [1 - t, t]
  else:
    offsets = np.arange(-1, 3)
    weights = [_cubic(d, -0.75, np) for d in (1 + t, t, 1 - t, 2 - t)]
  index = base[:, None].astype(np.int64) + offsets
  return _Taps(np.clip(index, 0, n - 1), np.stack(weights, axis=1))


# Compiled here, so that calls outside of jit do not compile every time.
def pad_to_multiple(
  images: jax.Array, divisor: int, *, value: float = 0
) -> jax.Array:
  """Pads images below and to the right, to sides that `divisor` divides.

  Args:
    images: [B, H, W, ...].
    divisor: at least 1.
    value: of the new pixels.

  Returns:
    [B, H', W', ...] with the smallest such sides; `images` if they have them.

  Example:
    >>> from vision_jax import ops
    >>> ops.pad_to_multiple(jnp.ones((1, 33, 64, 3)), 32).shape
    (1, 64, 64, 3)

  Source:
    detectron2, structures/image_list.py, `ImageList.from_tensors`.
  """
  missing = [-n % divisor for n in images.shape[1:3]]
  if not any(missing):
    return images
  pads = [(0, 0), *((0, n) for n in missing), *[(0, 0)] * (images.ndim - 3)]
  return jnp.pad(images, pads, constant_values=value)


@functools.partial(jax.jit, static_argnames=("axis", "size", "settings"))
def _resize_axis(
  x: jax.Array, *, axis: int, size: int, settings: tuple[str, bool, bool]
) -> jax.Array:
  """Resizes one axis; differentiates into the transposed taps.

  The transpose that JAX derives for gathers is a scatter, many times slower on
  a CPU. `custom_linear_solve` is the public primitive that carries its own
  transpose through jit, vmap, jvp and grad. It expects a square system, hence
  the padding, which the compiler removes.
  """
  size_in = x.shape[axis]
  taps = _resize_taps(size_in, size, *settings)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    return jnp.take(x, taps.source[:, 0], axis=axis, mode="clip")
  padded = max(size_in, size)

  def apply(taps, size):
    # jit keeps the weights inside, where shard_map does not see constants.
    @jax.jit
    def solve(y):
      y = lax.slice_in_dim(y, 0, size, axis=axis)
      return _pad_to(_weighted_gather(y, taps, axis), padded, axis)

    return lambda _, y: solve(y)

  y = lax.custom_linear_solve(
    lambda y: y,
    _pad_to(x, padded, axis),
    solve=apply(taps, size_in),
    transpose_solve=apply(_transpose(taps, size_in), size),
  )
  return lax.slice_in_dim(y, 0, size, axis=axis)


def _pad_to(x: jax.Array, size: int, axis: int) -> jax.Array:
  """Appends zeros along `axis` up to `size`."""
  padding = [(0, 0, 0)] * x.ndim
  padding[axis] = (0, size - x.shape[axis], 0)
  return lax.pad(x, jnp.zeros((), x.dtype), padding)


def _weighted_gather(x: jax.Array, taps: _Taps, axis: int) -> jax.Array:
  """Applies `taps` along `axis`."""
  index, weight = taps
  if index.shape[1] > _MAX_TAPS:
    dense = np.zeros((len(index), x.shape[axis]))
    np.add.at(dense, (np.arange(len(index))[:, None], index), weight)
    y = jnp.tensordot(
      jnp.asarray(dense, x.dtype), x, (1, axis), precision="highest"
    )
    return jnp.moveaxis(y, 0, axis)
  shape = [1] * x.ndim
  shape[axis] = -1
  total: jax.Array | None = None
  for k in range(index.shape[1]):
    term = jnp.take(x, index[:, k], axis=axis, mode="clip")
    if not (weight[:, k] == 1).all():
      term *= jnp.asarray(weight[:, k].reshape(shape), x.dtype)
    total = term if total is None else total + term
  assert total is not None
  return total


def _transpose(taps: _Taps, size: int) -> _Taps:
  """Taps of the transposed map, back to `size` samples."""
  row, k = np.nonzero(taps.weight)
  column, weight = taps.source[row, k], taps.weight[row, k]
  order = np.argsort(column, kind="stable")
  row, column, weight = row[order], column[order], weight[order]
  count = np.bincount(column, minlength=size)
  rank = np.arange(len(column)) - (np.cumsum(count) - count)[column]
  shape = (size, max(count.max(), 1))
  result = _Taps(np.zeros(shape, np.int64), np.zeros(shape))
  result.source[column, rank] = row
  result.weight[column, rank] = weight
  return result
