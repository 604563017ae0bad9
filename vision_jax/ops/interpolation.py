"""Interpolation between pixels: what `sample`, `grid_sample` and `warp` share.

Along one axis a sample is a weighted sum of 1, 2 or 4 pixels, its taps; over
the axes the weights multiply. So every rule of value and derivative is a rule
of one axis, and stands in `axis_taps`.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

__all__ = [
  "MODES",
  "PADDING_MODES",
  "AxisTap",
  "as_image",
  "axis_taps",
  "check_choices",
  "interpolate",
  "limit",
  "read",
]

MODES = ("nearest", "bilinear", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")

_Lines = Sequence[Sequence[jax.Array]]  # one array for each tap of each axis

_A = -0.75  # Keys' parameter as torch has it; -0.5 would be third-order exact


class AxisTap(NamedTuple):
  """One pixel of a line for each sample.

  Attributes:
    place: its index, int32; outside of the line stands padding.
    weight: its factor.
  """

  place: jax.Array
  weight: jax.Array


def as_image(image: jax.Array) -> jax.Array:
  """The image, integers as float32."""
  image = jnp.asarray(image)
  if jnp.issubdtype(image.dtype, jnp.floating):
    return image
  return image.astype(jnp.float32)


def check_choices(
  function: str, **choices: tuple[str, tuple[str, ...]]
) -> None:
  """Raises unless each value is one of its names."""
  for name, (value, names) in choices.items():
    if value not in names:
      raise ValueError(
        f"{function}: `{name}` must be one of {', '.join(names)}, got "
        f"{value!r}."
      )


def _clip_like_torch(x: jax.Array, size: int) -> jax.Array:
  """Clips to the line; the derivative is 0 also at both ends."""
  free = (x > 0) & (x < size - 1)
  return jnp.where(free, x, lax.stop_gradient(jnp.clip(x, 0, size - 1)))


def _reflect(x: jax.Array, low: float, high: float) -> jax.Array:
  """Mirrors at `low` and `high`, as often as needed."""
  span = high - low
  if span <= 0:
    return jnp.zeros_like(x)
  distance = jnp.where(x < low, low - x, x - low)
  turns = lax.stop_gradient(jnp.floor(distance / span))
  rest = distance - turns * span
  even = turns - 2 * jnp.floor(turns / 2) == 0
  return jnp.where(even, low + rest, high - rest)


def _into_line(
  x: jax.Array, size: int, padding_mode: str, align_corners: bool
) -> jax.Array:
  """Moves positions into the line, as "border" and "reflection" say."""
  if padding_mode == "zeros":
    return x
  if padding_mode == "reflection":
    edge = 0.0 if align_corners else 0.5
    x = _reflect(x, -edge, size - 1 + edge)
  return _clip_like_torch(x, size)


def cubic_weights(t: jax.Array) -> list[jax.Array]:
  """Keys' weights of the pixels at -1, 0, 1 and 2 for 0 <= t < 1 between."""

  def near(d):
    return ((_A + 2) * d - (_A + 3)) * d * d + 1

  def far(d):
    return _A * (((d - 5) * d + 8) * d - 4)

  return [far(1 + t), near(t), near(1 - t), far(2 - t)]


def axis_taps(
  x: jax.Array,
  size: int,
  *,
  mode: str,
  padding_mode: str,
  align_corners: bool,
) -> list[AxisTap]:
  """The pixels of one line that samples at `x` are made of.

  Convention:
    Index frame: the centre of pixel i is i. `align_corners` says where
    "reflection" mirrors: at the centres of the end pixels or at their edges.

  Args:
    x: positions, any shape, finite.
    size: pixels of the line.
    mode: "nearest" (halves round to even), "bilinear" or "bicubic".
    padding_mode: "zeros", "border" or "reflection". "bicubic" moves the pixels
      into the line, the others the position.
    align_corners: see above.

  Returns:
    1, 2 or 4 taps with arrays like `x`. The weights' derivatives are torch's:
    to the right at a pixel, 0 at both ends of a line with a border.

  Source:
    PyTorch, aten/src/ATen/native/GridSampler.h (behaviour, measured); Keys,
    Cubic convolution interpolation for digital image processing, 1981.
  """
  if mode != "bicubic":
    x = _into_line(x, size, padding_mode, align_corners)
  if mode == "nearest":
    base, weights, first = jnp.round(x), [jnp.ones_like(x)], 0
  else:
    base = lax.stop_gradient(jnp.floor(x))
    t = x - base
    cubic = mode == "bicubic"
    weights = cubic_weights(t) if cubic else [1 - t, t]
    first = -1 if cubic else 0
  base = lax.stop_gradient(base)
  start = base + first
  if padding_mode == "zeros":  # far outside, before it becomes an integer
    start = jnp.clip(start, -len(weights), size)
  taps = []
  for k, weight in enumerate(weights):
    place = start + k
    if mode == "bicubic":
      place = _into_line(place, size, padding_mode, align_corners)
    taps.append(AxisTap(place.astype(jnp.int32), weight))
  return taps


def interpolate(
  image: jax.Array,
  points: jax.Array,
  *,
  mode: str,
  padding_mode: str,
  align_corners: bool = False,
  fill_value: jax.Array | float | None = None,
  dense: bool = False,
) -> jax.Array:
  """Values of an image or a volume at points.

  Convention:
    Index frame; (x, y) in [H, W, C], (x, y, z) in [D, H, W, C].

  Args:
    image: floating values, [*spatial, C].
    points: positions, finite, float32 or wider, [..., len(spatial)].
    mode: see `axis_taps`.
    padding_mode: see `axis_taps`.
    align_corners: see `axis_taps`.
    fill_value: what "zeros" is instead of 0, a number or [C].
    dense: use products with a weight for every pixel instead of a gather.

  Returns:
    Values [..., C] in the dtype of `image`.

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, equation 5.
  """
  *sizes, channels = image.shape
  lines = [
    axis_taps(
      points[..., len(sizes) - 1 - axis],
      size,
      mode=mode,
      padding_mode=padding_mode,
      align_corners=align_corners,
    )
    for axis, size in enumerate(sizes)
  ]
  dtype = jnp.promote_types(image.dtype, jnp.float32)
  fill = jnp.asarray(0 if fill_value is None else fill_value, dtype)
  fill = jnp.broadcast_to(fill, (channels,))
  pixels = image.reshape(math.prod(sizes), channels)
  if dense:
    values = _product(pixels.astype(dtype), lines, sizes, fill)
  else:
    places = [[tap.place for tap in taps] for taps in lines]
    weights = [[tap.weight.astype(dtype) for tap in taps] for taps in lines]
    are_neighbours = mode != "bicubic" or padding_mode == "zeros"
    read_taps = _neighbours if are_neighbours else _taps
    values = read_taps(tuple(sizes), pixels, weights, fill, places)
  return values.astype(image.dtype)


# One program also outside of jit, where each operation would be one.
@functools.partial(
  jax.jit,
  static_argnames=("mode", "padding_mode", "align_corners", "dense"),
  inline=True,
)
def read(
  image: jax.Array, points: jax.Array, *, padding_mode: str, **settings: Any
) -> jax.Array:
  """`interpolate` for batches and any positions.

  Convention:
    Index frame; (x, y) in [*B, H, W, C], (x, y, z) in [*B, D, H, W, C].

  Args:
    image: floating values, [*B, *spatial, C].
    points: positions, [*B, ..., len(spatial)].
    padding_mode: as the other settings, see `interpolate`.
    **settings: see `interpolate`.

  Returns:
    Values [*B, ..., C] in the dtype of `image`. Where a coordinate is NaN, or
    infinite with "reflection": NaN. All derivatives are 0 there.

  Source:
    Contract of this library.
  """
  dims = points.shape[-1]
  lead, spatial = image.shape[: -1 - dims], image.shape[-1 - dims :]
  no_number = jnp.isnan(points).any(-1)
  if padding_mode == "reflection":
    no_number |= jnp.isinf(points).any(-1)
  finite = limit(jnp.where(no_number[..., None], 0, points))

  def one(image, points):
    return interpolate(image, points, padding_mode=padding_mode, **settings)

  count = math.prod(lead)
  values = jax.vmap(one)(
    image.reshape(count, *spatial),
    finite.reshape(count, *finite.shape[len(lead) :]),
  ).reshape(*points.shape[:-1], spatial[-1])
  return jnp.where(no_number[..., None], jnp.nan, values)


def limit(points: jax.Array) -> jax.Array:
  """Coordinates so far outside that arithmetic would overflow, nearer."""
  far = math.sqrt(float(jnp.finfo(points.dtype).max))
  return jnp.where(jnp.abs(points) < far, points, jnp.sign(points) * far)


def _taps(
  sizes: tuple[int, ...],
  pixels: jax.Array,
  weights: _Lines,
  fill: jax.Array,
  places: _Lines,
) -> jax.Array:
  """Weighted sum of pixels [H W, C], the last axis innermost."""
  shape = places[0][0].shape
  outside = fill.reshape(*[1] * len(shape), -1)

  def total(axis, index, inside):
    if axis == len(sizes):
      values = pixels.at[index].get(mode="promise_in_bounds")
      return jnp.where(inside[..., None], values.astype(fill.dtype), outside)
    result, size = jnp.zeros((*shape, len(fill)), fill.dtype), sizes[axis]
    for place, weight in zip(places[axis], weights[axis], strict=True):
      values = total(
        axis + 1,
        index * size + jnp.clip(place, 0, size - 1),
        inside & (place >= 0) & (place < size),
      )
      result += weight[..., None] * values
    return result

  return total(0, jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _neighbours(sizes, pixels, weights, fill, places):
  """`_taps` that lie side by side; derivatives by windows."""
  return _taps(sizes, pixels, weights, fill, places)


def _windows(
  sizes: tuple[int, ...], pixels: jax.Array, fill: jax.Array, places: _Lines
) -> jax.Array:
  """All taps of each sample, [..., *taps, C].

  The transpose adds whole rows of a window at once: XLA's scatter takes its
  time by steps on a CPU, and tap by tap they are twice as many.
  """
  taps = [len(line) for line in places]
  # A window begins at -taps at the lowest, at size at the highest.
  padded = [n + 2 * k for k, n in zip(taps, sizes, strict=True)]
  inner = tuple(slice(k, k + n) for k, n in zip(taps, sizes, strict=True))
  image = jnp.broadcast_to(fill, (*padded, len(fill)))
  image = image.at[inner].set(pixels.reshape(*sizes, -1).astype(fill.dtype))
  row = (taps[-1] * len(fill),)

  def read_row(lines: Sequence[int]) -> jax.Array:
    start = jnp.zeros_like(places[0][0])
    for axis, line in enumerate((*lines, 0)):
      start = start * padded[axis] + places[axis][0] + taps[axis] + line
    return lax.gather(
      image.reshape(-1),
      (start * len(fill))[..., None],
      lax.GatherDimensionNumbers(
        offset_dims=(start.ndim,),
        collapsed_slice_dims=(),
        start_index_map=(0,),
      ),
      row,
      mode="promise_in_bounds",
    )

  rows = [
    read_row(lines) for lines in itertools.product(*map(range, taps[:-1]))
  ]
  return jnp.stack(rows, -2).reshape(*places[0][0].shape, *taps, len(fill))


def _products(weights: _Lines) -> jax.Array:
  """Products of the weights of all axes, [..., *taps]."""
  products = [
    functools.reduce(operator.mul, factors)
    for factors in itertools.product(*weights)
  ]
  result = jnp.stack(products, -1)
  return result.reshape(*result.shape[:-1], *map(len, weights))


def _are_zero(tangents: Any) -> bool:
  """Whether nothing of it changes."""
  leaves = jax.tree.leaves(tangents, is_leaf=_is_zero)
  return all(map(_is_zero, leaves))


def _is_zero(tangent: Any) -> bool:
  return isinstance(tangent, SymbolicZero)


def _instantiate(tangents: Any) -> Any:
  """Zeros as arrays."""
  return jax.tree.map(
    lambda t: jnp.zeros(t.shape, t.dtype) if _is_zero(t) else t,
    tangents,
    is_leaf=_is_zero,
  )


def _neighbours_jvp(sizes, primals, tangents):
  """Sum of windows times changes of weights, and the other way round."""
  pixels, weights, fill, places = primals
  d_pixels, d_weights, d_fill, _ = tangents
  taps = tuple(range(-1 - len(sizes), -1))
  value = _neighbours(sizes, pixels, weights, fill, places)
  change = jnp.zeros_like(value)
  if not _are_zero(d_weights):
    _, slopes = jax.jvp(_products, (weights,), (_instantiate(d_weights),))
    windows = _windows(sizes, pixels, fill, places)
    change += (windows * slopes[..., None]).sum(taps)
  if not _are_zero((d_pixels, d_fill)):
    d_pixels, d_fill = _instantiate((d_pixels, d_fill))
    windows = _windows(sizes, d_pixels, d_fill, places)
    change += (windows * _products(weights)[..., None]).sum(taps)
  return value, change


_neighbours.defjvp(_neighbours_jvp, symbolic_zeros=True)


def _product(
  pixels: jax.Array,
  lines: list[list[AxisTap]],
  sizes: list[int],
  fill: jax.Array,
) -> jax.Array:
  """The same by a product of [P, H W] weights with [H W, C] pixels."""
  shape = lines[0][0].place.shape
  weights = jnp.ones((*shape, 1), pixels.dtype)
  for taps, size in zip(lines, sizes, strict=True):
    line = jnp.zeros((*shape, size), pixels.dtype)
    places = jnp.arange(size).reshape(*[1] * len(shape), size)
    for tap in taps:
      weight = tap.weight.astype(pixels.dtype)[..., None]
      line += jnp.where(tap.place[..., None] == places, weight, 0)
    weights = weights[..., :, None] * line[..., None, :]
    weights = weights.reshape(*shape, weights.shape[-2] * size)
  values = jnp.matmul(weights, pixels, precision="highest")
  missing = 1 - weights.sum(-1, keepdims=True)
  return values + missing * fill.reshape(*[1] * len(shape), -1)
