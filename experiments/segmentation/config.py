"""Settings of a segmentation run; one file of configs/ for each result."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Data:
  """Which pictures, and what is done to them.

  Attributes:
    name: "generated_shapes", drawn as they are read; "oxford_iiit_pet", as TFDS
      has prepared it; or "cityscapes" or "coco" (with the classes of VOC), the
      folders as they are published. All but the first lie below the data
      directory.
    train: split to train on.
    test: split to evaluate on.
    num_train: drawn pictures of the training split.
    num_test: pictures that are evaluated; None is all.
    size: height and width of a training crop; pictures are evaluated whole at
      this size, or at their own where that is None.
    eval_size: height and width of evaluation.
    scales: of random resizing, before the crop; at 1 the picture just fits into
      the crop. None takes pictures as they are.
    num_classes: K; of generated shapes 13, or 2 for objects against background.
    mean: subtracted from channels in [0, 1].
    std: each channel is divided by it.
    num_threads: batches made at a time; None is one a core.
  """

  name: Literal["generated_shapes", "oxford_iiit_pet", "cityscapes", "coco"] = (
    "generated_shapes"
  )
  train: str = "train"
  test: str = "test"
  num_train: int = 20_000
  num_test: int | None = 400
  size: tuple[int, int] = (128, 128)
  eval_size: tuple[int, int] = (128, 128)
  scales: tuple[float, float] | None = None
  num_classes: int = 13
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  num_threads: int | None = 1


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How the parameters are updated.

  Attributes:
    name: as `train.make_optimizer` has it.
    learning_rate: largest rate, for the batch size of the config.
    schedule: as `train.make_schedule` has it.
    warmup: updates of linear warm-up.
    weight_decay: factor of the decay.
    clip_norm: largest norm of the gradient, or None.
    head_factor: the coarse network's classifier learns at so many times the
      rate.
    aux_factor: its auxiliary head does.
  """

  name: str = "adamw"
  learning_rate: float = 4e-3
  schedule: str = "cosine"
  warmup: int = 50
  weight_decay: float = 0.02
  clip_norm: float | None = 1.0
  head_factor: float = 1.0
  aux_factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Config:
  """One run.

  Attributes:
    model: constructor in vision_jax.systems.pointrend.
    part: what is trained: "coarse", the coarse network alone; "points", the
      head of points alone, on `weights`; or "joint", both at once.
    backbone: weights whose backbone to begin with: a file, the name of a
      bundled network, or None for random ones.
    weights: of the whole network to begin with, or of its coarse network alone
      ("deeplabv3_resnet50/COCO_WITH_VOC_LABELS_V1"): then the head of points
      is new.
    output_stride: of DeepLab, 8 or 16; None is the constructor's.
    aux: whether DeepLab has an auxiliary head; None is the constructor's.
    data: the pictures.
    optimizer: the updates.
    num_steps: number of updates.
    batch_size: pictures of an update, over all devices and processes.
    num_points: N of training, for each picture.
    sampling: how they are drawn: a name in `ops.POINT_SAMPLING`.
    hardest: share of the pixels that the coarse loss counts.
    seed: of parameters, order and points.
    eval_batch_size: pictures of an evaluation batch.
    checkpoint_every: updates between checkpoints.
    log_every: updates between log lines.
  """

  model: str = "pointrend_small"
  part: Literal["coarse", "points", "joint"] = "coarse"
  backbone: str | None = None
  weights: str | None = None
  output_stride: Literal[8, 16] | None = None
  aux: bool | None = None
  data: Data = Data()
  optimizer: Optimizer = Optimizer()
  num_steps: int = 900
  batch_size: int = 16
  num_points: int = 256
  sampling: str = "mild"
  hardest: float = 1.0
  seed: int = 0
  eval_batch_size: int = 16
  checkpoint_every: int = 150
  log_every: int = 25
