"""Every network that weights can belong to, by name."""

from collections.abc import Callable
from typing import Any

from vision_jax.nn import backbones
from vision_jax.systems import yolo

__all__ = ["constructors"]


def constructors() -> dict[str, Callable[..., Any]]:
  """Name -> constructor: the backbones, and the networks of whole systems.

  Returns:
    A new dict; the first argument of a constructor is the number of classes.

  Example:
    >>> from vision_jax.weights import models
    >>> models.constructors()["yolov3"](20).num_classes
    20
  """
  return {**backbones.MODELS, **yolo.MODELS}
