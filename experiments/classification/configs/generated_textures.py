"""A small ResNet on the 20 generated textures; the default.

Run:     python -m experiments.classification.train generated_textures \
             --workdir runs/textures_0
Expect:  see the table of experiments/classification/README.md
Tiny:    add --tiny (seconds on a laptop)
"""

from experiments.classification.config import Config, Data, Optimizer


def get_config() -> Config:
  """The settings behind the bundled weights."""
  return Config(
    data=Data(cache=True),
    optimizer=Optimizer(learning_rate=8e-3, weight_decay=0.05),
    epochs=15,
    batch_size=32,
  )
