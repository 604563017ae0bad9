"""From what a user types to a network that is ready to run."""

import importlib.resources
import os
from pathlib import Path
from typing import Any

import flax.linen as nn

from vision_jax.systems import yolo
from vision_jax.weights import (
  constructors,
  convert,
  darknet,
  detectron2,
  keras,
  published,
  readers,
  store,
)
from vision_jax.weights.catalog import (
  CATALOG,
  FOREIGN,
  Entry,
  ForeignEntry,
  find_entry,
  find_file,
)
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.preprocess import IMAGENET_PREPROCESS, Preprocess
from vision_jax.weights.random import random_variables
from vision_jax.weights.store import WeightsMetadata

__all__ = [
  "BUNDLED",
  "load_bundled",
  "load_model",
  "preprocessing",
  "resolve",
]

# Model -> name of its weights -> file in vision_jax/assets.
BUNDLED: dict[str, dict[str, str]] = {
  "vgg_small": {"bundled": "vgg_small.safetensors"},
  "resnet_small": {
    "bundled": "resnet_small.safetensors",
    "textures": "resnet_small_textures.safetensors",
    "instances": "resnet_small_instances.safetensors",
  },
  "yolo_small": {"bundled": "yolo_small.safetensors"},
  "rcnn_small": {
    "bundled": "faster_rcnn_small.safetensors",
    "masks": "mask_rcnn_small.safetensors",
  },
  "pointrend_small": {"bundled": "pointrend_small.safetensors"},
  "pointrend_rcnn_small": {"bundled": "pointrend_rcnn_small.safetensors"},
}

Model = tuple[nn.Module, dict[str, Any], WeightsMetadata]


def load_model(path_or_name: str | os.PathLike[str]) -> Model:
  """Loads a network with its weights and the facts about them.

  Args:
    path_or_name: a ``.safetensors`` file that `save_weights` wrote, or the
      name of bundled weights: a key of `BUNDLED`, or one and its weights,
      "resnet_small/textures".

  Returns:
    (module, variables, metadata); float32 variables.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if the file is broken, not one of ours, or does not fit the
      model that it names.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
    >>> arguments = {"num_classes": 5}
    >>> variables = weights.random_variables(backbones.resnet18(**arguments))
    >>> metadata = weights.WeightsMetadata("resnet18", arguments)
    >>> weights.save_weights(path, variables, metadata=metadata)
    >>> module, variables, metadata = weights.load_model(path)
    >>> metadata.model, variables["params"]["fc"]["bias"].shape
    ('resnet18', (5,))

  Source:
    Interface of this library; files in the format of safetensors.
  """
  if isinstance(path_or_name, str):
    model, _, kind = path_or_name.partition("/")
    if (kind or "bundled") in BUNDLED.get(model, {}):
      return load_bundled(model, weights=kind or "bundled")
  path = Path(path_or_name)
  metadata = store.load_metadata(path)
  module = store.make_module(metadata, str(path))
  variables = convert.to_variables(
    module, readers.read_state_dict(path), where=str(path)
  )
  return module, variables, metadata


def load_bundled(name: str, *, weights: str = "bundled") -> Model:
  """Loads a network whose weights come with the package.

  Args:
    name: a key of `BUNDLED`, such as "vgg_small".
    weights: which weights of it. Of resnet_small "bundled" finds points,
      "textures" names the pattern that fills an object, "instances" names
      objects. Of rcnn_small "bundled" is a Faster, "masks" a Mask R-CNN.

  Returns:
    (module, variables, metadata); the metadata holds the card: data, command,
    time, accuracy.

  Raises:
    WeightsError: if there are no bundled weights of that name, or the package
      was installed without its assets.

  Example:
    >>> from vision_jax import weights
    >>> module, variables, metadata = weights.load_bundled("vgg_small")
    >>> metadata.model, metadata.licence
    ('vgg_small', 'Apache-2.0')

  Source:
    Interface of this library; the card names data and command.
  """
  if name not in BUNDLED:
    raise WeightsError(
      f"load_bundled: `name` must be one of {list(BUNDLED)}, got {name!r}."
    )
  if weights not in BUNDLED[name]:
    raise WeightsError(
      f"load_bundled: `weights` of {name} must be one of "
      f"{list(BUNDLED[name])}, got {weights!r}."
    )
  file = BUNDLED[name][weights]
  asset = importlib.resources.files("vision_jax") / "assets" / file
  if not asset.is_file():
    raise WeightsError(
      f"load_bundled: the asset {file} is not in this installation; install "
      "vision_jax again, or train it as its experiment says."
    )
  with importlib.resources.as_file(asset) as path:
    return load_model(path)


def preprocessing(name_or_path: str | os.PathLike[str]) -> Preprocess:
  """What must be done to an image before a network with given weights.

  Args:
    name_or_path: a model, "vgg16" (its default weights); a model and its
      weights, "vgg16/IMAGENET1K_V1"; the name of bundled weights; a
      ``.safetensors`` file with our metadata; or a file that has the name
      under which it is published.

  Returns:
    The preparation that the weights were trained with.

  Raises:
    WeightsNotFoundError: if it is a path and there is no such file.
    WeightsError: if nothing is known about it.

  Example:
    >>> from vision_jax import weights
    >>> weights.preprocessing("vgg16/IMAGENET1K_V1").mean
    (0.485, 0.456, 0.406)

  Source:
    The transforms of torchvision's weights, version 0.28.
  """
  text = os.fspath(name_or_path)
  model, _, enum = text.partition("/")
  if (enum or "bundled") in BUNDLED.get(model, {}):
    return load_bundled(model, weights=enum or "bundled")[2].preprocessing
  if model in CATALOG and (not enum or published.is_enum(enum)):
    return find_entry(model, enum=enum or "DEFAULT").preprocessing
  path = Path(text)
  if text in constructors.model_names() and not path.exists():
    return _default(text)
  known = _find_published(path.name)
  if known is not None:
    return known.preprocessing
  if readers.is_safetensors_file(path):
    return store.load_metadata(path).preprocessing
  raise WeightsError(
    f"{text}: says nothing about preprocessing; convert it to safetensors "
    "with metadata, or name the weights as in 'vgg16/IMAGENET1K_V1'."
  )


def resolve(
  model: str, weights: str, *, seed: int = 0
) -> tuple[nn.Module, dict[str, Any], Preprocess]:
  """The one reading of ``--model NAME --weights bundled|random|PATH|ENUM``.

  Args:
    model: name of a constructor in `vision_jax.nn.backbones`, or of a whole
      network in `vision_jax.systems`.
    weights: "bundled" or another name in `BUNDLED`; "random"; a file of
      weights of any kind that `read_state_dict` reads; or the name of published
      weights.
    seed: of random weights.

  Returns:
    (module, variables, preprocessing). Files that do not say how they were
    trained get the ImageNet mean and deviation.

  Raises:
    WeightsNotFoundError: if `weights` is a path and there is no such file.
    WeightsMismatchError: if the weights belong to another model.
    WeightsError: if the model or the weights are unknown or broken.

  Example:
    >>> from vision_jax import weights
    >>> module, variables, preprocess = weights.resolve("resnet18", "random")
    >>> preprocess.std
    (0.229, 0.224, 0.225)

  Source:
    Interface of this library.
  """
  constructor = constructors.find_constructor(model)
  if constructor is None:
    raise WeightsError(
      f"resolve: `model` must be one of {', '.join(constructors.model_names())}"
      f", got {model!r}."
    )
  if weights == "bundled" and model not in BUNDLED:
    raise WeightsError(
      f"resolve: there are no bundled weights for {model!r}, only for "
      f"{', '.join(BUNDLED)}; give a path or the name of published weights."
    )
  if weights in BUNDLED.get(model, {}):
    module, variables, metadata = load_bundled(model, weights=weights)
    return module, variables, metadata.preprocessing
  if weights == "random":
    module = constructor()
    return module, random_variables(module, seed=seed), _default(model)
  if published.is_enum(weights) and not Path(weights).exists():
    entry = find_entry(model, enum=weights)
    return *published.from_torchvision(model, weights), entry.preprocessing
  return _from_path(model, Path(weights))


def _default(model: str) -> Preprocess:
  if model in yolo.MODELS:  # in [0, 1], as they are; `predict` fits the size
    return Preprocess((0.0,) * 3, (1.0,) * 3, resize=None, crop=None)
  entry = find_entry(model) if model in CATALOG else FOREIGN.get(model)
  return entry.preprocessing if entry else IMAGENET_PREPROCESS


def _find_published(name: str) -> Entry | ForeignEntry | None:
  """The entry of a published file name, of any framework."""
  foreign = (entry for entry in FOREIGN.values() if entry.file == name)
  return find_file(name) or next(foreign, None)


def _from_path(
  model: str, path: Path
) -> tuple[nn.Module, dict[str, Any], Preprocess]:
  """A model from any file of weights."""
  if readers.is_safetensors_file(path):
    texts = readers.read_metadata(path)
    if "format_version" in texts:
      module, variables, metadata = load_model(path)
      if metadata.model != model:
        raise WeightsError(
          f"{path}: holds weights of {metadata.model}, expected {model}; "
          f"use --model {metadata.model}."
        )
      return module, variables, metadata.preprocessing
  if readers.is_darknet_file(path):
    return *darknet.from_darknet(model, path), _default(model)
  if readers.is_hdf5_file(path):
    return *keras.from_keras(model, path), _default(model)
  if model in detectron2.DETECTRON2_MODELS:
    return *detectron2.from_detectron2(model, path), _default(model)
  known = find_file(path.name)
  preprocess = known.preprocessing if known else IMAGENET_PREPROCESS
  return *published.from_torchvision(model, path), preprocess
