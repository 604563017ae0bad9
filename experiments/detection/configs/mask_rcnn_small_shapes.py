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
  """Begins from the bundled Faster R-CNN; a head of two layers for masks."""
  base = faster_rcnn_small_shapes.get_config()
  return dataclasses.replace(
    base,
    arguments={"mask_layers": [32, 32]},
    weights="rcnn_small",
    data=dataclasses.replace(base.data, masks=True),
    optimizer=dataclasses.replace(base.optimizer, learning_rate=1.5e-3),
    num_steps=1500,
  )
