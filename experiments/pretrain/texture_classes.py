"""A classifier whose features also find points: two losses, one network.

Each step classifies generated pictures (which of 20 patterns fills the object?
`vision_jax.data.textures`, GENERATED.md) and matches points between two views
of other scenes (`point_contrast`), in one forward pass over both, because
classes alone teach a network little about where things are.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from experiments.pretrain import point_contrast
from vision_jax import data, nn, train

# GENERATED.md: seed 0 is for training, seed 1 for testing.
TRAIN_SET, TEST_SET = 0, 1


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of one run.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    seed: of the parameters and every draw; also picks the training pictures.
    num_train: training pictures, drawn once.
    num_test: held-out pictures.
    image_size: side of a picture and of a view, pixels.
    batch_size: examples per step, over all devices; an example is one region,
      seen twice, and some pictures.
    pictures: pictures in an example.
    num_steps: updates.
    learning_rate: peak rate of Adam.
    warmup_steps: linear warm-up, then cosine to zero.
    weight_decay: decoupled.
    clip_norm: largest gradient norm.
    contrast: the second loss; its layers, temperature and canvases count.
    contrast_weight: its factor; the classes learn slowly beside a larger one.
    log_every: updates between log lines.
    checkpoint_every: updates between checkpoints.
  """

  model: str = "resnet_small"
  seed: int = 0
  num_train: int = 8_000
  num_test: int = 1_000
  image_size: int = 64
  batch_size: int = 12
  pictures: int = 5
  num_steps: int = 1800
  learning_rate: float = 3e-3
  warmup_steps: int = 100
  weight_decay: float = 1e-4
  clip_norm: float = 5.0
  contrast: point_contrast.Config = dataclasses.field(
    default_factory=lambda: point_contrast.Config(layers=("layer3", "layer4"))
  )
  contrast_weight: float = 0.2
  log_every: int = 50
  checkpoint_every: int = 400


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
  regions = point_contrast.make_batches(
    dataclasses.replace(
      config.contrast, seed=config.seed, batch_size=config.batch_size
    )
  )
  rows_of = shuffled_rows(config.seed, len(images))

  def batch(step: int) -> dict[str, np.ndarray]:
    rows = rows_of(step, config.batch_size * config.pictures)
    rows = rows.reshape(config.batch_size, config.pictures)
    return regions(step) | {"image": images[rows], "label": labels[rows]}

  return batch


def shuffled_rows(seed: int, size: int) -> Callable[[int, int], np.ndarray]:
  """(step, number of a step) -> rows of `size`, in a new order every epoch."""

  @functools.cache
  def order(epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)

  def rows(step: int, count: int) -> np.ndarray:
    epochs, places = np.divmod(step * count + np.arange(count), size)
    pairs = zip(epochs.tolist(), places, strict=True)
    return np.array([order(epoch)[place] for epoch, place in pairs])

  return rows


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


def make_loss(config: Config, model: Any):
  """loss_fn of `train.make_step`."""
  geometry = nn.endpoint_info(model)

  def loss_fn(params, batch_stats, batch, key):
    keys = train.example_keys(key, batch["index"])
    picture_keys = jax.vmap(lambda k: jax.random.split(k, config.pictures))(
      jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
    )
    pictures = batch["image"].astype(jnp.float32) / 255
    pictures = jax.vmap(jax.vmap(augment))(picture_keys, pictures)
    pictures = pictures.reshape(-1, *pictures.shape[2:])
    labels, count = batch["label"].reshape(-1), len(pictures)
    draw = functools.partial(point_contrast.draw_views, size=config.image_size)
    views, points, valid = jax.vmap(draw)(keys, batch["regions"])
    images = jnp.concatenate([pictures, views[:, 0], views[:, 1]])
    (logits, maps), updates = model.apply(
      {"params": params, "batch_stats": batch_stats},
      point_contrast.normalize(images),
      train=True,
      mutable=["batch_stats"],
    )
    logits = logits[:count]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    terms, metrics = point_contrast.contrast_terms(
      config.contrast,
      geometry,
      {name: maps[name][count:] for name in config.contrast.layers},
      points,
      valid,
    )
    terms = {
      name: (config.contrast_weight * total, number)
      for name, (total, number) in terms.items()
    }
    terms["cross_entropy"] = (losses.sum(), count)
    metrics["accuracy"] = ((logits.argmax(-1) == labels).sum(), count)
    return terms, {"batch_stats": updates["batch_stats"], "metrics": metrics}

  return loss_fn


def evaluate(config: Config, model: Any, state: Any) -> dict[str, float]:
  """Top-1 accuracy on the held-out pictures, every one counted once."""
  return top1(
    model,
    state,
    *_draw_set(TEST_SET, 0, config.num_test, config.image_size),
  )


def top1(
  model: Any, state: Any, images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
  """Accuracy on pictures uint8 [N, S, S, 3], every one counted once."""
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  apply = jax.jit(
    lambda v, x: model.apply(v, point_contrast.normalize(x / 255.0))[0]
  )
  hits = 0
  for i in range(0, len(images), 100):
    logits = apply(variables, images[i : i + 100].astype(np.float32))
    hits += int((np.argmax(logits, -1) == labels[i : i + 100]).sum())
  return {"test_accuracy": hits / len(images)}


def finish(
  config: Config, model: Any, variables: dict
) -> tuple[Any, dict, dict[str, Any]]:
  """Module, variables and metadata of the weights file."""
  return (
    model.clone(axis_name=None),
    variables,
    {
      "mean": point_contrast.MEAN,
      "std": point_contrast.STD,
      "class_names": data.TEXTURE_NAMES,
      "data": f"{config.num_train} generated pictures of 20 textures, and the "
      "canvases and photographs of vgg_small",
    },
  )
