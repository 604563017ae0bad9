"""Average precision of any detector and weights on any set.

Run:  python -m experiments.detection.evaluate
      python -m experiments.detection.evaluate --model yolov3 \
          --weights yolov3.weights --set coco --split val2017 --size 608 608 \
          --data-dir DIRECTORY_WITH_coco --out results.json
      python -m experiments.detection.evaluate --model yolov3 \
          --weights voc.weights --set voc --split VOC2007/test \
          --metric voc_11 --data-dir DIRECTORY_WITH_voc

Every picture counts once. COCO is scored against its own annotation file.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from experiments.detection import input_pipeline, scoring, tasks
from experiments.detection.config import Data
from vision_jax import bench, data, metrics, weights
from vision_jax.cli import parsing
from vision_jax.ops import Detections


@dataclasses.dataclass(frozen=True)
class Options:
  """What is evaluated.

  Attributes:
    model: constructor of a detector.
    weights: bundled, random, or a file.
    set: generated_shapes, coco, voc, or the folder of a set TFDS has prepared.
    split: its split, as configs name it.
    data_dir: folder of data sets.
    size: (height, width) that pictures are brought to; the model's by default.
    metric: coco, voc_11 or voc.
    batch_size: pictures that are predicted together.
    masks: score masks and their boundaries too.
    limit: only the first pictures.
    out: file for the detections of COCO, as its server takes them.
    prepare: draw a generated set that is not there yet.
    progress: show a progress bar.
  """

  model: str = "yolo_small"
  weights: str = "bundled"
  set: str = "generated_shapes"
  split: str = "test"
  data_dir: str = "runs/data"
  size: tuple[int, int] | None = None
  metric: Literal["coco", "voc_11", "voc"] = "coco"
  batch_size: int = 16
  masks: bool = False
  limit: int | None = None
  out: pathlib.Path | None = None
  prepare: bool = True
  progress: bool = True


def evaluate(options: Options) -> dict[str, float]:
  """The numbers of the metric, and how many pictures there were."""
  config = Data(name=options.set, masks=options.masks)
  path = input_pipeline.find_set(
    config, options.data_dir, prepare=options.prepare
  )
  source = input_pipeline.open_split(config, path, options.split)
  module, variables, _ = weights.resolve(options.model, options.weights)
  classes = len(source.class_names)
  if module.num_classes != classes:
    raise SystemExit(
      f"evaluate: `--weights` must be of a detector of the {classes} classes "
      f"of the pictures, got {module.num_classes} classes."
    )
  predict = functools.partial(
    tasks.find_task(options.model).predict,
    module,
    variables,
    size=options.size,
    batch_size=options.batch_size,
  )
  pairs = scoring.find_all(
    predict,
    source,
    batch_size=options.batch_size,
    progress=options.progress,
    limit=options.limit,
  )
  count = len(source) if options.limit is None else options.limit
  facts = {"pictures": min(count, len(source)), "classes": classes}
  if options.out is None:
    return facts | scoring.score(
      pairs,
      num_classes=classes,
      metric=options.metric,
      kinds=scoring.KINDS[: 3 if options.masks else 1],
    )
  if options.set != "coco":
    raise SystemExit("evaluate: `--out` must go with --set coco.")
  write_results(pairs, source, options.out)
  scores = metrics.coco_file_average_precision(
    path / "annotations" / f"instances_{options.split}.json", options.out
  )
  return facts | scores.summary


def write_results(
  pairs: Iterator[tuple[Any, dict[str, np.ndarray]]],
  source: Any,
  path: pathlib.Path,
) -> None:
  """The detections in the form of COCO's results."""
  found = [
    Detections(
      f["boxes"], f["scores"], f["labels"], np.ones(len(f["labels"]), bool)
    )
    for _, f in pairs
  ]
  data.write_coco_detections(
    found,
    path,
    image_ids=source.image_ids[: len(found)],
    category_ids=source.category_ids,
  )


def main() -> None:
  """Command line."""
  options = parsing.read_options(
    Options, prog="python -m experiments.detection.evaluate"
  )
  print(json.dumps(evaluate(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
