"""Sources, transforms and batches of a segmentation run."""

import pathlib
from typing import Any

import numpy as np

from experiments.segmentation.config import Config, Data
from vision_jax import data

__all__ = ["eval_batches", "open_split", "train_batches"]

_SEEDS = {"train": 0, "test": 1, "validation": 2}  # GENERATED.md


class Shapes:
  """Generated shapes, drawn when they are asked for."""

  def __init__(self, split: str, count: int, size: int, num_classes: int):
    self._seed, self._count, self._size = _SEEDS[split], count, size
    self._num_classes = num_classes

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = data.shapes(self._seed, index, size=self._size)
    labels = np.minimum(example["semantic"], self._num_classes - 1)
    return {"image": example["image"], "semantic": labels}


# The ids of COCO's categories that are VOC's classes 1 to 20, in their order.
COCO_IDS_OF_VOC = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20,
                   63, 7, 72)  # fmt: skip
_LEAST_AREA = 1000  # pixels of objects in a training picture


def paint(classes: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Label map of objects: class of each, 0 elsewhere, 255 where two overlap.

  Args:
    classes: [N]; objects of class 0 are left out.
    masks: 0/1, [N, H, W].
  """
  masks = masks[classes > 0].astype(bool)
  classes = classes[classes > 0].astype(np.uint8)
  labels = (masks * classes[:, None, None]).max(0, initial=0).astype(np.uint8)
  labels[masks.sum(0) > 1] = 255
  return labels


class CocoClasses:
  """COCO with the 20 classes of VOC and background, as torchvision trains on.

  Training pictures have objects of those classes of 1,000 pixels or more, all
  together (references/segmentation/coco_utils.py).
  """

  def __init__(self, folder: pathlib.Path, split: str, *, train: bool):
    place = folder / split, folder / "annotations" / f"instances_{split}.json"
    self._source = data.open_coco(*place, features=("image", "labels", "masks"))
    self._class = np.zeros(len(self._source.category_ids), np.int64)
    for label, number in enumerate(self._source.category_ids):
      if number in COCO_IDS_OF_VOC:
        self._class[label] = 1 + COCO_IDS_OF_VOC.index(number)
    self._kept = list(range(len(self._source)))
    if train:
      facts = data.open_coco(*place, features=("labels", "area"))
      self._kept = [k for k in self._kept if self._area(facts[k]) > _LEAST_AREA]

  def _area(self, facts: Any) -> float:
    return float(facts["area"][self._class[facts["labels"]] > 0].sum())

  def __len__(self) -> int:
    return len(self._kept)

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._source[self._kept[index]]
    classes = self._class[example["labels"]]
    return {
      "image": example["image"],
      "semantic": paint(classes, example["masks"]),
    }


class First:
  """The first examples of a source, picture and label map only."""

  def __init__(self, source: Any, count: int | None):
    self._source = source
    self._count = len(source) if count is None else min(count, len(source))

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = self._source[index]
    return {name: example[name] for name in ("image", "semantic")}


def open_split(
  config: Data, directory: str, *, train: bool, tiny: bool = False
) -> Any:
  """The pictures and label maps of a split."""
  split = config.train if train else config.test
  count = None if train else config.num_test
  if tiny:
    count = 32 if train else 8
  if config.name == "generated_shapes":
    drawn = config.num_train if train else config.num_test or 1000
    count = count or drawn
    return Shapes(split, count, config.size[0], config.num_classes)
  path = pathlib.Path(directory) / config.name
  if config.name == "cityscapes":
    return First(data.open_cityscapes(path, split), count)
  if config.name == "coco":
    return First(CocoClasses(path, split, train=train), count)
  source = data.read_prepared(path, split, features=("image", "semantic"))
  return First(source, count)


def shrink(example: dict[str, Any], *, size: tuple[int, int]) -> dict[str, Any]:
  """Evaluation's preparation: fits a picture into a canvas of `size`."""
  if example["image"].shape[:2] == tuple(size):
    return example
  return data.letterbox(example, size)


def train_batches(config: Config, source: Any) -> Any:
  """Endless training batches."""
  options = config.data
  changes: list[data.Transform] = [data.random_flip()]
  if options.scales is not None:
    changes.append(data.random_scale_crop(options.size, scale=options.scales))
  return data.make_pipeline(
    source,
    batch_size=config.batch_size,
    seed=config.seed,
    transforms=changes,
    num_threads=options.num_threads,
  )


def eval_batches(config: Config, source: Any) -> Any:
  """Each test picture once."""
  return data.make_eval_batches(
    source,
    batch_size=config.eval_batch_size,
    transforms=[data.as_transform(shrink, size=config.data.eval_size)],
    num_threads=config.data.num_threads,
  )


def arrays(source: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
  """The first pictures and label maps, uint8 [N, H, W, 3] and [N, H, W]."""
  examples = [source[k] for k in range(count)]
  images = np.stack([example["image"] for example in examples])
  return images, np.stack([example["semantic"] for example in examples])
