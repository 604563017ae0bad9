"""Texture classification: which of 20 patterns fills the object?

The generated set `vision_jax.data.textures` (GENERATED.md), a small ResNet,
softmax cross-entropy, light augmentation on the device.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from vision_jax import data, nn, train

# GENERATED.md: seed 0 is for training, seed 1 for testing.
TRAIN_SET, TEST_SET = 0, 1
MEAN = (0.45, 0.45, 0.45)
STD = (0.25, 0.25, 0.25)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    seed: of the parameters and every draw; also picks the training pictures.
    num_train: training pictures, drawn once.
    num_test: held-out pictures.
    image_size: side of a picture, pixels.
    batch_size: pictures per step, over all devices.
    num_steps: updates.
    learning_rate: peak rate of Adam.
    warmup_steps: linear warm-up, then cosine to zero.
    weight_decay: decoupled.
    clip_norm: largest gradient norm.
    label_smoothing: share of the label spread over all classes.
    log_every: updates between log lines.
    checkpoint_every: updates between checkpoints.
  """

  model: str = "resnet_small"
  seed: int = 0
  num_train: int = 12_000
  num_test: int = 1_000
  image_size: int = 64
  batch_size: int = 64
  num_steps: int = 800
  learning_rate: float = 3e-3
  warmup_steps: int = 60
  weight_decay: float = 1e-4
  clip_norm: float = 5.0
  label_smoothing: float = 0.0
  log_every: int = 50
  checkpoint_every: int = 200


def create_model(config: Config) -> Any:
  """The classifier, statistics over all devices."""
  return nn.backbones.MODELS[config.model](
    len(data.TEXTURE_NAMES), axis_name="batch"
  )


def _draw_set(seed: int, first: int, count: int, size: int):
  """Pictures uint8 [N, S, S, 3] and labels int32 [N]."""
  starts = range(first, first + count, 100)
  chunks = [
    data.texture_batch(
      seed, range(start, min(start + 100, first + count)), size=size
    )
    for start in tqdm(starts, desc="drawing pictures", unit="00")
  ]
  images, labels = zip(*chunks, strict=True)
  return np.concatenate(images), np.concatenate(labels)


def make_batches(config: Config):
  """Step -> pictures, labels and global indices; a new order every epoch."""
  images, labels = _draw_set(
    TRAIN_SET,
    config.seed * config.num_train,
    config.num_train,
    config.image_size,
  )

  def batch(step: int) -> dict[str, np.ndarray]:
    indices = step * config.batch_size + np.arange(config.batch_size)
    epochs = indices // len(images)
    orders = {
      e: np.random.default_rng((config.seed, int(e))).permutation(len(images))
      for e in np.unique(epochs)
    }
    rows = np.array(
      [orders[e][i % len(images)] for e, i in zip(epochs, indices, strict=True)]
    )
    return {
      "index": indices.astype(np.int32),
      "image": images[rows],
      "label": labels[rows],
    }

  return batch


def augment(key: jax.Array, image: jax.Array) -> jax.Array:
  """Quarter turns, flips, a shift of up to 4 pixels, contrast, brightness."""
  keys = jax.random.split(key, 6)
  image = jnp.where(jax.random.bernoulli(keys[0]), image[:, ::-1], image)
  image = jnp.where(jax.random.bernoulli(keys[1]), image[::-1], image)
  image = jnp.where(
    jax.random.bernoulli(keys[2]), image.transpose(1, 0, 2), image
  )
  padded = jnp.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
  y, x = jax.random.randint(keys[3], (2,), 0, 9)
  image = jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)
  gain = jax.random.uniform(keys[4], (), minval=0.85, maxval=1.15)
  lift = jax.random.uniform(keys[5], (), minval=-0.08, maxval=0.08)
  return (image - 0.5) * gain + 0.5 + lift


def normalize(images: jax.Array) -> jax.Array:
  """The network's input from RGB in [0, 1]."""
  return (images - MEAN[0]) / STD[0]


def make_loss(config: Config, model: Any):
  """loss_fn of `train.make_step`."""
  classes = len(data.TEXTURE_NAMES)

  def loss_fn(params, batch_stats, batch, key):
    keys = train.example_keys(key, batch["index"])
    images = batch["image"].astype(jnp.float32) / 255
    images = jax.vmap(augment)(keys, images)
    (logits, _), updates = model.apply(
      {"params": params, "batch_stats": batch_stats},
      normalize(images),
      train=True,
      mutable=["batch_stats"],
    )
    targets = optax.smooth_labels(
      jax.nn.one_hot(batch["label"], classes), config.label_smoothing
    )
    losses = optax.softmax_cross_entropy(logits, targets)
    hits = logits.argmax(-1) == batch["label"]
    return {"cross_entropy": (losses.sum(), losses.shape[0])}, {
      "batch_stats": updates["batch_stats"],
      "metrics": {"accuracy": (hits.sum(), hits.shape[0])},
    }

  return loss_fn


def evaluate(config: Config, model: Any, state: Any) -> dict[str, float]:
  """Top-1 accuracy on the held-out pictures, every one counted once."""
  images, labels = _draw_set(TEST_SET, 0, config.num_test, config.image_size)
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  apply = jax.jit(lambda v, x: model.apply(v, normalize(x / 255.0))[0])
  hits = 0
  for i in range(0, len(images), 250):
    logits = apply(variables, images[i : i + 250].astype(np.float32))
    hits += int((np.argmax(logits, -1) == labels[i : i + 250]).sum())
  return {"test_accuracy": hits / len(images)}


def finish(
  config: Config, model: Any, variables: dict
) -> tuple[Any, dict, dict[str, Any]]:
  """Module, variables and metadata of the weights file."""
  return (
    model.clone(axis_name=None),
    variables,
    {
      "mean": MEAN,
      "std": STD,
      "class_names": data.TEXTURE_NAMES,
      "data": f"{config.num_train} generated pictures of 20 textures",
    },
  )
