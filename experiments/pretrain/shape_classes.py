"""A classifier of single shapes, the body that the small detectors begin with.

Its pictures are the objects of the training set of `generated_shapes`, each cut
out with some of what is around it. A network learns from 128 of them in the
time that 16 whole pictures take. Detectors elsewhere begin with a classifier of
ImageNet.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.pretrain import point_contrast, texture_classes
from vision_jax import data, nn, train
from vision_jax.data import resampling

# GENERATED.md: seed 0 is for training, seed 2 chooses settings.
_TRAIN_SET, _TEST_SET = 0, 2


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    seed: of the parameters and every draw.
    num_train: pictures whose objects are learned from, drawn once.
    num_test: pictures of the validation set.
    image_size: side of a cut-out, pixels.
    enlarge: smallest and largest side of what is cut out, over the longer side
      of the box.
    batch_size: objects of an update, over all devices.
    num_steps: updates.
    learning_rate: peak rate of Adam.
    warmup_steps: linear warm-up, then cosine to zero.
    weight_decay: decoupled.
    clip_norm: largest gradient norm.
    log_every: updates between log lines.
    checkpoint_every: updates between checkpoints.
  """

  model: str = "resnet14_small"
  seed: int = 0
  num_train: int = 20_000
  num_test: int = 600
  image_size: int = 40
  enlarge: tuple[float, float] = (1.2, 2.0)
  batch_size: int = 128
  num_steps: int = 1500
  learning_rate: float = 4e-3
  warmup_steps: int = 100
  weight_decay: float = 0.05
  clip_norm: float = 10.0
  log_every: int = 50
  checkpoint_every: int = 500


def create_model(config: Config) -> Any:
  """The classifier, statistics over all devices."""
  return nn.backbones.MODELS[config.model](
    len(data.SHAPE_NAMES), axis_name="batch"
  )


def cut_out(
  image: np.ndarray, box: np.ndarray, *, enlarge: float, size: int
) -> np.ndarray:
  """The square around the middle of a box, uint8 [size, size, 3].

  Its side is `enlarge` times the longer side of the box; black outside.
  """
  x1, y1, x2, y2 = box.tolist()
  side = enlarge * max(x2 - x1, y2 - y1)
  corner = (x1 + x2 - side) / 2, (y1 + y2 - side) / 2
  matrix = resampling.axis_matrix((side / size, side / size), corner)
  return resampling.resample(image, matrix, (size, size))


def _draw_set(config: Config, data_seed: int, count: int):
  """Cut-outs uint8 [N, S, S, 3] and labels int32 [N] of `count` pictures."""
  rng = np.random.default_rng((config.seed, data_seed))
  images, labels = [], []
  for index in tqdm(range(count), desc="cutting out objects"):
    example = data.shapes(data_seed, index)
    factors = rng.uniform(*config.enlarge, len(example["boxes"])).tolist()
    images += [
      cut_out(example["image"], box, enlarge=factor, size=config.image_size)
      for box, factor in zip(example["boxes"], factors, strict=True)
    ]
    labels.append(example["labels"])
  return np.stack(images), np.concatenate(labels).astype(np.int32)


def make_batches(config: Config):
  """Step -> pictures, labels and global indices; a new order every epoch."""
  images, labels = _draw_set(config, _TRAIN_SET, config.num_train)
  rows_of = texture_classes.shuffled_rows(config.seed, len(images))

  def batch(step: int) -> dict[str, np.ndarray]:
    rows = rows_of(step, config.batch_size)
    index = step * config.batch_size + np.arange(config.batch_size)
    return {"image": images[rows], "label": labels[rows], "index": index}

  return batch


def make_loss(config: Config, model: Any):
  """loss_fn of `train.make_step`."""
  del config

  def loss_fn(params, batch_stats, batch, key):
    keys = train.example_keys(key, batch["index"])
    images = jax.vmap(texture_classes.augment)(
      keys, batch["image"].astype(jnp.float32) / 255
    )
    (logits, _), updates = model.apply(
      {"params": params, "batch_stats": batch_stats},
      point_contrast.normalize(images),
      train=True,
      mutable=["batch_stats"],
    )
    labels, count = batch["label"], len(images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (logits.argmax(-1) == labels).sum()
    metrics = {"accuracy": (hits, count)}
    terms = {"cross_entropy": (losses.sum(), count)}
    return terms, {"batch_stats": updates["batch_stats"], "metrics": metrics}

  return loss_fn


def evaluate(config: Config, model: Any, state: Any) -> dict[str, float]:
  """Top-1 accuracy on objects of the validation set, each counted once."""
  pictures = _draw_set(config, _TEST_SET, config.num_test)
  return texture_classes.top1(model, state, *pictures)


def finish(
  config: Config, model: Any, variables: dict
) -> tuple[Any, dict, dict[str, Any]]:
  """Module, variables and metadata of the weights file."""
  names = tuple(data.SHAPE_NAMES)
  return (
    model.clone(axis_name=None),
    variables,
    {
      "mean": point_contrast.MEAN,
      "std": point_contrast.STD,
      "class_names": names,
      "arguments": {"num_classes": len(names)},
      "data": f"the objects of {config.num_train} pictures of generated_shapes",
    },
  )
