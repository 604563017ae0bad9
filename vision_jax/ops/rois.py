"""Features of regions: RoIAlign and RoIPool, on one map or on a pyramid.

How samples are placed and read stands in `roi_samples.py`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.boxes import Size
from vision_jax.ops.matrix_tools import as_float, as_shape
from vision_jax.ops.roi_samples import (
  Regions,
  mean_by_matmul,
  mean_of_samples,
  region_bins,
  widened,
)

__all__ = ["multilevel_roi_align", "roi_align", "roi_levels", "roi_pool"]

_METHODS = ("gather", "matmul")


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
  y, x = region_bins(
    boxes,
    jnp.asarray(scale, boxes.dtype),
    (features.shape[0], features.shape[1]) if extent is None else extent,
    size,
    sampling_ratio=sampling_ratio,
    max_samples=max_samples,
    aligned=aligned,
  )
  if method == "matmul":
    return mean_by_matmul(features, y, x, sampling_ratio or max_samples)
  base = jnp.zeros(boxes.shape[:1], jnp.int32)
  features = widened(features)
  regions = Regions(y, x, base, base + features.shape[1])
  return mean_of_samples([features], regions, sampling_ratio)


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
      y, x = region_bins(
        boxes, jnp.asarray(scale, boxes.dtype), extents[k], size, **settings
      )
      out = mean_by_matmul(level, y, x, sampling_ratio or max_samples)
      total = total + jnp.where((levels == k)[:, None, None, None], out, 0)
    return total

  def chosen(values, dtype):
    return jnp.stack([jnp.asarray(v, dtype) for v in values])[levels]

  maps = [widened(jnp.asarray(f)) for f in features]
  areas = [f.shape[0] * f.shape[1] for f in maps]
  y, x = region_bins(
    boxes,
    chosen(scales, boxes.dtype),
    [chosen([e[k] for e in extents], boxes.dtype) for k in (0, 1)],
    size,
    **settings,
  )
  regions = Regions(
    y,
    x,
    chosen([0, *np.cumsum(areas)[:-1]], jnp.int32),
    chosen([f.shape[1] for f in maps], jnp.int32),
  )
  return mean_of_samples(maps, regions, sampling_ratio)


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
