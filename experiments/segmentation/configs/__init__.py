"""One file per result; `CONFIGS` lists them by name."""

import dataclasses

from experiments.segmentation.config import Config
from experiments.segmentation.configs import (
  cityscapes,
  coco,
  deeplabv3_points_coco,
  generated_shapes,
  generated_shapes_points,
  oxford_iiit_pet,
)

__all__ = ["CONFIGS", "SUMMARIES", "tiny"]

_FILES = (
  generated_shapes,
  generated_shapes_points,
  oxford_iiit_pet,
  cityscapes,
  coco,
  deeplabv3_points_coco,
)
CONFIGS: dict[str, Config] = {
  file.__name__.rpartition(".")[2]: file.get_config() for file in _FILES
}
SUMMARIES: dict[str, str] = {
  file.__name__.rpartition(".")[2]: file.__doc__ or "" for file in _FILES
}


def tiny(config: Config) -> Config:
  """The same code path in seconds: four updates on small pictures."""
  small = dataclasses.replace(config.data, size=(64, 64), eval_size=(64, 64))
  return dataclasses.replace(
    config,
    data=small,
    num_steps=4,
    batch_size=8,
    eval_batch_size=8,
    num_points=16,
    checkpoint_every=2,
    log_every=2,
  )
