"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import (
  deeplab,
  elf,
  opencv_features,
  pointrend,
  proposals,
  rcnn,
  registration,
  semantic_fpn,
  stn,
  yolo,
)

__all__ = [
  "deeplab",
  "elf",
  "opencv_features",
  "pointrend",
  "proposals",
  "rcnn",
  "registration",
  "semantic_fpn",
  "stn",
  "yolo",
]
