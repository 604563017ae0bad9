"""The published ImageNet weights, as literal tables.

`CATALOG` has torchvision's: file names end in the first eight digits of their
SHA-256. `FOREIGN` has those of other frameworks, which are not downloaded.
Accuracies are top-1 on the ImageNet validation set, per cent, of detectors the
average precision of boxes on COCO val2017, and of segmentation networks the
mean intersection over union on its images with the labels of VOC, as their
publishers state them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vision_jax.weights.errors import WeightsError
from vision_jax.weights.preprocess import (
  CAFFE_PREPROCESS,
  COCO_CAFFE_PREPROCESS,
  DARKNET_PREPROCESS,
  DETECTION_PREPROCESS,
  FEATURES_PREPROCESS,
  IMAGENET_PREPROCESS,
  IMAGENET_V2_PREPROCESS,
  KERAS_PREPROCESS,
  R103_PREPROCESS,
  SEGMENTATION_PREPROCESS,
  Preprocess,
)

__all__ = [
  "BASE_URL",
  "CATALOG",
  "FOREIGN",
  "VOC_CLASSES",
  "Entry",
  "ForeignEntry",
  "find_entry",
]

BASE_URL = "https://download.pytorch.org/models/"


class Entry(NamedTuple):
  """One published file of weights.

  Attributes:
    file: name of the file; its last eight digits begin the SHA-256.
    accuracy: the number of `metric`, in per cent; NaN where there is no
      classifier.
    preprocessing: what to do to an image before the network.
    features_only: True if the classifier of the file is not a number (NaN).
    arguments: what the constructor must be given for these weights.
    pixel_accuracy: of segmentation, share of the pixels that are right.
    class_names: names of the classes where they are not those of ImageNet.
    metric: what `accuracy` is, and of which pictures.

  Example:
    >>> from vision_jax.weights import CATALOG
    >>> CATALOG["resnet50"]["IMAGENET1K_V2"].accuracy
    80.858
  """

  file: str
  accuracy: float
  preprocessing: Preprocess = IMAGENET_PREPROCESS
  features_only: bool = False
  arguments: Mapping[str, Any] = {}
  pixel_accuracy: float = float("nan")
  class_names: tuple[str, ...] = ()
  metric: str = "top-1, ImageNet"

  @property
  def url(self) -> str:
    """Where the file is published."""
    return BASE_URL + self.file


class ForeignEntry(NamedTuple):
  """Weights that another framework publishes.

  Attributes:
    file: name under which they are published.
    accuracy: the number of `metric`, in per cent.
    preprocessing: what to do to an image before the network.
    reader: the function of `vision_jax.weights` that reads them.
    metric: what `accuracy` is, and of which pictures.

  Example:
    >>> from vision_jax.weights import FOREIGN
    >>> FOREIGN["darknet53"].reader, FOREIGN["darknet53"].accuracy
    ('from_darknet', 77.2)
  """

  file: str
  accuracy: float
  preprocessing: Preprocess
  reader: str
  metric: str = "top-1, ImageNet"


_V2 = IMAGENET_V2_PREPROCESS

# The labels of Pascal VOC, in the order of the scores.
VOC_CLASSES = (
  "background",
  "aeroplane",
  "bicycle",
  "bird",
  "boat",
  "bottle",
  "bus",
  "car",
  "cat",
  "chair",
  "cow",
  "diningtable",
  "dog",
  "horse",
  "motorbike",
  "person",
  "pottedplant",
  "sheep",
  "sofa",
  "train",
  "tvmonitor",
)


def _segmentation(
  file: str, mean_iou: float, pixel_accuracy: float
) -> dict[str, Entry]:
  """The one set of weights of a segmentation network."""
  entry = Entry(
    file,
    mean_iou,
    SEGMENTATION_PREPROCESS,
    pixel_accuracy=pixel_accuracy,
    class_names=VOC_CLASSES,
    metric="mean IoU, COCO with the labels of VOC",
  )
  return {"COCO_WITH_VOC_LABELS_V1": entry}


_BOXES = "box AP, COCO"
_MASKS = "mask AP, COCO"
_CITYSCAPES = "mean IoU, Cityscapes"

# Published before frozen normalisation had an epsilon.
_NO_EPSILON = {"norm_epsilon": 0.0}

# Model -> name of the weights -> entry. The last one of a model is its DEFAULT.
CATALOG: dict[str, dict[str, Entry]] = {
  "alexnet": {
    "IMAGENET1K_V1": Entry("alexnet-owt-7be5be79.pth", 56.522),
  },
  "densenet121": {
    "IMAGENET1K_V1": Entry("densenet121-a639ec97.pth", 74.434),
  },
  "densenet161": {
    "IMAGENET1K_V1": Entry("densenet161-8d451a50.pth", 77.138),
  },
  "densenet169": {
    "IMAGENET1K_V1": Entry("densenet169-b2777c0a.pth", 75.600),
  },
  "densenet201": {
    "IMAGENET1K_V1": Entry("densenet201-c1103571.pth", 76.896),
  },
  "mobilenet_v2": {
    "IMAGENET1K_V1": Entry("mobilenet_v2-b0353104.pth", 71.878),
    "IMAGENET1K_V2": Entry("mobilenet_v2-7ebf99e0.pth", 72.154, _V2),
  },
  "mobilenet_v3_large": {
    "IMAGENET1K_V1": Entry("mobilenet_v3_large-8738ca79.pth", 74.042),
    "IMAGENET1K_V2": Entry("mobilenet_v3_large-5c1a4163.pth", 75.274, _V2),
  },
  "mobilenet_v3_small": {
    "IMAGENET1K_V1": Entry("mobilenet_v3_small-047dcff4.pth", 67.668),
  },
  "squeezenet1_0": {
    "IMAGENET1K_V1": Entry("squeezenet1_0-b66bff10.pth", 58.092),
  },
  "squeezenet1_1": {
    "IMAGENET1K_V1": Entry("squeezenet1_1-b8a52dc0.pth", 58.178),
  },
  "vgg11": {"IMAGENET1K_V1": Entry("vgg11-8a719046.pth", 69.020)},
  "vgg11_bn": {"IMAGENET1K_V1": Entry("vgg11_bn-6002323d.pth", 70.370)},
  "vgg13": {"IMAGENET1K_V1": Entry("vgg13-19584684.pth", 69.928)},
  "vgg13_bn": {"IMAGENET1K_V1": Entry("vgg13_bn-abd245e5.pth", 71.586)},
  "vgg16": {
    "IMAGENET1K_FEATURES": Entry(
      "vgg16_features-amdegroot-88682ab5.pth",
      float("nan"),
      FEATURES_PREPROCESS,
      features_only=True,
    ),
    "IMAGENET1K_V1": Entry("vgg16-397923af.pth", 71.592),
  },
  "vgg16_bn": {"IMAGENET1K_V1": Entry("vgg16_bn-6c64b313.pth", 73.360)},
  "vgg19": {"IMAGENET1K_V1": Entry("vgg19-dcbb9e9d.pth", 72.376)},
  "vgg19_bn": {"IMAGENET1K_V1": Entry("vgg19_bn-c79401a0.pth", 74.218)},
  "resnet18": {"IMAGENET1K_V1": Entry("resnet18-f37072fd.pth", 69.758)},
  "resnet34": {"IMAGENET1K_V1": Entry("resnet34-b627a593.pth", 73.314)},
  "resnet50": {
    "IMAGENET1K_V1": Entry("resnet50-0676ba61.pth", 76.130),
    "IMAGENET1K_V2": Entry("resnet50-11ad3fa6.pth", 80.858, _V2),
  },
  "resnet101": {
    "IMAGENET1K_V1": Entry("resnet101-63fe2227.pth", 77.374),
    "IMAGENET1K_V2": Entry("resnet101-cd907fc2.pth", 81.886, _V2),
  },
  "resnet152": {
    "IMAGENET1K_V1": Entry("resnet152-394f9c45.pth", 78.312),
    "IMAGENET1K_V2": Entry("resnet152-f82ba261.pth", 82.284, _V2),
  },
  "resnext50_32x4d": {
    "IMAGENET1K_V1": Entry("resnext50_32x4d-7cdf4587.pth", 77.618),
    "IMAGENET1K_V2": Entry("resnext50_32x4d-1a0047aa.pth", 81.198, _V2),
  },
  "resnext101_32x8d": {
    "IMAGENET1K_V1": Entry("resnext101_32x8d-8ba56ff5.pth", 79.312),
    "IMAGENET1K_V2": Entry("resnext101_32x8d-110c445d.pth", 82.834, _V2),
  },
  "resnext101_64x4d": {
    "IMAGENET1K_V1": Entry("resnext101_64x4d-173b62eb.pth", 83.246, _V2),
  },
  "wide_resnet50_2": {
    "IMAGENET1K_V1": Entry("wide_resnet50_2-95faca4d.pth", 78.468),
    "IMAGENET1K_V2": Entry("wide_resnet50_2-9ba9bcbe.pth", 81.602, _V2),
  },
  "wide_resnet101_2": {
    "IMAGENET1K_V1": Entry("wide_resnet101_2-32ee1156.pth", 78.848),
    "IMAGENET1K_V2": Entry("wide_resnet101_2-d733dc28.pth", 82.510, _V2),
  },
  "fasterrcnn_mobilenet_v3_large_320_fpn": {
    "COCO_V1": Entry(
      "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
      22.8,
      DETECTION_PREPROCESS._replace(resize=320),
      metric=_BOXES,
    ),
  },
  "fasterrcnn_mobilenet_v3_large_fpn": {
    "COCO_V1": Entry(
      "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
      32.8,
      DETECTION_PREPROCESS,
      metric=_BOXES,
    ),
  },
  "fasterrcnn_resnet50_fpn": {
    "COCO_V1": Entry(
      "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
      37.0,
      DETECTION_PREPROCESS,
      arguments=_NO_EPSILON,
      metric=_BOXES,
    ),
  },
  "fasterrcnn_resnet50_fpn_v2": {
    "COCO_V1": Entry(
      "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
      46.7,
      DETECTION_PREPROCESS,
      metric=_BOXES,
    ),
  },
  "keypointrcnn_resnet50_fpn": {
    "COCO_LEGACY": Entry(
      "keypointrcnn_resnet50_fpn_coco-9f466800.pth",
      50.6,
      DETECTION_PREPROCESS,
      metric=_BOXES,
    ),
    "COCO_V1": Entry(
      "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
      54.6,
      DETECTION_PREPROCESS,
      arguments=_NO_EPSILON,
      metric=_BOXES,
    ),
  },
  "maskrcnn_resnet50_fpn": {
    "COCO_V1": Entry(
      "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
      37.9,
      DETECTION_PREPROCESS,
      arguments=_NO_EPSILON,
      metric=_BOXES,
    ),
  },
  "maskrcnn_resnet50_fpn_v2": {
    "COCO_V1": Entry(
      "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
      47.4,
      DETECTION_PREPROCESS,
      metric=_BOXES,
    ),
  },
  "deeplabv3_mobilenet_v3_large": _segmentation(
    "deeplabv3_mobilenet_v3_large-fc3c493d.pth", 60.3, 91.2
  ),
  "deeplabv3_resnet50": _segmentation(
    "deeplabv3_resnet50_coco-cd0a2569.pth", 66.4, 92.4
  ),
  "deeplabv3_resnet101": _segmentation(
    "deeplabv3_resnet101_coco-586e9e4e.pth", 67.4, 92.4
  ),
  "fcn_resnet50": _segmentation("fcn_resnet50_coco-1167a1af.pth", 60.5, 91.4),
  "fcn_resnet101": _segmentation("fcn_resnet101_coco-7ecb50ca.pth", 63.7, 91.9),
  "lraspp_mobilenet_v3_large": _segmentation(
    "lraspp_mobilenet_v3_large-d234d4ea.pth", 57.9, 91.2
  ),
}

# Model -> entry. Redmon, Farhadi, arXiv 1804.02767, table 2; keras.io; the
# projects of detectron2 (mean IoU on Cityscapes, per cent).
FOREIGN: dict[str, ForeignEntry] = {
  "darknet53": ForeignEntry(
    "darknet53.weights", 77.2, DARKNET_PREPROCESS, "from_darknet"
  ),
  "deeplabv3_plus_r103": ForeignEntry(
    "model_final_a8a355.pkl",
    80.0,
    R103_PREPROCESS,
    "from_detectron2",
    _CITYSCAPES,
  ),
  "deeplabv3_r103": ForeignEntry(
    "model_final_0dff1b.pkl",
    78.5,
    R103_PREPROCESS,
    "from_detectron2",
    _CITYSCAPES,
  ),
  "pointrend_semantic_fpn_resnet101": ForeignEntry(
    "model_final_cf6ac1.pkl",
    78.9,
    CAFFE_PREPROCESS,
    "from_detectron2",
    _CITYSCAPES,
  ),
  "pointrend_rcnn_r50_fpn": ForeignEntry(
    "model_final_edd263.pkl",
    38.3,
    COCO_CAFFE_PREPROCESS,
    "from_detectron2",
    _MASKS,
  ),
  "pointrend_rcnn_r101_fpn": ForeignEntry(
    "model_final_3f4d2a.pkl",
    40.1,
    COCO_CAFFE_PREPROCESS,
    "from_detectron2",
    _MASKS,
  ),
  "pointrend_rcnn_x101_fpn": ForeignEntry(
    "model_final_ba17b9.pkl",
    41.1,
    COCO_CAFFE_PREPROCESS._replace(std=(57.375, 57.12, 58.395)),
    "from_detectron2",
    _MASKS,
  ),
  "xception": ForeignEntry(
    "xception_weights_tf_dim_ordering_tf_kernels.h5",
    79.0,
    KERAS_PREPROCESS,
    "from_keras",
  ),
}


def find_entry(model: str, *, enum: str = "DEFAULT") -> Entry:
  """Looks up published weights.

  Args:
    model: name of the model, for example "resnet50".
    enum: name of the weights, for example "IMAGENET1K_V2"; "DEFAULT" gives the
      best ones, as torchvision does.

  Returns:
    The entry of `CATALOG`.

  Raises:
    WeightsError: if the model has no published weights, or none of that name.

  Example:
    >>> from vision_jax import weights
    >>> weights.find_entry("vgg16", enum="IMAGENET1K_V1").file
    'vgg16-397923af.pth'

  Source:
    The weights enumerations of torchvision 0.28.
  """
  if model not in CATALOG:
    raise WeightsError(
      f"find_entry: `model` must be one with published weights, got "
      f"{model!r}; there are {', '.join(CATALOG)}."
    )
  entries = CATALOG[model]
  if enum == "DEFAULT":
    return list(entries.values())[-1]
  if enum not in entries:
    raise WeightsError(
      f"find_entry: `enum` must be one of {['DEFAULT', *entries]} for "
      f"{model}, got {enum!r}."
    )
  return entries[enum]


def find_file(name: str) -> Entry | None:
  """The entry of a published file name, or None."""
  for entries in CATALOG.values():
    for entry in entries.values():
      if entry.file == name:
        return entry
  return None
