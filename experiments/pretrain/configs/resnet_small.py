"""resnet_small: classifier of 20 textures, with point contrast beside it.

Run:     python -m experiments.pretrain.train resnet_small \
             --workdir runs/resnet_small
Expect:  see the table of experiments/pretrain/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

import dataclasses

from experiments.pretrain import texture_classes


def get_config() -> texture_classes.Config:
  """The settings behind the bundled weights."""
  return texture_classes.Config()


def tiny(config: texture_classes.Config) -> texture_classes.Config:
  """The same code path in seconds."""
  return dataclasses.replace(
    config,
    num_train=64,
    num_test=40,
    batch_size=8,
    num_steps=4,
    contrast=dataclasses.replace(config.contrast, num_canvases=2),
    warmup_steps=1,
    log_every=2,
    checkpoint_every=2,
  )
