"""Sets that are plain files: random access, and errors that name the file."""

import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vision_jax.data import decoding, images
from vision_jax.data.errors import DataError

__all__ = ["FileSource"]


class FileSource:
  """Random access to a set whose examples are files, read when asked for.

  `len(source)` and `source[i]`, a dictionary of arrays with `index`, the
  position in the source. It can be pickled if `load` can.

  Args:
    reader: name of the function that made the source, for its errors.
    name: name of the set.
    split: name of the split; None where there is none.
    items: what `load` needs to know of each example.
    load: item to example; ValueError if a file cannot be used, with a text
      that names it.
    class_names: the classes; empty where the set has none.

  Attributes:
    name: as above.
    split: as above.
    class_names: as above.

  Raises:
    DataError: from `source[i]`: if a file of the example is missing or
      damaged. The text names the set, the position, the file and the reason.
    IndexError: from `source[i]`, if there is no such example.

  Example:
    >>> from vision_jax.data import FileSource
    >>> source = FileSource("open_numbers", "numbers", None, [3, 5],
    ...                     lambda item: {"label": np.int32(item)})
    >>> len(source), int(source[1]["label"]), int(source[1]["index"])
    (2, 5, 1)
  """

  def __init__(
    self,
    reader: str,
    name: str,
    split: str | None,
    items: Sequence[Any],
    load: Callable[[Any], dict[str, Any]],
    *,
    class_names: Sequence[str] = (),
  ) -> None:
    self.name = name
    self.split = split
    self.class_names = tuple(class_names)
    self._reader = reader
    self._items = items
    self._load = load

  def __len__(self) -> int:
    return len(self._items)

  def __iter__(self) -> Iterator[dict[str, Any]]:
    for place in range(len(self)):
      yield self[place]

  def __getitem__(self, index: int) -> dict[str, Any]:
    place = int(index)
    if place < 0:
      place += len(self)
    if not 0 <= place < len(self):
      raise IndexError(
        f"{self._reader}: `index` must be below {len(self)}, got {index}."
      )
    try:
      example = self._load(self._items[place])
    except ValueError as error:
      split = f" of split {self.split!r}" if self.split else ""
      raise DataError(
        f"{self._reader}: example {place}{split} of {self.name} is damaged"
        f" ({error}); copy it again, or leave the example out."
      ) from None
    example["index"] = np.asarray(place, np.int64)
    return example


def read_bytes(path: str | os.PathLike[str]) -> bytes:
  """A file as a whole; ValueError, with its name and the reason, if not."""
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    reason = error.strerror or type(error).__name__
    raise ValueError(f"{os.fspath(path)!r}: {reason}") from None


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
  """A picture, uint8 [H, W, 3]; ImageError, with its name, if it is damaged."""
  try:
    return decoding.decode_picture(read_bytes(path))
  except images.ImageError as error:
    raise images.ImageError(f"{os.fspath(path)!r}: {error}") from None


def read_map(path: str | os.PathLike[str]) -> np.ndarray:
  """A map of numbers, uint8 [H, W]; ImageError, with its name, if not."""
  try:
    return decoding.decode_map(read_bytes(path))
  except images.ImageError as error:
    raise images.ImageError(f"{os.fspath(path)!r}: {error}") from None


def folder_names(folder: str | os.PathLike[str]) -> list[str]:
  """Folders in a folder, sorted, without those with a leading dot."""
  return sorted(
    entry.name
    for entry in os.scandir(folder)
    if entry.is_dir() and not entry.name.startswith(".")
  )


def check_root(
  reader: str, root: str | os.PathLike[str], remedy: str
) -> pathlib.Path:
  """The root of a set; DataError if it is no folder."""
  folder = pathlib.Path(root)
  if not folder.is_dir():
    raise DataError(
      f"{reader}: `root` must be a folder, got {str(folder)!r}; {remedy}."
    )
  return folder


def check_files(reader: str, what: str, paths: Iterable[pathlib.Path]) -> None:
  """DataError if files of a set are missing: how many, and the first.

  Whole folders are listed: asking for each of many files takes long.
  """
  folders: dict[pathlib.Path, set[str]] = {}
  total, missing = 0, []
  for path in paths:
    total += 1
    inside = folders.get(path.parent)
    if inside is None:
      inside = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
      folders[path.parent] = inside
    if path.name not in inside:
      missing.append(path)
  if missing:
    raise DataError(
      f"{reader}: `root` must hold {total} {what}, got {len(missing)} fewer"
      f" ({str(missing[0])!r} is missing); copy the set again."
    )
