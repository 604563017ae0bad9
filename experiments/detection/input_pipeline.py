"""Sources, transforms and batches of a detection run."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import training_runs
from experiments.detection.config import Config, Data
from vision_jax import data

__all__ = ["TINY", "find_set", "open_split", "train_batches"]

_GENERATED = ("generated_shapes",)
TINY = {"train": 32, "validation": 8, "test": 12}
"""Pictures of the splits of a tiny set."""
_FEATURES = ("image", "boxes", "labels")
_GREY = 127.5


class Joined:
  """Sources one after the other, of the same classes."""

  def __init__(self, sources: Sequence[Any]) -> None:
    self._sources = tuple(sources)
    self._ends = np.cumsum([len(source) for source in sources])
    self.class_names = sources[0].class_names

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    which = int(np.searchsorted(self._ends, index, "right"))
    start = int(self._ends[which - 1]) if which else 0
    return {**self._sources[which][index - start], "index": np.int64(index)}


def find_set(
  config: Data, directory: str, *, tiny: bool = False, prepare: bool = True
) -> pathlib.Path:
  """The folder of the set; a generated one is drawn on first use."""
  return training_runs.find_set(
    config.name,
    directory,
    variant=config.variant,
    num_examples=TINY,
    tiny=tiny,
    generated=prepare and config.name in _GENERATED,
  )


def open_split(config: Data, path: pathlib.Path, split: str) -> Any:
  """The pictures and objects of a split."""
  features = (*_FEATURES, "masks") if config.masks else _FEATURES
  if config.name == "coco":
    return data.open_coco(
      path / split,
      path / "annotations" / f"instances_{split}.json",
      features=(*features, "crowd", "area"),
    )
  if config.name == "voc":
    parts = [part.partition("/") for part in split.split("+")]
    sources = [data.open_voc(path / a, b) for a, _, b in parts]
    return sources[0] if len(sources) == 1 else Joined(sources)
  wanted = (*features, "crowd", "area")
  return data.read_prepared(path, split, features=wanted)


def clean(
  example: dict[str, Any], rng: np.random.Generator, *, num_classes: int
) -> dict[str, Any]:
  """Picture, boxes and labels of what is to be learned.

  Crowds and difficult objects are left out.

  Raises:
    DataError: if a label has no class.
  """
  del rng
  labels = np.asarray(example["labels"])
  if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
    raise data.DataError(
      f"clean: `labels` must be in 0..{num_classes - 1}, got {labels.tolist()}."
    )
  keep = np.ones(len(labels), bool)
  for name in ("crowd", "difficult"):
    if name in example:
      keep &= ~np.asarray(example[name], bool)
  new = {
    "image": example["image"],
    "boxes": example["boxes"][keep],
    "labels": labels[keep].astype(np.int32),
  }
  if "masks" in example:
    new["masks"] = example["masks"][keep]
  return new


def square_symmetry(
  example: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """One of the eight symmetries of the square, of the whole example."""
  mirror, turn, swap = (rng.random(3) < 0.5).tolist()
  height, width = example["image"].shape[:2]
  x1, y1, x2, y2 = example["boxes"].T
  if mirror:
    x1, x2 = width - x2, width - x1
  if turn:
    y1, y2 = height - y2, height - y1
  if swap:
    x1, y1, x2, y2 = y1, x1, y2, x2
  new = {**example, "boxes": np.stack([x1, y1, x2, y2], -1).astype(np.float32)}
  for name, first in (("image", 0), ("masks", 1)):  # the axis of the rows
    if name in example:
      value = example[name]
      value = np.flip(value, first + 1) if mirror else value
      value = np.flip(value, first) if turn else value
      value = value.swapaxes(first, first + 1) if swap else value
      new[name] = np.ascontiguousarray(value)
  return new


def shortest(
  example: dict[str, Any],
  rng: np.random.Generator,
  *,
  sides: tuple[int, ...],
  size: tuple[int, int],
) -> dict[str, Any]:
  """The shorter side drawn from `sides`, then padded to the canvas."""
  side = int(rng.choice(sides))
  new = data.resize_shortest(example, side, longest=min(size))
  return data.pad_example(new, image_size=size)


def darknet_jitter(
  example: dict[str, Any],
  rng: np.random.Generator,
  *,
  size: tuple[int, int],
  jitter: float = 0.3,
) -> dict[str, Any]:
  """Another aspect, any place in a grey canvas (load_data_detection)."""
  height, width = example["image"].shape[:2]
  change = 1 + rng.uniform(-jitter, jitter, 2)
  aspect = width * change[0] / (height * change[1])
  canvas = np.array(size[::-1], float)
  sides = np.minimum(canvas, canvas[::-1] * (aspect, 1 / aspect))
  place = rng.uniform(0, 1, 2) * (canvas - sides)
  scale = np.array([width, height]) / sides
  matrix = np.diag([*scale, 1.0])
  # Continuous coordinates; half a pixel less in the index frame.
  matrix[:2, 2] = scale * (0.5 - place) - 0.5
  return data.affine_example(example, matrix, size, fill=_GREY)


def darknet_colours(
  example: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """Hue by a tenth of the circle, saturation and exposure by up to 1.5."""
  factors = np.exp(rng.uniform(-1, 1, 2) * np.log(1.5)).tolist()
  image = data.adjust_colours(
    example["image"],
    brightness=factors[0],
    saturation=factors[1],
    hue=float(rng.uniform(-0.1, 0.1)),
  )
  return {**example, "image": image}


def train_transforms(config: Data, num_classes: int) -> list[Any]:
  """What a training picture goes through."""
  fit = data.as_transform(data.letterbox, size=config.size, fill=_GREY)
  changes: dict[str, list[Any]] = {
    "symmetries": [square_symmetry],
    "jitter": [
      functools.partial(darknet_jitter, size=config.size),
      darknet_colours,
      data.random_flip(),
    ],
    "shortest": [
      data.random_flip(),
      functools.partial(shortest, sides=config.sides, size=config.size),
    ],
    "flip": [fit, data.random_flip()],
    "none": [fit],
  }
  return [
    functools.partial(clean, num_classes=num_classes),
    *changes[config.augment],
    functools.partial(_pad, max_objects=config.max_objects),
  ]


def _pad(
  example: dict[str, Any], rng: np.random.Generator, *, max_objects: int
) -> dict[str, Any]:
  del rng
  example.pop("original_size", None)
  return data.pad_example(example, max_objects=max_objects)


def train_batches(config: Config, source: Any) -> Any:
  """Endless training batches."""
  return data.make_pipeline(
    data.cache_in_memory(source) if config.data.cache else source,
    batch_size=config.batch_size,
    seed=config.seed,
    transforms=train_transforms(config.data, len(source.class_names)),
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
    on_error=config.data.on_error,
  )
