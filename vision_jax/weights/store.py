"""Our own files of weights: safetensors with the facts that belong to them.

Arrays carry torchvision's names and layout, so that every reader of state
dicts, ours and torch's, can read the file.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vision_jax.weights import constructors, convert
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.preprocess import Preprocess
from vision_jax.weights.readers import read_metadata, read_state_dict

__all__ = ["WeightsMetadata", "load_weights", "save_weights"]

FORMAT_VERSION = "1"


class WeightsMetadata(NamedTuple):
  """The facts that travel with weights.

  Attributes:
    model: name of the constructor in `vision_jax.nn.backbones`, or of a
      whole network in `vision_jax.systems`.
    arguments: keyword arguments of the constructor; JSON values.
    source: where the weights come from: a file name, a URL, a command.
    class_names: names of the classes in the order of the logits, or empty.
    preprocessing: what to do to an image before the network.
    licence: licence of the weights, for example "Apache-2.0".
    card: free text: data, command, time, accuracy.
    format_version: version of this format.

  Example:
    >>> from vision_jax import weights
    >>> weights.WeightsMetadata("vgg11", {"num_classes": 7}).licence
    ''
  """

  model: str
  arguments: Mapping[str, Any] = {}
  source: str = ""
  class_names: tuple[str, ...] = ()
  preprocessing: Preprocess = Preprocess()
  licence: str = ""
  card: str = ""
  format_version: str = FORMAT_VERSION


def save_weights(
  path: str | os.PathLike[str],
  variables: Mapping[str, Any],
  *,
  metadata: WeightsMetadata,
  dtype: Any = np.float32,
) -> None:
  """Writes variables and their metadata to one safetensors file.

  The file appears whole or not at all.

  Args:
    path: file to write; an old one is replaced.
    variables: {"params": ..., "batch_stats": ...}.
    metadata: the facts that belong to the weights.
    dtype: float32 or float16. Under float16 arrays of one axis (biases,
      BatchNorm) stay float32: they are small, and variances need the range.

  Raises:
    WeightsMismatchError: if the variables are not those of `metadata.model`,
      where that is a model known here.
    WeightsError: if a value is NaN, infinite or beyond the range of `dtype`,
      or the folder cannot be written.
    TypeError: if `dtype` is neither float32 nor float16.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.safetensors")
    >>> variables = {"params": {"fc": {"kernel": jnp.ones((3, 2))}}}
    >>> metadata = weights.WeightsMetadata("tiny", card="An example.")
    >>> weights.save_weights(path, variables, metadata=metadata)
    >>> {k: v.shape for k, v in weights.read_state_dict(path).items()}
    {'fc.weight': (2, 3)}

  Source:
    The safetensors format.
  """
  import safetensors.numpy

  dtype = np.dtype(dtype)
  if dtype not in (np.dtype(np.float32), np.dtype(np.float16)):
    raise TypeError(
      f"save_weights: `dtype` must be float32 or float16, got {dtype}."
    )
  unknown = set(variables) - {"params", "batch_stats"}
  if unknown:
    raise WeightsError(
      "save_weights: `variables` must have the collections params and "
      f"batch_stats, got {sorted(unknown)} too; leave them out."
    )
  flatten = _flatten_shapes(metadata)
  state_dict = convert.to_state_dict(variables, flatten)
  if constructors.find_constructor(metadata.model) is not None:
    expected = convert.torch_shapes(make_module(metadata, "save_weights"))
    found = {name: array.shape for name, array in state_dict.items()}
    given = {name: name for name in found}
    convert.check_fit(expected, found, given, "save_weights")
  arrays = {
    name: _stored(name, array, dtype) for name, array in state_dict.items()
  }
  path = Path(path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
      dir=path.parent, prefix=".part-", suffix=".safetensors", delete=False
    ) as file:
      temporary = Path(file.name)
  except OSError as error:
    raise WeightsError(f"{path}: cannot be written: {error}.") from error
  try:
    safetensors.numpy.save_file(arrays, temporary, metadata=to_texts(metadata))
    temporary.chmod(0o644)
    os.replace(temporary, path)
  except (OSError, safetensors.SafetensorError) as error:
    raise WeightsError(f"{path}: cannot be written: {error}.") from error
  finally:
    temporary.unlink(missing_ok=True)


def load_weights(
  path: str | os.PathLike[str],
) -> tuple[dict[str, Any], WeightsMetadata]:
  """Reads what `save_weights` wrote.

  Args:
    path: a ``.safetensors`` file with our metadata.

  Returns:
    (variables, metadata); the variables are float32.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if the file is broken, or not one of ours.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "tiny.safetensors")
    >>> variables = {"params": {"fc": {"kernel": jnp.ones((3, 2))}}}
    >>> metadata = weights.WeightsMetadata("tiny", card="An example.")
    >>> weights.save_weights(path, variables, metadata=metadata)
    >>> variables, metadata = weights.load_weights(path)
    >>> variables["params"]["fc"]["kernel"].shape, metadata.card
    ((3, 2), 'An example.')

  Source:
    Interface of this library; files in the format of safetensors.
  """
  metadata = load_metadata(path)
  state_dict = {
    name: array.astype(np.float32)
    for name, array in read_state_dict(path).items()
  }
  return convert.to_tree(state_dict, _flatten_shapes(metadata)), metadata


def load_metadata(path: str | os.PathLike[str]) -> WeightsMetadata:
  """The metadata of a file of ours."""
  return from_texts(read_metadata(path), os.fspath(path))


def to_texts(metadata: WeightsMetadata) -> dict[str, str]:
  """Metadata as the flat texts that safetensors allows."""
  return {
    "format": "pt",  # layout of the arrays, as other readers spell it
    "format_version": metadata.format_version,
    "model": metadata.model,
    "arguments": json.dumps(dict(metadata.arguments)),
    "source": metadata.source,
    "class_names": json.dumps(list(metadata.class_names)),
    "preprocessing": json.dumps(metadata.preprocessing._asdict()),
    "licence": metadata.licence,
    "card": metadata.card,
  }


def from_texts(texts: Mapping[str, str], where: str) -> WeightsMetadata:
  """Inverse of `to_texts`."""
  if "format_version" not in texts or "model" not in texts:
    raise WeightsError(
      f"{where}: carries no metadata of vision_jax; name its model with "
      "from_torchvision(model, path)."
    )
  if texts["format_version"] != FORMAT_VERSION:
    raise WeightsError(
      f"{where}: has format version {texts['format_version']!r}, expected "
      f"{FORMAT_VERSION!r}; update vision_jax."
    )
  try:
    fields = json.loads(texts["preprocessing"])
    for name in ("mean", "std"):
      fields[name] = tuple(float(value) for value in fields[name])
    return WeightsMetadata(
      model=texts["model"],
      arguments=dict(json.loads(texts["arguments"])),
      source=texts["source"],
      class_names=tuple(json.loads(texts["class_names"])),
      preprocessing=Preprocess(**fields),
      licence=texts["licence"],
      card=texts["card"],
      format_version=texts["format_version"],
    )
  except (KeyError, TypeError, ValueError) as error:
    raise WeightsError(
      f"{where}: the metadata is damaged: {error!r}."
    ) from error


def make_module(metadata: WeightsMetadata, where: str) -> Any:
  """Builds the module that metadata names."""
  constructor = constructors.find_constructor(metadata.model)
  if constructor is None:
    raise WeightsError(
      f"{where}: belongs to the unknown model {metadata.model!r}; there are "
      f"{', '.join(constructors.model_names())}."
    )
  try:
    return constructor(**metadata.arguments)
  except (TypeError, ValueError) as error:
    raise WeightsError(
      f"{where}: the arguments of {metadata.model} are wrong: {error}."
    ) from error


def _flatten_shapes(metadata: WeightsMetadata) -> convert.FlattenShapes:
  if constructors.find_constructor(metadata.model) is None:
    return {}
  return convert.flatten_shapes(make_module(metadata, "save_weights"))


def _stored(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """An array in the type of the file; it must survive that."""
  kind = dtype if array.ndim > 1 else np.dtype(np.float32)
  with np.errstate(over="ignore"):
    stored = np.ascontiguousarray(array, dtype=kind)
  if not np.isfinite(stored).all():
    raise WeightsError(
      f"save_weights: {name!r} holds values that are NaN, infinite or beyond "
      f"the range of {kind}."
    )
  return stored.reshape(array.shape)
