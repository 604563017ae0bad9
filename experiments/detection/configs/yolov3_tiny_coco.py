"""YOLOv3-tiny on COCO 2017, as cfg/yolov3-tiny.cfg of darknet trains it.

Run:     python -m experiments.detection.train yolov3_tiny_coco \
             --workdir runs/yolov3_tiny --data-dir DIRECTORY_WITH_coco
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)
"""

import dataclasses

from experiments.detection.config import Config
from experiments.detection.configs import yolov3_coco


def get_config() -> Config:
  """As YOLOv3, of the smaller network."""
  return dataclasses.replace(yolov3_coco.get_config(), model="yolov3_tiny")
