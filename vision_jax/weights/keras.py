"""Weights of Keras: HDF5 files in the layout of ``model.save_weights``.

The root, or its group "model_weights", has the attribute "layer_names"; the
group of each layer has "weight_names", the paths of its arrays in the order of
the layer. What they are follows from the layer, not from their names, which
have changed with Keras: a kernel; the two kernels of a separable convolution;
scale, shift, mean and variance; a matrix and a bias. Kernels are
[height, width, in, out], depthwise ones [height, width, in, multiplier].
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vision_jax.nn import backbones
from vision_jax.weights import convert, readers
from vision_jax.weights.errors import WeightsError

__all__ = ["from_keras", "read_keras"]

# Layers that Keras names by a counter: the shortcuts, in order.
_COUNTED = (
  (re.compile(r"(?:conv2d|convolution2d)(?:_(\d+))?"), ""),
  (re.compile(r"batch_?normalization(?:_(\d+))?"), "_bn"),
)
_SHORTCUTS = tuple(f"block{k}_shortcut" for k in (2, 3, 4, 13))
_CLASSIFIER = "predictions"


def from_keras(
  name: str,
  source: str | os.PathLike[str],
  *,
  num_classes: int | None = None,
  dtype: Any = jnp.float32,
  **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """Makes a backbone with weights of Keras.

  Layers are mapped by name; nothing may be missing, nothing left over.

  Args:
    name: name of the model: "xception".
    source: an ``.h5`` file of `keras.applications`, with the classifier or
      ("notop") without, or one that Keras wrote of the same network.
    num_classes: length of the logits; by default that of the file. 0 drops
      the classifier of the module and of the weights.
    dtype: floating type of the parameters; batch statistics stay float32.
    **arguments: further arguments of the constructor.

  Returns:
    (module, variables).

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsMismatchError: if the layers or their shapes are others.
    WeightsError: if the model is unknown, the file is broken or of another
      kind, or values are NaN or infinite.

  Example:
    >>> from vision_jax import weights
    >>> weights.from_keras("xception", "none.h5")
    Traceback (most recent call last):
    ...
    vision_jax.weights.errors.WeightsNotFoundError: none.h5: there is no...

  Source:
    keras.applications.Xception and Keras' legacy HDF5 format.
  """
  constructor = backbones.MODELS.get(name)
  if constructor is not backbones.xception:
    raise WeightsError(
      f"from_keras: `name` must be 'xception', got {name!r}; weights of other "
      "models are read by from_torchvision or from_darknet."
    )
  layers = _rename(read_keras(source))
  if num_classes == 0:
    layers.pop(_CLASSIFIER, None)
  elif num_classes is None and _CLASSIFIER in layers:
    num_classes = int(layers[_CLASSIFIER][-1].size)
  state: dict[str, np.ndarray] = {}
  for layer, arrays in layers.items():
    state |= _to_torch(layer, arrays, Path(source))
  module = constructor(num_classes or None, **arguments)
  where = f"from_keras({name!r})"
  return module, convert.to_variables(module, state, where=where, dtype=dtype)


def read_keras(
  path: str | os.PathLike[str],
) -> dict[str, list[np.ndarray]]:
  """Reads the arrays of an HDF5 file of Keras, without Keras.

  Args:
    path: an ``.h5`` file of weights, or of a whole model.

  Returns:
    layer -> its arrays in Keras' order and layout; layers without arrays are
    left out.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if it is not HDF5, damaged, or not in Keras' layout.

  Example:
    >>> import h5py, os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.h5")
    >>> with h5py.File(path, "w") as file:
    ...   file.attrs["layer_names"] = ["fc"]
    ...   file.create_group("fc").attrs["weight_names"] = ["fc/bias:0"]
    ...   file["fc"]["fc/bias:0"] = np.zeros(3)
    >>> weights.read_keras(path)
    {'fc': [array([0., 0., 0.])]}

  Source:
    Keras' legacy HDF5 format.
  """
  import h5py

  path = Path(path)
  if not readers.is_hdf5_file(path):
    raise WeightsError(f"{path}: is not an HDF5 file, expected one of Keras.")
  try:
    with h5py.File(path, "r") as file:
      root = file.get("model_weights", file)
      names = _attribute(root, "layer_names")
      if not names:
        raise WeightsError(
          f"{path}: has no attribute 'layer_names': not in the layout of "
          "Keras; Keras 3 writes it by model.save('NAME.h5')."
        )
      layers = {
        name: [
          np.asarray(root[name][array])
          for array in _attribute(root[name], "weight_names")
        ]
        for name in names
      }
  except WeightsError:
    raise
  except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
    detail = " ".join(str(error).split())
    raise WeightsError(
      f"{path}: damaged or truncated HDF5 file: {detail}."
    ) from error
  return {name: arrays for name, arrays in layers.items() if arrays}


def _attribute(group: Any, name: str) -> list[str]:
  """A list of names; Keras splits long ones into name0, name1, ..."""
  if name in group.attrs:
    parts = [group.attrs[name]]
  else:
    keys = [f"{name}{k}" for k in range(len(group.attrs))]
    parts = [group.attrs[key] for key in keys if key in group.attrs]
  return [
    text.decode() if isinstance(text, bytes) else str(text)
    for part in parts
    for text in np.asarray(part).reshape(-1).tolist()
  ]


def _rename(
  layers: Mapping[str, list[np.ndarray]],
) -> dict[str, list[np.ndarray]]:
  """Gives the layers that Keras only counts the names that they have here."""
  renamed = dict(layers)
  for pattern, suffix in _COUNTED:
    counted = {
      name: int(match[1] or 0)
      for name in layers
      if (match := pattern.fullmatch(name))
    }
    names = sorted(counted, key=lambda name: counted[name])
    for old, new in zip(names, _SHORTCUTS, strict=False):
      renamed[new + suffix] = renamed.pop(old)
  return renamed


def _to_torch(
  layer: str, arrays: Sequence[np.ndarray], path: Path
) -> dict[str, np.ndarray]:
  """The arrays of a layer under torch's names, in torch's layout."""
  ranks = tuple(array.ndim for array in arrays)
  if ranks == (4,):
    return {f"{layer}.weight": arrays[0].transpose(3, 2, 0, 1)}
  if ranks == (4, 4):
    depthwise, pointwise = arrays
    height, width = depthwise.shape[:2]
    return {
      f"{layer}.depthwise.weight": depthwise.transpose(2, 3, 0, 1).reshape(
        -1, 1, height, width
      ),
      f"{layer}.pointwise.weight": pointwise.transpose(3, 2, 0, 1),
    }
  if ranks == (2, 1):
    return {f"{layer}.weight": arrays[0].T, f"{layer}.bias": arrays[1]}
  if ranks == (1, 1, 1, 1):
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {
      f"{layer}.{leaf}": array
      for leaf, array in zip(leaves, arrays, strict=True)
    }
  shapes = [list(array.shape) for array in arrays]
  raise WeightsError(
    f"{path}: the layer {layer!r} has arrays of shape {shapes}, which is no "
    "convolution, batch normalisation or dense layer."
  )
