"""The one convolution every layer calls.

Formulations of the same sum; a CPU takes the fastest, everything else
takes XLA's:

* XLA's convolution, with derivatives whose transposes are convolutions in the
  layout of its fast kernels; what XLA derives by itself is many times slower
  inside a loop, as that over micro-batches. The derivative by a 1 x 1 kernel is
  one product of all cells, in half the time;
* for a small kernel over few channels (the first layer of a VGG), a product
  with the gathered patches. XLA's derivative with respect to the image, which
  saliency needs, would convolve 64 channels down to 3, a shape its kernels do
  badly. (For the 7 x 7 kernel of a ResNet the patches cost more than they
  save.)
* the same product for a result of at most 2 x 2 cells (the last stage of a
  ResNet on 64 pixels), where XLA's kernels are some fifty times slower;
* for kernels from 5 x 5 on over one channel, or with a result of at most 4 x 4
  cells, as on digits: one product for four columns of the result at a time, two
  to five times faster with its derivatives;
* for 3 x 3 kernels over many channels and a large map, Winograd's minimal
  filtering F(2 x 2, 3 x 3): 16 instead of 36 products for 4 results. Its
  rounding error is about three times that of the direct sum;
* for a depthwise kernel, a sum over its taps of the shifted map times one
  weight for each channel: ten to forty times faster than XLA's kernels;
* for widely dilated kernels, as of atrous pyramids, a sum of one product for
  each tap, over the cells where the tap lies on the map: XLA multiplies with
  the padding too, and slowly.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["conv2d"]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MOST_TAPS = 36  # kernel elements over all channels: 3 x 3 x 4
_FEW_CELLS = 4  # of the result
_LARGE = 5  # side of a kernel
_BAND = 4  # columns of the result in one product
_FEW_CELLS_OF_LARGE = 16
_WIDE = 6  # dilation
# Below, transforming the kernel or the map costs more than the products save.
_WINOGRAD_CHANNELS = 256
_WINOGRAD_CELLS = 2500

# Lavin, Gray (arXiv 1509.09308), section 4.1: Y = A^T [(G g G^T) (B^T d B)] A.
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def _views(
  x: jax.Array, size: int, stride: int, dilation: int
) -> list[jax.Array]:
  """What each tap sees of a padded map [B, H, W, C], in row-major order."""
  reach = dilation * (size - 1) + 1
  rows = (x.shape[1] - reach) // stride + 1
  cols = (x.shape[2] - reach) // stride + 1
  return [
    x[
      :,
      i : i + (rows - 1) * stride + 1 : stride,
      j : j + (cols - 1) * stride + 1 : stride,
    ]
    for i in range(0, reach, dilation)
    for j in range(0, reach, dilation)
  ]


def _by_patches(x, kernel, stride, dilation):
  """Convolution of a padded map as one matrix product."""
  views = _views(x, kernel.shape[0], stride, dilation)
  patches = jnp.concatenate(views, axis=-1)
  return jnp.matmul(patches, kernel.reshape(-1, kernel.shape[-1]))


def _by_bands(x, kernel):
  """Convolution of a padded map as one product for four columns at a time.

  What four neighbouring results see is one row of the left factor; the right
  one holds the kernel four times, a column further each time.
  """
  side, _, channels, features = kernel.shape
  high, wide = (n - side + 1 for n in x.shape[1:3])
  bands = -(-wide // _BAND)
  reach = _BAND + side - 1
  x = jnp.pad(x, ((0, 0), (0, 0), (0, _BAND * bands - wide), (0, 0)))
  starts = range(0, _BAND * bands, _BAND)
  seen = jnp.stack([x[:, :, j : j + reach] for j in starts], 2)
  seen = seen.reshape(*seen.shape[:3], reach * channels)
  # Without the barriers XLA gathers anew for each use.
  seen = lax.optimization_barrier(seen)
  patches = [seen[:, i : i + high] for i in range(side)]
  patches = lax.optimization_barrier(jnp.concatenate(patches, -1))
  columns = jnp.stack(
    [
      jnp.pad(kernel, ((0, 0), (j, _BAND - 1 - j), (0, 0), (0, 0)))
      for j in range(_BAND)
    ],
    3,
  )
  y = jnp.matmul(patches, columns.reshape(-1, _BAND * features))
  return y.reshape(-1, high, _BAND * bands, features)[:, :, :wide]


def _depthwise(x, kernel, stride, dilation):
  """Depthwise convolution of a padded map as a sum over the taps."""
  # Without the barriers XLA computes what comes before, and in the derivative
  # what comes after, once for each tap.
  x = lax.optimization_barrier(x)
  views = _views(x, kernel.shape[0], stride, dilation)
  # Many sums: half precision would lose digits that a convolution keeps.
  wide = jnp.promote_types(x.dtype, jnp.float32)
  taps = kernel.astype(wide).reshape(len(views), 1, 1, 1, -1)
  terms = [view * tap for view, tap in zip(views, taps, strict=True)]
  total = functools.reduce(operator.add, terms).astype(x.dtype)
  return lax.optimization_barrier(total)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _few_channels(x, kernel, stride, dilation):
  """XLA's convolution; its derivative by the image is that of the patches."""
  return _xla(x, kernel, stride, 0, dilation, 1)


@_few_channels.defjvp
def _few_channels_jvp(stride, dilation, primals, tangents):
  (x, kernel), (dx, dk) = primals, tangents
  y = _few_channels(x, kernel, stride, dilation)
  return y, _by_patches(dx, kernel, stride, dilation) + _xla(
    x, dk, stride, 0, dilation
  )


def _xla(x, kernel, stride, padding, dilation, groups=1, layout=_LAYOUT):
  """XLA's convolution."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    ((padding, padding), (padding, padding)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=layout,
    feature_group_count=groups,
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _plain(x, kernel, stride, padding, dilation):
  """XLA's convolution without groups, differentiated in its own layout."""
  return _xla(x, kernel, stride, padding, dilation)


@_plain.defjvp
def _plain_jvp(stride, padding, dilation, primals, tangents):
  (x, kernel), (dx, dk) = primals, tangents
  y = _plain(x, kernel, stride, padding, dilation)
  run = functools.partial(
    _xla, stride=stride, padding=padding, dilation=dilation
  )
  # The transposes of these two are NHWC, HWIO -> NHWC.
  by_map = run(
    dx, kernel.transpose(0, 1, 3, 2), layout=("NHWC", "HWOI", "NHWC")
  )
  if kernel.shape[0] == 1 and padding == 0:
    return y, by_map + _pointwise(x, dk, stride)
  by_kernel = run(
    x.transpose(3, 1, 2, 0),
    dk.transpose(2, 0, 1, 3),
    layout=("CHWN", "IHWO", "HWNC"),
  )
  return y, by_map + by_kernel.transpose(2, 0, 1, 3)


def _pointwise(x, kernel, stride):
  """1 x 1 convolution as one product of all cells."""
  x = x[:, ::stride, ::stride]
  flat = jnp.matmul(x.reshape(-1, x.shape[-1]), kernel[0, 0])
  return flat.reshape(*x.shape[:3], kernel.shape[-1])


def _by_taps(x, kernel, dilation):
  """Dilated convolution that keeps the size, as one product for each tap."""
  half, (high, wide) = kernel.shape[0] // 2, x.shape[1:3]
  terms = []
  for i in range(-half, half + 1):
    for j in range(-half, half + 1):
      down, right = i * dilation, j * dilation
      if abs(down) >= high or abs(right) >= wide:
        continue  # the tap never lies on the map
      above, below = max(-down, 0), max(down, 0)
      left, after = max(-right, 0), max(right, 0)
      seen = x[:, below : high - above, after : wide - left]
      term = jnp.matmul(seen, kernel[i + half, j + half])
      pads = ((0, 0), (above, below), (left, after), (0, 0))
      terms.append(jnp.pad(term, pads))
  return functools.reduce(operator.add, terms)


def _times_b(d: list[jax.Array]) -> list[jax.Array]:
  """B^T d for the four elements of one direction."""
  return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _times_a(m: list[jax.Array]) -> list[jax.Array]:
  """A^T m for the four elements of one direction."""
  return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """3 x 3 convolution of a padded map [B, H + 2, W + 2, C]; H, W even."""
  batch, high, wide, channels = x.shape
  rows, cols = high // 2 - 1, wide // 2 - 1
  g = jnp.asarray(_G, kernel.dtype)
  u = jnp.einsum("ai,bj,ijcd->abcd", g, g, kernel, precision="highest")
  pairs = x.reshape(batch, rows + 1, 2, cols + 1, 2, channels)

  def times_b(p: jax.Array, axis: int, count: int) -> list[jax.Array]:
    """B^T d along an axis of pairs; tiles of four overlap by two.

    A split is transposed to a concatenation; sixteen strided slices would be
    to sixteen padded maps.
    """
    even, odd = jnp.split(p, 2, axis=axis + 1)
    first, second = (
      [lax.slice_in_dim(q, k, k + count, axis=axis) for q in (even, odd)]
      for k in (0, 1)
    )
    return _times_b([*first, *second])

  v = [times_b(part, 3, cols) for part in times_b(pairs, 1, rows)]
  m = [
    [jnp.matmul(v[a][b][:, :, 0, :, 0], u[a, b]) for b in range(4)]
    for a in range(4)
  ]
  up = [_times_a([m[a][b] for a in range(4)]) for b in range(4)]
  y = [_times_a([up[b][i] for b in range(4)]) for i in range(2)]
  tiles = jnp.stack([jnp.stack(row, 3) for row in y], 2)
  return tiles.reshape(batch, 2 * rows, 2 * cols, -1)


def conv2d(
  x: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  padding: int = 0,
  dilation: int = 1,
  groups: int = 1,
) -> jax.Array:
  """2D convolution (correlation, as in every network) without bias.

  Convention:
    Layout [B, H, W, C]; kernel [k, k, C / groups, O]; zero padding on both
    sides of both axes.

  Args:
    x: features, float [B, H, W, C].
    kernel: weights, float [k, k, C / groups, O].
    stride: step in pixels.
    padding: zeros on each side.
    dilation: distance between taps.
    groups: number of channel groups.

  Returns:
    Features [B, h, w, O], h = (H + 2 padding - dilation (k - 1) - 1) //
    stride + 1.

  Raises:
    ValueError: if `x` is not [B, H, W, C], its channels do not fit the
      kernel, or it is smaller than the kernel's reach.

  Example:
    >>> from vision_jax.nn import conv2d
    >>> conv2d(jnp.ones((1, 5, 6, 3)), jnp.ones((3, 3, 3, 2))).shape
    (1, 3, 4, 2)

  Source:
    torch.nn.functional.conv2d; checked against it and a NumPy loop. Lavin,
    Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv
    1509.09308) for the Winograd form.
  """
  if x.ndim != 4 or x.shape[-1] != kernel.shape[2] * groups:
    raise ValueError(
      "conv2d: `x` must be [B, H, W, C] with C = "
      f"{kernel.shape[2] * groups} channels, got shape {x.shape}."
    )
  reach = dilation * (kernel.shape[0] - 1) + 1
  if min(x.shape[1], x.shape[2]) + 2 * padding < reach:
    raise ValueError(
      f"conv2d: `x` must be at least {reach - 2 * padding} pixels high and "
      f"wide for this kernel, got {x.shape[1]} x {x.shape[2]}; use a larger "
      "image or an earlier layer."
    )
  on_cpu = jax.default_backend() == "cpu"
  pads = np.array([[0, 0], [padding, padding], [padding, padding], [0, 0]])
  if on_cpu and groups > 1 and kernel.shape[2:] == (1, groups):
    return _depthwise(jnp.pad(x, pads), kernel, stride, dilation)
  if on_cpu and groups == 1 and kernel.shape[0] == 1:
    return _plain(x, kernel, stride, padding, dilation)
  if on_cpu and groups == 1:
    rows, cols = ((n + 2 * padding - reach) // stride + 1 for n in x.shape[1:3])
    if rows * cols <= _FEW_CELLS:
      return _by_patches(jnp.pad(x, pads), kernel, stride, dilation)
    keeps_size = stride == 1 and reach % 2 == 1 and padding == reach // 2
    if dilation >= _WIDE and keeps_size and kernel.shape[0] % 2 == 1:
      return _by_taps(x, kernel, dilation)
    if kernel.shape[0] >= _LARGE and stride == dilation == 1:
      if x.shape[-1] == 1 or rows * cols <= _FEW_CELLS_OF_LARGE:
        return _by_bands(jnp.pad(x, pads), kernel)
    if kernel.shape[0] ** 2 * x.shape[-1] <= _MOST_TAPS:
      return _few_channels(jnp.pad(x, pads), kernel, stride, dilation)
    high, wide = (n + 2 * padding - 2 for n in x.shape[1:3])
    if (
      (kernel.shape[0], stride, dilation) == (3, 1, 1)
      and min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS
      and high * wide >= _WINOGRAD_CELLS
    ):
      pads[1:3, 1] += (high % 2, wide % 2)
      return _winograd(jnp.pad(x, pads), kernel)[:, :high, :wide]
    return _plain(x, kernel, stride, padding, dilation)
  return _xla(x, kernel, stride, padding, dilation, groups)
