"""An unpickler for torch files that can build arrays and nothing else.

A pickle is a program: it names functions and calls them. This one knows a short
list of names, each bound to a function of this file that only makes arrays.
Every other name is refused before anything is called, so that a file from an
unknown source can be read without trust, and without torch.
"""

import collections
import math
import pickle
from collections.abc import Callable
from typing import IO, Any

import ml_dtypes
import numpy as np

__all__ = ["LazyArray", "Storage", "Unpickler"]

_STORAGE_DTYPES = {
  "DoubleStorage": np.dtype(np.float64),
  "FloatStorage": np.dtype(np.float32),
  "HalfStorage": np.dtype(np.float16),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype(np.int64),
  "IntStorage": np.dtype(np.int32),
  "ShortStorage": np.dtype(np.int16),
  "CharStorage": np.dtype(np.int8),
  "ByteStorage": np.dtype(np.uint8),
  "BoolStorage": np.dtype(np.bool_),
  "ComplexFloatStorage": np.dtype(np.complex64),
  "ComplexDoubleStorage": np.dtype(np.complex128),
}


class Storage:
  """A piece of memory that a file holds; the reader fills in `data` later.

  Attributes:
    key: name of the piece in the file.
    dtype: type of its elements.
    size: number of its elements.
    data: the elements [size], or None before they are read.
    root: the storage that this one is a part of, or None.
    offset: first element of this part in `root`.
  """

  __slots__ = ("data", "dtype", "key", "offset", "root", "size")

  def __init__(self, key: str, dtype: np.dtype, size: int):
    self.key = key
    self.dtype = dtype
    self.size = size
    self.data: np.ndarray | None = None
    self.root: Storage | None = None
    self.offset = 0

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError("a storage has no state")

  def elements(self) -> np.ndarray:
    """The elements, [size]."""
    if self.root is not None:
      whole = self.root.elements()
      if not 0 <= self.offset <= self.offset + self.size <= len(whole):
        raise pickle.UnpicklingError(
          f"storage {self.key!r} lies outside of the one it is a part of"
        )
      return whole[self.offset : self.offset + self.size]
    if self.data is None:
      raise pickle.UnpicklingError(f"storage {self.key!r} is not in the file")
    return self.data


class LazyArray:
  """A strided view of a storage that may not have been read yet."""

  __slots__ = ("offset", "shape", "storage", "strides")

  def __init__(
    self,
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
  ):
    self.storage = storage
    self.offset = offset
    self.shape = shape
    self.strides = strides

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError("a tensor has no state")

  def array(self) -> np.ndarray:
    """The view as a read-only array, after checking that it fits."""
    data = self.storage.elements()
    if math.prod(self.shape) == 0:
      return np.zeros(self.shape, data.dtype)
    last = self.offset + sum(
      (n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)
    )
    if last >= len(data):
      raise pickle.UnpicklingError(
        f"a tensor of shape {list(self.shape)} reaches element {last} of "
        f"storage {self.storage.key!r}, which has {len(data)}"
      )
    return np.lib.stride_tricks.as_strided(
      data[self.offset :],
      self.shape,
      [s * data.itemsize for s in self.strides],
      writeable=False,
    )


class _Parameter:
  """Stands for torch's Parameter, as the oldest files hold it."""

  __slots__ = ("data",)

  def __init__(self, data: Any = None, *_: Any):
    self.data = data

  def __setstate__(self, state: Any) -> None:
    if isinstance(state, tuple) and len(state) == 5:
      self.data = state[0]


class _NumpyDtype:
  """Stands for a NumPy type: its short name, then its byte order."""

  __slots__ = ("name", "order")

  def __init__(self, name: str, *_: Any):
    if not isinstance(name, str) or name.lstrip("<>|=")[:1] not in tuple(
      "fiubc"
    ):
      raise pickle.UnpicklingError(f"numpy type {name!r} is not a number")
    self.name = name.lstrip("<>|=")
    self.order = "="

  def __setstate__(self, state: Any) -> None:
    if not isinstance(state, tuple) or len(state) < 2:
      raise pickle.UnpicklingError("the state of a numpy type is malformed")
    if state[1] not in ("<", ">", "|", "="):
      raise pickle.UnpicklingError(f"byte order {state[1]!r} is unknown")
    self.order = state[1]

  def dtype(self) -> np.dtype:
    return np.dtype(self.order + self.name)


class _NumpyArray:
  """Stands for a NumPy array: made empty, filled by its state."""

  __slots__ = ("array",)

  def __init__(self, *_: Any):
    self.array = np.zeros(0)

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, fortran, raw = state
    if not isinstance(dtype, _NumpyDtype) or not isinstance(raw, bytes):
      raise pickle.UnpicklingError("a numpy array does not hold numbers")
    flat = np.frombuffer(raw, dtype.dtype())
    self.array = flat.reshape(shape, order="F" if fortran else "C")


class _Allowed:
  """A function that a pickle may call but not look into or change."""

  __slots__ = ("_function",)
  _function: Callable[..., Any]

  def __init__(self, function: Callable[..., Any]):
    object.__setattr__(self, "_function", function)

  def __call__(self, *args: Any) -> Any:
    return self._function(*args)

  def __setattr__(self, name: str, value: Any) -> None:
    raise pickle.UnpicklingError("a function of the reader cannot be changed")

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError("a function of the reader cannot be changed")


def _integers(values: Any) -> tuple[int, ...]:
  """Checks that the values are sizes or strides."""
  values = tuple(values)
  if not all(type(v) is int and v >= 0 for v in values) or len(values) > 32:
    raise pickle.UnpicklingError(f"sizes or strides {values!r} are malformed")
  return values


def _rebuild_tensor(
  storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> LazyArray:
  if not isinstance(storage, Storage):
    raise pickle.UnpicklingError("a tensor without a storage")
  shape, strides = _integers(shape), _integers(strides)
  if len(shape) != len(strides):
    raise pickle.UnpicklingError("strides do not match sizes")
  return LazyArray(storage, _integers([offset])[0], shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
  return data


def _numpy_scalar(dtype: Any, raw: Any) -> Any:
  if not isinstance(dtype, _NumpyDtype) or not isinstance(raw, bytes):
    raise pickle.UnpicklingError("a numpy scalar is malformed")
  return np.frombuffer(raw, dtype.dtype())[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
  if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
    raise pickle.UnpicklingError("bytes in an unknown encoding")
  return text.encode("latin1")


_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
  ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
  ("torch.nn.parameter", "Parameter"): _Parameter,
  ("torch", "Size"): tuple,
  ("_codecs", "encode"): _encode,
  ("numpy", "ndarray"): _NumpyArray,
  ("numpy", "dtype"): _NumpyDtype,
  ("numpy.core.multiarray", "_reconstruct"): _NumpyArray,
  ("numpy._core.multiarray", "_reconstruct"): _NumpyArray,
  ("numpy.core.multiarray", "scalar"): _numpy_scalar,
  ("numpy._core.multiarray", "scalar"): _numpy_scalar,
}


class Unpickler(pickle.Unpickler):
  """Reads one pickle; tensors come back as `LazyArray`.

  Attributes:
    storages: key -> storage, for every storage that the pickle mentions.
  """

  def __init__(self, file: IO[bytes]):
    super().__init__(file, encoding="latin1")
    self.storages: dict[str, Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    """Gives the function that stands for a global, or refuses the global."""
    if (module, name) == ("collections", "OrderedDict"):
      return collections.OrderedDict
    if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
      return name
    if (module, name) in _GLOBALS:
      return _Allowed(_GLOBALS[module, name])
    raise pickle.UnpicklingError(
      f"it asks for {module}.{name}, which is refused: a file of weights may "
      "hold arrays only"
    )

  def persistent_load(self, pid: Any) -> Any:
    """Notes a storage that the pickle mentions."""
    if isinstance(pid, tuple) and pid and pid[0] == "module":
      raise pickle.UnpicklingError(
        "it holds a whole module with its code; save `module.state_dict()` "
        "instead"
      )
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
      raise pickle.UnpicklingError("a reference to something unknown")
    _, kind, key, _, size = pid[:5]
    if kind not in _STORAGE_DTYPES or not isinstance(key, str):
      raise pickle.UnpicklingError(f"a storage of unknown type {kind!r}")
    view = pid[5] if len(pid) > 5 else None
    storage = self._storage(key, _STORAGE_DTYPES[kind], _integers([size])[0])
    if view is None:
      return storage
    view_key, offset, view_size = view
    part = Storage(view_key, storage.dtype, _integers([view_size])[0])
    part.root, part.offset = storage, _integers([offset])[0]
    return part

  def _storage(self, key: str, dtype: np.dtype, size: int) -> Storage:
    known = self.storages.get(key)
    if known is None:
      known = self.storages[key] = Storage(key, dtype, size)
    elif (known.dtype, known.size) != (dtype, size):
      raise pickle.UnpicklingError(f"storage {key!r} has two types or sizes")
    return known


def resolved(value: Any) -> Any:
  """Replaces what stands for arrays by arrays, inside dicts and lists too."""
  if isinstance(value, LazyArray):
    return value.array()
  if isinstance(value, _Parameter):
    return resolved(value.data)
  if isinstance(value, _NumpyArray):
    return value.array
  if isinstance(value, dict):
    return {name: resolved(item) for name, item in value.items()}
  return value
