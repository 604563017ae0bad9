"""Scores of the boxes that a search returns."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vision_jax.metrics.retrieval import Numbers, count_relevant, hit_ranks

__all__ = [
  "LocalizationScores",
  "average_precision_localized",
  "best_region_overlap",
  "localization_scores",
]


def _overlaps(
  boxes0: np.ndarray, boxes1: np.ndarray, *, hull: bool = False
) -> np.ndarray:
  """Intersection over union (or over the enclosing box), [N, M]."""
  a = np.asarray(boxes0, np.float64).reshape(-1, 1, 4)
  b = np.asarray(boxes1, np.float64).reshape(1, -1, 4)
  sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(
    a[..., :2], b[..., :2]
  )
  common = np.maximum(sides, 0).prod(-1)
  if hull:
    low = np.minimum(a[..., :2], b[..., :2])
    total = (np.maximum(a[..., 2:], b[..., 2:]) - low).prod(-1)
  else:
    areas = [(x[..., 2:] - x[..., :2]).prod(-1) for x in (a, b)]
    total = areas[0] + areas[1] - common
  return np.where(total > 0, common / np.where(total > 0, total, 1), 0.0)


def best_region_overlap(
  regions: np.ndarray, truth: np.ndarray, *, hull: bool = False
) -> float:
  """Best overlap of any region of an image with any of its true boxes.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    regions: [N, 4]; none gives 0.
    truth: [M, 4], M at least 1.
    hull: divide by the enclosing box in place of the union, as MSAR does;
      understates.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if there is no true box.

  Example:
    >>> from vision_jax import metrics
    >>> regions = np.array([[0.0, 0, 2, 2], [9, 9, 10, 10]])
    >>> metrics.best_region_overlap(regions, np.array([[1.0, 0, 3, 2]]))
    0.3333333333333333

  Source:
    wlzhao22/MSAR, with the true union.
  """
  truth = np.asarray(truth).reshape(-1, 4)
  if not len(truth):
    raise ValueError("best_region_overlap: `truth` must not be empty.")
  return float(_overlaps(regions, truth, hull=hull).max(initial=0.0))


class LocalizationScores(NamedTuple):
  """How well the returned boxes fit, over the relevant images of a query.

  Attributes:
    ranked_iou: mean IoU of the returned box with the true one.
    corloc: share of IoU of at least 1/2 (CorLoc).
    num_images: how many.
  """

  ranked_iou: float
  corloc: float
  num_images: int


def localization_scores(
  boxes: np.ndarray, truth: np.ndarray, *, iou_threshold: float = 0.5
) -> LocalizationScores:
  """Scores of the boxes that were returned for the relevant images.

  Args:
    boxes: returned for each relevant image, [N, 4]; zeros where none was.
    truth: the true box of each, [N, 4].
    iou_threshold: of CorLoc.

  Returns:
    The scores; NaN where there are no images.

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import metrics
    >>> box = np.array([[0.0, 0, 4, 4]])
    >>> metrics.localization_scores(box, box).corloc
    1.0

  Source:
    Deselaers et al., IJCV 2012 (CorLoc).
  """
  boxes, truth = np.asarray(boxes), np.asarray(truth)
  if boxes.shape != truth.shape or boxes.shape[1:] != (4,):
    raise ValueError(
      "localization_scores: `boxes` and `truth` must be [N, 4], got "
      f"{boxes.shape} and {truth.shape}."
    )
  if not len(boxes):
    return LocalizationScores(float("nan"), float("nan"), 0)
  values = np.array(
    [_overlaps(a, b)[0, 0] for a, b in zip(boxes, truth, strict=True)]
  )
  return LocalizationScores(
    float(values.mean()), float((values >= iou_threshold).mean()), len(values)
  )


def average_precision_localized(
  ranking: Numbers,
  boxes: np.ndarray,
  truth: Mapping[int, np.ndarray],
  *,
  junk: Numbers = (),
  iou_threshold: float = 0.5,
) -> float:
  """`average_precision` where an image is a hit only if its box fits too.

  Args:
    ranking: image numbers, best first, [N].
    boxes: returned with them, [N, 4].
    truth: relevant image -> its true boxes of the instance, [M, 4].
    junk: images that are taken out of the ranking.
    iou_threshold: least IoU of a box that fits.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> boxes = np.array([[0.0, 0, 4, 4], [0, 0, 1, 1]])
    >>> truth = {3: boxes[:1], 5: boxes[:1]}
    >>> metrics.average_precision_localized([3, 5], boxes, truth)
    0.5

  Source:
    Interface of this library: `map_loc` of its specification.
  """
  name = "average_precision_localized"
  number = count_relevant(name, list(truth))
  ranking = np.asarray(ranking, np.int64)
  fits = [
    image
    for image, box in zip(ranking.tolist(), np.asarray(boxes), strict=True)
    if image in truth
    and _overlaps(box, truth[image]).max(initial=0.0) >= iou_threshold
  ]
  ranks = hit_ranks(name, ranking, fits, junk)
  hits = np.arange(1, len(ranks) + 1)
  return float((hits / (ranks + 1)).sum() / number)
