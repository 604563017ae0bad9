"""PointRend on DeepLabV3 for Cityscapes, after the paper's appendix B.

Run:     python -m experiments.segmentation.train cityscapes \
             --workdir runs/cityscapes --data-dir DIRECTORY_WITH_cityscapes
Expect:  78.4 % mean IoU is published for ResNet-103; no run here: the set is
         not part of this repository
Tiny:    add --tiny (a few updates)
"""

from experiments.segmentation.config import Config, Data, Optimizer


def get_config() -> Config:
  """Crops of 768, a point for each cell of a map of stride 16."""
  return Config(
    model="pointrend_deeplabv3_resnet50",
    part="joint",
    backbone=None,
    data=Data(
      name="cityscapes",
      test="val",
      size=(768, 768),
      eval_size=(1024, 2048),
      scales=(0.5, 2.0),
      num_classes=19,
      num_test=None,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.01,
      schedule="poly",
      warmup=1000,
      weight_decay=1e-4,
      clip_norm=None,
    ),
    num_steps=90_000,
    num_points=2304,
    eval_batch_size=1,
    checkpoint_every=1000,
  )
