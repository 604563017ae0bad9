"""One file per result; `CONFIGS` lists them by name."""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import (
  faster_rcnn_coco,
  faster_rcnn_small_shapes,
  mask_rcnn_coco,
  mask_rcnn_small_shapes,
  pointrend_coco,
  pointrend_small_shapes,
  yolo_small_shapes,
  yolov3_coco,
  yolov3_tiny_coco,
  yolov3_voc,
)

__all__ = ["CONFIGS", "SUMMARIES", "tiny"]

_FILES = (
  yolo_small_shapes,
  faster_rcnn_small_shapes,
  mask_rcnn_small_shapes,
  pointrend_coco,
  pointrend_small_shapes,
  faster_rcnn_coco,
  mask_rcnn_coco,
  yolov3_coco,
  yolov3_tiny_coco,
  yolov3_voc,
)
CONFIGS: dict[str, Config] = {
  file.__name__.rpartition(".")[2]: file.get_config() for file in _FILES
}
SUMMARIES: dict[str, str] = {
  file.__name__.rpartition(".")[2]: file.__doc__ or "" for file in _FILES
}


def tiny(config: Config) -> Config:
  """The same code path in seconds: four updates on few pictures."""
  return dataclasses.replace(
    config,
    num_steps=4,
    batch_size=8,
    eval_batch_size=8,
    checkpoint_every=2,
    eval_every=None,
    log_every=2,
    accumulate=1,
  )
