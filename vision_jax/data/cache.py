"""A set kept in memory after it has been read once."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision_jax.data.batch_reading import Source

__all__ = ["cache_in_memory"]


class _CachedSource:
  """See `cache_in_memory`."""

  def __init__(self, source: Source, max_bytes: int) -> None:
    self._source = source
    self._max_bytes = max_bytes
    self._kept: dict[int, dict[str, Any]] = {}
    self._num_bytes = 0

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int, /) -> Mapping[str, Any]:
    example = self._kept.get(index)
    if example is None:
      example = dict(self._source[index])
      arrays = [v for v in example.values() if isinstance(v, np.ndarray)]
      num_bytes = sum(array.nbytes for array in arrays)
      if self._num_bytes + num_bytes <= self._max_bytes:
        for array in arrays:
          array.flags.writeable = False  # the next epoch needs it as it is
        self._kept[index] = example
        self._num_bytes += num_bytes
    return dict(example)

  def __getattr__(self, name: str) -> Any:
    if name.startswith("_"):  # while it is being unpickled
      raise AttributeError(name)
    return getattr(self._source, name)

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {"_kept": {}, "_num_bytes": 0}


def cache_in_memory(source: Source, *, max_bytes: int = 2**32) -> Any:
  """A source that keeps the decoded examples for the next epoch.

  For sets that fit: reading a record and decoding its picture take most of the
  time that a small picture takes. Each worker process keeps its own.

  Args:
    source: `len(source)` and `source[i] -> dict` of arrays.
    max_bytes: examples beyond it are read again each time.

  Returns:
    A source with the attributes of `source`. Its arrays are read-only.

  Raises:
    ValueError: if `max_bytes` is negative.

  Example:
    >>> from vision_jax.data import cache_in_memory
    >>> class Numbers:
    ...   def __len__(self): return 3
    ...   def __getitem__(self, index):
    ...     print("reading", index)
    ...     return {"square": np.array([index**2])}
    >>> source = cache_in_memory(Numbers())
    >>> print(source[2]["square"], source[2]["square"])
    reading 2
    [4] [4]

  Source:
    Interface of this library; tf.data calls it `cache`.
  """
  if max_bytes < 0:
    raise ValueError(
      f"cache_in_memory: `max_bytes` must be at least 0, got {max_bytes}."
    )
  return _CachedSource(source, max_bytes)
