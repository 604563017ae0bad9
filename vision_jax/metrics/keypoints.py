"""How well key points and matches of two pictures agree with the truth.

Rows of padding are removed before: `xy[valid]`.
"""

from collections.abc import Sequence

import numpy as np

from vision_jax.metrics.ground_truth import GroundTruth, as_points, covisible

__all__ = [
  "greedy_assignment",
  "matching_score",
  "mean_matching_accuracy",
  "position_errors",
  "repeatability",
]


def greedy_assignment(
  cost: np.ndarray, *, max_cost: float = np.inf
) -> tuple[np.ndarray, np.ndarray]:
  """Pairs rows and columns one to one, cheapest pair first.

  Equal to sorting all pairs by cost (equal costs: lowest row, then lowest
  column) and accepting each whose two ends are still free. It is computed in
  rounds that accept all pairs that are the best of both their row and column.

  Args:
    cost: [N, M]; NaN and infinite entries are never paired.
    max_cost: the largest cost that may be paired (inclusive).

  Returns:
    Rows and columns of the accepted pairs, int64 [P] each, in the order of
    acceptance.

  Raises:
    ValueError: if `cost` has not two axes.

  Example:
    >>> from vision_jax.metrics import greedy_assignment
    >>> rows, columns = greedy_assignment(np.array([[1.0, 2.0], [0.5, 9.0]]))
    >>> print(rows, columns)
    [1 0] [0 1]

  Source:
    The bipartite matching of the ELF protocol, A. Benbihi et al., ICCV 2019.
  """
  cost = np.asarray(cost, np.float64)
  if cost.ndim != 2:
    raise ValueError(
      f"greedy_assignment: `cost` must be [N, M], got {cost.shape}."
    )
  with np.errstate(invalid="ignore"):
    allowed = (cost <= max_cost) & np.isfinite(cost)
  left = np.where(allowed, cost, np.inf)
  rows, columns = np.arange(cost.shape[0]), np.arange(cost.shape[1])
  paired_rows, paired_columns = [rows[:0]], [columns[:0]]
  while left.size:
    # The first minimum is the lowest row or column: ties break as promised.
    best_column, best_row = left.argmin(1), left.argmin(0)
    here = np.arange(len(rows))
    accepted = (best_row[best_column] == here) & np.isfinite(
      left[here, best_column]
    )
    if not accepted.any():
      break
    paired_rows.append(rows[accepted])
    paired_columns.append(columns[best_column[accepted]])
    keep_rows = ~accepted & np.isfinite(left[here, best_column])
    keep_columns = np.isfinite(left[best_row, np.arange(len(columns))])
    keep_columns[best_column[accepted]] = False
    left = left[np.ix_(keep_rows, keep_columns)]
    rows, columns = rows[keep_rows], columns[keep_columns]
  i, j = np.concatenate(paired_rows), np.concatenate(paired_columns)
  order = np.lexsort((j, i, cost[i, j]))
  return i[order], j[order]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Euclidean distances [N, M] between rows, float64."""
  squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)
  return np.sqrt(np.maximum(squared, 0.0))


def position_errors(warped0: np.ndarray, xy1: np.ndarray) -> np.ndarray:
  """Distances [N0, N1] in picture 1, without cancellation."""
  return np.hypot(
    warped0[:, None, 0] - xy1[None, :, 0],
    warped0[:, None, 1] - xy1[None, :, 1],
  )


def repeatability(
  xy0: np.ndarray,
  xy1: np.ndarray,
  ground_truth: GroundTruth,
  *,
  threshold: float = 5.0,
) -> float:
  """Share of co-visible points that were detected again.

  `|M| / min(N0, N1)`, where N0 and N1 count the co-visible points and M is
  the greedy one-to-one pairing of them by distance in picture 1, up to
  `threshold`. By chance, 500 uniform points in 640 x 480 reach 0.113 at 5
  pixels.

  Convention:
    Points (x, y), index frame, pixels.

  Args:
    xy0: points of picture 0, [N0, 2]; without padding rows.
    xy1: points of picture 1, [N1, 2].
    ground_truth: the truth of the pair.
    threshold: largest distance of a pair, pixels (inclusive).

  Returns:
    A number in [0, 1]; 0 if no point is co-visible in one of the pictures.

  Raises:
    ValueError: if points are not [N, 2] or not finite.

  Example:
    >>> from vision_jax.metrics import homography_ground_truth, repeatability
    >>> truth = homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> xy = np.array([[5.0, 5.0], [20.0, 5.0]])
    >>> repeatability(xy, xy + np.array([[3.0, 4.0], [3.0, 4.1]]), truth)
    0.5

  Source:
    The ELF protocol, A. Benbihi et al., ICCV 2019; the authors' code.
  """
  xy0 = as_points("repeatability", "xy0", xy0)
  xy1 = as_points("repeatability", "xy1", xy1)
  keep0, keep1 = covisible(xy0, xy1, ground_truth)
  smaller = min(int(keep0.sum()), int(keep1.sum()))
  if smaller == 0:
    return 0.0
  errors = position_errors(ground_truth.warp0to1(xy0[keep0]), xy1[keep1])
  rows, _ = greedy_assignment(errors, max_cost=threshold)
  return len(rows) / smaller


def matching_score(
  xy0: np.ndarray,
  xy1: np.ndarray,
  descriptors0: np.ndarray,
  descriptors1: np.ndarray,
  ground_truth: GroundTruth,
  *,
  threshold: float = 5.0,
) -> float:
  """Share of co-visible points that descriptors pair as positions do.

  `|M n M_d| / min(N0, N1)`: M as in `repeatability`, M_d the same greedy
  pairing of the co-visible points by distance of descriptors, without a
  limit. A pair counts when it is the same pair in both.

  Convention:
    Points (x, y), index frame, pixels.

  Args:
    xy0: points of picture 0, [N0, 2]; without padding rows.
    xy1: points of picture 1, [N1, 2].
    descriptors0: [N0, D]; compared by Euclidean distance.
    descriptors1: [N1, D].
    ground_truth: the truth of the pair.
    threshold: largest distance of a pair, pixels (inclusive).

  Returns:
    A number in [0, 1], at most the repeatability.

  Raises:
    ValueError: if shapes do not agree or values are not finite.

  Example:
    >>> from vision_jax.metrics import homography_ground_truth, matching_score
    >>> truth = homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> xy, d = np.array([[5.0, 5.0], [40.0, 5.0]]), np.eye(2)
    >>> matching_score(xy, xy, d, d, truth)
    1.0
    >>> matching_score(xy, xy, d, d[::-1], truth)
    0.0

  Note:
    The truth removes points before descriptors are compared, so the score is
    optimistic compared with `mean_matching_accuracy`.

  Source:
    The ELF protocol, A. Benbihi et al., ICCV 2019; the authors' code.
  """
  xy0 = as_points("matching_score", "xy0", xy0)
  xy1 = as_points("matching_score", "xy1", xy1)
  pair = []
  for name, points, values in (
    ("descriptors0", xy0, descriptors0),
    ("descriptors1", xy1, descriptors1),
  ):
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or len(array) != len(points):
      raise ValueError(
        f"matching_score: `{name}` must be [{len(points)}, D], one row per"
        f" point, got {array.shape}."
      )
    if not np.isfinite(array).all():
      raise ValueError(
        f"matching_score: `{name}` must be finite, got NaN or infinite"
        " values; remove rows that are not valid."
      )
    pair.append(array)
  if pair[0].shape[1] != pair[1].shape[1]:
    raise ValueError(
      "matching_score: `descriptors1` must be as long as `descriptors0`, got"
      f" {pair[1].shape[1]} and {pair[0].shape[1]} values."
    )
  keep0, keep1 = covisible(xy0, xy1, ground_truth)
  smaller = min(int(keep0.sum()), int(keep1.sum()))
  if smaller == 0:
    return 0.0
  errors = position_errors(ground_truth.warp0to1(xy0[keep0]), xy1[keep1])
  near = greedy_assignment(errors, max_cost=threshold)
  alike = greedy_assignment(_distances(pair[0][keep0], pair[1][keep1]))
  partner = np.full(int(keep0.sum()), -1)
  partner[alike[0]] = alike[1]
  return int((partner[near[0]] == near[1]).sum()) / smaller


def mean_matching_accuracy(
  points0: np.ndarray,
  points1: np.ndarray,
  ground_truth: GroundTruth,
  *,
  thresholds: Sequence[float] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
) -> np.ndarray:
  """Share of the matches of one pair that are right, per threshold.

  A match is right when the warp of its first point is at most `threshold`
  away from its second point. The mean over pairs is the published number;
  print the mean number of matches beside it.

  Convention:
    Points (x, y), index frame, pixels; row i of both arrays is match i.
    Matches of unknown truth are left out.

  Args:
    points0: matched points of picture 0, [M, 2]; without padding rows.
    points1: matched points of picture 1, [M, 2].
    ground_truth: the truth of the pair.
    thresholds: distances, pixels (inclusive), [T].

  Returns:
    Float64 [T] in [0, 1]; 0 without matches.

  Raises:
    ValueError: if the points are not two arrays [M, 2] of finite values.

  Example:
    >>> from vision_jax import metrics
    >>> truth = metrics.homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> xy = np.array([[5.0, 5.0], [20.0, 5.0]])
    >>> moved = xy + np.array([[0.5, 0.0], [0.0, 4.0]])
    >>> print(metrics.mean_matching_accuracy(xy, moved, truth,
    ...                                      thresholds=(1, 3, 5)))
    [0.5 0.5 1. ]

  Source:
    M. Dusmanu et al., "D2-Net", CVPR 2019, section 5.1.
  """
  points0 = as_points("mean_matching_accuracy", "points0", points0)
  points1 = as_points("mean_matching_accuracy", "points1", points1)
  if len(points0) != len(points1):
    raise ValueError(
      "mean_matching_accuracy: `points1` must have one row per match, got"
      f" {len(points1)} rows and {len(points0)} in `points0`."
    )
  limits = np.asarray(thresholds, np.float64)
  warped = ground_truth.warp0to1(points0)
  errors = np.hypot(*(warped - points1).T)
  errors = errors[~np.isnan(errors)]
  if not len(errors):
    return np.zeros(len(limits))
  return (errors[:, None] <= limits).mean(0)
