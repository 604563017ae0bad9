"""Points of a map and how uncertain its scores are there (PointRend).

Points are in the unit frame: 0 and 1 are the outer edges of a map or a box, so
that one set of points reads maps of every size. An uncertainty is higher where
a decision is closer; its negative is a margin.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops import frames, sampling
from vision_jax.ops.floats import at_least_float32

__all__ = [
  "POINT_SAMPLING",
  "PointSampling",
  "binary_uncertainty",
  "grid_points",
  "margin_uncertainty",
  "point_sample",
  "points_in_boxes",
  "probability_uncertainty",
  "sample_labels",
  "sample_uncertain_points",
  "uncertain_grid_points",
]

Uncertainty = Callable[[jax.Array], jax.Array]


class PointSampling(NamedTuple):
  """How training points are drawn; see `sample_uncertain_points`.

  Attributes:
    oversample: k, candidates for each point.
    importance: beta, share of the points that are the most uncertain ones.
  """

  oversample: float = 3.0
  importance: float = 0.75


# Table 4 of the paper. "heavy" is drawn with beta 0.75 in its figure 5 and
# measured with 1 in its table 4.
POINT_SAMPLING = {
  "uniform": PointSampling(1.0, 0.0),
  "mild": PointSampling(3.0, 0.75),
  "heavy_fig5": PointSampling(10.0, 0.75),
  "heavy_tab4": PointSampling(10.0, 1.0),
}


def point_sample(
  features: jax.Array,
  points: jax.Array,
  *,
  mode: str = "bilinear",
  padding: str = "zeros",
) -> jax.Array:
  """Values of a map at points of the unit frame.

  A point (x, y) lies at (x W - 0.5, y H - 0.5) in the index frame. With
  "zeros" values fade to 0 over the outer half cell: on a 7 x 7 map over 26 % of
  its area. The published weights were trained so.

  Convention:
    Layout [H, W, C]; points (x, y), unit frame.

  Args:
    features: the map, [H, W, C].
    points: positions, [..., 2]; computed in float32 or wider.
    mode: "bilinear", "nearest" (halves round to even) or "bicubic".
    padding: "zeros", or "edge": the nearest cell.

  Returns:
    Values [..., C], in the dtype of a floating map.

  Raises:
    ValueError: if a shape is wrong or a name is unknown.

  Example:
    >>> from vision_jax import ops
    >>> features = jnp.array([[1.0, 3.0]])[..., None]
    >>> points = jnp.array([[0.25, 0.5], [0.5, 0.5], [0.0, 0.5]])
    >>> print(ops.point_sample(features, points)[:, 0])
    [1.  2.  0.5]

  Source:
    Kirillov et al., PointRend, 2020, section 3; torch `grid_sample` with
    align_corners=False at 2 p - 1.
  """
  features, points = jnp.asarray(features), jnp.asarray(points)
  if features.ndim != 3 or 0 in features.shape[:2]:
    raise ValueError(
      "point_sample: `features` must be [H, W, C] with at least one cell, got "
      f"shape {features.shape}; use jax.vmap for a batch."
    )
  height, width = features.shape[:2]
  at = frames.unit_to_continuous(points, (height, width))
  at = frames.continuous_to_index(at)
  return sampling.sample(features, at, mode=mode, padding=padding)


def sample_labels(labels: jax.Array, points: jax.Array) -> jax.Array:
  """Labels of the pixels in which points of the unit frame lie.

  Convention:
    Layout [H, W]; points (x, y), unit frame; outside, the nearest pixel.

  Args:
    labels: the label map, integers below 2^24, [H, W].
    points: positions, [..., 2].

  Returns:
    Labels [...], of the same dtype.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> labels = jnp.array([[7, 255]])
    >>> print(ops.sample_labels(labels, jnp.array([[0.4, 0.5], [1.0, 1.0]])))
    [  7 255]

  Source:
    Kirillov et al., PointRend, 2020, section 4.
  """
  labels = jnp.asarray(labels)
  values = point_sample(
    labels[..., None], points, mode="nearest", padding="edge"
  )
  return values[..., 0].astype(labels.dtype)


def points_in_boxes(points: jax.Array, boxes: jax.Array) -> jax.Array:
  """Points of the unit frame of boxes as points of the image.

  Convention:
    (x, y) and (x1, y1, x2, y2). The result is in the frame of the boxes: in
    pixels (continuous frame), or in the unit frame of the image. No gradient
    reaches the boxes.

  Args:
    points: positions in each box, unit frame, [..., P, 2].
    boxes: the boxes, [..., 4].

  Returns:
    Positions [..., P, 2].

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> points = jnp.array([[0.5, 0.25]])
    >>> print(ops.points_in_boxes(points, jnp.array([10.0, 20, 30, 60])))
    [[20. 30.]]

  Source:
    Kirillov et al., PointRend, 2020, section 3.1.
  """
  points, boxes = jnp.asarray(points), jnp.asarray(boxes)
  if points.ndim < 2 or points.shape[-1] != 2 or boxes.shape[-1:] != (4,):
    raise ValueError(
      "points_in_boxes: `points` and `boxes` must be [..., P, 2] and [..., 4], "
      f"got shapes {points.shape} and {boxes.shape}."
    )
  dtype = jnp.promote_types(points.dtype, jnp.float32)
  boxes = lax.stop_gradient(boxes)[..., None, :].astype(dtype)
  low, high = boxes[..., :2], boxes[..., 2:]
  return low + points.astype(dtype) * (high - low)


def binary_uncertainty(logits: jax.Array) -> jax.Array:
  """-|logit|: how near the probability of one class is to 1/2.

  Args:
    logits: scores of one class against the rest, [..., 1].

  Returns:
    [...], at most 0.

  Raises:
    ValueError: if there is not exactly one channel.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.binary_uncertainty(jnp.array([[-2.0], [0.5]])))
    [-2.  -0.5]

  Source:
    Kirillov et al., PointRend, 2020, section 4.1; the order is that of
    -|p - 0.5|.
  """
  if logits.ndim < 1 or logits.shape[-1] != 1:
    raise ValueError(
      "binary_uncertainty: `logits` must be [..., 1], got shape "
      f"{logits.shape}; take the channel of one class first."
    )
  return -jnp.abs(at_least_float32(logits[..., 0]))


def margin_uncertainty(logits: jax.Array) -> jax.Array:
  """The second best logit minus the best one.

  Args:
    logits: scores of K >= 2 classes, [..., K].

  Returns:
    [...], at most 0.

  Raises:
    ValueError: if there are fewer than two channels.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.margin_uncertainty(jnp.array([3.0, 1.0, 2.5])))
    -0.5

  Note:
    No derivative: only an order is taken from it.

  Source:
    The released code of PointRend; the paper says probabilities, see
    `probability_uncertainty`.
  """
  if logits.ndim < 1 or logits.shape[-1] < 2:
    raise ValueError(
      "margin_uncertainty: `logits` must be [..., K] with K >= 2, got shape "
      f"{logits.shape}; one channel has `binary_uncertainty`."
    )
  logits = lax.stop_gradient(at_least_float32(logits))

  def join(x, y):  # the two best of two pairs
    second = jnp.maximum(jnp.minimum(x[0], y[0]), jnp.maximum(x[1], y[1]))
    return jnp.maximum(x[0], y[0]), second

  least = jnp.array(-jnp.inf, logits.dtype)
  best, second = lax.reduce(
    (logits, jnp.full_like(logits, least)),
    (least, least),
    join,
    (logits.ndim - 1,),
  )
  return second - best


def probability_uncertainty(logits: jax.Array) -> jax.Array:
  """The second best probability minus the best one.

  Not the order of `margin_uncertainty`: of the 4 % most uncertain of 19 normal
  logits about a tenth differ.

  Args:
    logits: scores of K >= 2 classes, [..., K].

  Returns:
    [...], in [-1, 0].

  Raises:
    ValueError: if there are fewer than two channels.

  Example:
    >>> from vision_jax import ops
    >>> logits = jnp.log(jnp.array([0.5, 0.2, 0.3]))
    >>> print(f"{ops.probability_uncertainty(logits):.4f}")
    -0.2000

  Source:
    Kirillov et al., PointRend, 2020, section 5.
  """
  return margin_uncertainty(jax.nn.softmax(at_least_float32(logits), axis=-1))


def grid_points(size: tuple[int, int]) -> jax.Array:
  """Centres of the cells of a map, row after row.

  Convention:
    (x, y), unit frame.

  Args:
    size: height and width, static integers.

  Returns:
    float [height width, 2]; float32 unless x64 is on.

  Raises:
    ValueError: if a side is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.grid_points((1, 2)))
    [[0.25 0.5 ]
     [0.75 0.5 ]]

  Source:
    Kirillov et al., PointRend, 2020, table 4, "regular grid".
  """
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      "grid_points: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  return cell_centres(jnp.arange(size[0] * size[1]), size)


def cell_centres(indices: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Centres, unit frame, of cells given by their number in row-major order.

  In float64 where it is enabled: which cells are most uncertain depends on it.
  """
  dtype = jnp.zeros(()).dtype
  x = (indices % size[1]).astype(dtype) + 0.5
  y = (indices // size[1]).astype(dtype) + 0.5
  return jnp.stack([x / size[1], y / size[0]], axis=-1)


def uncertain_grid_points(
  uncertainty: jax.Array, num_points: int, *, approximate: bool = False
) -> tuple[jax.Array, jax.Array]:
  """The most uncertain cells of a map.

  Convention:
    Points (x, y), unit frame; equal cells in row-major order.

  Args:
    uncertainty: [H, W].
    num_points: N; all cells, if there are fewer.
    approximate: use `lax.approx_max_k`, which is faster and inexact on TPUs.

  Returns:
    Numbers of the cells in row-major order, int32 [min(N, H W)], by falling
    uncertainty, and their centres [min(N, H W), 2].

  Raises:
    ValueError: if `uncertainty` is not [H, W] or `num_points` is negative.

  Example:
    >>> from vision_jax import ops
    >>> u = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    >>> cells, points = ops.uncertain_grid_points(u, 2)
    >>> print(cells, points[0])
    [1 2] [0.75 0.25]

  Source:
    Kirillov et al., PointRend, 2020, section 3.1, inference.
  """
  if uncertainty.ndim != 2 or num_points < 0:
    raise ValueError(
      "uncertain_grid_points: `uncertainty` must be [H, W] and `num_points` at "
      f"least 0, got shape {uncertainty.shape} and {num_points}."
    )
  height, width = uncertainty.shape
  flat = uncertainty.reshape(-1)
  cells = _top(flat, min(num_points, height * width), approximate)
  return cells, cell_centres(cells, (height, width))


def sample_uncertain_points(
  key: jax.Array,
  logits: jax.Array,
  num_points: int,
  *,
  uncertainty: Uncertainty = margin_uncertainty,
  oversample: float = 3.0,
  importance: float = 0.75,
  padding: str = "zeros",
) -> jax.Array:
  """Random training points, most of them where a map is uncertain.

  Of floor(k N) uniform candidates the floor(beta N) most uncertain ones, by the
  interpolated logits, and N - floor(beta N) new uniform points.

  Convention:
    Layout [H, W, K]; points (x, y), unit frame. No gradient.

  Args:
    key: random key.
    logits: coarse scores, [H, W, K].
    num_points: N.
    uncertainty: function of logits [..., K] -> [...].
    oversample: k, at least 1; see `POINT_SAMPLING`.
    importance: beta, in [0, 1].
    padding: what is read outside of the map, as `point_sample`.

  Returns:
    float [N, 2], float32 unless x64 is on; the uncertain points first.

  Raises:
    ValueError: if a number is out of range.

  Example:
    >>> from vision_jax import ops
    >>> points = ops.sample_uncertain_points(
    ...   jax.random.key(0), jnp.zeros((4, 6, 3)), 20,
    ...   **ops.POINT_SAMPLING["mild"]._asdict())
    >>> points.shape
    (20, 2)

  Source:
    Kirillov et al., PointRend, 2020, section 3.1, training.
  """
  if num_points < 0 or oversample < 1 or not 0 <= importance <= 1:
    raise ValueError(
      "sample_uncertain_points: `num_points`, `oversample` and `importance` "
      "must be at least 0, at least 1 and in [0, 1], got "
      f"{num_points}, {oversample} and {importance}."
    )
  first, second = jax.random.split(key)
  count = int(importance * num_points)
  fresh = jax.random.uniform(second, (num_points - count, 2))
  if count == 0:
    return fresh
  candidates = jax.random.uniform(first, (int(oversample * num_points), 2))
  seen = point_sample(lax.stop_gradient(logits), candidates, padding=padding)
  chosen = candidates[_top(uncertainty(seen), count, False)]
  return jnp.concatenate([chosen, fresh])


def _top(values: jax.Array, count: int, approximate: bool) -> jax.Array:
  """Places of the largest values [N], first ones first."""
  if count == 0:
    return jnp.zeros((0,), jnp.int32)
  find = lax.approx_max_k if approximate else lax.top_k
  return find(lax.stop_gradient(values), count)[1]
