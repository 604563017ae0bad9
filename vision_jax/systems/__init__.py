"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import (
  dasr,
  deeplab,
  elf,
  opencv_features,
  pointrend,
  proposals,
  rcnn,
  registration,
  retrieval,
  semantic_fpn,
  stn,
  yolo,
)

__all__ = [
  "dasr",
  "deeplab",
  "elf",
  "opencv_features",
  "pointrend",
  "proposals",
  "rcnn",
  "registration",
  "retrieval",
  "semantic_fpn",
  "stn",
  "yolo",
]
