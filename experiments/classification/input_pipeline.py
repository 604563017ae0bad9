"""Sources, transforms and batches of a classification run."""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.classification.config import Config, Data
from vision_jax import data

__all__ = ["eval_batches", "open_sources", "resize_and_crop", "train_batches"]

_GENERATED = ("generated_textures",)
_TINY = {"train": 64, "test": 40}


def open_sources(
  config: Data, directory: str, *, tiny: bool = False, prepare: bool = True
):
  """(training source, test source); a generated set is drawn on first use."""
  folder = pathlib.Path(directory) / ("tiny" if tiny else "")
  path = folder / config.name
  if config.name in _GENERATED and prepare:
    draw = functools.partial(
      data.prepare_generated,
      config.name,
      folder,
      config=config.variant,
      num_examples=_TINY if tiny else None,
    )
    if jax.process_index() == 0:
      draw()
    if jax.process_count() > 1:  # the others find what the first has drawn
      multihost_utils.sync_global_devices("data set")
    path = draw()
  return tuple(
    data.read_prepared(path, split, features=("image", "label"))
    for split in (config.train, config.test)
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
  rows, columns = (
    _mirrored(n, int(rng.integers(2 * (n // 16) + 1)) - n // 16)
    for n in image.shape[:2]
  )
  return {**example, "image": image[rows[:, None], columns]}


def _mirrored(size: int, offset: int) -> np.ndarray:
  """Places offset .. offset + size of a line mirrored at its last pixels."""
  places = np.abs(np.arange(offset, offset + size))
  return np.where(places < size, places, 2 * size - 2 - places)


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


def train_transforms(config: Data) -> list[data.Transform]:
  """What a training picture goes through."""
  size = (config.size, config.size)
  if config.augment == "crops":
    return [data.random_resized_crop(size), data.random_flip()]
  fit = data.as_transform(
    resize_and_crop, resize=config.resize, crop=config.crop
  )
  fits = [fit] if config.resize is not None or config.crop is not None else []
  if config.augment == "turns":
    return [*fits, quarter_turns, shift]
  if config.augment == "shifts":
    return [*fits, data.random_flip(), shift]
  return fits


def train_batches(config: Config, source: Any) -> Any:
  """Endless training batches."""
  return data.make_pipeline(
    source,
    batch_size=config.batch_size,
    seed=config.seed,
    transforms=train_transforms(config.data),
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
  )


def eval_batches(config: Config, source: Any) -> Any:
  """Each test picture once."""
  fit = functools.partial(
    resize_and_crop, resize=config.data.resize, crop=config.data.crop
  )
  return data.make_eval_batches(
    source,
    batch_size=config.eval_batch_size,
    transforms=[data.as_transform(fit)],
    num_threads=config.data.num_threads,
    num_workers=config.data.num_workers,
  )
