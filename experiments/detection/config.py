"""Settings of a detection run; one file of configs/ for each result."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Data:
  """Which pictures, and what is done to them.

  Attributes:
    name: a generated set, drawn on first use; "coco" or "voc", folders in
      their own layouts below the data directory; or the folder of a set that
      TFDS has prepared.
    variant: configuration of a generated set; its first one if None.
    train: split to train on. Of COCO the year and kind, "train2017"; of VOC
      folders and lists, "VOC2007/trainval+VOC2012/trainval".
    test: split to evaluate on.
    size: (height, width) the network is trained on, pixels.
    augment: "symmetries" (of the square), "jitter" (darknet's: aspect, place,
      colours, mirror), "shortest" (shorter side drawn from `sides`, mirror,
      upper left on the canvas), "flip" (letterbox, mirror) or "none".
    sides: lengths of the shorter side, for "shortest"; the longer one stays
      within `size`.
    masks: read masks as well.
    max_objects: objects of a picture that are kept, the largest.
    num_threads: batches read at a time; None is one a core.
    num_workers: processes that read; 0 reads with threads.
    cache: keep what has been read in memory; for sets of small pictures.
    on_error: what a training picture that cannot be read does: "stop" ends the
      run with its name, "skip" leaves it out with a warning. Evaluation always
      stops: its numbers are of every picture.
  """

  name: str = "generated_shapes"
  variant: str | None = None
  train: str = "train"
  test: str = "test"
  size: tuple[int, int] = (128, 128)
  augment: Literal["symmetries", "jitter", "shortest", "flip", "none"] = (
    "symmetries"
  )
  sides: tuple[int, ...] = (800,)
  masks: bool = False
  max_objects: int = 8
  num_threads: int | None = 1
  num_workers: int = 0
  cache: bool = False
  on_error: Literal["stop", "skip"] = "stop"


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How the parameters are updated.

  Attributes:
    name: as `train.make_optimizer` has it.
    learning_rate: largest rate, for the batch size of the config.
    schedule: as `train.make_schedule` has it.
    warmup_steps: updates of the warm-up, by a straight line.
    milestones: updates after which "step" multiplies the rate by 0.1.
    momentum: of "sgd" and "muon", beta 1 of "adamw".
    nesterov: Nesterov's form of it.
    weight_decay: factor of the decay.
    clip_norm: largest norm of the gradient, or None.
    factors: (path of parameters, factor of the rate); 0 freezes.
  """

  name: str = "adamw"
  learning_rate: float = 3e-3
  schedule: str = "cosine"
  warmup_steps: int = 200
  milestones: tuple[int, ...] = ()
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 0.05
  clip_norm: float | None = None
  factors: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Yolo:
  """What belongs to YOLOv3 alone.

  Attributes:
    ignore_threshold: overlap above which a prediction without an object gets
      no loss of objectness: 0.5 in the paper, 0.7 in darknet's file for COCO.
    match_threshold: overlap of the sides above which further anchors answer for
      an object; 1 is darknet's YOLOv3, 0.213 its YOLOv4.
    coordinates: loss of the middle of a box, "bce" as darknet or "mse".
    objectness: share of anchors with an object that the network believes in at
      first, in all classes alike; 0.5, and of each class 0.5, is darknet's.
  """

  ignore_threshold: float = 0.5
  match_threshold: float = 1.0
  coordinates: Literal["bce", "mse"] = "bce"
  objectness: float = 0.01


@dataclasses.dataclass(frozen=True)
class Config:
  """One run.

  Attributes:
    model: constructor of a detector.
    arguments: further arguments of it; JSON values.
    weights: what to begin with: None for random; a file; of YOLOv3 also a
      backbone of darknet such as darknet53.conv.74; of the R-CNN family also
      the name of published or bundled weights, of itself ("COCO_V1"), of a
      relative ("rcnn_small") or of a backbone ("resnet50/IMAGENET1K_V2").
    data: the pictures.
    optimizer: the updates.
    yolo: what belongs to YOLOv3.
    num_steps: updates.
    batch_size: pictures of an update, over all devices and processes.
    accumulate: parts that a device's share is cut into, one after the other.
    precision: "float32" or "bfloat16".
    ema_decay: of the moving average that is evaluated; None keeps none.
    metric: "coco", or "voc_11" or "voc" (mean AP50 of VOC 2007 or from 2010).
    seed: of parameters, order and augmentation.
    eval_batch_size: pictures that are predicted together.
    eval_every: updates between evaluations; None is at the end alone.
    checkpoint_every: updates between checkpoints.
    log_every: updates between log lines.
  """

  model: str = "yolo_small"
  arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
  weights: str | None = None
  data: Data = Data()
  optimizer: Optimizer = Optimizer()
  yolo: Yolo = Yolo()
  num_steps: int = 4000
  batch_size: int = 32
  accumulate: int = 1
  precision: Literal["float32", "bfloat16"] = "float32"
  ema_decay: float | None = 0.998
  metric: Literal["coco", "voc_11", "voc"] = "coco"
  seed: int = 0
  eval_batch_size: int = 32
  eval_every: int | None = None
  checkpoint_every: int = 500
  log_every: int = 50
