"""YOLOv3 on VOC 2007 and 2012, as cfg/yolov3-voc.cfg of darknet trains it.

Run:     python -m experiments.detection.train yolov3_voc \
             --workdir runs/yolov3_voc --data-dir DIRECTORY_WITH_voc \
             --config.weights darknet53.conv.74
Expect:  no run here: the set is not part of this repository
Tiny:    add --tiny (a few updates)

The folder `voc` holds VOC2007 and VOC2012, as VOCdevkit does.
"""

import dataclasses

from experiments.detection.config import Config, Yolo
from experiments.detection.configs import yolov3_coco


def get_config() -> Config:
  """50,200 updates, a tenth after 40,000 and 45,000."""
  base = yolov3_coco.get_config()
  return dataclasses.replace(
    base,
    data=dataclasses.replace(
      base.data,
      name="voc",
      train="VOC2007/trainval+VOC2012/trainval",
      test="VOC2007/test",
    ),
    optimizer=dataclasses.replace(base.optimizer, milestones=(40_000, 45_000)),
    yolo=Yolo(ignore_threshold=0.5, objectness=0.5),
    num_steps=50_200,
    metric="voc_11",
  )
