"""Objects against background on generated shapes, coarse; the default.

Run:     python -m experiments.segmentation.train generated_shapes \
             --workdir runs/segmentation/coarse_0
Expect:  see the tables of experiments/segmentation/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.segmentation.config import Config, Data


def get_config() -> Config:
  """ResNet-10 at a quarter of the width, scores at stride 16."""
  return Config(data=Data(num_classes=2), num_steps=450)
