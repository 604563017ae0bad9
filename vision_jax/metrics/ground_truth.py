"""Where the points of one picture lie in another.

Made from a homography or a disparity map (or, by a caller, from depth and
poses); every score of key points and matches asks it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = [
  "GroundTruth",
  "as_points",
  "covisible",
  "disparity_ground_truth",
  "homography_ground_truth",
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
    homography_0to1: the matrix float64 [3, 3] if the truth is one.

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
  homography_0to1: np.ndarray | None = None


def as_points(function: str, name: str, xy: np.ndarray) -> np.ndarray:
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

  return GroundTruth(
    make_warp(matrix), make_warp(inverse), size0, size1, matrix
  )


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
  xy0 = as_points("covisible", "xy0", xy0)
  xy1 = as_points("covisible", "xy1", xy1)
  return (
    _is_inside(ground_truth.warp0to1(xy0), ground_truth.size1),
    _is_inside(ground_truth.warp1to0(xy1), ground_truth.size0),
  )
