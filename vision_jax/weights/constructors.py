"""All networks that weights can be for, by name."""

from collections.abc import Callable, Mapping

import flax.linen as nn

from vision_jax.nn import backbones
from vision_jax.systems import deeplab, pointrend, rcnn, semantic_fpn, yolo

__all__ = ["find_constructor", "model_names"]

_TABLES: tuple[Mapping[str, Callable[..., nn.Module]], ...] = (
  backbones.MODELS,
  rcnn.MODELS,
  yolo.MODELS,
  deeplab.MODELS,
  semantic_fpn.MODELS,
  pointrend.MODELS,
)


def find_constructor(name: str) -> Callable[..., nn.Module] | None:
  """The constructor of a backbone or of the network of a system, or None.

  Args:
    name: as `model_names` lists it.

  Returns:
    The constructor, or None if there is none of that name.
  """
  return next((table[name] for table in _TABLES if name in table), None)


def model_names() -> tuple[str, ...]:
  """The names of all constructors.

  Returns:
    Backbones first, then detectors and segmentation networks.
  """
  return tuple(name for table in _TABLES for name in table)
