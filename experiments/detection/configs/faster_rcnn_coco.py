"""Faster R-CNN R50-FPN on COCO 2017, torchvision's reference schedule.

Run:     python -m experiments.detection.train faster_rcnn_coco \
             --workdir runs/faster_rcnn --data-dir DIRECTORY_WITH_coco
Expect:  no run here: the set is not part of this repository (torchvision: 37.0)
Tiny:    add --tiny (a few updates)
"""

from experiments.detection.config import Config, Data, Optimizer

_PER_EPOCH = 117_266 / 16  # training pictures with objects


def get_config() -> Config:
  """SGD 0.02 for 16 pictures, a tenth after 16 and 22 of 26 epochs.

  Stem and first stage are frozen, and all batch normalisation.
  """
  return Config(
    model="fasterrcnn_resnet50_fpn",
    data=Data(
      name="coco",
      train="train2017",
      test="val2017",
      size=(1344, 1344),
      augment="shortest",
      max_objects=100,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.02,
      schedule="step",
      warmup_steps=1000,
      milestones=(int(16 * _PER_EPOCH), int(22 * _PER_EPOCH)),
      weight_decay=1e-4,
      factors=(
        ("backbone.body.conv1", 0.0),
        ("backbone.body.layer1", 0.0),
      ),
    ),
    num_steps=int(26 * _PER_EPOCH),
    batch_size=16,
    ema_decay=None,
    eval_batch_size=1,
    checkpoint_every=1000,
  )
