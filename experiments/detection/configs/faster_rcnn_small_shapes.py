"""A small Faster R-CNN on the generated shapes of 128 pixels.

Run:     python -m experiments.detection.train faster_rcnn_small_shapes \
             --workdir runs/faster_rcnn_small_0
Expect:  see the table of experiments/detection/README.md
Tiny:    add --tiny
"""

from experiments.detection.config import Config, Data, Optimizer


def get_config() -> Config:
  """AdamW, cosine, moving average."""
  return Config(
    model="rcnn_small",
    data=Data(cache=True),
    optimizer=Optimizer(learning_rate=3e-3, clip_norm=10.0),
    num_steps=4800,
    batch_size=16,
  )
