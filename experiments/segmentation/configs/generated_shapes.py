"""Twelve classes of generated shapes and background, coarse; the default.

Run:     python -m experiments.segmentation.train generated_shapes \
             --workdir runs/segmentation/coarse_0
Expect:  see the tables of experiments/segmentation/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.segmentation.config import Config


def get_config() -> Config:
  """Begins from the body of the bundled Faster R-CNN; scores at stride 16."""
  return Config(backbone="rcnn_small", num_steps=700)
