"""PointRend R50-FPN on COCO 2017.

Run:     python -m experiments.detection.train pointrend_coco \
             --workdir runs/pointrend --data-dir DIRECTORY_WITH_coco \
             --config.weights detector.safetensors
Expect:  no run here: the set is not part of this repository (detectron2, 12
         epochs where this has 26: 36.2 of masks). Stem, first stage and
         normalisation are frozen: begin from a detector, not from nothing
Tiny:    add --tiny (a few updates)
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import mask_rcnn_coco


def get_config() -> Config:
  """As Mask R-CNN, in detectron2's profile."""
  return dataclasses.replace(
    mask_rcnn_coco.get_config(), model="pointrend_rcnn_r50_fpn"
  )
