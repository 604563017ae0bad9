"""The network, the loss and the metrics of a classification run."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.classification.config import Config, Data
from vision_jax import nn, train, weights


def preprocessing(config: Data) -> weights.Preprocess:
  """What a trained network wants done to its images."""
  return weights.Preprocess(
    mean=config.mean,
    std=config.std,
    resize=config.resize,
    crop=config.crop,
  )


def create_module(config: Config, num_classes: int) -> Any:
  """The network, with statistics over all devices where it has any."""
  constructor = nn.backbones.MODELS[config.model]
  settings = {"dtype": train.compute_dtype(config.precision)}
  module = constructor(num_classes, **settings)
  if hasattr(module, "axis_name"):
    module = module.clone(axis_name="batch")
  return module


def create_model(config: Config, num_classes: int) -> tuple[Any, Any]:
  """(module, variables): random, or from weights with a head that fits."""
  module = create_module(config, num_classes)
  size = config.data.size
  images = jnp.zeros((1, size, size, 3))
  variables = jax.jit(module.init)(jax.random.key(config.seed), images)
  if config.weights is None:
    return module, variables
  _, found, _ = weights.resolve(config.model, config.weights)
  return module, replace_fitting(variables, found)


def replace_fitting(variables: Any, found: Any) -> Any:
  """`found` where the shapes agree; a classifier of other classes stays.

  Raises:
    ValueError: if anything but the last layer of the network differs.
  """
  given = dict(jax.tree_util.tree_leaves_with_path(found))
  other = []

  def choose(path: Any, leaf: jax.Array) -> jax.Array:
    if path in given and given[path].shape == leaf.shape:
      return given[path]
    other.append(jax.tree_util.keystr(path, simple=True, separator="."))
    return leaf

  result = jax.tree_util.tree_map_with_path(choose, variables)
  layers = {name.rpartition(".")[0] for name in other}
  if len(layers) > 1:
    raise ValueError(
      "replace_fitting: `found` must differ from the network in its last "
      f"layer alone, got other shapes in {sorted(layers)}; use the weights of "
      "this model."
    )
  return result


def _images(batch: Any, preprocess: weights.Preprocess) -> jax.Array:
  """Bytes [B, S, S, 3] -> what the network expects."""
  return weights.normalize(batch["image"].astype(jnp.float32) / 255, preprocess)


def make_loss(config: Config, module: Any):
  """loss_fn of `train.make_step`: cross-entropy, smoothed if asked for."""
  preprocess = preprocessing(config.data)

  def loss_fn(params, batch_stats, batch, key):
    (logits, _), updates = module.apply(
      {"params": params, "batch_stats": batch_stats},
      _images(batch, preprocess),
      train=not config.freeze_norm,
      mutable=["batch_stats"],
      rngs={"dropout": key},
    )
    logits = logits.astype(jnp.float32)
    targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
    targets = optax.smooth_labels(targets, config.label_smoothing)
    losses = optax.softmax_cross_entropy(logits, targets)
    valid, count = batch["valid"], batch["valid"].sum()
    hits = (logits.argmax(-1) == batch["label"]) & valid
    return {"cross_entropy": ((losses * valid).sum(), count)}, {
      "batch_stats": updates.get("batch_stats", batch_stats),
      "metrics": {"top1": (hits.sum(), count)},
    }

  return loss_fn


def make_metrics(module: Any, preprocess: weights.Preprocess):
  """metric_fn of `train.make_eval_step`: top-1, top-5 and cross-entropy."""

  def metric_fn(params, batch_stats, batch):
    variables = {"params": params, "batch_stats": batch_stats}
    logits, _ = module.apply(variables, _images(batch, preprocess))
    logits, labels = logits.astype(jnp.float32), batch["label"]
    best = jax.lax.top_k(logits, min(5, logits.shape[-1]))[1]
    hits = best == labels[:, None]
    return {
      "top1": hits[:, 0],
      "top5": hits.any(-1),
      "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(
        logits, labels
      ),
    }

  return metric_fn


def make_optimizer(
  config: Config, num_images: int
) -> tuple[optax.GradientTransformation, int]:
  """(transformation, number of updates of the run)."""
  options = config.optimizer
  if config.num_steps is None:
    per_epoch = num_images / config.batch_size
    num_steps = max(int(config.epochs * per_epoch), 1)
  else:
    num_steps = config.num_steps
    per_epoch = num_steps / config.epochs
  schedule = train.make_schedule(
    options.schedule,
    options.learning_rate,
    num_steps,
    warmup_steps=min(int(options.warmup * per_epoch), num_steps - 1),
    milestones=[int(m * per_epoch) for m in options.milestones],
  )
  tx = train.make_optimizer(
    options.name,
    schedule,
    momentum=options.momentum,
    nesterov=options.nesterov,
    weight_decay=options.weight_decay,
    decay_all=options.decay_all,
    clip_norm=options.clip_norm,
    factors=dict(options.factors) or None,
  )
  return tx, num_steps
