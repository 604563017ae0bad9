"""Fine-tuning: ResNet-50 with ImageNet weights on 37 breeds of pets.

Run:     python -m experiments.classification.train oxford_iiit_pet \
             --workdir runs/pets --data-dir DIRECTORY_WITH_oxford_iiit_pet
         (--config.weights FILE for a file that was downloaded before)
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.classification.config import Config, Data, Optimizer


def get_config() -> Config:
  """The stem frozen, the body at a tenth of the rate, statistics kept."""
  return Config(
    model="resnet50",
    weights="IMAGENET1K_V1",
    freeze_norm=True,
    data=Data(
      name="oxford_iiit_pet",
      size=224,
      augment="crops",
      resize=256,
      crop=224,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.05,
      warmup=1.0,
      weight_decay=1e-4,
      factors=(("", 0.1), ("conv1", 0.0), ("bn1", 0.0), ("fc", 1.0)),
    ),
    epochs=20,
    batch_size=64,
  )
