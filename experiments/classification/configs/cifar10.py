"""ResNet-18 with a 3 x 3 stem on CIFAR-10, prepared by TFDS.

Run:     python -m experiments.classification.train cifar10 \
             --workdir runs/cifar10 --data-dir DIRECTORY_WITH_cifar10
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.classification.config import Config, Data, Optimizer


def get_config() -> Config:
  """He et al. (arXiv 1512.03385), section 4.2, with a cosine schedule."""
  return Config(
    data=Data(
      name="cifar10",
      size=32,
      augment="shifts",
      mean=(0.4914, 0.4822, 0.4465),
      std=(0.2470, 0.2435, 0.2616),
      cache=True,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.1,
      warmup=1.0,
      nesterov=True,
      weight_decay=5e-4,
    ),
    epochs=100,
    batch_size=128,
  )
