"""PointRend on DeepLabV3 for COCO with VOC's classes, torchvision's schedule.

Run:     python -m experiments.segmentation.train coco \
             --workdir runs/coco --data-dir DIRECTORY_WITH_coco
Expect:  66.4 % mean IoU is published for DeepLabV3 alone (torchvision); no run
         here: the set is not part of this repository. The run prints scores of
         pictures fitted into 640 x 640; evaluate.py follows torchvision's rule
Differs: factors of resizing are log-uniform, and right for pictures of 3 : 4;
         scales and biases of the norms do not decay
Tiny:    add --tiny (a few updates)
"""

from experiments.segmentation.config import Config, Data, Optimizer


def get_config() -> Config:
  """SGD 0.02 for 32 pictures, 30 epochs, crops of 480."""
  return Config(
    model="pointrend_deeplabv3_resnet50",
    part="joint",
    backbone="resnet50/IMAGENET1K_V1",
    data=Data(
      name="coco",
      train="train2017",
      test="val2017",
      size=(480, 480),
      eval_size=(640, 640),
      # Shorter sides of 260 to 1040; 360 just fits into a crop.
      scales=(260 / 360, 1040 / 360),
      num_classes=21,
      num_test=None,
      num_threads=None,
    ),
    optimizer=Optimizer(
      name="sgd",
      learning_rate=0.02,
      schedule="poly",
      warmup=0,
      weight_decay=1e-4,
      clip_norm=None,
      aux_factor=10.0,
    ),
    num_steps=86_730,
    batch_size=32,
    num_points=900,
    eval_batch_size=1,
    checkpoint_every=1000,
  )
