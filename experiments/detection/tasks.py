"""Which code trains which detector."""

from types import ModuleType

from experiments.detection import yolo_task
from vision_jax.systems import yolo

__all__ = ["find_task"]


def find_task(model: str) -> ModuleType:
  """The module with `create_model`, `make_loss` and `predict`.

  Raises:
    ValueError: if there is no such detector.
  """
  if model in yolo.MODELS:
    return yolo_task
  raise ValueError(
    f"find_task: `model` must be one of {', '.join(yolo.MODELS)}, got "
    f"{model!r}."
  )
