"""The head of points on a coarse network that is kept as it is.

Run:     python -m experiments.segmentation.train generated_shapes_points \
             --workdir runs/segmentation/points_0 --config.weights \
             runs/segmentation/coarse_0/weights.safetensors
Expect:  see the tables of experiments/segmentation/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

import dataclasses

from experiments.segmentation.config import Config
from experiments.segmentation.configs import generated_shapes


def get_config() -> Config:
  """As the coarse network, fewer updates."""
  base = generated_shapes.get_config()
  return dataclasses.replace(base, part="points", backbone=None, num_steps=400)
