"""Fast, Faster, Mask and Keypoint R-CNN, equal to torchvision's."""

from vision_jax.systems.rcnn.detection import detect, predict
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
  pointrend_rcnn_r50_fpn,
  pointrend_rcnn_r101_fpn,
  pointrend_rcnn_small,
  pointrend_rcnn_x101_fpn,
  rcnn_small,
)
from vision_jax.systems.rcnn.networks import RCNN, Backbone
from vision_jax.systems.rcnn.proposals import Proposals
from vision_jax.systems.rcnn.settings import DETECTRON2, Settings
from vision_jax.systems.rcnn.training import check_batch, loss
from vision_jax.systems.rcnn.transforms import (
  canvas_sizes,
  prepare_image,
  resized_size,
)

__all__ = [
  "DETECTRON2",
  "MODELS",
  "RCNN",
  "Backbone",
  "Proposals",
  "Settings",
  "canvas_sizes",
  "check_batch",
  "detect",
  "detectron2_maskrcnn_r50_fpn",
  "detectron2_maskrcnn_r101_fpn",
  "detectron2_maskrcnn_x101_fpn",
  "fasterrcnn_mobilenet_v3_large_320_fpn",
  "fasterrcnn_mobilenet_v3_large_fpn",
  "fasterrcnn_resnet50_fpn",
  "fasterrcnn_resnet50_fpn_v2",
  "fastrcnn_vgg16",
  "keypointrcnn_resnet50_fpn",
  "loss",
  "maskrcnn_resnet50_fpn",
  "maskrcnn_resnet50_fpn_v2",
  "pointrend_rcnn_r50_fpn",
  "pointrend_rcnn_r101_fpn",
  "pointrend_rcnn_small",
  "pointrend_rcnn_x101_fpn",
  "predict",
  "prepare_image",
  "rcnn_small",
  "resized_size",
]
