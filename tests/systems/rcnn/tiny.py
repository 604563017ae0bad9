"""A detector so small that its programs compile in seconds, and pictures."""

import jax
import numpy as np

from vision_jax import weights
from vision_jax.systems import rcnn

__all__ = ["make", "pictures"]


def make(**settings):
  """`rcnn_small` on 64 pixels, and random variables."""
  module = rcnn.rcnn_small(
    **{
      "num_classes": 4,
      "min_size": 64,
      "max_size": 64,
      "anchor_sizes": ((8.0,), (16.0,), (32.0,), (48.0,)),
      "box_hidden": (32,),
      "rpn_pre_train": 40,
      "rpn_pre_test": 40,
      "rpn_post_train": 20,
      "rpn_post_test": 20,
      "box_samples": 16,
      "rpn_samples": 32,
      "max_detections": 8,
      "num_candidates": 60,
    }
    | settings
  )
  return module, weights.random_variables(module)


def pictures(count=8, side=64, seed=0, keypoints=0):
  """Squares, disks and crosses on grey: a batch as `data` collates it."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:side, :side] + 0.5
  batch = {
    "image": np.full((count, side, side, 3), 0.5, np.float32),
    "boxes": np.zeros((count, 3, 4), np.float32),
    "labels": np.zeros((count, 3), np.int32),
    "objects_valid": np.zeros((count, 3), bool),
    "masks": np.zeros((count, 3, side, side), np.uint8),
    "keypoints": np.zeros((count, 3, max(keypoints, 1), 3), np.float32),
    "image_size": np.full((count, 2), side, np.int32),
  }
  batch["image"] += rng.normal(0, 0.02, batch["image"].shape)
  for k in range(count):
    for g in range(1 + k % 2):
      label = 1 + (k + g) % 3
      radius = rng.uniform(7, 12)
      cx = rng.uniform(radius, side / 2 - radius) + g * side / 2
      cy = rng.uniform(radius, side - radius)
      dx, dy = np.abs(x - cx), np.abs(y - cy)
      mask = (
        np.maximum(dx, dy) < radius,
        np.hypot(dx, dy) < radius,
        (np.maximum(dx, dy) < radius) & (np.minimum(dx, dy) < radius / 3),
      )[label - 1]
      rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
      batch["boxes"][k, g] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
      batch["labels"][k, g] = label
      batch["objects_valid"][k, g] = True
      batch["masks"][k, g] = mask
      batch["image"][k][mask] = rng.uniform(0, 1, 3)
      for p in range(keypoints):
        batch["keypoints"][k, g, p] = cx - 0.5, cy - 0.5 + p, 1
  return jax.tree.map(np.asarray, batch)
