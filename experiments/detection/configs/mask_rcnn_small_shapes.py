"""A small Mask R-CNN on the generated shapes of 128 pixels.

Run:     python -m experiments.detection.train mask_rcnn_small_shapes \
             --workdir runs/mask_rcnn_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import faster_rcnn_small_shapes


def get_config() -> Config:
  """As Faster R-CNN, with a head of two layers for masks."""
  base = faster_rcnn_small_shapes.get_config()
  return dataclasses.replace(
    base,
    arguments={"mask_layers": [64, 64]},
    data=dataclasses.replace(base.data, masks=True),
  )
