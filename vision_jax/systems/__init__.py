"""Whole methods: model, settings and prediction of one paper each."""

from vision_jax.systems import elf, opencv_features, rcnn, registration, stn

__all__ = ["elf", "opencv_features", "rcnn", "registration", "stn"]
