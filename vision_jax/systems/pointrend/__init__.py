"""PointRend: segmentation as rendering, on top of coarse networks.

Whole detectors with it: `rcnn.pointrend_rcnn_r50_fpn` and its kin.
"""

from vision_jax.systems.pointrend.semantic import (
  MODELS,
  PointRend,
  pointrend_deeplabv3_resnet50,
  pointrend_semantic_fpn_resnet50,
  pointrend_semantic_fpn_resnet101,
  pointrend_small,
  segment,
  semantic_losses,
  with_coarse_variables,
)
from vision_jax.systems.rcnn.point_masks import (
  coarse_cells,
  mask_losses,
  points_of_boxes,
  refine_masks,
)

__all__ = [
  "MODELS",
  "PointRend",
  "coarse_cells",
  "mask_losses",
  "pointrend_deeplabv3_resnet50",
  "pointrend_semantic_fpn_resnet50",
  "pointrend_semantic_fpn_resnet101",
  "pointrend_small",
  "points_of_boxes",
  "refine_masks",
  "segment",
  "semantic_losses",
  "with_coarse_variables",
]
