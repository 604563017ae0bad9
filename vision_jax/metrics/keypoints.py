"""How well key points and matches of two pictures agree with the truth.

All scores ask one object where a point of one picture lies in the other: a
`GroundTruth`, made from a homography or a disparity map (or, by a caller,
from depth and poses). Rows of padding are removed before: `xy[valid]`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
  "GroundTruth",
  "covisible",
  "disparity_ground_truth",
  "greedy_assignment",
  "homography_ground_truth",
  "matching_score",
  "mean_matching_accuracy",
  "repeatability",
]


class GroundTruth(NamedTuple):
  """Where the points of one picture lie in the other.

  Convention:
    Points [N, 2] are (x, y) in the index frame, sizes (height, width). A
    warped point is NaN where the truth is unknown (the point is ignored), and
    infinite where it is known to be nowhere in the other picture's plane (a
    match of it is wrong).

  Attributes:
    warp0to1: maps points [N, 2] of picture 0 to picture 1.
    warp1to0: maps points [N, 2] of picture 1 to picture 0.
    size0: (height, width) of picture 0, pixels.
    size1: (height, width) of picture 1, pixels.

  Example:
    >>> from vision_jax.metrics import GroundTruth, repeatability
    >>> same = lambda xy: xy
    >>> truth = GroundTruth(same, same, (48, 64), (48, 64))
    >>> xy = np.array([[3.0, 4.0], [30.0, 40.0]])
    >>> repeatability(xy, xy + 1.0, truth)
    1.0
  """

  warp0to1: Callable[[np.ndarray], np.ndarray]
  warp1to0: Callable[[np.ndarray], np.ndarray]
  size0: tuple[int, int]
  size1: tuple[int, int]


def _points(function: str, name: str, xy: np.ndarray) -> np.ndarray:
  """Checks points and returns them as float64 [N, 2]."""
  xy = np.asarray(xy, np.float64)
  if xy.size == 0 and xy.ndim <= 2:
    return xy.reshape(0, 2)
  if xy.ndim != 2 or xy.shape[1] != 2:
    raise ValueError(f"{function}: `{name}` must be [N, 2], got {xy.shape}.")
  if not np.isfinite(xy).all():
    raise ValueError(
      f"{function}: `{name}` must be finite, got NaN or infinite"
      " coordinates; remove rows that are not valid."
    )
  return xy


def homography_ground_truth(
  homography_0to1: np.ndarray,
  size0: tuple[int, int],
  size1: tuple[int, int],
) -> GroundTruth:
  """Truth of a plane, or of a camera that only turns.

  Convention:
    Index frame; sizes (height, width). Points that the homography sends
    behind the camera (third coordinate not positive, where that of the middle
    of the first picture is positive) are infinite.

  Args:
    homography_0to1: [3, 3], maps (x, y, 1) of picture 0 to picture 1.
    size0: (height, width) of picture 0, pixels.
    size1: (height, width) of picture 1, pixels.

  Returns:
    The ground truth.

  Raises:
    ValueError: if the matrix has another shape, is singular or not finite.

  Example:
    >>> from vision_jax.metrics import homography_ground_truth
    >>> shift = np.array([[1, 0, 5], [0, 1, -2], [0, 0, 1]])
    >>> truth = homography_ground_truth(shift, (48, 64), (48, 64))
    >>> print(truth.warp0to1(np.array([[10.0, 20.0]])))
    [[15. 18.]]

  Source:
    R. Hartley, A. Zisserman, "Multiple View Geometry", 2nd edition,
    section 2.3.
  """
  matrix = np.asarray(homography_0to1, np.float64)
  if matrix.shape != (3, 3):
    raise ValueError(
      "homography_ground_truth: `homography_0to1` must be [3, 3], got"
      f" {matrix.shape}."
    )
  if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
    raise ValueError(
      "homography_ground_truth: `homography_0to1` must be finite and"
      f" invertible, got {matrix.tolist()}."
    )
  middle = [(size0[1] - 1) / 2, (size0[0] - 1) / 2, 1.0]
  # A homography is free up to a factor; a negative one would put the whole
  # picture behind the camera.
  if matrix[2] @ middle < 0:
    matrix = -matrix
  inverse = np.linalg.inv(matrix)

  def make_warp(m: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def warp(xy: np.ndarray) -> np.ndarray:
      moved = np.asarray(xy, np.float64) @ m[:, :2].T + m[:, 2]
      depth = moved[:, 2:]
      front = depth > 0
      return np.where(front, moved[:, :2] / np.where(front, depth, 1.0), np.inf)

    return warp

  return GroundTruth(make_warp(matrix), make_warp(inverse), size0, size1)


def _right_disparity(disparity: np.ndarray) -> np.ndarray:
  """Disparity seen from the right picture, [H, W]; NaN where nothing is seen.

  Neighbours in a row of the left picture whose disparities differ by at most
  1 pixel belong to one surface, which covers all right pixels between their
  images. Where several surfaces meet, the nearest one (the largest disparity)
  hides the others.
  """
  height, width = disparity.shape
  nearest = np.full((height, width), -np.inf)
  start, end = disparity[:, :-1], disparity[:, 1:]
  known = np.isfinite(start) & np.isfinite(end) & (np.abs(end - start) <= 1.0)
  rows, columns = np.nonzero(known)
  d0, d1 = start[known].astype(np.float64), end[known].astype(np.float64)
  left, right = columns - d0, columns + 1 - d1
  for step in range(3):  # an interval of length <= 2 holds at most 3 integers
    x = np.ceil(left) + step
    inside = (x <= right) & (x >= 0) & (x < width)
    share = (x - left) / np.maximum(right - left, 1e-12)
    value = d0 + np.clip(share, 0, 1) * (d1 - d0)
    target = rows[inside], x[inside].astype(np.int64)
    np.maximum.at(nearest, target, value[inside])
  return np.where(np.isfinite(nearest), nearest, np.nan)


def disparity_ground_truth(
  disparity: np.ndarray, *, max_inconsistency: float | None = 1.0
) -> GroundTruth:
  """Truth of a rectified stereo pair with the left picture's disparity.

  Picture 0 is the left one: its point (x, y) moves to (x - d, y), d being the
  disparity at the nearest pixel. For the way back the disparity map of the
  right picture is made from that of the left, nearer surfaces hiding farther
  ones.

  Convention:
    Layout [H, W]; index frame. Points at pixels of unknown disparity, points
    of the right picture that no left pixel is known to reach, and points that
    are hidden in the other picture are NaN: ignored.

  Args:
    disparity: pixels, float [H, W], positive; NaN or infinite where unknown.
    max_inconsistency: a left point is hidden in the right picture when the
      surface seen there differs from it by more than this disparity, pixels;
      None keeps hidden points.

  Returns:
    The ground truth; both pictures have the size of `disparity`.

  Raises:
    ValueError: if `disparity` is not [H, W], or `max_inconsistency` is
      negative.

  Example:
    >>> from vision_jax.metrics import disparity_ground_truth
    >>> truth = disparity_ground_truth(np.full((4, 9), 2.0))
    >>> print(truth.warp0to1(np.array([[5.0, 1.0], [1.0, 1.0]])))
    [[ 3.  1.]
     [-1.  1.]]
    >>> print(truth.warp1to0(np.array([[3.0, 1.0], [8.0, 1.0]])))
    [[ 5.  1.]
     [nan nan]]

  Source:
    D. Scharstein, R. Szeliski, "A taxonomy and evaluation of dense
    two-frame stereo correspondence algorithms", IJCV 2002.
  """
  left = np.asarray(disparity, np.float64)
  if left.ndim != 2 or 0 in left.shape:
    raise ValueError(
      "disparity_ground_truth: `disparity` must be [H, W] and not empty, got"
      f" {left.shape}."
    )
  if max_inconsistency is not None and not max_inconsistency >= 0:
    raise ValueError(
      "disparity_ground_truth: `max_inconsistency` must be at least 0 or"
      f" None, got {max_inconsistency}."
    )
  left = np.where(np.isfinite(left), left, np.nan)
  right = _right_disparity(left)
  height, width = left.shape

  def look_up(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    known = np.isfinite(x) & np.isfinite(y)
    column = np.rint(np.where(known, x, -1)).astype(np.int64)
    row = np.rint(np.where(known, y, -1)).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    value = table[np.where(inside, row, 0), np.where(inside, column, 0)]
    return np.where(inside, value, np.nan)

  def is_hidden(d: np.ndarray, seen: np.ndarray) -> np.ndarray:
    if max_inconsistency is None:
      return np.zeros(d.shape, bool)
    return np.abs(seen - d) > max_inconsistency  # False where unknown

  def warp0to1(xy: np.ndarray) -> np.ndarray:
    x, y = np.asarray(xy, np.float64).T
    d = look_up(left, x, y)
    d = np.where(is_hidden(d, look_up(right, x - d, y)), np.nan, d)
    return np.stack([x - d, np.where(np.isnan(d), np.nan, y)], -1)

  def warp1to0(xy: np.ndarray) -> np.ndarray:
    x, y = np.asarray(xy, np.float64).T
    d = look_up(right, x, y)
    return np.stack([x + d, np.where(np.isnan(d), np.nan, y)], -1)

  return GroundTruth(warp0to1, warp1to0, (height, width), (height, width))


def _is_inside(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Whether points lie in [0, W) x [0, H); False for NaN."""
  height, width = size
  x, y = xy[:, 0], xy[:, 1]
  return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def covisible(
  xy0: np.ndarray, xy1: np.ndarray, ground_truth: GroundTruth
) -> tuple[np.ndarray, np.ndarray]:
  """Which points of each picture are seen in the other one.

  Convention:
    Points (x, y), index frame. A point counts when its warp lies in
    [0, W) x [0, H) of the other picture, as the ELF protocol has it.

  Args:
    xy0: points of picture 0, [N0, 2].
    xy1: points of picture 1, [N1, 2].
    ground_truth: the truth of the pair.

  Returns:
    Bool [N0] and bool [N1].

  Raises:
    ValueError: if points are not [N, 2] or not finite.

  Example:
    >>> from vision_jax.metrics import covisible, homography_ground_truth
    >>> shift = np.array([[1, 0, 50], [0, 1, 0], [0, 0, 1]])
    >>> truth = homography_ground_truth(shift, (48, 64), (48, 64))
    >>> xy = np.array([[5.0, 5.0], [20.0, 5.0]])
    >>> keep0, keep1 = covisible(xy, xy, truth)
    >>> print(keep0, keep1)
    [ True False] [False False]

  Source:
    A. Benbihi et al., "ELF", ICCV 2019; the authors' evaluation code.
  """
  xy0 = _points("covisible", "xy0", xy0)
  xy1 = _points("covisible", "xy1", xy1)
  return (
    _is_inside(ground_truth.warp0to1(xy0), ground_truth.size1),
    _is_inside(ground_truth.warp1to0(xy1), ground_truth.size0),
  )


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


def _position_errors(warped0: np.ndarray, xy1: np.ndarray) -> np.ndarray:
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
  xy0 = _points("repeatability", "xy0", xy0)
  xy1 = _points("repeatability", "xy1", xy1)
  keep0, keep1 = covisible(xy0, xy1, ground_truth)
  smaller = min(int(keep0.sum()), int(keep1.sum()))
  if smaller == 0:
    return 0.0
  errors = _position_errors(ground_truth.warp0to1(xy0[keep0]), xy1[keep1])
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
  xy0 = _points("matching_score", "xy0", xy0)
  xy1 = _points("matching_score", "xy1", xy1)
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
  errors = _position_errors(ground_truth.warp0to1(xy0[keep0]), xy1[keep1])
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
  points0 = _points("mean_matching_accuracy", "points0", points0)
  points1 = _points("mean_matching_accuracy", "points1", points1)
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
