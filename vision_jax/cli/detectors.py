"""Detectors by name, for commands: what they predict, and of which classes."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vision_jax.cli.support import UserError

if TYPE_CHECKING:
  import numpy as np

__all__ = ["Detector", "load_detector"]

Found = dict[str, "np.ndarray"]


class Detector(NamedTuple):
  """A detector that is ready to run.

  Attributes:
    predict: pictures, float [H, W, 3] in [0, 1], to a dict for each.
    class_names: name of each label.
    category_ids: id of each label in a COCO file.

  Example:
    >>> from vision_jax.cli import detectors
    >>> detectors.Detector(lambda images: [], ("cat",), (1,)).class_names
    ('cat',)
  """

  predict: "Callable[[Sequence[np.ndarray]], list[Found]]"
  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]


def load_detector(
  model: str,
  source: str,
  *,
  seed: int = 0,
  class_file: pathlib.Path | None = None,
  score: float,
  overlap: float,
  max_detections: int,
) -> Detector:
  """Loads a detector.

  Args:
    model: name of its constructor.
    source: as `weights.resolve` takes it.
    seed: of random weights.
    class_file: text file with the name of a class in each line, or None.
    score: detections have a score above.
    overlap: boxes of a class that overlap a stronger one by more are dropped.
    max_detections: most detections of a picture.

  Returns:
    The detector; its labels count the classes from 0. Names that neither file
    nor weights know are those of COCO (80 classes, or ids up to 90), of VOC
    (20), or numbers.

  Raises:
    UserError: if there is no such detector, or `class_file` does not fit.

  Example:
    >>> from vision_jax.cli import detectors
    >>> detectors.load_detector("resnet18", "random", score=0.3, overlap=0.5,
    ...                         max_detections=9)
    Traceback (most recent call last):
    ...
    vision_jax.cli.support.UserError: unknown detector 'resnet18'; known: ...
  """
  from vision_jax import weights
  from vision_jax.systems import rcnn, yolo

  if model not in yolo.MODELS and model not in rcnn.MODELS:
    known = ", ".join((*yolo.MODELS, *rcnn.MODELS))
    raise UserError(f"unknown detector '{model}'; known: {known}")
  module: Any
  module, variables, _ = weights.resolve(model, source, seed=seed)
  if model in yolo.MODELS:
    names, ids = _classes(module.num_classes, model, source, class_file)
    predict = functools.partial(
      yolo.predict,
      module,
      variables,
      score_threshold=score,
      iou_threshold=overlap,
      max_detections=max_detections,
    )
    return Detector(predict, names, ids)
  names, ids = _classes(module.num_classes - 1, model, source, class_file)
  settings = dataclasses.replace(
    module.settings,
    box_score=score,
    box_nms=overlap,
    max_detections=max_detections,
  )
  module = module.clone(settings=settings)

  def predict_rcnn(images: "Sequence[np.ndarray]") -> list[Found]:
    found = rcnn.predict(module, variables, images, mask_threshold=0.5)
    return [{**f, "labels": f["labels"] - 1} for f in found]

  return Detector(predict_rcnn, names, ids)


def _classes(
  number: int, model: str, source: str, class_file: pathlib.Path | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """Names and ids of the classes."""
  ids = tuple(range(1, number + 1))
  if class_file is None:
    names = _names_in_weights(model, source)
    return (names, ids) if names else _known_classes(number)
  try:
    lines = class_file.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--class-names: cannot read '{class_file}'") from error
  names = tuple(line.strip() for line in lines if line.strip())
  if len(names) != number:
    raise UserError(
      f"--class-names must name the {number} classes of the model, got"
      f" {len(names)} in '{class_file}'"
    )
  return names, ids


def _known_classes(number: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """Names and ids by the number of the classes alone."""
  from vision_jax import data

  ids = tuple(range(1, number + 1))
  coco = dict(zip(data.COCO_CATEGORY_IDS, data.COCO_CLASSES, strict=True))
  if number == len(coco):
    return data.COCO_CLASSES, data.COCO_CATEGORY_IDS
  if number == max(coco):  # torchvision's labels are the ids
    return tuple(coco.get(k, str(k)) for k in ids), ids
  if number == len(data.VOC_CLASSES):
    return data.VOC_CLASSES, ids
  return tuple(map(str, ids)), ids


def _names_in_weights(model: str, source: str) -> tuple[str, ...]:
  """The class names that come with weights, if they do."""
  from vision_jax import weights

  if source in weights.BUNDLED.get(model, {}):
    return weights.load_bundled(model, weights=source)[2].class_names
  path = pathlib.Path(source)
  if path.suffix == ".safetensors" and path.exists():
    texts = weights.read_metadata(path)
    return tuple(json.loads(texts.get("class_names", "[]")))
  return ()
