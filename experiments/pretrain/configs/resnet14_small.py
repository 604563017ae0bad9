r"""resnet14_small: classifier of single generated shapes, for detectors.

Run:     python -m experiments.pretrain.train resnet14_small \
             --workdir runs/resnet14_small_0
Expect:  see experiments/pretrain/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

import dataclasses

from experiments.pretrain import shape_classes


def get_config() -> shape_classes.Config:
  """What the small detectors begin with."""
  return shape_classes.Config()


def tiny(config: shape_classes.Config) -> shape_classes.Config:
  """The same code path in seconds."""
  return dataclasses.replace(
    config,
    num_train=8,
    num_test=4,
    batch_size=8,
    num_steps=4,
    warmup_steps=1,
    log_every=2,
    checkpoint_every=2,
  )
