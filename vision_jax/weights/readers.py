"""Files of weights of other frameworks, read as NumPy arrays.

The kind of a file is taken from its first bytes, not from its name:

* safetensors;
* torch's zip format (since 1.6) and the stream of pickles before it;
* detectron2's pickle of NumPy arrays;
* NumPy's ``.npz``.

Files of darknet and of Keras are recognised here and read by
`vision_jax.weights.darknet` and `vision_jax.weights.keras`.
"""

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.weights import names as names_lib
from vision_jax.weights import unpickle
from vision_jax.weights.errors import WeightsError, WeightsNotFoundError

__all__ = ["read_metadata", "read_state_dict"]

# The number that opens every file of torch's old format, as a pickle.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")
_LEGACY_PROTOCOL = 1001

# Under these names a checkpoint keeps its state dict, in this order.
_NESTED = ("state_dict", "model", "model_state_dict", "model_state", "net")

_HDF5_START = b"\x89HDF\r\n\x1a\n"

_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the arrays of a file of weights, without torch.

  Files are read without trust: a pickle may hold arrays only, and is refused,
  before anything in it is called, if it names anything else.

  Args:
    path: a ``.safetensors``, ``.pth``, ``.pt``, ``.npz`` or, of detectron2,
      ``.pkl`` file. The content
      decides, not the name. A checkpoint may keep its state dict under the
      entry "state_dict" or "model"; the prefix "module." of every name is
      removed.

  Returns:
    name -> array, in the shape (torch: OIHW kernels) and type of the file, in
    the order of the file. Arrays may be read-only.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if the file is empty, truncated, of another kind, or a pickle
      that holds more than arrays.

  Example:
    >>> import os, tempfile
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "small.npz")
    >>> np.savez(path, **{"fc.bias": np.arange(3.0)})
    >>> print(weights.read_state_dict(path))
    {'fc.bias': array([0., 1., 2.])}

  Source:
    The safetensors format; torch.serialization (formats "zip" and "legacy").
  """
  path = Path(path)
  start = first_bytes(path)
  try:
    if start.startswith(b"PK\x03\x04"):
      content = _read_zip(path)
    elif start.startswith(_LEGACY_START):
      content = _read_legacy(path)
    elif start.startswith(b"\x80"):
      content = _read_pickle(path, start)
    elif _is_safetensors(start):
      content = _read_safetensors(path)
    else:
      raise WeightsError(_unknown_kind(path, start))
    return _state_dict(content, path)
  except WeightsError:
    raise
  except OSError as error:
    raise WeightsError(f"{path}: cannot be read: {error}.") from error
  except Exception as error:  # a broken pickle can raise almost anything
    detail = str(error) or type(error).__name__
    raise WeightsError(
      f"{path}: not a readable file of weights: {detail}."
    ) from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
  """Reads the texts that a safetensors file carries beside its arrays.

  Args:
    path: a ``.safetensors`` file.

  Returns:
    key -> text; empty if the file has none.

  Raises:
    WeightsNotFoundError: if there is no such file.
    WeightsError: if it is not a whole safetensors file.

  Example:
    >>> import os, tempfile
    >>> from safetensors.numpy import save_file
    >>> from vision_jax import weights
    >>> path = os.path.join(tempfile.mkdtemp(), "small.safetensors")
    >>> save_file({"a": np.zeros(3)}, path, metadata={"model": "vgg11"})
    >>> weights.read_metadata(path)
    {'model': 'vgg11'}

  Source:
    The format of safetensors: `__metadata__` of its header.
  """
  import safetensors

  path = Path(path)
  start = first_bytes(path)
  if not _is_safetensors(start):
    raise WeightsError(f"{path}: is not a safetensors file.")
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return dict(file.metadata() or {})
  except Exception as error:
    raise WeightsError(f"{path}: broken safetensors file: {error}.") from error


def is_safetensors_file(path: Path) -> bool:
  """Whether the content of a file is safetensors."""
  return _is_safetensors(first_bytes(path))


def is_hdf5_file(path: Path) -> bool:
  """Whether the content of a file is HDF5, the format of Keras."""
  return first_bytes(path).startswith(_HDF5_START)


def is_darknet_file(path: Path) -> bool:
  """Whether a file starts like darknet's: with a version such as 0.2.0."""
  return _is_darknet(first_bytes(path))


def first_bytes(path: Path) -> bytes:
  """The first bytes of a file that must exist and not be empty."""
  try:
    with path.open("rb") as file:
      start = file.read(64)
  except FileNotFoundError as error:
    raise WeightsNotFoundError(f"{path}: there is no such file.") from error
  except IsADirectoryError as error:
    raise WeightsError(f"{path}: is a folder, not a file.") from error
  except OSError as error:
    raise WeightsError(f"{path}: cannot be read: {error}.") from error
  if not start:
    raise WeightsError(f"{path}: is empty (0 bytes).")
  return start


def _is_darknet(start: bytes) -> bool:
  """Three small numbers; no other kind of file starts with 0, x, 0, 0, 0."""
  version = np.frombuffer(start[:12].ljust(12, b"\xff"), "<i4")
  return version[0] == 0 and 0 < version[1] < 10 and version[2] in range(10)


def _is_safetensors(start: bytes) -> bool:
  size = int.from_bytes(start[:8], "little")
  return start[8:9] == b"{" and 2 <= size <= _MAX_HEADER_BYTES


def _unknown_kind(path: Path, start: bytes) -> str:
  """Says what a file that is no file of weights probably is."""
  expected = "expected .safetensors, a torch .pth file or .npz"
  if start.startswith(b"version https://git-lfs"):
    return (
      f"{path}: is a Git LFS pointer, not the weights; fetch the file with "
      "`git lfs pull`."
    )
  if start.startswith(_HDF5_START):
    return f"{path}: is an HDF5 file; files of Keras are read by `from_keras`."
  if _is_darknet(start):
    return f"{path}: is a file of darknet; it is read by `from_darknet`."
  if start.lstrip()[:1] == b"<":
    return (
      f"{path}: is a web page, not weights (a failed download?); {expected}."
    )
  if start.startswith(b"\x80"):
    return (
      f"{path}: is a pickle that torch.save did not write, or a truncated "
      f"one, and is not opened; {expected}."
    )
  if _LEGACY_START.startswith(start) or len(start) < 16:
    return f"{path}: is truncated ({len(start)} bytes); {expected}."
  return f"{path}: is not a file of weights; {expected}."


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
  import safetensors

  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return {name: file.get_tensor(name) for name in file.keys()}
  except safetensors.SafetensorError as error:
    raise WeightsError(
      f"{path}: broken or truncated safetensors file: {error}."
    ) from error


def _read_zip(path: Path) -> Any:
  """Reads torch's zip format, or NumPy's."""
  try:
    archive = zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise WeightsError(
      f"{path}: truncated file: it starts like a torch zip file and has no "
      "end; copy or download it again."
    ) from error
  with archive:
    members = archive.namelist()
    if members and all(member.endswith(".npy") for member in members):
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    pickles = [m for m in members if m.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
      raise WeightsError(
        f"{path}: is a zip file, but torch.save did not write it (no "
        "data.pkl inside)."
      )
    root = pickles[0].removesuffix("data.pkl")
    reader = unpickle.Unpickler(io.BytesIO(_member(archive, pickles[0])))
    content = reader.load()
    order: str = sys.byteorder
    if root + "byteorder" in members:
      order = _member(archive, root + "byteorder").decode("ascii")
    for key, storage in reader.storages.items():
      raw = _member(archive, f"{root}data/{key}")
      storage.data = _elements(raw, storage, order)
    return unpickle.resolved(content)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
  """One member of an archive; torch never compresses, so we need not."""
  try:
    info = archive.getinfo(name)
  except KeyError as error:
    raise WeightsError(
      f"{archive.filename}: the record {name!r} is missing."
    ) from error
  if info.compress_type != zipfile.ZIP_STORED:
    raise WeightsError(
      f"{archive.filename}: the record {name!r} is compressed, which "
      "torch.save never does."
    )
  try:
    return archive.read(info)
  except (zipfile.BadZipFile, EOFError) as error:
    raise WeightsError(
      f"{archive.filename}: the record {name!r} is damaged: {error}."
    ) from error


def _elements(
  raw: bytes, storage: unpickle.Storage, byteorder: str
) -> np.ndarray:
  """The bytes of one storage as an array of its type."""
  if len(raw) != storage.size * storage.dtype.itemsize:
    raise pickle.UnpicklingError(
      f"storage {storage.key!r} has {len(raw)} bytes, expected "
      f"{storage.size * storage.dtype.itemsize}"
    )
  data = np.frombuffer(raw, storage.dtype)
  return data if byteorder == sys.byteorder else data.byteswap()


def _read_legacy(path: Path) -> Any:
  """Reads torch's stream of pickles: magic, versions, content, keys, data."""
  size = path.stat().st_size
  with path.open("rb") as file:
    magic = unpickle.Unpickler(file).load()
    protocol = unpickle.Unpickler(file).load()
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
      raise pickle.UnpicklingError(f"protocol {protocol} is unknown")
    unpickle.Unpickler(file).load()  # sizes of C types: not needed
    reader = unpickle.Unpickler(file)
    content = reader.load()
    keys = unpickle.Unpickler(file).load()
    for key in keys:
      storage = reader.storages.get(key)
      if storage is None:
        raise pickle.UnpicklingError(f"storage {key!r} is never mentioned")
      length = storage.size * storage.dtype.itemsize
      if file.tell() + 8 + length > size:
        raise WeightsError(
          f"{path}: truncated file: it has {size} bytes and announces more; "
          "copy or download it again."
        )
      count = int.from_bytes(file.read(8), "little", signed=True)
      if count != storage.size:
        raise pickle.UnpicklingError(
          f"storage {key!r} has {count} elements, expected {storage.size}"
        )
      storage.data = _elements(file.read(length), storage, "little")
    return unpickle.resolved(content)


def _read_pickle(path: Path, start: bytes) -> Any:
  """Reads detectron2's pickle: a dictionary with the entry "model"."""
  with path.open("rb") as file:
    try:
      content = unpickle.Unpickler(file).load()
    except (EOFError, pickle.UnpicklingError) as error:
      if "refused" in str(error):
        raise
      raise WeightsError(_unknown_kind(path, start)) from error
  if not isinstance(content, dict) or not isinstance(
    content.get("model"), dict
  ):
    raise WeightsError(_unknown_kind(path, start))
  return unpickle.resolved(content)


def _state_dict(content: Any, path: Path) -> dict[str, np.ndarray]:
  """Finds the state dict in what a file holds; checks that it is arrays."""
  if not isinstance(content, Mapping):
    raise WeightsError(
      f"{path}: holds a {type(content).__name__}, expected a dictionary of "
      "arrays (a state dict)."
    )
  for entry in _NESTED:
    if isinstance(content.get(entry), Mapping):
      content = content[entry]
      break
  if not content:
    raise WeightsError(f"{path}: holds no arrays.")
  arrays = {}
  for name, value in content.items():
    if isinstance(value, (bool, int, float)):
      value = np.asarray(value)
    if not isinstance(name, str) or not isinstance(
      value, (np.ndarray, np.generic)
    ):
      raise WeightsError(
        f"{path}: the entry {name!r} is a {type(value).__name__}, expected "
        "an array; give a state dict, or a checkpoint that has one under "
        f"one of {list(_NESTED)}."
      )
    arrays[name] = np.asarray(value)
  return {
    short: arrays[name]
    for name, short in names_lib.strip_wrappers(arrays).items()
  }
