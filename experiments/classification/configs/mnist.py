"""A small ResNet on MNIST, prepared by TFDS.

Run:     python -m experiments.classification.train mnist \
             --workdir runs/mnist --data-dir DIRECTORY_WITH_mnist
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.classification.config import Config, Data, Optimizer


def get_config() -> Config:
  """Ten epochs; digits are not mirrored."""
  return Config(
    data=Data(
      name="mnist",
      size=28,
      augment="none",
      mean=(0.1307, 0.1307, 0.1307),
      std=(0.3081, 0.3081, 0.3081),
      cache=True,
    ),
    optimizer=Optimizer(learning_rate=2e-3),
    epochs=10,
    batch_size=128,
  )
