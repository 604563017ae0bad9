"""Settings of a classification run; one file of configs/ for each result."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Data:
  """Which pictures, and what is done to them.

  Attributes:
    name: a generated set, drawn on first use; or the folder, below the data
      directory, of a set that TFDS has prepared (mnist, cifar10, imagenet2012).
    variant: configuration of a generated set; its first one if None.
    train: split to train on.
    test: split to evaluate on.
    size: side of the pictures the network is trained on, pixels.
    augment: "turns" (quarter turns, mirrors, shifts), "shifts" (mirror and
      shifts), "crops" (random resized crops and mirrors, as for ImageNet) or
      "none".
    resize: for evaluation, length of the shorter side; None keeps pictures.
    crop: for evaluation, side of the central square; None keeps pictures.
    mean: subtracted from channels in [0, 1].
    std: each channel is divided by it.
    num_threads: batches read at a time; None is one a core. Small pictures are
      read fastest by one: threads would wait for Python's lock.
    num_workers: processes that read; 0 reads with threads.
    cache: keep what has been read in memory; for sets of small pictures.
    on_error: what a training picture that cannot be read does: "stop" ends the
      run with its name, "skip" leaves it out with a warning. Evaluation always
      stops: its numbers are of every picture.
  """

  name: str = "generated_textures"
  variant: str | None = None
  train: str = "train"
  test: str = "test"
  size: int = 64
  augment: Literal["turns", "shifts", "crops", "none"] = "turns"
  resize: int | None = None
  crop: int | None = None
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
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
    warmup: epochs of linear warm-up.
    milestones: epochs after which "step" multiplies the rate by 0.1.
    momentum: of "sgd".
    nesterov: Nesterov's form of it.
    weight_decay: factor of the decay.
    decay_all: whether biases and scales of normalisation decay as well.
    clip_norm: largest norm of the gradient, or None.
    factors: (path of parameters, factor of the rate); 0 freezes.
  """

  name: str = "adamw"
  learning_rate: float = 4e-3
  schedule: str = "cosine"
  warmup: float = 0.5
  milestones: tuple[float, ...] = ()
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 1e-3
  decay_all: bool = False
  clip_norm: float | None = None
  factors: tuple[tuple[str, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Config:
  """One run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    weights: what to begin with: None for random, "bundled", a file, or the name
      of published weights such as IMAGENET1K_V1. A classifier of another number
      of classes is replaced by a random one.
    freeze_norm: keep the statistics of normalisation as they are (fine-tuning).
    data: the pictures.
    optimizer: the updates.
    epochs: how often the training pictures are gone through.
    num_steps: updates instead, over which warm-up and milestones keep their
      share of `epochs`; None is as many as the epochs have.
    batch_size: pictures of an update, over all devices and processes.
    accumulate: parts that a device's share is cut into, one after the other.
    label_smoothing: share of the target spread over all classes.
    precision: "float32" or "bfloat16".
    ema_decay: of the moving average that is evaluated; None keeps none.
    seed: of parameters, order and augmentation.
    eval_batch_size: pictures of an evaluation batch.
    eval_every: updates between evaluations; None is at the end alone.
    checkpoint_every: updates between checkpoints.
    log_every: updates between log lines.
  """

  model: str = "resnet_small"
  weights: str | None = None
  freeze_norm: bool = False
  data: Data = Data()
  optimizer: Optimizer = Optimizer()
  epochs: float = 12.0
  num_steps: int | None = None
  batch_size: int = 64
  accumulate: int = 1
  label_smoothing: float = 0.0
  precision: Literal["float32", "bfloat16"] = "float32"
  ema_decay: float | None = None
  seed: int = 0
  eval_batch_size: int = 256
  eval_every: int | None = None
  checkpoint_every: int = 500
  log_every: int = 50
