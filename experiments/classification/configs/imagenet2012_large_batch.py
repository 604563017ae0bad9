"""ResNet-50 on ImageNet at batch 4096, for accelerators in number.

Run:     python -m experiments.classification.train imagenet2012_large_batch \
             --workdir runs/resnet50 --data-dir DIRECTORY_WITH_imagenet2012
Expect:  not run here; experiments/scaling says what it needs on which chips
Tiny:    add --tiny (a few updates)
"""

import dataclasses

from experiments.classification.config import Config
from experiments.classification.configs import imagenet2012


def get_config() -> Config:
  """Goyal et al. (arXiv 1706.02677): linear scaling and five epochs warm-up."""
  config = imagenet2012.get_config()
  return dataclasses.replace(
    config,
    batch_size=4096,
    precision="bfloat16",
    optimizer=dataclasses.replace(
      config.optimizer,
      learning_rate=1.6,
      schedule="cosine",
      milestones=(),
      warmup=5.0,
      nesterov=True,
      decay_all=False,
    ),
    eval_batch_size=1024,
    checkpoint_every=500,
    eval_every=1500,
  )
