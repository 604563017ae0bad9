"""Weights published by torchvision: found, downloaded, checked, converted."""

import hashlib
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vision_jax.weights import constructors, convert
from vision_jax.weights.catalog import CATALOG, Entry, find_entry, find_file
from vision_jax.weights.errors import WeightsError
from vision_jax.weights.readers import read_state_dict

__all__ = ["cache_dir", "from_torchvision"]

_HASH = re.compile(r"-([0-9a-f]{8})\.[a-z]+$")
_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20


def from_torchvision(
  name: str,
  source: str | os.PathLike[str] | Mapping[str, Any],
  *,
  num_classes: int | None = None,
  dtype: Any = jnp.float32,
  **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
  """Makes a network with weights of torchvision.

  Parameters are mapped by name; nothing may be missing, nothing left over.

  Args:
    name: name of the model, as torchvision spells it: "vgg16",
      "maskrcnn_resnet50_fpn", "deeplabv3_resnet50".
    source: a ``.pth``, ``.pt``, ``.safetensors`` or ``.npz`` file; or a mapping
      torch name -> array, torch layout; or the name of published weights such
      as "IMAGENET1K_V1" or "DEFAULT", downloaded once into `cache_dir()`.
    num_classes: length of the logits; by default that of the weights. 0 drops
      the classifier, of a backbone and of its weights: features only, the
      default for published weights whose classifier is not a number.
    dtype: floating type of the parameters; batch statistics stay float32.
    **arguments: further arguments of the constructor, e.g. `output_stride`. A
      published file knows its own: three detectors have `norm_epsilon=0.0`,
      which must be said where such weights come as a mapping.

  Returns:
    (module, variables): the Flax module and its variables, for
    ``module.apply(variables, images, train=False)``.

  Raises:
    WeightsNotFoundError: if `source` is a path and there is no such file.
    WeightsMismatchError: if the weights belong to another model.
    WeightsError: if the model or the weights are unknown, the file is broken,
      values are NaN or infinite, or a download is needed and impossible.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> shapes = weights.torch_shapes(backbones.resnet18(num_classes=7))
    >>> state = weights.random_state_dict(shapes)
    >>> module, variables = weights.from_torchvision("resnet18", state)
    >>> variables["params"]["fc"]["bias"].shape
    (7,)

  Source:
    The state dicts of torchvision 0.28.
  """
  constructor = constructors.find_constructor(name)
  if constructor is None:
    raise WeightsError(
      f"from_torchvision: `name` must be a model, got {name!r}; there are "
      f"{', '.join(constructors.model_names())}."
    )
  state_dict, entry = _state_dict(name, source)
  where = f"from_torchvision({name!r})"
  if entry is not None:
    arguments = {**entry.arguments, **arguments}
  if num_classes is None and entry is not None and entry.features_only:
    num_classes = 0
  if num_classes is not None:
    arguments["num_classes"] = num_classes or None
  module = constructor(**arguments)
  if num_classes == 0 and getattr(module, "num_classes", None) is not None:
    raise WeightsError(
      f"{where}: `num_classes` must not be 0, the network has no use without "
      "its classes."
    )
  if num_classes == 0:
    whole = constructor(**{**arguments, "num_classes": 3})
    state_dict = _without_classifier(module, whole, state_dict, where)
  elif num_classes is None:
    more = constructor(**arguments, num_classes=module.num_classes + 1)
    found = _num_classes(module, more, state_dict, where)
    if found is not None:
      module = constructor(**arguments, num_classes=found)
  variables = convert.to_variables(
    module,
    state_dict,
    where=where,
    dtype=dtype,
  )
  return module, variables


def cache_dir() -> Path:
  """The folder that downloaded weights are kept in.

  Returns:
    $VISION_JAX_CACHE, else $XDG_CACHE_HOME/vision_jax, else
    ~/.cache/vision_jax. The folder need not exist.

  Example:
    >>> from vision_jax import weights
    >>> weights.cache_dir().is_absolute()
    True

  Source:
    The XDG base directory specification, version 0.8.
  """
  if os.environ.get("VISION_JAX_CACHE"):
    return Path(os.environ["VISION_JAX_CACHE"]).expanduser().absolute()
  return _user_cache() / "vision_jax"


def is_enum(source: str) -> bool:
  """Whether a source is spelled like the name of published weights."""
  return bool(re.fullmatch(r"DEFAULT|[A-Z][A-Z0-9]*_[A-Z0-9_]+", source))


def fetch(entry: Entry) -> Path:
  """The path of published weights, downloaded if they are not here yet."""
  path = cache_dir() / entry.file
  for known in (path, _torch_cache() / entry.file):
    if known.is_file():
      _check_hash(known, entry)
      return known
  return _download(entry, path)


def _user_cache() -> Path:
  home = os.environ.get("XDG_CACHE_HOME")
  return Path(home).absolute() if home else Path.home() / ".cache"


def _torch_cache() -> Path:
  """Where torchvision itself keeps the same files."""
  home = os.environ.get("TORCH_HOME")
  root = Path(home).expanduser() if home else _user_cache() / "torch"
  return root / "hub" / "checkpoints"


def _state_dict(
  name: str, source: str | os.PathLike[str] | Mapping[str, Any]
) -> tuple[Mapping[str, Any], Entry | None]:
  """Reads a source; the entry if it is one of the published files."""
  if isinstance(source, Mapping):
    return source, None
  if isinstance(source, str) and is_enum(source) and not Path(source).exists():
    if name not in CATALOG:
      raise WeightsError(
        f"from_torchvision: {name} has no published weights {source!r}; "
        "`source` must be a path or a mapping."
      )
    entry = find_entry(name, enum=source)
    return read_state_dict(fetch(entry)), entry
  return read_state_dict(source), find_file(Path(source).name)


def _num_classes(
  module: nn.Module,
  larger: nn.Module,
  state_dict: Mapping[str, Any],
  where: str,
) -> int | None:
  """The length of the logits of the weights, where it is not the module's.

  The classifier is what changes with `num_classes`, in proportion; `larger` is
  the same network with one class more.
  """
  given = convert.given_names(state_dict, where=where)
  found = {new: np.shape(state_dict[old]) for new, old in given.items()}
  expected = convert.torch_shapes(module)
  if all(found.get(name) == shape for name, shape in expected.items()):
    return None
  classes = module.num_classes
  other = convert.torch_shapes(larger)
  for name, shape in expected.items():
    step = other[name][0] - shape[0] if shape else 0
    if step and name in found and found[name][1:] == shape[1:]:
      more, rest = divmod(found[name][0] - shape[0], step)
      if more and not rest:
        return int(classes + more)
  return None


def _without_classifier(
  module: nn.Module,
  whole: nn.Module,
  state_dict: Mapping[str, Any],
  where: str,
) -> dict[str, Any]:
  """Drops what only the same network with a classifier has."""
  features = convert.torch_shapes(module)
  head = set(convert.torch_shapes(whole)) - set(features)
  given = convert.given_names(state_dict, where=where)
  return {old: state_dict[old] for new, old in given.items() if new not in head}


def _check_hash(path: Path, entry: Entry) -> None:
  """Compares a file with the digits in its published name."""
  match = _HASH.search(entry.file)
  assert match is not None, entry.file
  with path.open("rb") as file:
    digest = hashlib.file_digest(file, "sha256").hexdigest()
  if not digest.startswith(match[1]):
    raise WeightsError(
      f"{path}: is not the published file (SHA-256 {digest[:8]}..., expected "
      f"{match[1]}...): truncated or changed; delete it and try again."
    )


def _download(entry: Entry, path: Path) -> Path:
  """Downloads to a temporary file, checks it, then gives it its name."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
      dir=path.parent, prefix=".part-", suffix=path.suffix, delete=False
    ) as file:
      temporary = Path(file.name)
  except OSError as error:
    raise WeightsError(
      f"{path.parent}: cannot be written ({error}); set VISION_JAX_CACHE to "
      "a folder that can."
    ) from error
  try:
    _copy_url(entry.url, temporary)
    _check_hash(temporary, entry)
    os.replace(temporary, path)
  except (urllib.error.URLError, OSError) as error:
    reason = getattr(error, "reason", error)
    raise WeightsError(
      f"cannot download {entry.url} ({reason}); fetch it on another machine "
      f"and place it at {path}, or give the path of the file."
    ) from error
  finally:
    temporary.unlink(missing_ok=True)
  return path


def _copy_url(url: str, path: Path) -> None:
  """Copies what a URL gives, with a progress bar on a terminal."""
  import tqdm

  with (
    urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as reply,
    path.open("wb") as file,
  ):
    total = reply.headers.get("Content-Length")
    with tqdm.tqdm.wrapattr(
      reply,
      "read",
      total=int(total) if total else None,
      desc=url.rpartition("/")[2],
      disable=None,
    ) as stream:
      shutil.copyfileobj(stream, file, _CHUNK_BYTES)
