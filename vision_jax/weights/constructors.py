"""All networks that weights can be for, by name."""

from collections.abc import Callable

import flax.linen as nn

from vision_jax.nn import backbones
from vision_jax.systems import rcnn, yolo

__all__ = ["find_constructor", "model_names"]


def find_constructor(name: str) -> Callable[..., nn.Module] | None:
  """The constructor of a backbone or a detector, or None.

  Args:
    name: as `model_names` lists it.

  Returns:
    The constructor, or None if there is none of that name.
  """
  for models in (backbones.MODELS, rcnn.MODELS, yolo.MODELS):
    if name in models:
      return models[name]
  return None


def model_names() -> tuple[str, ...]:
  """The names of all constructors.

  Returns:
    Backbones first, then detectors.
  """
  return (*backbones.MODELS, *rcnn.MODELS, *yolo.MODELS)
