"""The network, the loss and the predictions of a run of the R-CNN family."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.detection.config import Config
from experiments.training_runs import begin_from, load_variables
from vision_jax import train
from vision_jax.systems import rcnn

__all__ = ["create_model", "export_arguments", "make_loss", "predict"]


def create_module(config: Config, num_classes: int) -> Any:
  """The network; its class 0 is the background."""
  return rcnn.MODELS[config.model](
    num_classes + 1,
    axis_name="batch",
    dtype=train.compute_dtype(config.precision),
    **config.arguments,
  )


def create_model(config: Config, num_classes: int) -> tuple[Any, Any]:
  """(module, variables): random but for what `config.weights` shares."""
  module = create_module(config, num_classes)
  images = jnp.zeros((1, *config.data.size, 3))
  variables = jax.jit(module.init)(jax.random.key(config.seed), images)
  variables = {
    "params": variables["params"],
    "batch_stats": variables.get("batch_stats", {}),
  }
  if config.weights is None:
    return module, variables
  found = load_variables(config.model, config.weights)
  return module, begin_from(variables, found)


def make_loss(config: Config, module: Any):
  """loss_fn of `train.make_step`; labels of the data count from 0."""
  del config

  def loss_fn(params, batch_stats, batch, key):
    labels = jnp.where(batch["objects_valid"], batch["labels"] + 1, 0)
    batch = {**batch, "labels": labels}
    return rcnn.loss(module, params, batch_stats, batch, key)

  return loss_fn


def predict(
  module: Any,
  variables: Any,
  images: list[np.ndarray],
  *,
  size: tuple[int, int] | None = None,
  batch_size: int = 1,
) -> list[dict[str, np.ndarray]]:
  """Detections in the pixels of the pictures; the module knows its sizes."""
  canvases = None if size is None else (tuple(size),)
  found = rcnn.predict(
    module.clone(axis_name=None) if hasattr(module, "axis_name") else module,
    variables,
    images,
    canvases=canvases,
    batch_size=batch_size,
    mask_threshold=0.5,
  )
  return [{**f, "labels": f["labels"] - 1} for f in found]


def export_arguments(config: Config, num_classes: int) -> dict[str, Any]:
  """Arguments of the constructor, as a file of weights keeps them."""
  return {"num_classes": num_classes + 1, **config.arguments}
