"""Scores around a known homography: points found again, matrices estimated.

The error of an estimate is that of the first picture's corners; accuracy and
area under the curve summarise the errors of many pairs. A failed estimate has
an infinite error, so that every pair counts.
"""

from collections.abc import Sequence

import numpy as np

from vision_jax.metrics.ground_truth import (
  GroundTruth,
  as_points,
  covisible,
  homography_ground_truth,
)
from vision_jax.metrics.keypoints import position_errors
from vision_jax.ops import frames

__all__ = [
  "homography_accuracy",
  "homography_auc",
  "homography_corner_error",
  "resized_homography",
  "superpoint_repeatability",
]


def _best(
  function: str,
  name: str,
  scores: np.ndarray,
  keep: np.ndarray,
  max_points: int | None,
) -> np.ndarray:
  """Rows of the best kept points; equal scores: lowest row first."""
  scores = np.asarray(scores, np.float64)
  if scores.shape != keep.shape:
    raise ValueError(
      f"{function}: `{name}` must be [{len(keep)}], one per point, got shape"
      f" {scores.shape}."
    )
  if np.isnan(scores).any():
    raise ValueError(
      f"{function}: `{name}` must be numbers, got NaN; remove rows that are"
      " not valid."
    )
  rows = np.flatnonzero(keep)
  return rows[np.argsort(-scores[rows], kind="stable")[:max_points]]


def superpoint_repeatability(
  xy0: np.ndarray,
  xy1: np.ndarray,
  scores0: np.ndarray,
  scores1: np.ndarray,
  ground_truth: GroundTruth,
  *,
  max_points: int | None = 300,
  threshold: float = 3.0,
) -> float:
  """Share of the best co-visible points of both pictures with a neighbour.

  `(n0 + n1) / (N0 + N1)`. N0 and N1 count the co-visible points, the
  `max_points` best of each picture; n0 counts those of picture 0 with a point
  of picture 1 within `threshold` of where the truth puts them, n1 those of
  picture 1 with a point of picture 0 that the truth puts within `threshold`.
  One point may serve several, unlike in `repeatability`.

  Convention:
    Points (x, y), index frame, pixels. All distances are measured in picture
    1. Equal scores: the lower row is the better.

  Args:
    xy0: points of picture 0, [N, 2]; without padding rows.
    xy1: points of picture 1, [M, 2].
    scores0: rank the points of picture 0, [N]; higher is better.
    scores1: rank the points of picture 1, [M].
    ground_truth: the truth of the pair.
    max_points: how many co-visible points of each picture count; None counts
      all.
    threshold: largest distance, pixels (inclusive).

  Returns:
    A number in [0, 1]; 0 if no point is co-visible in one of the pictures.

  Raises:
    ValueError: if points are not [N, 2] or not finite, scores do not belong
      to them, or `max_points` is below 1.

  Example:
    >>> from vision_jax import metrics
    >>> truth = metrics.homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> xy0 = np.array([[5.0, 5.0], [7.0, 5.0], [40.0, 5.0]])
    >>> xy1 = np.array([[6.0, 5.0]])  # serves two points
    >>> metrics.superpoint_repeatability(xy0, xy1, np.ones(3), np.ones(1),
    ...                                  truth)
    0.75

  Note:
    The number depends on the suppression radius of the detector; published
    values take 4 pixels.

  Source:
    D. DeTone et al., "SuperPoint", CVPRW 2018, section 7.2 and appendix A,
    with the cut after the co-visibility test of its public re-implementation.
  """
  name = "superpoint_repeatability"
  xy0 = as_points(name, "xy0", xy0)
  xy1 = as_points(name, "xy1", xy1)
  if max_points is not None and max_points < 1:
    raise ValueError(
      f"{name}: `max_points` must be at least 1 or None, got {max_points}."
    )
  keep0, keep1 = covisible(xy0, xy1, ground_truth)
  rows0 = _best(name, "scores0", scores0, keep0, max_points)
  rows1 = _best(name, "scores1", scores1, keep1, max_points)
  if not len(rows0) or not len(rows1):
    return 0.0
  near = (
    position_errors(ground_truth.warp0to1(xy0[rows0]), xy1[rows1]) <= threshold
  )
  found = near.any(1).sum() + near.any(0).sum()
  return int(found) / (len(rows0) + len(rows1))


def homography_corner_error(
  homography_0to1: np.ndarray | None,
  ground_truth: GroundTruth,
  *,
  corners: str = "centres",
) -> float:
  """Mean distance of where an estimate and the truth put the four corners.

  Convention:
    The matrix acts on (x, y, 1) of the index frame, whatever `corners` says.
    "centres" takes the centres of the corner pixels, (0, 0) to
    (W - 1, H - 1), as evaluations of MHA do; "edges" takes the corners of the
    picture's area, (-0.5, -0.5) to (W - 0.5, H - 0.5), which are (0, 0) to
    (W, H) of the continuous frame, as evaluations of AUC do. Distances are
    measured in picture 1.

  Args:
    homography_0to1: the estimate, [3, 3], up to a factor; None if there is
      none.
    ground_truth: the truth of the pair, from `homography_ground_truth`.
    corners: "centres" or "edges".

  Returns:
    Pixels; infinite without an estimate, or where the estimate is not finite,
    singular, or sends a corner to infinity or behind the camera.

  Raises:
    ValueError: if the estimate is not [3, 3], `corners` is unknown, or the
      truth does not say where a corner goes.

  Example:
    >>> from vision_jax import metrics
    >>> truth = metrics.homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> shift = np.array([[1, 0, 3], [0, 1, 4], [0, 0, 1]])
    >>> metrics.homography_corner_error(shift, truth)
    5.0
    >>> metrics.homography_corner_error(None, truth)
    inf

  Source:
    D. DeTone et al., "SuperPoint", CVPRW 2018, section 7.3.
  """
  name = "homography_corner_error"
  if corners not in ("centres", "edges"):
    raise ValueError(
      f'{name}: `corners` must be "centres" or "edges", got {corners!r}.'
    )
  height, width = ground_truth.size0
  first, last = (0.0, -1.0) if corners == "centres" else (-0.5, -0.5)
  right, bottom = width + last, height + last
  xy = np.array(
    [[first, first], [right, first], [right, bottom], [first, bottom]]
  )
  expected = ground_truth.warp0to1(xy)
  if np.isnan(expected).any():
    raise ValueError(
      f"{name}: `ground_truth` must say where the corners of picture 0 go,"
      " got NaN; make it with homography_ground_truth."
    )
  if homography_0to1 is None:
    return np.inf
  matrix = np.asarray(homography_0to1, np.float64)
  if matrix.shape != (3, 3):
    raise ValueError(
      f"{name}: `homography_0to1` must be [3, 3] or None, got {matrix.shape}."
    )
  if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix) < 3:
    return np.inf
  estimate = homography_ground_truth(
    matrix, ground_truth.size0, ground_truth.size1
  )
  found = estimate.warp0to1(xy)
  if not (np.isfinite(found).all() and np.isfinite(expected).all()):
    return np.inf
  return float(np.hypot(*(found - expected).T).mean())


def _errors_and_limits(
  function: str, errors: np.ndarray, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
  """Checks errors [N] and thresholds [T] and returns them as float64."""
  values = np.asarray(errors, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(
      f"{function}: `errors` must be [N] with N >= 1, got shape {values.shape}."
    )
  if not (values >= 0).all():  # False for NaN
    raise ValueError(
      f"{function}: `errors` must be at least 0, got NaN or negative values;"
      " a failure is infinite."
    )
  limits = np.asarray(thresholds, np.float64)
  if limits.ndim != 1 or not ((limits > 0) & np.isfinite(limits)).all():
    raise ValueError(
      f"{function}: `thresholds` must be positive numbers [T], got"
      f" {limits.tolist()}."
    )
  return values, limits


def homography_accuracy(
  errors: np.ndarray, *, thresholds: Sequence[float] = (1, 3, 5)
) -> np.ndarray:
  """Share of pairs whose homography error is at most each threshold (MHA).

  Args:
    errors: error of each pair, pixels, [N]; infinite for a failure.
    thresholds: pixels (inclusive), [T].

  Returns:
    Float64 [T] in [0, 1].

  Raises:
    ValueError: if `errors` is empty, not [N], or holds NaN or negative
      values; if a threshold is not positive.

  Example:
    >>> from vision_jax.metrics import homography_accuracy
    >>> print(homography_accuracy(np.array([0.5, 3.0, 4.0, np.inf])))
    [0.25 0.5  0.75]

  Source:
    D. DeTone et al., "SuperPoint", CVPRW 2018, section 7.3 ("homography
    estimation").
  """
  values, limits = _errors_and_limits("homography_accuracy", errors, thresholds)
  return (values[:, None] <= limits).mean(0)


def homography_auc(
  errors: np.ndarray, *, thresholds: Sequence[float] = (1, 3, 5)
) -> np.ndarray:
  """Area under the curve of recall over error, up to each threshold.

  The curve runs in straight lines from (0, 0) through (e_i, i / N), e_i being
  the sorted errors below the threshold t, and level from the last of them to
  t. The area is divided by t.

  Args:
    errors: error of each pair, pixels, [N]; infinite for a failure.
    thresholds: upper ends t, pixels (exclusive), [T].

  Returns:
    Float64 [T] in [0, 1].

  Raises:
    ValueError: if `errors` is empty, not [N], or holds NaN or negative
      values; if a threshold is not positive.

  Example:
    >>> from vision_jax.metrics import homography_auc
    >>> print(homography_auc(np.array([0.5, 2.0, 4.0, np.inf])))
    [0.1875 0.375  0.525 ]

  Note:
    Values of other papers are comparable only with the same thresholds,
    estimator, resizing and number of key points.

  Source:
    P.-E. Sarlin et al., "SuperGlue", CVPR 2020 (the cumulative error curve);
    P. Lindenberger et al., "LightGlue", ICCV 2023, section 5.1.
  """
  values, limits = _errors_and_limits("homography_auc", errors, thresholds)
  ordered = np.sort(values)
  recall = np.arange(1, len(ordered) + 1) / len(ordered)
  areas = np.empty(len(limits))
  for place, limit in enumerate(limits):
    count = int(np.searchsorted(ordered, limit))  # errors below the limit
    last = recall[count - 1] if count else 0.0
    x = np.concatenate([[0.0], ordered[:count], [limit]])
    y = np.concatenate([[0.0], recall[:count], [last]])
    areas[place] = np.trapezoid(y, x) / limit
  return areas


def resized_homography(
  homography_0to1: np.ndarray,
  size0_old: tuple[int, int],
  size0_new: tuple[int, int],
  size1_old: tuple[int, int],
  size1_new: tuple[int, int],
  *,
  convention: str = "exact",
) -> np.ndarray:
  """The homography between two pictures after both have been resized.

  Convention:
    Index frame; sizes (height, width). "exact" puts a point where resizing
    with half-pixel centres puts it; "diag" scales coordinates alone, as the
    published ELF protocol does.

  Args:
    homography_0to1: [3, 3], between the pictures in their old sizes.
    size0_old: of picture 0, pixels.
    size0_new: of picture 0 after resizing.
    size1_old: of picture 1.
    size1_new: of picture 1 after resizing.
    convention: "exact" or "diag".

  Returns:
    Float64 [3, 3], between the resized pictures; its last entry is not made 1.

  Raises:
    ValueError: if the matrix is not [3, 3], a size is not positive, or the
      convention is unknown.

  Example:
    >>> from vision_jax.metrics import resized_homography
    >>> shift = np.array([[1, 0, 8], [0, 1, 0], [0, 0, 1]])
    >>> half = ((480, 640), (240, 320))
    >>> print(resized_homography(shift, *half, *half))
    [[1. 0. 4.]
     [0. 1. 0.]
     [0. 0. 1.]]

  Source:
    `ops.resize_matrix`, which moves the points of one picture.
  """
  matrix = np.asarray(homography_0to1, np.float64)
  if matrix.shape != (3, 3):
    raise ValueError(
      "resized_homography: `homography_0to1` must be [3, 3], got"
      f" {matrix.shape}."
    )
  resize0 = frames.resize_matrix(size0_old, size0_new, convention=convention)
  resize1 = frames.resize_matrix(size1_old, size1_new, convention=convention)
  return resize1 @ matrix @ np.linalg.inv(resize0)
