"""Scores: NumPy in, numbers out."""

from vision_jax.metrics.bootstrap import (
  Interval,
  paired_bootstrap,
)
from vision_jax.metrics.detections import (
  CocoScores,
  VocScores,
  coco_average_precision,
  coco_file_average_precision,
  precision_average,
  voc_average_precision,
)
from vision_jax.metrics.ground_truth import (
  GroundTruth,
  covisible,
  disparity_ground_truth,
  homography_ground_truth,
)
from vision_jax.metrics.homographies import (
  homography_accuracy,
  homography_auc,
  homography_corner_error,
  resized_homography,
  superpoint_repeatability,
)
from vision_jax.metrics.keypoints import (
  greedy_assignment,
  matching_score,
  mean_matching_accuracy,
  repeatability,
)
from vision_jax.metrics.localization import (
  LocalizationScores,
  average_precision_localized,
  best_region_overlap,
  localization_scores,
)
from vision_jax.metrics.pair_scores import (
  MeanScores,
  PairScores,
  average_scores,
  score_pair,
)
from vision_jax.metrics.retrieval import (
  REVISITED_PROTOCOLS,
  average_precision,
  average_precision_at,
  average_precision_trapezoid,
  average_precision_truncated,
  mean_average_precision,
  precision_at,
  random_average_precision,
  revisited_truth,
)
from vision_jax.metrics.segmentation import (
  SegmentationScores,
  boundary_band,
  boundary_counts,
  boundary_iou,
  boundary_width,
  confusion_matrix,
  intersection_over_union,
  segmentation_scores,
)

__all__ = [
  "REVISITED_PROTOCOLS",
  "CocoScores",
  "GroundTruth",
  "Interval",
  "LocalizationScores",
  "MeanScores",
  "PairScores",
  "SegmentationScores",
  "VocScores",
  "average_precision",
  "average_precision_at",
  "average_precision_localized",
  "average_precision_trapezoid",
  "average_precision_truncated",
  "average_scores",
  "best_region_overlap",
  "boundary_band",
  "boundary_counts",
  "boundary_iou",
  "boundary_width",
  "coco_average_precision",
  "coco_file_average_precision",
  "confusion_matrix",
  "covisible",
  "disparity_ground_truth",
  "greedy_assignment",
  "homography_accuracy",
  "homography_auc",
  "homography_corner_error",
  "homography_ground_truth",
  "intersection_over_union",
  "localization_scores",
  "matching_score",
  "mean_average_precision",
  "mean_matching_accuracy",
  "paired_bootstrap",
  "precision_at",
  "precision_average",
  "random_average_precision",
  "repeatability",
  "resized_homography",
  "revisited_truth",
  "score_pair",
  "segmentation_scores",
  "superpoint_repeatability",
  "voc_average_precision",
]
