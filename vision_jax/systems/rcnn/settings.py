"""The numbers of a detector that are not parameters."""

import dataclasses
from typing import Any

__all__ = ["DETECTRON2", "Settings"]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How pictures are prepared, sampled, suppressed; defaults of torchvision.

  Attributes:
    min_size: length that the shorter side is resized to.
    max_size: longest allowed side after that.
    mean: subtracted from each channel, after `scale` and `channel_order`.
    std: each channel is divided by it.
    scale: factor for pictures in [0, 1].
    channel_order: "RGB" or "BGR".
    resize: "torchvision" (floor of the sizes, bilinear) or "detectron2"
      (rounded sizes, Pillow's bilinear filter on bytes).
    round_anchors: anchors of a cell have whole coordinates.
    fixed_strides: anchors of level l are 2^l pixels apart; else padded side //
      cells, as in torchvision.
    aligned: half-pixel correct RoIAlign.
    sampling_ratio: samples per bin and axis of RoIAlign; 0 is adaptive.
    level_eps: added to the logarithm that chooses a box's level.
    canonical_size: side of a box that is read from level 4.
    rpn_high: IoU from which an anchor is an object.
    rpn_low: IoU below which it is background.
    rpn_samples: anchors sampled per picture.
    rpn_positive_fraction: largest share of objects among them.
    rpn_beta: of the smooth L1 loss.
    rpn_count_all: the box loss of the RPN is divided by `rpn_samples` per
      picture, also where fewer are found.
    rpn_pre_train: proposals of each level before suppression, in training.
    rpn_pre_test: the same, in prediction.
    rpn_post_train: proposals of a picture, in training.
    rpn_post_test: the same, in prediction.
    rpn_nms: IoU above which a proposal suppresses another.
    rpn_score: least probability of a proposal.
    rpn_min_side: least side of a proposal.
    box_high: IoU from which a proposal is an object.
    box_low: IoU below which it is background.
    box_samples: proposals sampled per picture.
    box_positive_fraction: largest share of objects among them.
    box_beta: of the smooth L1 loss.
    box_weights: factors of the encoded boxes (x, y, width, height).
    box_score: a detection's score is above.
    box_nms: IoU above which a detection suppresses another of its class.
    box_min_side: least side of a detection.
    max_detections: per picture.
    num_candidates: best (proposal, class) pairs that suppression sees.
    hard_masks: mask targets are 0 or 1; those of PointRend always are.
    integer_paste: masks are pasted to whole pixels, as torchvision does.
    mask_side: side of masks that are made by subdivision.
    mask_points: points of a step of that.
    mask_points_train: points of each box in training.
    mask_padding: what they read behind a border, as `ops.point_sample`; for
      released heads "zeros".
    mask_oversample: k of their draw.
    mask_importance: beta of their draw.
  """

  min_size: int = 800
  max_size: int = 1333
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  scale: float = 1.0
  channel_order: str = "RGB"
  resize: str = "torchvision"
  round_anchors: bool = True
  fixed_strides: bool = False
  aligned: bool = False
  sampling_ratio: int = 2
  level_eps: float = 1e-6
  canonical_size: float = 224.0
  rpn_high: float = 0.7
  rpn_low: float = 0.3
  rpn_samples: int = 256
  rpn_positive_fraction: float = 0.5
  rpn_beta: float = 1 / 9
  rpn_count_all: bool = False
  rpn_pre_train: int = 2000
  rpn_pre_test: int = 1000
  rpn_post_train: int = 2000
  rpn_post_test: int = 1000
  rpn_nms: float = 0.7
  rpn_score: float = 0.0
  rpn_min_side: float = 1e-3
  box_high: float = 0.5
  box_low: float = 0.5
  box_samples: int = 512
  box_positive_fraction: float = 0.25
  box_beta: float = 1 / 9
  box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
  box_score: float = 0.05
  box_nms: float = 0.5
  box_min_side: float = 1e-2
  max_detections: int = 100
  num_candidates: int = 1000
  hard_masks: bool = False
  integer_paste: bool = True
  mask_side: int = 224
  mask_points: int = 784
  mask_points_train: int = 196
  mask_padding: str = "zeros"
  mask_oversample: float = 3.0
  mask_importance: float = 0.75


# Where detectron2's Mask R-CNN differs. Its configuration files, version 0.6.
DETECTRON2: dict[str, Any] = {
  "mean": (103.53, 116.28, 123.675),
  "std": (1.0, 1.0, 1.0),
  "scale": 255.0,
  "channel_order": "BGR",
  "resize": "detectron2",
  "round_anchors": False,
  "fixed_strides": True,
  "aligned": True,
  "sampling_ratio": 0,
  "level_eps": 0.0,
  "rpn_beta": 0.0,
  "rpn_count_all": True,
  "rpn_min_side": 1e-20,
  "rpn_post_train": 1000,
  "box_beta": 0.0,
  "box_min_side": 1e-20,
  "hard_masks": True,
  "integer_paste": False,
}
