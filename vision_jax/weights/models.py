"""Every network that weights can belong to, by name."""

from collections.abc import Callable
from typing import Any

from vision_jax.nn import backbones
from vision_jax.systems import deeplab

__all__ = ["constructors"]


def constructors() -> dict[str, Callable[..., Any]]:
  """Name -> constructor: the backbones, and the networks of whole systems.

  Returns:
    A new dict; the first argument of a constructor is the number of classes.

  Example:
    >>> from vision_jax.weights import models
    >>> type(models.constructors()["deeplabv3_resnet50"](4)).__name__
    'Segmenter'
  """
  return {**backbones.MODELS, **deeplab.MODELS}
