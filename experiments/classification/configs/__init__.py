"""One file per result; `CONFIGS` lists them by name."""

import dataclasses

from experiments.classification.config import Config, Data
from experiments.classification.configs import (
  cifar10,
  generated_textures,
  imagenet2012,
  imagenet2012_large_batch,
  mnist,
  oxford_iiit_pet,
)

__all__ = ["CONFIGS", "SUMMARIES", "tiny"]

_FILES = (
  generated_textures,
  mnist,
  cifar10,
  imagenet2012,
  imagenet2012_large_batch,
  oxford_iiit_pet,
)
CONFIGS: dict[str, Config] = {
  file.__name__.rpartition(".")[2]: file.get_config() for file in _FILES
}
SUMMARIES: dict[str, str] = {
  file.__name__.rpartition(".")[2]: file.__doc__ or "" for file in _FILES
}


_SIDE = 64  # of the pictures of a tiny run, pixels
_BATCH = 16


def tiny(config: Config) -> Config:
  """The same code path in seconds: four updates on small pictures."""
  rate = config.optimizer.learning_rate * _BATCH / config.batch_size
  return dataclasses.replace(
    config,
    data=_small(config.data),
    # Rates belong to the batch: that of 4096 pictures diverges with 16.
    optimizer=dataclasses.replace(config.optimizer, learning_rate=rate),
    num_steps=4,
    batch_size=_BATCH,
    eval_batch_size=_BATCH,
    checkpoint_every=2,
    eval_every=None,
    log_every=2,
    accumulate=1,
  )


def _small(data: Data) -> Data:
  """Sides of at most `_SIDE`; those of the evaluation in proportion."""
  side = min(data.size, _SIDE)
  if data.crop is None or data.crop <= side:
    return dataclasses.replace(data, size=side)
  resize = data.resize and round(data.resize * side / data.crop)
  return dataclasses.replace(data, size=side, resize=resize, crop=side)
