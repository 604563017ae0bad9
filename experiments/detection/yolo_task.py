"""The network, the loss and the predictions of a YOLOv3 run."""

import functools
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.detection.config import Config
from vision_jax import train, weights
from vision_jax.systems import yolo

__all__ = ["create_model", "export_arguments", "make_loss", "predict"]


def create_module(config: Config, num_classes: int) -> Any:
  """The network, with statistics over all devices."""
  return yolo.MODELS[config.model](
    num_classes,
    image_size=config.data.size,
    axis_name="batch",
    dtype=train.compute_dtype(config.precision),
    **config.arguments,
  )


def create_model(config: Config, num_classes: int) -> tuple[Any, Any]:
  """(module, variables): random, or from weights."""
  module = create_module(config, num_classes)
  images = jnp.zeros((1, *config.data.size, 3))
  variables = jax.jit(module.init)(jax.random.key(config.seed), images)
  variables = {"params": with_prior(variables["params"], module,
                                    config.yolo.objectness),
               "batch_stats": variables["batch_stats"]}  # fmt: skip
  if config.weights is None:
    return module, variables
  if ".conv." in pathlib.Path(config.weights).name:
    return module, with_backbone(module, variables, config.weights)
  _, found, _ = weights.resolve(config.model, config.weights)
  return module, found


def with_prior(params: Any, module: Any, objectness: float) -> Any:
  """Biases of the heads by which so many anchors hold an object, of any class.

  From 1/2, which darknet begins with, the first gradients are thirty times
  those that follow, and Adam steps a thousandth of its rate for long.
  """
  params = dict(params)
  share = 0.5 if objectness == 0.5 else 1 / (1 + module.num_classes)
  for k, group in enumerate(module.anchors):
    head = dict(params[f"head{k}"])
    values = np.zeros((len(group), 5 + module.num_classes), np.float32)
    values[:, 4] = math.log(objectness / (1 - objectness))
    values[:, 5:] = math.log(share / (1 - share))
    head["out"] = {**head["out"], "bias": jnp.asarray(values.reshape(-1))}
    params[f"head{k}"] = head
  return params


def with_backbone(module: Any, variables: Any, path: str) -> Any:
  """Takes the first layers from a file of darknet such as *.conv.74."""
  layers = weights.darknet_layers(module)
  layers = [a for a in layers if a.conv.startswith("backbone.")]
  state = weights.variables_to_state_dict(module, jax.device_get(variables))
  state |= weights.read_darknet(path, layers)
  return weights.state_dict_to_variables(module, state)


def make_loss(config: Config, module: Any):
  """loss_fn of `train.make_step`: the terms of YOLOv3, means over pictures."""
  one = functools.partial(
    yolo.yolo_loss,
    image_size=config.data.size,
    anchors=module.anchors,
    ignore_threshold=config.yolo.ignore_threshold,
    match_threshold=config.yolo.match_threshold,
    coordinates=config.yolo.coordinates,
  )

  def loss_fn(params, batch_stats, batch, key):
    del key
    (maps, _), updates = module.apply(
      {"params": params, "batch_stats": batch_stats},
      batch["image"].astype(jnp.float32) / 255,
      train=True,
      mutable=["batch_stats"],
    )
    terms = jax.vmap(one)(
      maps, batch["boxes"], batch["labels"], batch["objects_valid"]
    )
    valid = batch["valid"]
    losses = {
      name: (jnp.where(valid, term, 0.0).sum(), valid.sum())
      for name, term in terms.items()
    }
    return losses, {"batch_stats": updates["batch_stats"]}

  return loss_fn


def predict(
  module: Any, variables: Any, images: list[np.ndarray], **settings: Any
) -> list[dict[str, np.ndarray]]:
  """Detections in the pixels of the pictures; settings `size`, `batch_size`."""
  return yolo.predict(
    module.clone(axis_name=None), variables, images, **settings
  )


def export_arguments(config: Config, num_classes: int) -> dict[str, Any]:
  """Arguments of the constructor, as a file of weights keeps them."""
  return {
    "num_classes": num_classes,
    "image_size": list(config.data.size),
    **config.arguments,
  }
