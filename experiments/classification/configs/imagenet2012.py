"""ResNet-50 on ImageNet, the reference recipe of torchvision's first weights.

Run:     python -m experiments.classification.train imagenet2012 \
             --workdir runs/resnet50 --data-dir DIRECTORY_WITH_imagenet2012
Expect:  76.13 % top-1 is published for this recipe; not run here: the set is
         not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.classification.config import Config, Data, Optimizer


def get_config() -> Config:
  """SGD at 0.1 per 256 pictures, a tenth after 30 and 60 of 90 epochs."""
  return Config(
    model="resnet50",
    data=Data(
      name="imagenet2012",
      test="validation",
      size=224,
      augment="crops",
      resize=256,
      crop=224,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.1,
      schedule="step",
      warmup=0.0,
      milestones=(30, 60),
      weight_decay=1e-4,
      decay_all=True,
    ),
    epochs=90,
    batch_size=256,
    checkpoint_every=5000,
    eval_every=5000,
  )
