"""Sources, transforms and batches of a classification run."""

import pathlib
from typing import Any

import cv2
import numpy as np

from experiments import training_runs
from experiments.classification.config import Config, Data
from vision_jax import data

__all__ = [
  "First",
  "eval_batches",
  "find_set",
  "open_both",
  "open_split",
  "resize_and_crop",
  "train_batches",
]

_GENERATED = ("generated_textures",)
_TINY = {"train": 64, "test": 40}


class First:
  """The first examples of a set."""

  def __init__(self, source: Any, count: int):
    self._source, self._count = source, min(count, len(source))

  def __getattr__(self, name: str) -> Any:
    if name.startswith("_"):  # while it is being unpickled
      raise AttributeError(name)
    return getattr(self._source, name)

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> Any:
    return self._source[index]


def find_set(
  config: Data, directory: str, *, tiny: bool = False, prepare: bool = True
) -> pathlib.Path:
  """The folder of the set; a generated one is drawn on first use."""
  return training_runs.find_set(
    config.name,
    directory,
    variant=config.variant,
    num_examples=_TINY,
    tiny=tiny,
    generated=prepare and config.name in _GENERATED,
  )


def open_split(
  path: pathlib.Path, split: str, *, most: int | None = None
) -> Any:
  """The pictures and labels of a split, or the first `most` of them."""
  source = data.read_prepared(path, split, features=("image", "label"))
  return source if most is None else First(source, most)


def open_both(
  config: Data, path: pathlib.Path, *, tiny: bool = False
) -> tuple[Any, Any]:
  """The sources of training and evaluation; of a tiny run, their beginning."""
  train, test = (_TINY[n] if tiny else None for n in ("train", "test"))
  return (
    open_split(path, config.train, most=train),
    open_split(path, config.test, most=test),
  )


def quarter_turns(
  example: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
  """One of the eight symmetries of the square."""
  turns, mirror = int(rng.integers(4)), rng.random() < 0.5
  image = np.rot90(example["image"], turns)
  image = image[:, ::-1] if mirror else image
  return {**example, "image": np.ascontiguousarray(image)}


def shift(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
  """A shift of up to a sixteenth of the side, mirrored at the border."""
  image = example["image"]
  height, width = image.shape[:2]
  most = (height // 16, width // 16)
  top, left = (int(rng.integers(2 * m + 1)) for m in most)
  larger = cv2.copyMakeBorder(
    image, most[0], most[0], most[1], most[1], cv2.BORDER_REFLECT_101
  )
  larger = larger.reshape(*larger.shape[:2], -1)  # OpenCV drops a last 1
  return {**example, "image": larger[top : top + height, left : left + width]}


def resize_and_crop(
  example: dict[str, Any], *, resize: int | None, crop: int | None
) -> dict[str, Any]:
  """Evaluation's preparation, bit for bit that of torchvision on PIL images.

  The shorter side becomes `resize`, the longer int(resize long / short),
  bilinear with antialiasing, rounded to bytes; the square is cut out at
  round((side - crop) / 2), ties to even.
  """
  from PIL import Image

  image = example["image"]
  if resize is not None:
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    long = int(resize * long / short)
    size = (resize, long) if width <= height else (long, resize)
    if size != (width, height):
      picture = Image.fromarray(image)
      image = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
  if crop is not None:
    top, left = (round((n - crop) / 2) for n in image.shape[:2])
    if min(top, left) < 0:
      raise data.DataError(
        f"resize_and_crop: `crop` must be at most the sides of the picture, "
        f"{image.shape[:2]}, got {crop}; set `resize`."
      )
    image = image[top : top + crop, left : left + crop]
  return {**example, "image": image}


def _fit(config: Data) -> list[data.Transform]:
  """Evaluation's preparation, if there is any."""
  if config.resize is None and config.crop is None:
    return []
  return [
    data.as_transform(resize_and_crop, resize=config.resize, crop=config.crop)
  ]


def train_transforms(config: Data) -> list[data.Transform]:
  """What a training picture goes through."""
  if config.augment == "crops":
    size = (config.size, config.size)
    return [data.random_resized_crop(size), data.random_flip()]
  changes: dict[str, list[data.Transform]] = {
    "turns": [quarter_turns, shift],
    "shifts": [data.random_flip(), shift],
    "none": [],
  }
  return [*_fit(config), *changes[config.augment]]


def train_batches(config: Config, source: Any) -> Any:
  """Endless training batches."""
  return data.make_pipeline(
    data.cache_in_memory(source) if config.data.cache else source,
    batch_size=config.batch_size,
    seed=config.seed,
    transforms=train_transforms(config.data),
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
    on_error=config.data.on_error,
  )


def eval_batches(config: Config, source: Any) -> Any:
  """Each test picture once."""
  return data.make_eval_batches(
    source,
    batch_size=config.eval_batch_size,
    transforms=_fit(config.data),
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
  )
