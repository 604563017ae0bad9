"""The detectors by name: seven of torchvision, six of detectron2, ours."""

import dataclasses
from collections.abc import Callable
from typing import Any

from vision_jax.nn import backbones
from vision_jax.systems.rcnn.networks import RCNN, Backbone
from vision_jax.systems.rcnn.settings import DETECTRON2, Settings

__all__ = [
  "MODELS",
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
  "pointrend_rcnn_r50_fpn",
  "pointrend_rcnn_r101_fpn",
  "pointrend_rcnn_small",
  "pointrend_rcnn_x101_fpn",
  "rcnn_small",
]

_SIZES = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_SETTINGS = {field.name for field in dataclasses.fields(Settings)}


def _make(backbone: Backbone, arguments: dict[str, Any]) -> RCNN:
  """A detector from attributes of `RCNN` and of `Settings` in one mapping."""
  arguments = {name: _frozen(value) for name, value in arguments.items()}
  chosen = {k: v for k, v in arguments.items() if k in _SETTINGS}
  rest = {k: v for k, v in arguments.items() if k not in _SETTINGS}
  return RCNN(backbone, settings=Settings(**chosen), **rest)


def _frozen(value: Any) -> Any:
  """Lists, as files of weights have them, as tuples."""
  if isinstance(value, list | tuple):
    return tuple(_frozen(item) for item in value)
  return value


def _resnet50(
  v2: bool,
  arguments: dict[str, Any],
  resnet: Callable[..., Any] = backbones.resnet50,
  **body: Any,
) -> RCNN:
  """On a ResNet with a pyramid; v2 has more layers, batch-normalised."""
  axis_name, dtype = arguments.get("axis_name"), arguments.get("dtype")
  body = {
    "frozen_norm": arguments.pop("frozen_norm", not v2),
    "norm_epsilon": arguments.pop("norm_epsilon", 1e-5),
    "axis_name": axis_name,
    "dtype": dtype,
  } | body
  backbone = Backbone(
    resnet(None, **body),
    _STAGES,
    use_norm=v2,
    axis_name=axis_name,
    dtype=dtype,
  )
  more = {
    "rpn_depth": 2,
    "box_convs": (256,) * 4,
    "box_hidden": (1024,),
    "use_norm": True,
  }
  defaults = {"anchor_sizes": _SIZES, **(more if v2 else {})}
  return _make(backbone, defaults | arguments)


def fasterrcnn_resnet50_fpn(num_classes: int = 91, **kwargs: Any) -> RCNN:
  """Faster R-CNN, ResNet-50 with a pyramid and frozen normalisation.

  The published weights were trained with `norm_epsilon=0.0`.
  """
  return _resnet50(False, {"num_classes": num_classes, **kwargs})


def fasterrcnn_resnet50_fpn_v2(num_classes: int = 91, **kwargs: Any) -> RCNN:
  """Faster R-CNN with more layers in its heads, batch-normalised."""
  return _resnet50(True, {"num_classes": num_classes, **kwargs})


def maskrcnn_resnet50_fpn(num_classes: int = 91, **kwargs: Any) -> RCNN:
  """Mask R-CNN, ResNet-50 with a pyramid and frozen normalisation.

  The published weights were trained with `norm_epsilon=0.0`.
  """
  defaults = {"num_classes": num_classes, "mask_layers": (256,) * 4}
  return _resnet50(False, defaults | kwargs)


def maskrcnn_resnet50_fpn_v2(num_classes: int = 91, **kwargs: Any) -> RCNN:
  """Mask R-CNN with more layers in its heads, batch-normalised."""
  defaults = {"num_classes": num_classes, "mask_layers": (256,) * 4}
  return _resnet50(True, defaults | kwargs)


def keypointrcnn_resnet50_fpn(num_classes: int = 2, **kwargs: Any) -> RCNN:
  """Keypoint R-CNN: persons and their 17 keypoints.

  The published weights COCO_V1 were trained with `norm_epsilon=0.0`.
  """
  defaults = {"num_classes": num_classes, "keypoint_layers": (512,) * 8}
  return _resnet50(False, defaults | kwargs)


def fasterrcnn_mobilenet_v3_large_fpn(
  num_classes: int = 91, **kwargs: Any
) -> RCNN:
  """Faster R-CNN on MobileNet V3 large."""
  axis_name, dtype = kwargs.get("axis_name"), kwargs.get("dtype")
  body = backbones.mobilenet_v3_large_features(
    frozen_norm=kwargs.pop("frozen_norm", True),
    norm_epsilon=kwargs.pop("norm_epsilon", 1e-5),
    axis_name=axis_name,
    dtype=dtype,
  )
  backbone = Backbone(
    body, ("block13", "conv16"), axis_name=axis_name, dtype=dtype
  )
  sizes = tuple(size for (size,) in _SIZES)
  defaults = {
    "num_classes": num_classes,
    "anchor_sizes": (sizes,) * 3,
    "rpn_score": 0.05,
  }
  return _make(backbone, defaults | kwargs)


def fasterrcnn_mobilenet_v3_large_320_fpn(
  num_classes: int = 91, **kwargs: Any
) -> RCNN:
  """The same network on small pictures, for few proposals."""
  defaults = {
    "min_size": 320,
    "max_size": 640,
    "rpn_pre_test": 150,
    "rpn_post_test": 150,
  }
  return fasterrcnn_mobilenet_v3_large_fpn(num_classes, **defaults | kwargs)


def fastrcnn_vgg16(num_classes: int = 21, **kwargs: Any) -> RCNN:
  """Fast R-CNN on VGG-16: the caller gives the proposals.

  Girshick, Fast R-CNN, 2015 (arXiv 1504.08083): one map of stride 16
  (`relu5_3`), RoIPool 7 x 7, fc6 and fc7 with dropout.
  """
  dtype = kwargs.get("dtype")
  backbone = Backbone(
    backbones.vgg16(None, dtype=dtype), ("relu5_3",), 0, dtype=dtype
  )
  defaults = {
    "num_classes": num_classes,
    "box_hidden": (4096, 4096),
    "box_dropout": 0.5,
    "roi_pool": True,
    "min_size": 600,
    "max_size": 1000,
    "rpn_post_test": 2000,
    "box_samples": 64,
    "box_beta": 1.0,
    "box_nms": 0.3,
  }
  return _make(backbone, defaults | kwargs)


def rcnn_small(num_classes: int = 9, **kwargs: Any) -> RCNN:
  """A detector of 128 x 128 pictures that trains in minutes on a CPU.

  `backbones.resnet14_small` with a pyramid of 32 channels on strides 4, 8, 16.
  """
  axis_name, dtype = kwargs.get("axis_name"), kwargs.get("dtype")
  body = backbones.resnet14_small(
    frozen_norm=kwargs.pop("frozen_norm", False),
    axis_name=axis_name,
    dtype=dtype,
  )
  backbone = Backbone(body, _STAGES[:3], 32, axis_name=axis_name, dtype=dtype)
  defaults = {
    "num_classes": num_classes,
    "anchor_sizes": ((12.0, 17.0), (24.0, 34.0), (48.0, 68.0), (96.0, 120.0)),
    "box_hidden": (128, 128),
    "min_size": 128,
    "max_size": 128,
    "canonical_size": 112.0,
    "rpn_samples": 64,
    "rpn_pre_train": 200,
    "rpn_pre_test": 200,
    "rpn_post_train": 100,
    "rpn_post_test": 100,
    "box_samples": 64,
    "max_detections": 30,
    "num_candidates": 300,
  }
  return _make(backbone, defaults | kwargs)


def pointrend_rcnn_small(num_classes: int = 13, **kwargs: Any) -> RCNN:
  """`rcnn_small` with PointRend's masks of 112 x 112, 196 points a step."""
  defaults = {
    "point_layers": (64,) * 3,
    "coarse_hidden": 256,
    "mask_side": 112,
    "mask_points": 196,
    "aligned": True,
    "integer_paste": False,
  }
  return rcnn_small(num_classes, **(defaults | kwargs))


def _detectron2(
  resnet: Callable[..., Any], arguments: Any, **body: Any
) -> RCNN:
  defaults = {**DETECTRON2, "num_classes": 81, "mask_layers": (256,) * 4}
  return _resnet50(False, defaults | arguments, resnet, **body)


def detectron2_maskrcnn_r50_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """detectron2's Mask R-CNN R50-FPN; classes 1 to 80 are its 0 to 79."""
  arguments = {"num_classes": num_classes, **kwargs}
  return _detectron2(backbones.resnet50, arguments, stride_in_1x1=True)


def detectron2_maskrcnn_r101_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """detectron2's Mask R-CNN R101-FPN; classes 1 to 80 are its 0 to 79."""
  arguments = {"num_classes": num_classes, **kwargs}
  return _detectron2(backbones.resnet101, arguments, stride_in_1x1=True)


def detectron2_maskrcnn_x101_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """detectron2's Mask R-CNN X101-FPN; classes 1 to 80 are its 0 to 79."""
  std = {"std": (57.375, 57.12, 58.395)}
  arguments = {"num_classes": num_classes, **std, **kwargs}
  return _detectron2(backbones.resnext101_32x8d, arguments)


def pointrend_rcnn_r50_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """PointRend on R50-FPN, of detectron2; classes 1 to 80 are its 0 to 79."""
  return _pointrend(backbones.resnet50, num_classes, kwargs, stride_in_1x1=True)


def pointrend_rcnn_r101_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """PointRend on R101-FPN, as `pointrend_rcnn_r50_fpn`."""
  return _pointrend(
    backbones.resnet101, num_classes, kwargs, stride_in_1x1=True
  )


def pointrend_rcnn_x101_fpn(num_classes: int = 81, **kwargs: Any) -> RCNN:
  """PointRend on X101-FPN, as `pointrend_rcnn_r50_fpn`."""
  kwargs = {"std": (57.375, 57.12, 58.395), **kwargs}
  return _pointrend(backbones.resnext101_32x8d, num_classes, kwargs)


def _pointrend(resnet, num_classes: int, arguments: Any, **body: Any) -> RCNN:
  defaults = {
    "num_classes": num_classes,
    "mask_layers": (),
    "point_layers": (256,) * 3,
  }
  return _detectron2(resnet, defaults | arguments, **body)


MODELS: dict[str, Callable[..., RCNN]] = {
  "detectron2_maskrcnn_r50_fpn": detectron2_maskrcnn_r50_fpn,
  "detectron2_maskrcnn_r101_fpn": detectron2_maskrcnn_r101_fpn,
  "detectron2_maskrcnn_x101_fpn": detectron2_maskrcnn_x101_fpn,
  "fasterrcnn_mobilenet_v3_large_320_fpn": (
    fasterrcnn_mobilenet_v3_large_320_fpn
  ),
  "fasterrcnn_mobilenet_v3_large_fpn": fasterrcnn_mobilenet_v3_large_fpn,
  "fasterrcnn_resnet50_fpn": fasterrcnn_resnet50_fpn,
  "fasterrcnn_resnet50_fpn_v2": fasterrcnn_resnet50_fpn_v2,
  "fastrcnn_vgg16": fastrcnn_vgg16,
  "keypointrcnn_resnet50_fpn": keypointrcnn_resnet50_fpn,
  "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
  "maskrcnn_resnet50_fpn_v2": maskrcnn_resnet50_fpn_v2,
  "pointrend_rcnn_r50_fpn": pointrend_rcnn_r50_fpn,
  "pointrend_rcnn_r101_fpn": pointrend_rcnn_r101_fpn,
  "pointrend_rcnn_x101_fpn": pointrend_rcnn_x101_fpn,
  "pointrend_rcnn_small": pointrend_rcnn_small,
  "rcnn_small": rcnn_small,
}
