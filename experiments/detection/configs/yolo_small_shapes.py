"""A small YOLOv3 on the generated shapes of 128 pixels; the default.

Run:     python -m experiments.detection.train yolo_small_shapes \
             --workdir runs/yolo_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.detection.config import Config, Data, Optimizer, Yolo


def get_config() -> Config:
  """The settings behind the bundled weights."""
  return Config(
    data=Data(cache=True),
    optimizer=Optimizer(learning_rate=4e-3, clip_norm=10.0),
    yolo=Yolo(match_threshold=0.213),
    num_steps=5000,
    batch_size=16,
  )
