"""A small PointRend for boxes on the generated shapes of 128 pixels.

Run:     python -m experiments.detection.train pointrend_small_shapes \
             --workdir runs/pointrend_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import mask_rcnn_small_shapes


def get_config() -> Config:
  """As Mask R-CNN, from the Faster R-CNN too, with coarse masks and points."""
  return dataclasses.replace(
    mask_rcnn_small_shapes.get_config(),
    model="pointrend_rcnn_small",
    arguments={},
  )
