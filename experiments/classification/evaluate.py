"""Exact accuracy of any model and weights on any prepared set.

Run:  python -m experiments.classification.evaluate --model resnet50 \
          --weights IMAGENET1K_V1 --data-dir DIRECTORY --set imagenet2012 \
          --split validation
      python -m experiments.classification.evaluate --folder PICTURES \
          --model resnet50 --weights resnet50-0676ba61.pth

Every picture counts once; pictures are prepared as torchvision prepares them
for these weights, bit for bit.
"""

import dataclasses
import json
import pathlib

import numpy as np

from experiments.classification import input_pipeline, task
from experiments.classification.config import Config, Data
from vision_jax import bench, data, train, weights
from vision_jax.cli import parsing


@dataclasses.dataclass(frozen=True)
class Options:
  """What is evaluated.

  Attributes:
    model: constructor in vision_jax.nn.backbones.
    weights: bundled, a file, or the name of published weights.
    set: a generated set, or the folder of a set that TFDS has prepared.
    split: its split.
    data_dir: folder of data sets.
    folder: instead of a set: a folder with one folder of pictures a class,
      classes in alphabetical order.
    batch_size: pictures of a batch.
    num_threads: batches read at a time; None is one a core.
    prepare: draw a generated set that is not there yet.
  """

  model: str = "resnet_small"
  weights: str = "bundled"
  set: str = "generated_textures"
  split: str = "test"
  data_dir: str = "runs/data"
  folder: pathlib.Path | None = None
  batch_size: int = 256
  num_threads: int | None = None
  prepare: bool = True


def evaluate(options: Options) -> dict[str, float]:
  """Top-1, top-5 and cross-entropy, and the number of pictures."""
  module, variables, preprocess = weights.resolve(
    options.model, options.weights
  )
  config = Config(
    eval_batch_size=options.batch_size,
    data=Data(
      name=options.set,
      resize=preprocess.resize,
      crop=preprocess.crop,
      num_threads=options.num_threads,
    ),
  )
  if options.folder is not None:
    source = data.open_image_folder(options.folder)
  else:
    path = input_pipeline.find_set(
      config.data, options.data_dir, prepare=options.prepare
    )
    source = input_pipeline.open_split(path, options.split)
  num_classes = len(source.class_names)
  if module.num_classes != num_classes:
    raise SystemExit(
      f"evaluate: `--weights` must be of a classifier of the {num_classes} "
      f"classes of the pictures, got {module.num_classes} classes."
    )
  eval_step = train.make_eval_step(task.make_metrics(module, preprocess))
  batches = input_pipeline.eval_batches(config, source)
  state = train.TrainState(
    step=np.int32(0),
    params=variables["params"],
    batch_stats=variables.get("batch_stats", {}),
    opt_state=(),
    key=None,
  )
  metrics = train.evaluate(eval_step, state, batches)
  return metrics | {"pictures": len(source), "classes": num_classes}


def main() -> None:
  """Command line."""
  options = parsing.read_options(
    Options, prog="python -m experiments.classification.evaluate"
  )
  print(json.dumps(evaluate(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
