"""Features of regions: RoIAlign and RoIPool, on one map or on a pyramid.

Along one axis a bin is the mean of samples, each made of two pixels; over both
axes the weights multiply. That rule stands in `axis_samples`, and every
formulation uses it.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.boxes import Size
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = ["multilevel_roi_align", "roi_align", "roi_levels", "roi_pool"]

_METHODS = ("gather", "matmul")


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

  total = jnp.zeros((*bins.start.shape, bins.num_bins, size), bins.start.dtype)
  if limit <= 4:
    for i in range(limit):
      total, _ = add(total, i)
    return total
  return lax.scan(add, total, jnp.arange(limit))[0]


class _Regions(NamedTuple):
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
  regions: _Regions, iy: jax.Array | int, ix: jax.Array | int
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
  regions: _Regions,
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
  table: jax.Array, regions: _Regions, iy: jax.Array | int, ix: jax.Array | int
) -> jax.Array:
  """What sample (iy, ix) of every bin adds to it, [R, p, q, C]."""
  values = [_pairs(table, place) for place in _places(regions, iy, ix)]
  return _weigh(values, regions, iy, ix)


def _fixed(table: jax.Array, regions: _Regions, ratio: int) -> jax.Array:
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


def _regions(floats, static) -> _Regions:
  y, x, base, pitch = floats
  return _Regions(
    AxisBins._make((*y, static[0])),
    AxisBins._make((*x, static[1])),
    base,
    pitch,
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


def _gather(table, regions, sampling_ratio):
  if sampling_ratio > 0:
    return _fixed(table, regions, sampling_ratio)
  y, x, base, pitch = regions
  floats = (tuple(y[:-1]), tuple(x[:-1]), base, pitch)
  return _adaptive(table, floats, (y.num_bins, x.num_bins))


def _widened(features: jax.Array) -> jax.Array:
  """At least two columns, which is what a read takes."""
  missing = max(2 - features.shape[1], 0)
  return jnp.pad(features, ((0, 0), (0, missing), (0, 0)))


def _matmul(features, y, x, limit):
  """Two products with the weights of all pixels; a TPU's way."""
  height, width, _ = features.shape
  rows, columns = axis_matrix(y, height, limit), axis_matrix(x, width, limit)
  lines = jnp.einsum(
    "rph,hwc->rpwc", rows, features.astype(rows.dtype), precision="highest"
  )
  return jnp.einsum("rqw,rpwc->rpqc", columns, lines, precision="highest")


def _check(
  function: str,
  features: Sequence[jax.Array],
  boxes: jax.Array,
  size: tuple[int, int],
  method: str,
  max_samples: int,
) -> jax.Array:
  boxes = as_shape(function, "boxes", boxes, 4)
  if boxes.ndim != 2 or any(f.ndim != 3 for f in features):
    raise ValueError(
      f"{function}: `features` must be [H, W, C] and `boxes` [R, 4], got "
      f"{[f.shape for f in features]} and {boxes.shape}; batch with vmap."
    )
  if any(0 in f.shape[:2] for f in features):
    raise ValueError(
      f"{function}: `features` must have at least one pixel, got "
      f"{[f.shape for f in features]}."
    )
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      f"{function}: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  if method not in _METHODS:
    raise ValueError(
      f"{function}: `method` must be one of {', '.join(_METHODS)}, got "
      f"{method!r}."
    )
  if max_samples < 1:
    raise ValueError(
      f"{function}: `max_samples` must be >= 1, got {max_samples}."
    )
  return boxes


def _bins(boxes, scale, extent, size, **settings) -> tuple[AxisBins, AxisBins]:
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


def roi_align(
  features: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  scale: float,
  sampling_ratio: int = 2,
  aligned: bool = False,
  method: str = "gather",
  max_samples: int = 48,
  extent: Size | None = None,
) -> jax.Array:
  """RoIAlign: the mean of bilinear samples in each bin of each box.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame of the image. A position p of the
    image reads the map at p scale in its index frame, or half a pixel before
    with `aligned`, which is where it belongs. Samples up to one pixel outside
    read the border, farther out 0. Without `aligned` a box has at least side 1
    on the map.

  Args:
    features: map [H, W, C].
    boxes: [R, 4].
    size: bins (h, w).
    scale: map pixels per image pixel, 1 / stride.
    sampling_ratio: n, samples of a bin along each axis; 0 for ceil(length of a
      bin), by box and axis.
    aligned: see above; torchvision's detectors False, Detectron2 True.
    method: "gather" reads the pixels needed (CPU, GPU), "matmul" multiplies
      with the weights of all pixels (TPU; R h W C memory). Equal results.
    max_samples: the largest n with `sampling_ratio` 0.
    extent: (height, width) of the part of the map that counts, from the top
      left, numbers or scalar arrays; the rest is padding.

  Returns:
    [R, h, w, C], float32 or wider. Differentiable in features and boxes; with
    "gather" and `sampling_ratio` 0 in reverse mode only.

  Raises:
    ValueError: if a shape or a setting is wrong.

  Example:
    >>> from vision_jax import ops
    >>> features = jnp.arange(64.0).reshape(8, 8, 1)
    >>> box = jnp.array([[8.0, 8, 24, 24]])
    >>> print(ops.roi_align(features, box, (2, 2), scale=0.25)[0, :, :, 0])
    [[27. 29.]
     [43. 45.]]

  Source:
    He et al., Mask R-CNN, 2017, section 3; the rule at borders is
    torchvision's, checked against a scalar loop.
  """
  boxes = _check("roi_align", [features], boxes, size, method, max_samples)
  features = jnp.asarray(features)
  y, x = _bins(
    boxes,
    jnp.asarray(scale, boxes.dtype),
    (features.shape[0], features.shape[1]) if extent is None else extent,
    size,
    sampling_ratio=sampling_ratio,
    max_samples=max_samples,
    aligned=aligned,
  )
  if method == "matmul":
    return _matmul(features, y, x, sampling_ratio or max_samples)
  base = jnp.zeros(boxes.shape[:1], jnp.int32)
  features = _widened(features)
  regions = _Regions(y, x, base, base + features.shape[1])
  table = features.reshape(-1, features.shape[2])
  return _gather(table, regions, sampling_ratio)


def roi_levels(
  boxes: jax.Array,
  *,
  lowest: int,
  highest: int,
  canonical_size: float = 224.0,
  canonical_level: int = 4,
  eps: float = 1e-6,
) -> jax.Array:
  """The pyramid level of each box: floor(k0 + log2(sqrt(area) / 224) + eps).

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame of the image. Level k has stride
    2^k.

  Args:
    boxes: [..., 4].
    lowest: the least level.
    highest: the greatest level.
    canonical_size: side of the square box that belongs to k0.
    canonical_level: k0.
    eps: torchvision 1e-6; 0 for Detectron2, whose 1e-8 inside the logarithm is
      lost in float32.

  Returns:
    int32 [...]; `lowest` for degenerate boxes and NaN.

  Raises:
    ValueError: if a shape is wrong or the levels are in the wrong order.

  Example:
    >>> from vision_jax import ops
    >>> boxes = jnp.array([[0.0, 0, 112, 112], [0, 0, 900, 900]])
    >>> print(ops.roi_levels(boxes, lowest=2, highest=5))
    [3 5]

  Source:
    Lin et al., Feature Pyramid Networks, 2017, equation 1; torchvision's
    LevelMapper.
  """
  boxes = as_shape("roi_levels", "boxes", boxes, 4)
  if lowest > highest:
    raise ValueError(
      f"roi_levels: `lowest` must not exceed `highest`, got {lowest} and "
      f"{highest}."
    )
  sides = boxes[..., 2:] - boxes[..., :2]
  area = sides[..., 0] * sides[..., 1]
  side = jnp.sqrt(jnp.where(area > 0, area, 1e-12))
  level = jnp.floor(canonical_level + jnp.log2(side / canonical_size) + eps)
  return jnp.clip(level, lowest, highest).astype(jnp.int32)


def multilevel_roi_align(
  features: Sequence[jax.Array],
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  scales: Sequence[float],
  levels: jax.Array | None = None,
  canonical_size: float = 224.0,
  canonical_level: int = 4,
  eps: float = 1e-6,
  sampling_ratio: int = 2,
  aligned: bool = False,
  method: str = "gather",
  max_samples: int = 48,
  extents: Sequence[Size] | None = None,
) -> jax.Array:
  """`roi_align` of each box on its own level of a pyramid.

  Convention:
    As `roi_align`.

  Args:
    features: maps [Hl, Wl, C], finest first.
    boxes: [R, 4].
    size: bins (h, w).
    scales: of each map, 1 / stride, powers of 2.
    levels: int [R], which map each box reads; None for `roi_levels`.
    canonical_size: see `roi_levels`.
    canonical_level: see `roi_levels`.
    eps: see `roi_levels`.
    sampling_ratio: see `roi_align`.
    aligned: see `roi_align`.
    method: see `roi_align`.
    max_samples: see `roi_align`.
    extents: (height, width) that counts of each map.

  Returns:
    [R, h, w, C].

  Raises:
    ValueError: if a shape or a setting is wrong, or the numbers of maps and
      scales differ.

  Example:
    >>> from vision_jax import ops
    >>> maps = [jnp.ones((16, 16, 1)), jnp.full((8, 8, 1), 2.0)]
    >>> boxes = jnp.array([[0.0, 0, 10, 10], [0, 0, 60, 60]])
    >>> out = ops.multilevel_roi_align(maps, boxes, (1, 1),
    ...   scales=(0.25, 0.125), canonical_size=32, canonical_level=3)
    >>> print(out.ravel())
    [1. 2.]

  Source:
    Lin et al., Feature Pyramid Networks, 2017, section 4.2.
  """
  name = "multilevel_roi_align"
  boxes = _check(name, features, boxes, size, method, max_samples)
  if not features or len(features) != len(scales):
    raise ValueError(
      f"{name}: `scales` must have one entry for each of the maps, got "
      f"{len(scales)} for {len(features)}."
    )
  if levels is None:
    lowest, highest = (round(-np.log2(scales[k])) for k in (0, -1))
    levels = roi_levels(
      boxes,
      lowest=lowest,
      highest=highest,
      canonical_size=canonical_size,
      canonical_level=canonical_level,
      eps=eps,
    )
    levels = levels - lowest
  if extents is None:
    extents = [(f.shape[0], f.shape[1]) for f in features]
  settings = dict(
    sampling_ratio=sampling_ratio, max_samples=max_samples, aligned=aligned
  )
  if method == "matmul":
    total = jnp.zeros((), boxes.dtype)
    for k, (level, scale) in enumerate(zip(features, scales, strict=True)):
      y, x = _bins(
        boxes, jnp.asarray(scale, boxes.dtype), extents[k], size, **settings
      )
      out = _matmul(level, y, x, sampling_ratio or max_samples)
      total = total + jnp.where((levels == k)[:, None, None, None], out, 0)
    return total

  def chosen(values, dtype):
    return jnp.stack([jnp.asarray(v, dtype) for v in values])[levels]

  maps = [_widened(jnp.asarray(f)) for f in features]
  areas = [f.shape[0] * f.shape[1] for f in maps]
  y, x = _bins(
    boxes,
    chosen(scales, boxes.dtype),
    [chosen([e[k] for e in extents], boxes.dtype) for k in (0, 1)],
    size,
    **settings,
  )
  regions = _Regions(
    y,
    x,
    chosen([0, *np.cumsum(areas)[:-1]], jnp.int32),
    chosen([f.shape[1] for f in maps], jnp.int32),
  )
  table = jnp.concatenate([f.reshape(-1, f.shape[2]) for f in maps])
  return _gather(table, regions, sampling_ratio)


def roi_pool(
  features: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  scale: float,
  batch_size: int = 4,
) -> jax.Array:
  """RoIPool: the maximum of each bin of each box, corners rounded to pixels.

  Convention:
    Boxes (x1, y1, x2, y2) of the image; corners times `scale` are rounded,
    halves away from 0, and both corner pixels belong to the box. Bins that do
    not divide it evenly overlap. A bin outside of the map is 0.

  Args:
    features: map [H, W, C].
    boxes: [R, 4].
    size: bins (h, w).
    scale: map pixels per image pixel, 1 / stride.
    batch_size: boxes worked on at once; each takes as long as its largest.

  Returns:
    [R, h, w, C]. The derivative goes to the first maximum in row-major order;
    boxes have none. A bin without a number above -inf is 0.

  Raises:
    ValueError: if a shape or a setting is wrong.

  Example:
    >>> from vision_jax import ops
    >>> features = jnp.arange(16.0).reshape(4, 4, 1)
    >>> box = jnp.array([[0.0, 0, 3, 3]])
    >>> print(ops.roi_pool(features, box, (2, 2), scale=1.0)[0, :, :, 0])
    [[ 5.  7.]
     [13. 15.]]

  Source:
    Girshick, Fast R-CNN, 2015, section 2.1; torchvision's kernel.
  """
  boxes = _check("roi_pool", [features], boxes, size, "gather", 1)
  features = as_float(features)
  height, width, channels = features.shape
  scaled = lax.stop_gradient(boxes) * scale
  corners = jnp.sign(scaled) * jnp.floor(jnp.abs(scaled) + 0.5)
  table = features.reshape(height * width, channels)
  fixed = lax.stop_gradient(table)

  def bounds(low, high, count, length):
    """First pixel and the one after the last of each bin, [count]."""
    step = jnp.maximum(high - low + 1, 1) / count
    bin_index = jnp.arange(count, dtype=step.dtype)
    first = jnp.floor(bin_index * step) + low
    last = jnp.ceil((bin_index + 1) * step) + low
    return (jnp.clip(v, 0, length).astype(jnp.int32) for v in (first, last))

  def one(box):
    y, y_end = bounds(box[1], box[3], size[0], height)
    x, x_end = bounds(box[0], box[2], size[1], width)
    rows, columns = (y_end - y).max(), (x_end - x).max()

    def look(state):
      k, best, best_place = state
      row, column = y + k // columns, x + k % columns
      inside = (row < y_end)[:, None] & (column < x_end)[None]
      place = row[:, None] * width + column[None]
      place = jnp.where(inside, place, 0)
      values = fixed.at[place].get(mode="promise_in_bounds")
      better = inside[..., None] & (values > best)
      return (
        k + 1,
        jnp.where(better, values, best),
        jnp.where(better, place[..., None], best_place),
      )

    shape = (*size, channels)
    start = (
      jnp.int32(0),
      jnp.full(shape, -jnp.inf, fixed.dtype),
      jnp.full(shape, -1, jnp.int32),
    )
    return lax.while_loop(lambda s: s[0] < rows * columns, look, start)[2]

  place = lax.map(one, corners, batch_size=batch_size)
  line = jnp.arange(channels)[None, None, None]
  values = table[jnp.maximum(place, 0), jnp.broadcast_to(line, place.shape)]
  return jnp.where(place >= 0, values, 0)
