"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import (
  deeplab,
  elf,
  opencv_features,
  pointrend,
  rcnn,
  registration,
  semantic_fpn,
  stn,
)

__all__ = [
  "deeplab",
  "elf",
  "opencv_features",
  "pointrend",
  "rcnn",
  "registration",
  "semantic_fpn",
  "stn",
]
