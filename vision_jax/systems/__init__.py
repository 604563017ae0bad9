"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import (
  dasr,
  elf,
  opencv_features,
  registration,
  retrieval,
  stn,
)

__all__ = [
  "dasr",
  "elf",
  "opencv_features",
  "registration",
  "retrieval",
  "stn",
]
