"""From a response map to seeds, and from maps of pixels to boxes.

The steps of DASR around its top-down pass: `seed_cells` chooses the cells to
start from; of a map of pixels `brightest_pixels` or `mass_pixels` keep a set,
whose second moments (`region_moments`) are those of an ellipse
(`moment_ellipse`), whose circumscribed rectangle (`moment_box`) is the box.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
  "SeedRule",
  "brightest_pixels",
  "mass_pixels",
  "moment_box",
  "moment_ellipse",
  "region_moments",
  "seed_cells",
]

SeedRule = Literal["peaks_mean", "peaks_all", "cells_above_mean", "cells_all"]

_INFINITY_BITS = 0x7F800000  # of float32


def seed_cells(
  response: jax.Array,
  *,
  seeds: SeedRule = "peaks_mean",
  max_seeds: int = 32,
  border: int = 1,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Cells of a response map from which top-down passes start, best first.

  A peak equals the maximum of its 3 x 3 window. Only positive cells count, and
  none on the outer ring of `border` cells.

  Convention:
    Cells (x, y), index frame of the map. Ties: lowest index. One map; batch
    with vmap.

  Args:
    response: float [h, w].
    seeds: "peaks_mean", peaks not below the mean of the map (DASR);
      "peaks_all", every peak; "cells_above_mean", "cells_all": without the
      demand that they be peaks.
    max_seeds: P, at most so many are kept.
    border: rings of cells that are left out.

  Returns:
    Cells int32 [P, 2], their values [P] and valid bool [P].

  Raises:
    ValueError: if `response` is not [h, w] or `seeds` is unknown.

  Example:
    >>> from vision_jax import ops
    >>> response = jnp.zeros((5, 6)).at[2, 3].set(4.0).at[3, 1].set(5.0)
    >>> cells, values, valid = ops.seed_cells(response, max_seeds=3)
    >>> print(cells[valid].tolist(), values)
    [[1, 3], [3, 2]] [5. 4. 0.]

  Source:
    Xiao et al., DASR (arXiv 2002.00185); wlzhao22/DASR, peak_stimulation.
  """
  if response.ndim != 2:
    raise ValueError(
      f"seed_cells: `response` must be [h, w], got {response.shape}."
    )
  if seeds not in get_args(SeedRule):
    raise ValueError(
      f"seed_cells: `seeds` must be one of {', '.join(get_args(SeedRule))}, "
      f"got {seeds!r}."
    )
  height, width = response.shape
  rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
  chosen = (
    (rows >= border)
    & (rows < height - border)
    & (columns >= border)
    & (columns < width - border)
    & (response > 0)
  )
  if seeds in ("peaks_mean", "cells_above_mean"):
    chosen &= response >= response.mean()
  if seeds in ("peaks_mean", "peaks_all"):
    highest = lax.reduce_window(
      response, -jnp.inf, lax.max, (3, 3), (1, 1), "SAME"
    )
    chosen &= response == highest
  flat = jnp.where(chosen, response, -jnp.inf).ravel()
  missing = max(max_seeds - flat.size, 0)
  flat = jnp.pad(flat, (0, missing), constant_values=-jnp.inf)
  values, index = lax.top_k(flat, max_seeds)
  valid = values > 0
  cells = jnp.stack([index % width, index // width], -1).astype(jnp.int32)
  return (
    jnp.where(valid[:, None], cells, 0),
    jnp.where(valid, values, 0),
    valid,
  )


def _bits(maps: jax.Array) -> jax.Array:
  """Integers in the order of the values, which are not below 0."""
  positive = jnp.where(maps > 0, maps, 0).astype(jnp.float32)
  return lax.bitcast_convert_type(positive, jnp.int32)


def _bisect(accept, shape: tuple[int, ...]) -> jax.Array:
  """The least bits that `accept`; exact, since floats are finitely many."""
  low = jnp.zeros(shape, jnp.int32)
  high = jnp.full(shape, _INFINITY_BITS, jnp.int32)

  def step(_, bounds):
    low, high = bounds
    middle = low + (high - low) // 2
    good = accept(middle[..., None, None])
    return jnp.where(good, low, middle + 1), jnp.where(good, middle, high)

  return lax.fori_loop(0, 31, step, (low, high))[1]


def _check_maps(function: str, maps: jax.Array) -> None:
  if maps.ndim < 2 or 0 in maps.shape[-2:]:
    raise ValueError(
      f"{function}: `maps` must be [..., H, W] with at least one pixel, got "
      f"shape {maps.shape}."
    )


def brightest_pixels(maps: jax.Array, *, percentile: float = 95.0) -> jax.Array:
  """Pixels not below a percentile of their map, and above 0.

  The percentile is found by bisection over the bits of the values, which is
  exact and faster than sorting.

  Args:
    maps: float [..., H, W]; values below 0 count as 0.
    percentile: of all pixels of a map, linearly interpolated.

  Returns:
    bool [..., H, W].

  Raises:
    ValueError: if a map is empty or `percentile` not in 0 .. 100.

  Example:
    >>> from vision_jax import ops
    >>> maps = jnp.arange(8.0).reshape(2, 4)
    >>> print(ops.brightest_pixels(maps, percentile=75.0).astype(int))
    [[0 0 0 0]
     [0 0 1 1]]

  Source:
    DASR, eq. 2; wlzhao22/DASR; equal to numpy.percentile.
  """
  _check_maps("brightest_pixels", maps)
  if not 0 <= percentile <= 100:
    raise ValueError(
      f"brightest_pixels: `percentile` must be in 0 .. 100, got {percentile}."
    )
  bits = _bits(maps)
  place = percentile / 100 * (maps.shape[-2] * maps.shape[-1] - 1)
  rank = int(place)

  def count(limit):
    return (bits <= limit).sum((-2, -1))

  low = _bisect(lambda b: count(b) > rank, maps.shape[:-2])[..., None, None]
  above = jnp.where(bits > low, bits, _INFINITY_BITS).min((-2, -1))
  repeated = (count(low) > rank + 1) | (place == rank)
  high = jnp.where(repeated[..., None, None], low, above[..., None, None])
  low, high = (lax.bitcast_convert_type(b, jnp.float32) for b in (low, high))
  threshold = low + (place - rank) * (high - low)
  return (maps >= threshold) & (maps > 0)


def mass_pixels(maps: jax.Array, *, share: float = 0.9) -> jax.Array:
  """The brightest pixels that hold a share of the mass of their map.

  The smallest set {r >= t} whose sum reaches the share; small objects get few
  pixels, where a percentile gives every map the same number.

  Args:
    maps: float [..., H, W]; values below 0 count as 0.
    share: of the sum of a map, in (0, 1].

  Returns:
    bool [..., H, W]; nothing where a map has no mass.

  Raises:
    ValueError: if a map is empty or `share` not in (0, 1].

  Example:
    >>> from vision_jax import ops
    >>> maps = jnp.array([[5.0, 3.0, 1.0, 1.0]])
    >>> print(ops.mass_pixels(maps, share=0.75).astype(int))
    [[1 1 0 0]]

  Source:
    Interface of this library.
  """
  _check_maps("mass_pixels", maps)
  if not 0 < share <= 1:
    raise ValueError(f"mass_pixels: `share` must be in (0, 1], got {share}.")
  bits = _bits(maps)
  positive = jnp.where(maps > 0, maps, 0)
  goal = share * positive.sum((-2, -1))

  def too_little(limit):
    return jnp.where(bits >= limit, positive, 0).sum((-2, -1)) < goal

  # The least limit that leaves too little is one above the one that does not.
  limit = _bisect(too_little, maps.shape[:-2]) - 1
  return (bits >= limit[..., None, None]) & (maps > 0)


def region_moments(weights: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean position and covariance of the pixels of a map.

  Convention:
    Continuous frame, (x, y): the first pixel lies at (0.5, 0.5).

  Args:
    weights: bool or non-negative [..., H, W]: a set of pixels, or the mass on
      each.

  Returns:
    Mean [..., 2] and population covariance [..., 2, 2], float32; 0 where a map
    has no mass.

  Raises:
    ValueError: if a map is empty.

  Example:
    >>> from vision_jax import ops
    >>> mean, covariance = ops.region_moments(jnp.ones((2, 4)))
    >>> print(mean, covariance[0, 0], covariance[1, 1])
    [2. 1.] 1.25 0.25

  Source:
    Definition; DASR, eq. 3.
  """
  _check_maps("region_moments", weights)
  weights = weights.astype(jnp.float32)
  total = weights.sum((-2, -1))
  empty = total <= 0
  weights = weights / jnp.where(empty, 1, total)[..., None, None]
  lines, mean, spread = {}, [], []
  for axis, name in ((-2, "x"), (-1, "y")):
    line = weights.sum(axis)  # the other coordinate is summed away
    middle = line.shape[-1] / 2
    steps = jnp.arange(line.shape[-1], dtype=jnp.float32) + 0.5 - middle
    centre = (line * _lead(steps, line)).sum(-1)
    offset = _lead(steps, line) - centre[..., None]
    lines[name] = offset
    mean.append(jnp.where(empty, 0, centre + middle))
    spread.append((line * offset**2).sum(-1))
  both = jnp.einsum(
    "...yx,...y,...x->...", weights, lines["y"], lines["x"], precision="highest"
  )
  covariance = jnp.stack(
    [
      jnp.stack([spread[0], both], -1),
      jnp.stack([both, spread[1]], -1),
    ],
    -2,
  )
  keep = ~empty[..., None, None]
  return jnp.stack(mean, -1), jnp.where(keep, covariance, 0)


def _lead(line: jax.Array, like: jax.Array) -> jax.Array:
  """A line with leading axes, so that it broadcasts."""
  return line.reshape((1,) * (like.ndim - 1) + (-1,))


def moment_ellipse(
  covariance: jax.Array, *, num_deviations: float = 2.0
) -> tuple[jax.Array, jax.Array]:
  """Semi-axes and direction of the ellipse of a covariance.

  Convention:
    (x, y); the angle is that of the longer axis, from x towards y, in
    (-pi/2, pi/2].

  Args:
    covariance: [..., 2, 2].
    num_deviations: k, length of a semi-axis in standard deviations: 2 is exact
      for a filled ellipse, the root of 3 for a filled rectangle along the axes.

  Returns:
    Semi-axes [..., 2], the longer first, and angles [...].

  Example:
    >>> from vision_jax import ops
    >>> axes, angle = ops.moment_ellipse(jnp.array([[1.0, 0.0], [0.0, 9.0]]))
    >>> print(axes, jnp.rad2deg(angle))
    [6. 2.] 90.0

  Source:
    Eigen-decomposition of a symmetric 2 x 2 matrix in closed form.
  """
  xx, yy = covariance[..., 0, 0], covariance[..., 1, 1]
  xy = covariance[..., 0, 1]
  middle = (xx + yy) / 2
  root = jnp.hypot((xx - yy) / 2, xy)
  long = middle + root
  # The product of both is the determinant: no difference of nearly equals.
  short = jnp.maximum(xx * yy - xy * xy, 0) / jnp.where(long > 0, long, 1)
  axes = num_deviations * jnp.sqrt(jnp.stack([long, short], -1))
  return axes, 0.5 * jnp.arctan2(2 * xy, xx - yy)


def moment_box(
  mean: jax.Array, covariance: jax.Array, *, num_deviations: float = 2.0
) -> jax.Array:
  r"""The rectangle around the ellipse of a mean and a covariance.

  :math:`\mu_x \pm k \sqrt{\Sigma_{xx}}, \mu_y \pm k \sqrt{\Sigma_{yy}}`: no
  eigenvector is needed. Not clipped to the picture.

  Convention:
    Continuous frame, (x1, y1, x2, y2).

  Args:
    mean: [..., 2].
    covariance: [..., 2, 2].
    num_deviations: k; see `moment_ellipse`.

  Returns:
    Boxes [..., 4].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.moment_box(jnp.array([5.0, 5.0]), jnp.eye(2)))
    [3. 3. 7. 7.]

  Source:
    DASR, eq. 3; equal to the extent of the eigen-ellipse.
  """
  variances = jnp.stack([covariance[..., 0, 0], covariance[..., 1, 1]], -1)
  half = num_deviations * jnp.sqrt(variances)
  return jnp.concatenate([mean - half, mean + half], -1)
