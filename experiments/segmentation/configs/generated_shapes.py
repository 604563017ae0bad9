"""The coarse network of the small PointRend on generated shapes; the default.

Run:     python -m experiments.segmentation.train generated_shapes \
             --workdir runs/segmentation/coarse_0
Expect:  see the tables of experiments/segmentation/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.segmentation.config import Config


def get_config() -> Config:
  """ResNet-10 at a quarter of the width, scores at stride 16."""
  return Config()
