"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import (
  elf,
  opencv_features,
  proposals,
  rcnn,
  registration,
  stn,
  yolo,
)

__all__ = [
  "elf",
  "opencv_features",
  "proposals",
  "rcnn",
  "registration",
  "stn",
  "yolo",
]
