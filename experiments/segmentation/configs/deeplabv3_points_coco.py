"""A head of points on torchvision's DeepLabV3, which stays as it is.

Run:     python -m experiments.segmentation.train deeplabv3_points_coco \
             --workdir runs/coco_points --data-dir DIRECTORY_WITH_coco
         (--config.weights deeplabv3_resnet50/FILE for a file of one's own)
Expect:  more than the 66.4 % mean IoU of DeepLabV3 alone (torchvision), above
         all in boundary IoU; no run here: the set is not part of this
         repository
Tiny:    add --tiny (a few updates)
"""

import dataclasses

from experiments.segmentation.config import Config
from experiments.segmentation.configs import coco


def get_config() -> Config:
  """As the joint run; the 0.2 million parameters of the head alone."""
  base = coco.get_config()
  return dataclasses.replace(
    base,
    part="points",
    backbone=None,
    weights="deeplabv3_resnet50/COCO_WITH_VOC_LABELS_V1",
    num_steps=10_000,
  )
