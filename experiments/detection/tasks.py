"""Which code trains which detector."""

from types import ModuleType

from experiments.detection import rcnn_task, yolo_task
from vision_jax.systems import rcnn, yolo

__all__ = ["find_task"]


def find_task(model: str) -> ModuleType:
  """The module with `create_model`, `make_loss` and `predict`.

  Raises:
    ValueError: if there is no such detector.
  """
  if model in yolo.MODELS:
    return yolo_task
  if model in rcnn.MODELS:
    return rcnn_task
  raise ValueError(
    "find_task: `model` must be one of "
    f"{', '.join((*yolo.MODELS, *rcnn.MODELS))}, got {model!r}."
  )
