"""A small PointRend for boxes on the generated shapes of 128 pixels.

Run:     python -m experiments.detection.train pointrend_small_shapes \
             --workdir runs/pointrend_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import faster_rcnn_small_shapes


def get_config() -> Config:
  """As Faster R-CNN, with coarse masks and points."""
  base = faster_rcnn_small_shapes.get_config()
  return dataclasses.replace(
    base,
    model="pointrend_rcnn_small",
    data=dataclasses.replace(base.data, masks=True),
  )
