"""Mean, pixel and boundary scores of any segmentation network on any set.

Run:  python -m experiments.segmentation.evaluate
      python -m experiments.segmentation.evaluate --set coco \
          --model deeplabv3_resnet50 --weights DEFAULT \
          --data-dir DIRECTORY_WITH_coco --out results.json
      python -m experiments.segmentation.evaluate --set cityscapes \
          --model pointrend_semantic_fpn_resnet101 \
          --weights model_final_cf6ac1.pkl --data-dir DIRECTORY_WITH_cityscapes

Every picture counts once, alone and at a size of its own: on a canvas its
scores near the borders would be others. A program is compiled for each size.
Weights say what it is. Those of torchvision: the shorter side becomes 520, of
the picture by bilinear interpolation and of its label map by the nearest label,
and scores are of the label map resized (references/segmentation). Those of
detectron2: 1024, which Cityscapes has. Weights that say nothing of it, and
those trained here: each picture as it is.
"""

import dataclasses
import functools
import json
import pathlib
from typing import Any, Literal

import jax
import numpy as np
import PIL.Image
import tqdm

from experiments.segmentation import input_pipeline, task
from experiments.segmentation.config import Data
from vision_jax import bench, weights
from vision_jax.cli import parsing
from vision_jax.systems import deeplab, pointrend, semantic_fpn

MODELS = (*deeplab.MODELS, *semantic_fpn.MODELS, *pointrend.MODELS)

# Set -> what is evaluated of it, and how many classes it may have.
SETS = {
  "generated_shapes": ("test", (13, 2)),
  "cityscapes": ("val", (19,)),
  "coco": ("val2017", (21,)),
  "oxford_iiit_pet": ("test", (2,)),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is evaluated.

  Attributes:
    model: constructor of a segmentation network.
    weights: bundled, random, a file, or the name of published weights.
    set: which pictures; all but the first lie below the data directory.
    split: of the set; None is the one that published scores are of.
    data_dir: folder of data sets.
    short_side: length that the shorter side is resized to; 0 is that of the
      weights, -1 keeps every size.
    limit: only the first pictures; of generated ones 1,000 by default.
    out: JSON file for the options and the scores.
    progress: show a progress bar.
  """

  model: str = "pointrend_small"
  weights: str = "bundled"
  set: Literal["generated_shapes", "cityscapes", "coco", "oxford_iiit_pet"] = (
    "generated_shapes"
  )
  split: str | None = None
  data_dir: str = "runs/data"
  short_side: int = 0
  limit: int | None = None
  out: pathlib.Path | None = None
  progress: bool = True


def evaluate(options: Options) -> dict[str, float]:
  """Scores in per cent, and of how many pictures and classes."""
  if options.model not in MODELS:
    raise SystemExit(
      f"evaluate: `--model` must be one of {', '.join(MODELS)}, got "
      f"{options.model!r}."
    )
  if options.limit is not None and options.limit < 1:
    raise SystemExit(
      f"evaluate: `--limit` must be at least 1, got {options.limit}."
    )
  module, variables, preprocess = weights.resolve(
    options.model, options.weights
  )
  split, classes = SETS[options.set]
  if module.num_classes not in classes:
    raise SystemExit(
      f"evaluate: `--weights` must be of {' or '.join(map(str, classes))} "
      f"classes for {options.set}, got {module.num_classes}; give weights "
      "trained on that set."
    )
  config = Data(
    name=options.set,
    test=options.split or split,
    num_test=options.limit,
    num_classes=module.num_classes,
  )
  source = input_pipeline.open_split(config, options.data_dir, train=False)
  side = find_side(preprocess, options.short_side)
  scores = task.Scores(module.num_classes)
  for k in tqdm.trange(
    len(source), unit="pictures", disable=not options.progress
  ):
    example = source[k]
    image, labels = resize(example["image"], example["semantic"], side)
    images = _normalize(preprocess, image[None])
    found = pointrend.segment(module, variables, images)
    scores.add(labels, np.asarray(found[0]))
  result = {
    "pictures": len(source),
    "classes": module.num_classes,
    **scores.result(),
  }
  if options.out is not None:
    record = {"options": dataclasses.asdict(options), "scores": result}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1, default=str))
  return result


def find_side(preprocess: weights.Preprocess, short_side: int) -> int | None:
  """Length of the shorter side, or None for pictures as they are.

  Args:
    preprocess: of the weights. One with a central crop is that of a classifier
      and says nothing about segmentation.
    short_side: of the options.

  Raises:
    SystemExit: if `short_side` is below -1.
  """
  if short_side < -1:
    raise SystemExit(
      f"evaluate: `--short-side` must be at least -1, got {short_side}."
    )
  if short_side:
    return None if short_side == -1 else short_side
  return preprocess.resize if preprocess.crop is None else None


def resize(
  image: np.ndarray, labels: np.ndarray, side: int | None
) -> tuple[np.ndarray, np.ndarray]:
  """Picture and label map with a shorter side of `side`, as torchvision's."""
  height, width = labels.shape
  if side is None or side == min(height, width):
    return image, labels
  long = int(side * max(height, width) / min(height, width))
  size = (long, side) if height <= width else (side, long)  # width, height
  kinds = PIL.Image.Resampling
  return (
    np.asarray(PIL.Image.fromarray(image).resize(size, kinds.BILINEAR)),
    np.asarray(
      PIL.Image.fromarray(labels.astype(np.uint8)).resize(size, kinds.NEAREST)
    ),
  )


@functools.partial(jax.jit, static_argnums=0)
def _normalize(preprocess: weights.Preprocess, images: Any) -> jax.Array:
  """Bytes [B, H, W, 3] -> what the network expects."""
  return weights.normalize(images.astype(np.float32) / 255, preprocess)


def main() -> None:
  """Command line."""
  prog = "python -m experiments.segmentation.evaluate"
  options = parsing.read_options(Options, prog=prog, description=__doc__)
  print(json.dumps(evaluate(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
