r"""resnet_small: classifier of 400 generated instances.

Run:     python -m experiments.pretrain.train resnet_small_instances \
             --workdir runs/resnet_small_instances
Expect:  see experiments/pretrain/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

import dataclasses

from experiments.pretrain import instance_classes


def get_config() -> instance_classes.Config:
  """The settings behind the bundled weights."""
  return instance_classes.Config()


def tiny(config: instance_classes.Config) -> instance_classes.Config:
  """The same code path in seconds."""
  return dataclasses.replace(
    config,
    num_sets=1,
    num_train=48,
    num_test=40,
    batch_size=8,
    num_steps=4,
    warmup_steps=1,
    log_every=2,
    checkpoint_every=2,
  )
