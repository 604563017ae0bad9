"""All protocols of local features on one pair, and their means over pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vision_jax.metrics.ground_truth import GroundTruth
from vision_jax.metrics.homographies import (
  homography_accuracy,
  homography_auc,
  homography_corner_error,
  superpoint_repeatability,
)
from vision_jax.metrics.keypoints import (
  matching_score,
  mean_matching_accuracy,
  repeatability,
)
from vision_jax.ops import Keypoints, estimate_homography

__all__ = ["MeanScores", "PairScores", "average_scores", "score_pair"]


class PairScores(NamedTuple):
  """Every protocol on one pair; they must never be compared across.

  Attributes:
    num_points: mean of both pictures.
    num_matches: of the list that was scored.
    repeatability: of ELF, 5 pixels.
    matching_score: of ELF, 5 pixels.
    superpoint_repeatability: 300 points, 3 pixels.
    matching_accuracy: share of matches within 1, 2, ... 10 pixels, [10].
    corner_error: of the homography that RANSAC finds (3 pixels), pixels;
      infinite if it finds none, NaN if the truth is no homography.
  """

  num_points: float
  num_matches: int
  repeatability: float
  matching_score: float
  superpoint_repeatability: float
  matching_accuracy: tuple[float, ...]
  corner_error: float


class MeanScores(NamedTuple):
  """Means over pairs; MHA and AUC at 1, 3 and 5 pixels.

  Attributes:
    num_pairs: how many.
    num_points: points per picture.
    num_matches: matches per pair.
    repeatability: of ELF.
    matching_score: of ELF.
    superpoint_repeatability: of SuperPoint.
    mma: mean matching accuracy at 1, 2, ... 10 pixels.
    mha: share of pairs with a corner error of at most 1, 3 and 5 pixels; NaN
      without homographies.
    auc: area under the curve of corner errors, likewise.
  """

  num_pairs: int
  num_points: float
  num_matches: float
  repeatability: float
  matching_score: float
  superpoint_repeatability: float
  mma: tuple[float, ...]
  mha: tuple[float, ...]
  auc: tuple[float, ...]


def _valid_rows(points: Keypoints) -> tuple[np.ndarray, ...]:
  """Positions, scores and descriptors without padding."""
  valid = np.asarray(points.valid)
  return tuple(
    np.asarray(v)[valid] for v in (points.xy, points.scores, points.descriptors)
  )


def score_pair(
  keypoints0: Keypoints,
  keypoints1: Keypoints,
  xy0: np.ndarray,
  xy1: np.ndarray,
  ground_truth: GroundTruth,
) -> PairScores:
  """Every protocol on one pair of pictures.

  Detector and descriptor are judged by the key points, MMA and the homography
  by the matches, which may have been refined since.

  Convention:
    Points (x, y), index frame, pixels.

  Args:
    keypoints0: of picture 0, with descriptors; padding rows are ignored.
    keypoints1: of picture 1.
    xy0: ends of the matches in picture 0, [M, 2]; without padding rows.
    xy1: ends in picture 1, [M, 2].
    ground_truth: the truth of the pair.

  Returns:
    The scores.

  Raises:
    ValueError: if points are malformed or not finite.

  Example:
    >>> from vision_jax import metrics, ops
    >>> truth = metrics.homography_ground_truth(np.eye(3), (48, 64), (48, 64))
    >>> xy = np.array([[5.0, 5.0], [50.0, 9.0], [30.0, 40.0], [9.0, 31.0]])
    >>> k = ops.Keypoints(xy, np.ones(4), np.ones(4, bool), np.eye(4))
    >>> scores = metrics.score_pair(k, k, xy, xy + [0.0, 1.5], truth)
    >>> scores.matching_score, scores.matching_accuracy[:3]
    (1.0, (0.0, 1.0, 1.0))
    >>> round(scores.corner_error, 3)
    1.5

  Source:
    The functions of `vision_jax.metrics`, each with its own.
  """
  (points0, s0, d0), (points1, s1, d1) = (
    _valid_rows(k) for k in (keypoints0, keypoints1)
  )
  accuracy = mean_matching_accuracy(
    xy0, xy1, ground_truth, thresholds=range(1, 11)
  )
  estimate = None
  if len(xy0) >= 4:
    estimate = estimate_homography(xy0, xy1, threshold=3.0)
  found = estimate.matrix if estimate and estimate.success else None
  return PairScores(
    num_points=(len(points0) + len(points1)) / 2,
    num_matches=len(xy0),
    repeatability=repeatability(points0, points1, ground_truth),
    matching_score=matching_score(points0, points1, d0, d1, ground_truth),
    superpoint_repeatability=superpoint_repeatability(
      points0, points1, s0, s1, ground_truth
    ),
    matching_accuracy=tuple(accuracy.tolist()),
    corner_error=homography_corner_error(found, ground_truth)
    if ground_truth.homography_0to1 is not None
    else float("nan"),
  )


def average_scores(scores: Sequence[PairScores]) -> MeanScores:
  """Means over pairs, as tables report them.

  Args:
    scores: of every pair, from `score_pair`.

  Returns:
    The means.

  Raises:
    ValueError: if there is no pair.

  Example:
    >>> from vision_jax import metrics
    >>> pair = metrics.PairScores(500.0, 200, 0.6, 0.4, 0.5, (0.3,) * 10, 2.0)
    >>> mean = metrics.average_scores([pair, pair._replace(corner_error=9.0)])
    >>> mean.num_pairs, mean.mha
    (2, (0.0, 0.5, 0.5))

  Source:
    Plain means; `homography_accuracy` and `homography_auc`.
  """
  if not scores:
    raise ValueError("average_scores: `scores` must not be empty.")
  errors = np.array([s.corner_error for s in scores])
  if np.isnan(errors).any():
    mha = auc = (float("nan"),) * 3
  else:
    mha = tuple(homography_accuracy(errors).tolist())
    auc = tuple(homography_auc(errors).tolist())

  def mean(field: str) -> float:
    return float(np.mean([getattr(s, field) for s in scores]))

  return MeanScores(
    num_pairs=len(scores),
    num_points=mean("num_points"),
    num_matches=mean("num_matches"),
    repeatability=mean("repeatability"),
    matching_score=mean("matching_score"),
    superpoint_repeatability=mean("superpoint_repeatability"),
    mma=tuple(np.mean([s.matching_accuracy for s in scores], 0).tolist()),
    mha=mha,
    auc=auc,
  )
