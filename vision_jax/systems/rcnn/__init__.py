"""Fast, Faster, Mask and Keypoint R-CNN, equal to torchvision's."""

from vision_jax.systems.rcnn.models import (
  MODELS,
  detectron2_maskrcnn_r50_fpn,
  detectron2_maskrcnn_r101_fpn,
  detectron2_maskrcnn_x101_fpn,
  fasterrcnn_mobilenet_v3_large_320_fpn,
  fasterrcnn_mobilenet_v3_large_fpn,
  fasterrcnn_resnet50_fpn,
  fasterrcnn_resnet50_fpn_v2,
  fastrcnn_vgg16,
  keypointrcnn_resnet50_fpn,
  maskrcnn_resnet50_fpn,
  maskrcnn_resnet50_fpn_v2,
  rcnn_small,
)
from vision_jax.systems.rcnn.networks import RCNN, Backbone
from vision_jax.systems.rcnn.settings import DETECTRON2, Settings

__all__ = [
  "DETECTRON2",
  "MODELS",
  "RCNN",
  "Backbone",
  "Settings",
  "detectron2_maskrcnn_r50_fpn",
  "detectron2_maskrcnn_r101_fpn",
  "detectron2_maskrcnn_x101_fpn",
  "fasterrcnn_mobilenet_v3_large_320_fpn",
  "fasterrcnn_mobilenet_v3_large_fpn",
  "fasterrcnn_resnet50_fpn",
  "fasterrcnn_resnet50_fpn_v2",
  "fastrcnn_vgg16",
  "keypointrcnn_resnet50_fpn",
  "maskrcnn_resnet50_fpn",
  "maskrcnn_resnet50_fpn_v2",
  "rcnn_small",
]
