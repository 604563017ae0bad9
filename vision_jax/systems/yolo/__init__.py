"""YOLOv3: boxes in one pass (Redmon, Farhadi, arXiv 1804.02767).

module, variables = weights.from_darknet("yolov3", "yolov3.weights")
found = yolo.predict(module, variables, [image])[0]
found["boxes"], found["labels"], found["scores"]
"""

from vision_jax.systems.yolo.decoding import DecodedBoxes, decode_maps, detect
from vision_jax.systems.yolo.losses import yolo_loss
from vision_jax.systems.yolo.network import (
  MODELS,
  Yolo,
  YoloTiny,
  yolo_small,
  yolov3,
  yolov3_spp,
  yolov3_tiny,
)
from vision_jax.systems.yolo.prediction import (
  Placement,
  letterbox,
  make_detector,
  predict,
  undo_letterbox,
)
from vision_jax.systems.yolo.targets import (
  HeadTargets,
  assign_objects,
  grid_targets,
)

__all__ = [
  "MODELS",
  "DecodedBoxes",
  "HeadTargets",
  "Placement",
  "Yolo",
  "YoloTiny",
  "assign_objects",
  "decode_maps",
  "detect",
  "grid_targets",
  "letterbox",
  "make_detector",
  "predict",
  "undo_letterbox",
  "yolo_loss",
  "yolo_small",
  "yolov3",
  "yolov3_spp",
  "yolov3_tiny",
]
