"""A small YOLOv3 on the generated shapes of 128 pixels; the default.

Run:     python -m experiments.detection.train yolo_small_shapes \
             --workdir runs/yolo_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.detection.config import Config, Data


def get_config() -> Config:
  """The settings behind the bundled weights."""
  return Config(data=Data(cache=True))
