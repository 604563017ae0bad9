"""Scores of label maps: intersection over union, of regions and of borders.

Counts are added up over a whole set, and divided once at the end.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

__all__ = [
  "SegmentationScores",
  "boundary_band",
  "boundary_counts",
  "boundary_iou",
  "boundary_width",
  "confusion_matrix",
  "intersection_over_union",
  "segmentation_scores",
]


class SegmentationScores(NamedTuple):
  """What a confusion matrix says.

  Attributes:
    mean_iou: mean of `iou` over the classes that the truth has.
    iou: intersection over union of each class, [K]; NaN where the truth has
      none.
    pixel_accuracy: share of the labelled pixels that are right.
    mean_accuracy: mean over the classes of the share that is right.
  """

  mean_iou: float
  iou: np.ndarray
  pixel_accuracy: float
  mean_accuracy: float


def confusion_matrix(
  labels: np.ndarray,
  predictions: np.ndarray,
  num_classes: int,
  *,
  ignore: int = 255,
) -> np.ndarray:
  """How many pixels of each class were given each class.

  Args:
    labels: the truth, integers, any shape.
    predictions: classes, integers of the same shape.
    num_classes: K.
    ignore: label of pixels that do not count.

  Returns:
    int64 [K, K], rows the truth; add those of all images.

  Raises:
    ValueError: if shapes differ, or a class is not in [0, K).

  Example:
    >>> from vision_jax import metrics
    >>> metrics.confusion_matrix(np.array([0, 1, 1, 255]),
    ...                          np.array([0, 1, 0, 0]), 2)
    array([[1, 0],
           [1, 1]])

  Source:
    Long et al., Fully Convolutional Networks, 2015, section 5.
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  if labels.shape != predictions.shape:
    raise ValueError(
      "confusion_matrix: `labels` and `predictions` must have one shape, got "
      f"{labels.shape} and {predictions.shape}."
    )
  kept = labels != ignore
  truth = labels[kept].astype(np.int64)
  given = predictions[kept].astype(np.int64)
  for name, values in (("labels", truth), ("predictions", given)):
    if values.size and not 0 <= values.min() <= values.max() < num_classes:
      raise ValueError(
        f"confusion_matrix: `{name}` must be in [0, {num_classes}) or {ignore}"
        f", got {values.min()} to {values.max()}."
      )
  counts = np.bincount(truth * num_classes + given, minlength=num_classes**2)
  return counts.reshape(num_classes, num_classes)


def intersection_over_union(
  intersection: np.ndarray, union: np.ndarray, present: np.ndarray
) -> tuple[float, np.ndarray]:
  """Mean and quotients, over the classes that are present.

  Args:
    intersection: counts [K].
    union: counts [K].
    present: whether the truth has the class, bool [K].

  Returns:
    The mean (NaN if nothing is present) and the quotients [K], NaN where not
    present.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.intersection_over_union(
    ...   np.array([1, 0]), np.array([2, 0]), np.array([True, False]))[0]
    0.5

  Source:
    Definition.
  """
  present = np.asarray(present, bool)
  ratio = np.full(present.shape, np.nan)
  top, bottom = np.asarray(intersection, float), np.asarray(union, float)
  ratio[present] = top[present] / np.maximum(bottom[present], 1)
  return (float(ratio[present].mean()) if present.any() else math.nan), ratio


def segmentation_scores(confusion: np.ndarray) -> SegmentationScores:
  """Mean IoU and accuracies of a confusion matrix.

  Args:
    confusion: [K, K], rows the truth, added up over a set.

  Returns:
    The scores; NaN if no pixel was labelled.

  Raises:
    ValueError: if the matrix is not square.

  Example:
    >>> from vision_jax import metrics
    >>> scores = metrics.segmentation_scores(np.array([[3, 1], [0, 4]]))
    >>> print(scores.iou, scores.pixel_accuracy)
    [0.75 0.8 ] 0.875

  Source:
    Everingham et al., The PASCAL VOC Challenge, 2010, section 4.3; classes
    absent from the truth are left out, as in detectron2.
  """
  confusion = np.asarray(confusion, np.float64)
  if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
    raise ValueError(
      "segmentation_scores: `confusion` must be [K, K], got shape "
      f"{confusion.shape}."
    )
  right, truth = np.diag(confusion), confusion.sum(1)
  union = truth + confusion.sum(0) - right
  mean, iou = intersection_over_union(right, union, truth > 0)
  total = confusion.sum()
  mean_accuracy, _ = intersection_over_union(right, truth, truth > 0)
  accuracy = float(right.sum() / total) if total else math.nan
  return SegmentationScores(mean, iou, accuracy, mean_accuracy)


def boundary_width(size: tuple[int, int], *, ratio: float = 0.02) -> int:
  """Width of the band along a border, in pixels.

  Args:
    size: height and width of the image.
    ratio: of the diagonal; 0.02, for Cityscapes 0.005.

  Returns:
    max(1, round(ratio * diagonal)).

  Example:
    >>> from vision_jax import metrics
    >>> metrics.boundary_width((480, 640))
    16

  Source:
    Cheng et al., Boundary IoU, 2021, section 5.
  """
  return max(1, round(ratio * math.hypot(*size)))


def boundary_band(mask: np.ndarray, width: int) -> np.ndarray:
  """Pixels of a mask that lie near its border.

  Those from which a square of side 2 width + 1 reaches beyond the mask or
  beyond the image: what `width` erosions by 3 x 3 take away.

  Args:
    mask: bool or 0/1 [H, W].
    width: in pixels, at least 1.

  Returns:
    bool [H, W].

  Raises:
    ValueError: if the mask is not [H, W] or the width not positive.

  Example:
    >>> from vision_jax import metrics
    >>> print(metrics.boundary_band(np.ones((3, 4)), 1).astype(int))
    [[1 1 1 1]
     [1 0 0 1]
     [1 1 1 1]]

  Source:
    Cheng et al., Boundary IoU, 2021, section 4.
  """
  mask = np.asarray(mask)
  if mask.ndim != 2 or width < 1:
    raise ValueError(
      "boundary_band: `mask` must be [H, W] and `width` at least 1, got shape "
      f"{mask.shape} and {width}."
    )
  inside = (mask != 0).astype(np.uint8)
  if 0 in inside.shape:
    return inside.astype(bool)
  window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
  kept = cv2.erode(
    inside, window, borderType=cv2.BORDER_CONSTANT, borderValue=0
  )
  return (inside != 0) & (kept == 0)


def boundary_iou(
  mask: np.ndarray, truth: np.ndarray, *, ratio: float = 0.02
) -> float:
  """Intersection over union of the bands of two masks.

  Args:
    mask: bool or 0/1 [H, W].
    truth: of the same shape.
    ratio: as `boundary_width`.

  Returns:
    In [0, 1]; 1 where both masks are empty.

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import metrics
    >>> mask = np.zeros((9, 9)); mask[2:6, 2:6] = 1
    >>> print(metrics.boundary_iou(mask, mask))
    1.0

  Source:
    Cheng et al., Boundary IoU, 2021, section 4.
  """
  mask, truth = np.asarray(mask), np.asarray(truth)
  if mask.shape != truth.shape:
    raise ValueError(
      f"boundary_iou: `mask` and `truth` must have one shape, got {mask.shape} "
      f"and {truth.shape}."
    )
  width = boundary_width(mask.shape, ratio=ratio)
  bands = boundary_band(mask, width), boundary_band(truth, width)
  union = np.count_nonzero(bands[0] | bands[1])
  return np.count_nonzero(bands[0] & bands[1]) / union if union else 1.0


def boundary_counts(
  labels: np.ndarray,
  predictions: np.ndarray,
  num_classes: int,
  *,
  ratio: float = 0.02,
  ignore: int = 255,
) -> np.ndarray:
  """Bands of every class of a label map: intersection, union, truth.

  The band of a class is that of its mask. (A band of the map of integers, which
  one released program takes, is none.) Ignored pixels count nowhere, and end
  the masks of truth and prediction alike.

  Args:
    labels: the truth, integers [H, W].
    predictions: classes, integers [H, W].
    num_classes: K.
    ratio: as `boundary_width`.
    ignore: label of pixels that do not count.

  Returns:
    int64 [3, K]: pixels in both bands, in either, in that of the truth. Add
    those of all images, then `intersection_over_union(c[0], c[1], c[2] > 0)`.

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax import metrics
    >>> labels = np.zeros((9, 9), int); labels[:, 5:] = 1
    >>> metrics.boundary_counts(labels, labels, 2)
    array([[24, 22],
           [24, 22],
           [24, 22]])

  Source:
    Cheng et al., Boundary IoU, 2021, applied to each class.
  """
  labels, predictions = np.asarray(labels), np.asarray(predictions)
  if labels.shape != predictions.shape or labels.ndim != 2:
    raise ValueError(
      "boundary_counts: `labels` and `predictions` must both be [H, W], got "
      f"{labels.shape} and {predictions.shape}."
    )
  predictions = np.where(labels == ignore, ignore, predictions)
  width = boundary_width(labels.shape, ratio=ratio)
  counts = np.zeros((3, num_classes), np.int64)
  for k in np.union1d(labels, predictions):
    if k == ignore or not 0 <= k < num_classes:
      continue
    a, b = (boundary_band(x == k, width) for x in (predictions, labels))
    both, either = np.count_nonzero(a & b), np.count_nonzero(a | b)
    counts[:, int(k)] = both, either, np.count_nonzero(b)
  return counts
