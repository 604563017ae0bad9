"""Mask R-CNN R50-FPN on COCO 2017, torchvision's reference schedule.

Run:     python -m experiments.detection.train mask_rcnn_coco \
             --workdir runs/mask_rcnn --data-dir DIRECTORY_WITH_coco
Expect:  no run here: the set is not part of this repository (torchvision: 37.9
         of boxes, 34.6 of masks)
Tiny:    add --tiny (a few updates)
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import faster_rcnn_coco


def get_config() -> Config:
  """As Faster R-CNN, with masks."""
  base = faster_rcnn_coco.get_config()
  return dataclasses.replace(
    base,
    model="maskrcnn_resnet50_fpn",
    data=dataclasses.replace(base.data, masks=True),
  )
