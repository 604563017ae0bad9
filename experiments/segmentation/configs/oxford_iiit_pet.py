"""PointRend on DeepLabV3, pets against background, prepared by TFDS.

Run:     python -m experiments.segmentation.train oxford_iiit_pet \
             --workdir runs/pets --data-dir DIRECTORY_WITH_oxford_iiit_pet
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.segmentation.config import Config, Data, Optimizer


def get_config() -> Config:
  """The border of the trimap, which nobody has decided, is ignored."""
  return Config(
    model="pointrend_deeplabv3_resnet50",
    part="joint",
    backbone=None,
    data=Data(
      name="oxford_iiit_pet",
      size=(256, 256),
      eval_size=(512, 512),
      scales=(0.5, 2.0),
      num_classes=2,
      num_test=None,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd", learning_rate=0.01, schedule="poly", weight_decay=1e-4
    ),
    num_steps=10_000,
    num_points=256,
  )
