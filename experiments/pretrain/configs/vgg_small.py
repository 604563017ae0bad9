"""vgg_small: point contrast on synthetic canvases and free photographs.

Run:     python -m experiments.pretrain.train vgg_small --workdir runs/vgg_small
Expect:  see the table of experiments/pretrain/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

import dataclasses

from experiments.pretrain import point_contrast


def get_config() -> point_contrast.Config:
  """The settings behind the bundled weights."""
  return point_contrast.Config()


def tiny(config: point_contrast.Config) -> point_contrast.Config:
  """The same code path in seconds."""
  return dataclasses.replace(
    config,
    num_canvases=2,
    batch_size=8,
    num_steps=4,
    warmup_steps=1,
    log_every=2,
    checkpoint_every=2,
  )
