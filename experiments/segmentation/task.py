"""The network, the loss and the scores of a segmentation run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.segmentation.config import Config, Data
from experiments.training_runs import begin_from, load_variables
from vision_jax import metrics, ops, train, weights
from vision_jax.systems import pointrend

RATIOS = (0.02, 0.005)  # of the diagonal: width of the band along borders


def preprocessing(config: Data) -> weights.Preprocess:
  """What a trained network wants done to its images."""
  return weights.Preprocess(
    mean=config.mean, std=config.std, resize=None, crop=None
  )


def create_module(config: Config) -> Any:
  """The network, with statistics over all devices."""
  return pointrend.MODELS[config.model](**arguments(config), axis_name="batch")


def arguments(config: Config) -> dict[str, Any]:
  """What the constructor of the network is told."""
  given = {"output_stride": config.output_stride, "aux": config.aux}
  return {"num_classes": config.data.num_classes} | {
    name: value for name, value in given.items() if value is not None
  }


def create_model(config: Config) -> tuple[Any, Any]:
  """(module, variables): random but for what the config names."""
  module = create_module(config)
  key, found = jax.random.key(config.seed), None
  if config.weights is not None:
    found = load_variables(config.model, config.weights)
    if "point_head" not in found["params"]:  # the coarse network alone
      return module, pointrend.with_coarse_variables(key, module, found)
  images = jnp.zeros((1, *config.data.size, 3))
  variables = jax.jit(module.init)(key, images)
  if config.backbone is not None:
    body = load_variables(config.model, config.backbone)
    variables = begin_from(variables, body)
  if found is not None:
    variables = begin_from(variables, found, whole=True)
  return module, variables


def normalize(images: Any, config: Data) -> jax.Array:
  """Bytes [B, H, W, 3] -> what the network expects."""
  scaled = jnp.asarray(images).astype(jnp.float32) / 255
  return weights.normalize(scaled, preprocessing(config))


def make_loss(config: Config, module: Any):
  """loss_fn of `train.make_step`."""
  settings = ops.POINT_SAMPLING[config.sampling]._asdict()

  def loss_fn(params, batch_stats, batch, key):
    variables = {"params": params, "batch_stats": batch_stats}
    images = normalize(batch["image"], config.data)
    valid = batch["valid"].reshape(-1, 1, 1)
    labels = jnp.where(valid, batch["semantic"], 255)
    terms, updates = pointrend.semantic_losses(
      train.example_keys(key, batch["index"]),
      module,
      variables,
      images,
      labels,
      num_points=config.num_points,
      freeze_coarse=config.part == "points",
      hardest=config.hardest,
      rngs={"dropout": key},
      **settings,
    )
    if config.part == "coarse":  # the same coarse loss, auxiliary head and all
      del terms["points"]
    return terms, {"batch_stats": updates.get("batch_stats", batch_stats)}

  return loss_fn


def make_optimizer(config: Config) -> Any:
  """The transformation; parts that are not trained are constants."""
  options = config.optimizer
  schedule = train.make_schedule(
    options.schedule,
    options.learning_rate,
    config.num_steps,
    warmup_steps=min(options.warmup, config.num_steps - 1),
  )
  factors = {
    "coarse": {"point_head": 0.0},
    "points": {"coarse": 0.0},
    "joint": {},
  }[config.part]
  if config.part != "points":
    for name, factor in (
      ("classifier", options.head_factor),
      ("aux_classifier", options.aux_factor),
    ):
      if factor != 1:
        factors[f"coarse.{name}"] = factor
  return train.make_optimizer(
    options.name,
    schedule,
    weight_decay=options.weight_decay,
    clip_norm=options.clip_norm,
    factors=factors or None,
  )


class Scores:
  """Counts over a set: mean IoU and boundary IoU."""

  def __init__(self, num_classes: int):
    self._classes = num_classes
    self._confusion = np.zeros((num_classes, num_classes), np.int64)
    self._bands = {r: np.zeros((3, num_classes), np.int64) for r in RATIOS}

  def add(self, labels: np.ndarray, predictions: np.ndarray) -> None:
    """Counts one picture."""
    self._confusion += metrics.confusion_matrix(
      labels, predictions, self._classes
    )
    for ratio in RATIOS:
      self._bands[ratio] += metrics.boundary_counts(
        labels, predictions, self._classes, ratio=ratio
      )

  def result(self) -> dict[str, float]:
    """Name -> per cent."""
    found = metrics.segmentation_scores(self._confusion)
    result = {
      "mean_iou": 100 * found.mean_iou,
      "pixel_accuracy": 100 * found.pixel_accuracy,
    }
    for ratio, c in self._bands.items():
      mean, _ = metrics.intersection_over_union(c[0], c[1], c[2] > 0)
      result[f"boundary_iou_{ratio}"] = 100 * mean
    return result


def evaluate(
  config: Config, module: Any, variables: Any, batches: Any
) -> dict[str, float]:
  """Scores of the coarse network, enlarged, and of PointRend."""

  def predict(variables, images):
    images = normalize(images, config.data)
    maps = module.apply(variables, images, method="maps")
    coarse = ops.resize(maps.logits, images.shape[1:3])
    fine = module.apply(variables, images)["out"]
    return coarse.argmax(-1), fine.argmax(-1)

  run: Callable[..., Any] = jax.jit(predict)
  scores = {n: Scores(config.data.num_classes) for n in ("bilinear", "points")}
  for batch in batches:
    found = run(variables, batch["image"])
    for name, classes in zip(scores, found, strict=True):
      rows = zip(
        batch["semantic"], np.asarray(classes), batch["valid"], strict=True
      )
      for labels, predictions, valid in rows:
        if valid:
          scores[name].add(labels, predictions)
  return {
    f"{name}_{key}": value
    for name, score in scores.items()
    for key, value in score.result().items()
  }
