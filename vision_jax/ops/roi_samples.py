"""Regions as bins, bins as samples, samples as pixels: what RoIAlign stands on.

Along one axis a bin is the mean of samples, each made of two pixels; over both
axes the weights multiply. That rule stands in `axis_samples`, and every
formulation uses it: `mean_of_samples` reads pixels, `mean_by_matmul` multiplies
with the weights of all.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

__all__ = [
  "AxisBins",
  "Regions",
  "axis_bins",
  "axis_matrix",
  "axis_samples",
  "mean_by_matmul",
  "mean_of_samples",
  "region_bins",
  "widened",
]


# Pixels of maps, all together, up to which the derivative by the map is faster
# as that of products (measured on a CPU, 64 to 256 channels).
SMALL = 2048


class AxisBins(NamedTuple):
  """The bins of each region along one axis.

  Attributes:
    start: where the first begins, index of the map, [R].
    width: of one bin, [R].
    samples: n in each bin, [R], float.
    extent: pixels of the axis that count, [R], float.
    num_bins: static.
  """

  start: jax.Array
  width: jax.Array
  samples: jax.Array
  extent: jax.Array
  num_bins: int


def axis_bins(
  low: jax.Array,
  high: jax.Array,
  extent: jax.Array,
  count: int,
  *,
  sampling_ratio: int,
  max_samples: int,
  aligned: bool,
) -> AxisBins:
  """Bins of regions [low, high), already in pixels of the map."""
  offset = 0.5 if aligned else 0.0
  length = high - low
  if not aligned:
    length = jnp.maximum(length, 1)
  width = length / count
  if sampling_ratio > 0:
    samples = jnp.full_like(width, sampling_ratio)
  else:
    length = lax.stop_gradient(width)
    length = jnp.where(length > 0, length, 0)  # none in an empty box
    samples = jnp.clip(jnp.ceil(length), 0, max_samples)
  return AxisBins(low - offset, width, samples, extent, count)


def axis_samples(
  bins: AxisBins, i: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
  """Positions of sample i of every bin, and its weight in the mean, [R, p].

  Positions are moved into the map. The weight is 0 where the bin has no such
  sample or the sample is more than one pixel outside.
  """
  bin_index = jnp.arange(bins.num_bins, dtype=bins.start.dtype)[None]
  # Products before the quotient, as the reference has them.
  share = jnp.maximum(bins.samples, 1)
  step = (jnp.asarray(i, bins.start.dtype) + 0.5) * bins.width / share
  y = bins.start[:, None] + bin_index * bins.width[:, None] + step[:, None]
  extent = bins.extent[:, None]
  counts = (y >= -1) & (y <= extent) & (i < bins.samples)[:, None]
  weight = jnp.where(counts, 1 / share[:, None], 0)
  # A NaN counts as 0: its weight is 0 and its place must exist.
  y = jnp.where(counts, y, 0)
  return jnp.clip(y, 0, extent - 1), weight


def axis_matrix(bins: AxisBins, size: int, limit: int) -> jax.Array:
  """Weight of every pixel in every bin, [R, p, size], at most `limit` samples.

  A pixel's weight in a sample is the hat function max(0, 1 - distance).
  """
  pixel = jnp.arange(size, dtype=bins.start.dtype)[None, None]

  def add(total, i):
    y, weight = axis_samples(bins, i)
    hat = jnp.maximum(1 - jnp.abs(y[..., None] - pixel), 0)
    return total + weight[..., None] * hat, None

  total, _ = add(jnp.zeros((), bins.start.dtype), 0)
  if limit <= 4:
    for i in range(1, limit):
      total, _ = add(total, i)
    return total
  return lax.scan(add, total, jnp.arange(1, limit))[0]


class Regions(NamedTuple):
  """Regions on a table of pixels: bins, where each map begins, its width."""

  y: AxisBins
  x: AxisBins
  base: jax.Array
  pitch: jax.Array


Pair = tuple[jax.Array, jax.Array]


@jax.custom_jvp
def _pairs(table: jax.Array, place: jax.Array) -> Pair:
  """The pixels at `place` [...] and right of it, each [..., C]."""
  return (
    table.at[place].get(mode="promise_in_bounds"),
    table.at[place + 1].get(mode="promise_in_bounds"),
  )


@_pairs.defjvp
def _pairs_slope(primals, tangents):
  # The same read as windows of two pixels: slower, but its transpose adds
  # windows, which takes a sixth of the time of adding pixels.
  table, place = primals
  slope = lax.gather(
    tangents[0],
    place[..., None],
    lax.GatherDimensionNumbers(
      offset_dims=(place.ndim, place.ndim + 1),
      collapsed_slice_dims=(),
      start_index_map=(0,),
    ),
    (2, table.shape[1]),
    mode="promise_in_bounds",
  )
  return _pairs(table, place), (slope[..., 0, :], slope[..., 1, :])


def _add_pairs(table: jax.Array, place: jax.Array, pair: Pair) -> jax.Array:
  """Adds what `_pairs` would read."""
  return lax.scatter_add(
    table,
    place[..., None],
    jnp.stack(pair, -2).astype(table.dtype),
    lax.ScatterDimensionNumbers(
      update_window_dims=(place.ndim, place.ndim + 1),
      inserted_window_dims=(),
      scatter_dims_to_operand_dims=(0,),
    ),
    mode="promise_in_bounds",
  )


def _taps(
  bins: AxisBins, i: jax.Array | int
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Sample i of each bin: a pixel, its weight and that of the next, [R, p]."""
  y, weight = axis_samples(bins, i)
  last = jnp.maximum(bins.extent[:, None] - 2, 0)
  low = jnp.minimum(lax.stop_gradient(jnp.floor(y)), last)
  return low.astype(jnp.int32), weight * (1 - (y - low)), weight * (y - low)


def _places(
  regions: Regions, iy: jax.Array | int, ix: jax.Array | int
) -> list[jax.Array]:
  """Left pixels of the two rows that sample (iy, ix) reads, [R, p, q]."""
  row, column = _taps(regions.y, iy)[0], _taps(regions.x, ix)[0]
  height = regions.y.extent[:, None].astype(jnp.int32)
  return [
    (regions.base[:, None] + y * regions.pitch[:, None])[:, :, None]
    + column[:, None, :]
    for y in (row, jnp.minimum(row + 1, height - 1))
  ]


def _weigh(
  values: list[Pair],
  regions: Regions,
  iy: jax.Array | int,
  ix: jax.Array | int,
) -> jax.Array:
  """Bilinear, times the weight of the sample in its bin, [R, p, q, C]."""
  rows, columns = _taps(regions.y, iy)[1:], _taps(regions.x, ix)[1:]
  total = jnp.zeros((), rows[0].dtype)
  for row, pair in zip(rows, values, strict=True):
    for column, value in zip(columns, pair, strict=True):
      weight = row[:, :, None] * column[:, None, :]
      total = total + weight[..., None] * value.astype(weight.dtype)
  return total


def _sample(
  table: jax.Array, regions: Regions, iy: jax.Array | int, ix: jax.Array | int
) -> jax.Array:
  """What sample (iy, ix) of every bin adds to it, [R, p, q, C]."""
  values = [_pairs(table, place) for place in _places(regions, iy, ix)]
  return _weigh(values, regions, iy, ix)


def _fixed(table: jax.Array, regions: Regions, ratio: int) -> jax.Array:
  """Mean of ratio x ratio samples."""
  pairs = [(iy, ix) for iy in range(ratio) for ix in range(ratio)]
  if ratio <= 2:
    return functools.reduce(
      jnp.add, [_sample(table, regions, iy, ix) for iy, ix in pairs]
    )

  def add(total, pair):
    return total + _sample(table, regions, pair[0], pair[1]), None

  first = _sample(table, regions, 0, 0)
  return lax.scan(add, first, jnp.asarray(pairs[1:]))[0]


def _regions(floats, static) -> Regions:
  y, x, base, pitch = floats
  return Regions(
    AxisBins._make((*y, static[0])),
    AxisBins._make((*x, static[1])),
    base,
    pitch,
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _fixed_small(
  table: jax.Array, floats: tuple, static: tuple[int, int], settings: tuple
) -> jax.Array:
  """`_fixed` of small maps, whose derivative is that of two products."""
  return _fixed(table, _regions(floats, static), settings[0])


def _fixed_small_jvp(static, settings, primals, tangents):
  # On a CPU the transpose of a read adds one window after the other; that of
  # products with the weights of all pixels takes a third of the time.
  table, floats = primals
  out = _fixed_small(table, floats, static, settings)
  moved = jnp.zeros((), out.dtype)
  slope, floats_slope = tangents
  if not isinstance(slope, SymbolicZero):
    moved = _products(slope, floats, static, settings)
  leaves, shape = jax.tree.flatten(floats[:2])
  slopes = jax.tree.leaves(floats_slope[:2], is_leaf=_is_zero)
  if not all(map(_is_zero, slopes)):
    slopes = [
      jnp.zeros_like(a) if _is_zero(t) else t
      for a, t in zip(leaves, slopes, strict=True)
    ]

    def read(leaves):
      whole = (*jax.tree.unflatten(shape, leaves), *floats[2:])
      return _fixed(table, _regions(whole, static), settings[0])

    moved = moved + jax.jvp(read, (leaves,), (slopes,))[1]
  return out, moved


def _is_zero(tangent: object) -> bool:
  return isinstance(tangent, SymbolicZero)


_fixed_small.defjvp(_fixed_small_jvp, symbolic_zeros=True)


def _products(table: jax.Array, floats: tuple, static, settings) -> jax.Array:
  """`mean_by_matmul` on the map of each region, a few regions at a time."""
  ratio, sizes = settings

  def one(floats):
    region = _regions(jax.tree.map(lambda leaf: leaf[None], floats), static)
    total, first = jnp.zeros((), table.dtype), 0
    for height, width in sizes:
      here = region.base == first
      y, x = (
        bins._replace(samples=jnp.where(here, bins.samples, 0))
        for bins in (region.y, region.x)
      )
      level = table[first : first + height * width]
      level = level.reshape(height, width, table.shape[1])
      total = total + mean_by_matmul(level, y, x, ratio)[0]
      first += height * width
    return total

  return lax.map(one, floats, batch_size=8)  # what they need stays in caches


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _adaptive(
  table: jax.Array, floats: tuple, static: tuple[int, int]
) -> jax.Array:
  """Mean of as many samples as each region asks for."""
  shape = (floats[0][0].shape[0], *static, table.shape[1])
  start = jnp.zeros(shape, floats[0][0].dtype)
  return _visit(
    floats,
    static,
    lambda total, regions, iy, ix: total + _sample(table, regions, iy, ix),
    start,
  )


def _visit(floats, static, add, state):
  """Folds `add` over all samples that any region has."""
  regions = _regions(floats, static)
  rows = regions.y.samples.max(initial=0).astype(jnp.int32)
  columns = regions.x.samples.max(initial=0).astype(jnp.int32)

  def step(carry):
    k, state = carry
    return k + 1, add(state, regions, k // columns, k % columns)

  return lax.while_loop(
    lambda carry: carry[0] < rows * columns, step, (jnp.int32(0), state)
  )[1]


def _adaptive_forward(table, floats, static):
  return _adaptive(table, floats, static), (table, floats)


def _adaptive_backward(static, saved, cotangent):
  table, floats = saved
  moving = (floats[0][:2], floats[1][:2])  # starts and widths

  def add(state, regions, iy, ix):
    table_slope, moving_slope = state
    places = _places(regions, iy, ix)

    def weigh(values, moving):
      whole = [(*m, *f[2:]) for m, f in zip(moving, floats[:2], strict=True)]
      return _weigh(values, _regions((*whole, *floats[2:]), static), iy, ix)

    values = [_pairs(table, place) for place in places]
    pairs, slope = jax.vjp(weigh, values, moving)[1](cotangent)
    for place, pair in zip(places, pairs, strict=True):
      table_slope = _add_pairs(table_slope, place, pair)
    return table_slope, jax.tree.map(jnp.add, moving_slope, slope)

  start = jax.tree.map(jnp.zeros_like, (table, moving))
  slope, moving_slope = _visit(floats, static, add, start)
  axes = [
    (*m, *(jnp.zeros_like(v) for v in f[2:]))
    for m, f in zip(moving_slope, floats[:2], strict=True)
  ]
  none = [np.zeros(v.shape, jax.dtypes.float0) for v in floats[2:]]
  return slope, (*axes, *none)


_adaptive.defvjp(_adaptive_forward, _adaptive_backward)


def mean_of_samples(
  maps: Sequence[jax.Array], regions: Regions, sampling_ratio: int
) -> jax.Array:
  """Bins [R, p, q, C] of regions, whose `base` counts pixels of all maps.

  With a ratio of 0 each region has as many samples as it asks for.
  """
  table = jnp.concatenate([m.reshape(-1, m.shape[2]) for m in maps])
  y, x, base, pitch = regions
  floats = (tuple(y[:-1]), tuple(x[:-1]), base, pitch)
  static = (y.num_bins, x.num_bins)
  if sampling_ratio == 0:
    return _adaptive(table, floats, static)
  if len(table) > SMALL or jax.default_backend() != "cpu":
    return _fixed(table, regions, sampling_ratio)
  sizes = tuple((m.shape[0], m.shape[1]) for m in maps)
  return _fixed_small(table, floats, static, (sampling_ratio, sizes))


def widened(features: jax.Array) -> jax.Array:
  """At least two columns, which is what a read takes."""
  missing = max(2 - features.shape[1], 0)
  return jnp.pad(features, ((0, 0), (0, missing), (0, 0)))


def mean_by_matmul(features, y, x, limit):
  """Two products with the weights of all pixels; a TPU's way."""
  height, width, _ = features.shape
  rows, columns = axis_matrix(y, height, limit), axis_matrix(x, width, limit)
  lines = jnp.einsum(
    "rph,hwc->rpwc", rows, features.astype(rows.dtype), precision="highest"
  )
  return jnp.einsum("rqw,rpwc->rpqc", columns, lines, precision="highest")


def region_bins(
  boxes, scale, extent, size, **settings
) -> tuple[AxisBins, AxisBins]:
  """Bins along y and x; `scale` and `extent` broadcast to [R]."""
  count = boxes.shape[:1]
  scaled = boxes * jnp.broadcast_to(scale, count)[:, None]
  height, width = (
    jnp.broadcast_to(jnp.asarray(n, boxes.dtype), count) for n in extent
  )
  return (
    axis_bins(scaled[:, 1], scaled[:, 3], height, size[0], **settings),
    axis_bins(scaled[:, 0], scaled[:, 2], width, size[1], **settings),
  )
