"""A classifier of many generated objects, as ImageNet's names many things.

Its classes are instances of the generated instance search (GENERATED.md), of
sets that no search is measured on: each picture shows one of them, warped, lit
and partly hidden as there, on clutter.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.pretrain import point_contrast, texture_classes
from vision_jax import data, nn, train, weights

_PER_SET = 40
_TRAIN_KIND, _TEST_KIND = "database", "query"  # streams of their own


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    seed: of the parameters and every draw.
    first_set: number of the first set of instances.
    num_sets: sets of 40 instances; sets 0 to 99 are kept for searches.
    num_train: training pictures, drawn once.
    num_test: held-out pictures of the same instances.
    image_size: side of a picture, pixels.
    sides: shortest and longest of the longest side of an instance, pixels.
    backbone: bundled weights to begin with, or None for random ones.
    batch_size: pictures of an update, over all devices.
    num_steps: updates.
    learning_rate: peak rate of Adam.
    warmup_steps: linear warm-up, then cosine to zero.
    weight_decay: decoupled.
    clip_norm: largest gradient norm.
    log_every: updates between log lines.
    checkpoint_every: updates between checkpoints.
  """

  model: str = "resnet_small"
  seed: int = 0
  first_set: int = 100
  num_sets: int = 10
  num_train: int = 12_000
  num_test: int = 1_200
  image_size: int = 128
  sides: tuple[int, int] = (32, 124)
  backbone: str | None = "textures"
  batch_size: int = 32
  num_steps: int = 1500
  learning_rate: float = 3e-3
  warmup_steps: int = 100
  weight_decay: float = 1e-4
  clip_norm: float = 5.0
  log_every: int = 50
  checkpoint_every: int = 500


def _names(config: Config) -> tuple[str, ...]:
  sets = range(config.first_set, config.first_set + config.num_sets)
  return tuple(f"set {s}, {k}" for s in sets for k in range(_PER_SET))


def create_model(config: Config) -> Any:
  """The classifier, statistics over all devices."""
  return nn.backbones.MODELS[config.model](
    config.num_sets * _PER_SET, axis_name="batch"
  )


def initial_variables(config: Config, variables: dict) -> dict:
  """The network to begin with; its last layer is random."""
  if config.backbone is None:
    return variables
  _, found, _ = weights.load_bundled(config.model, weights=config.backbone)
  params = {**found["params"], "fc": variables["params"]["fc"]}
  return {"params": params, "batch_stats": found["batch_stats"]}


def _draw_set(config: Config, kind: str, count: int):
  """Pictures uint8 [N, S, S, 3] and labels int32 [N], classes in turn."""
  rng = np.random.default_rng((config.seed, kind == _TEST_KIND))
  low, high = np.log(config.sides)
  sides = np.exp(rng.uniform(low, high, count)).astype(int).tolist()
  size = config.image_size
  images = np.zeros((count, size, size, 3), np.uint8)
  labels = np.arange(count, dtype=np.int32) % (config.num_sets * _PER_SET)
  # In the order of the classes: what an instance looks like is drawn once.
  for k in tqdm(np.argsort(labels, kind="stable"), desc="drawing pictures"):
    place, instance = divmod(int(labels[k]), _PER_SET)
    images[k] = data.draw_instance_image(
      data.InstanceRecord(
        kind,
        config.seed * count + int(k),
        (instance,),
        (sides[k],),
        config.first_set + place,
        size,
      )
    )["image"]
  return images, labels


def make_batches(config: Config):
  """Step -> pictures, labels and global indices; a new order every epoch."""
  images, labels = _draw_set(config, _TRAIN_KIND, config.num_train)
  rows_of = texture_classes.shuffled_rows(config.seed, len(images))

  def batch(step: int) -> dict[str, np.ndarray]:
    rows = rows_of(step, config.batch_size)
    index = step * config.batch_size + np.arange(config.batch_size)
    return {"image": images[rows], "label": labels[rows], "index": index}

  return batch


def augment(key: jax.Array, image: jax.Array) -> jax.Array:
  """A shift of up to 6 pixels, contrast, brightness; no mirror."""
  keys = jax.random.split(key, 3)
  padded = jnp.pad(image, ((6, 6), (6, 6), (0, 0)), mode="reflect")
  y, x = jax.random.randint(keys[0], (2,), 0, 13)
  image = jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)
  gain = jax.random.uniform(keys[1], (), minval=0.8, maxval=1.2)
  lift = jax.random.uniform(keys[2], (), minval=-0.1, maxval=0.1)
  return (image - 0.5) * gain + 0.5 + lift


def make_loss(config: Config, model: Any):
  """loss_fn of `train.make_step`."""
  del config

  def loss_fn(params, batch_stats, batch, key):
    keys = train.example_keys(key, batch["index"])
    images = jax.vmap(augment)(keys, batch["image"].astype(jnp.float32) / 255)
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
  """Top-1 accuracy on other pictures of the instances, each counted once."""
  pictures = _draw_set(config, _TEST_KIND, config.num_test)
  return texture_classes.top1(model, state, *pictures)


def finish(
  config: Config, model: Any, variables: dict
) -> tuple[Any, dict, dict[str, Any]]:
  """Module, variables and metadata of the weights file."""
  names = _names(config)
  return (
    model.clone(axis_name=None),
    variables,
    {
      "mean": point_contrast.MEAN,
      "std": point_contrast.STD,
      "class_names": names,
      "arguments": {"num_classes": len(names)},
      "data": f"{config.num_train} generated pictures of {len(names)} instances"
      f", sets {config.first_set} to {config.first_set + config.num_sets - 1}",
    },
  )
