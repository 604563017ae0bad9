"""Interpolation between pixels: what `sample`, `grid_sample` and `warp` share.

Along one axis a sample is a weighted sum of 1, 2 or 4 pixels, its taps; over
the axes the weights multiply. So every rule of value and derivative is a rule
of one axis, and stands in `axis_taps`.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

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

_A = -0.75  # Keys' parameter as torch has it; -0.5 would be third-order exact


class AxisTap(NamedTuple):
  """One pixel of a line for each sample.

  Attributes:
    pixel: place in the line, int32, always inside it.
    weight: its factor.
    inside: False where the pixel is padding of value 0.
  """

  pixel: jax.Array
  weight: jax.Array
  inside: jax.Array


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
  taps = []
  for k, weight in enumerate(weights, first):
    place = base + k
    if mode == "bicubic":
      place = _into_line(place, size, padding_mode, align_corners)
    # Far outside, before it becomes an integer.
    index = jnp.clip(place, -4, size + 3).astype(jnp.int32)
    inside = (index >= 0) & (index < size)
    taps.append(AxisTap(jnp.clip(index, 0, size - 1), weight, inside))
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
    outside = fill if padding_mode == "zeros" else None
    values = _weighted_sum(pixels, lines, sizes, outside)
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


def _weighted_sum(
  pixels: jax.Array,
  lines: list[list[AxisTap]],
  sizes: list[int],
  outside: jax.Array | None,
) -> jax.Array:
  """Sum of the taps' pixels [H W, C], the last axis innermost."""
  shape = lines[0][0].pixel.shape
  dtype = jnp.promote_types(pixels.dtype, jnp.float32)

  def total(axis, index, inside):
    if axis == len(sizes):
      values = pixels.at[index].get(mode="promise_in_bounds").astype(dtype)
      if outside is not None:
        fill = outside.reshape(*[1] * len(shape), -1)
        values = jnp.where(inside[..., None], values, fill)
      return values
    result = jnp.zeros((*shape, pixels.shape[1]), dtype)
    for tap in lines[axis]:
      values = total(
        axis + 1, index * sizes[axis] + tap.pixel, inside & tap.inside
      )
      result += tap.weight.astype(dtype)[..., None] * values
    return result

  return total(0, jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool))


def _product(
  pixels: jax.Array,
  lines: list[list[AxisTap]],
  sizes: list[int],
  fill: jax.Array,
) -> jax.Array:
  """The same by a product of [P, H W] weights with [H W, C] pixels."""
  shape = lines[0][0].pixel.shape
  weights = jnp.ones((*shape, 1), pixels.dtype)
  for taps, size in zip(lines, sizes, strict=True):
    line = jnp.zeros((*shape, size), pixels.dtype)
    places = jnp.arange(size).reshape(*[1] * len(shape), size)
    for tap in taps:
      weight = jnp.where(tap.inside, tap.weight, 0).astype(pixels.dtype)
      chosen = tap.pixel[..., None] == places
      line += jnp.where(chosen, weight[..., None], 0)
    weights = weights[..., :, None] * line[..., None, :]
    weights = weights.reshape(*shape, weights.shape[-2] * size)
  values = jnp.matmul(weights, pixels, precision="highest")
  missing = 1 - weights.sum(-1, keepdims=True)
  return values + missing * fill.reshape(*[1] * len(shape), -1)
