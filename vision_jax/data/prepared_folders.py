"""The folders that TFDS writes: found, and refused where they are not whole."""

import json
import os
import pathlib
from typing import Any

from vision_jax.data.errors import DataError

__all__ = ["check_files", "find_prepared", "open_builder"]

_INFO = "dataset_info.json"
_CONVERT = (
  "write it as ArrayRecord (`file_format='array_record'` where it is prepared,"
  " or `python -m tensorflow_datasets.scripts.convert_format"
  " --out_file_format=array_record`)"
)


def find_prepared(directory: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of a prepared set, at `directory` or below it.

  Args:
    directory: the folder that holds `dataset_info.json` (as
      `prepare_generated` returns it), or one above it, if there is only one
      set below: `data/mnist/3.0.1`, `data/mnist` or `data`.

  Returns:
    The folder of the version.

  Raises:
    DataError: if there is no such folder or no set in it, if there are
      several, or if the set is half prepared or unreadable.

  Example:
    >>> import tempfile
    >>> from vision_jax.data import find_prepared, prepare_generated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = prepare_generated("generated_textures", folder,
    ...                            num_examples={"test": 3}, progress=False)
    ...   find_prepared(folder) == path
    True

  Source:
    The layout of TFDS: data_dir/name/config/version.
  """
  folder = pathlib.Path(directory)
  if not folder.is_dir():
    raise DataError(
      f"read_prepared: `directory` must be a folder, got {str(folder)!r};"
      " prepare the set first."
    )
  depths = ("", "*/", "*/*/", "*/*/*/")
  found = [p.parent for d in depths for p in folder.glob(d + _INFO)]
  # TFDS writes into a folder with this prefix and renames it at the end.
  parts = sorted(p for d in depths for p in folder.glob(d + "incomplete.*"))
  whole = sorted(
    path for path in found if not path.name.startswith("incomplete.")
  )
  if len(whole) == 1:
    return whole[0]
  if whole:
    names = " ".join(str(path.relative_to(folder)) for path in whole[:6])
    raise DataError(
      f"read_prepared: `directory` must hold one set, got {len(whole)} in"
      f" {str(folder)!r} ({names}); name one of them."
    )
  if parts or found:
    raise DataError(
      "read_prepared: `directory` must hold a finished set, got the half"
      f" prepared {str([*parts, *found][0])!r}; remove it and prepare the set"
      " again."
    )
  raise DataError(
    f"read_prepared: `directory` must hold a prepared set, got {str(folder)!r}"
    f" without {_INFO}; prepare the set first, or copy it as a whole."
  )


def _check_format(folder: pathlib.Path) -> None:
  """Refuses what cannot be read, or not as it should be, by its own words."""
  try:
    info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
    kinds = [info.get("fileFormat", "tfrecord")]
    kinds += info.get("alternativeFileFormats", [])
  except (OSError, ValueError, AttributeError, TypeError) as error:
    reason = " ".join(str(error).split())
    raise DataError(
      f"read_prepared: `directory` must hold a set, got {str(folder)!r} with a"
      f" damaged {_INFO} ({reason}); prepare or copy it again."
    ) from None
  if not (folder / "features.json").is_file():
    raise DataError(
      f"read_prepared: `directory` must hold a set, got {str(folder)!r} without"
      " features.json; prepare or copy it again."
    )
  if "array_record" not in kinds:
    why = " (TFDS ignores slices of it)" if "parquet" in kinds else ""
    raise DataError(
      "read_prepared: `directory` must hold a set in ArrayRecord, got"
      f" {kinds[0]}{why} in {str(folder)!r}; {_CONVERT}."
    )


def _check_generator(name: str, version: str, folder: pathlib.Path) -> None:
  """Refuses a generated set that another version of its generator drew."""
  from vision_jax.data import builders

  known = builders.BUILDERS.get(name)
  if known is None or str(known.VERSION) != version:
    expected = "a set that it knows" if known is None else known.VERSION
    raise DataError(
      "read_prepared: `directory` must hold what this library would draw, got"
      f" {name} {version} in {str(folder)!r} in place of {expected}; prepare"
      " the set again."
    )


def open_builder(directory: str | os.PathLike[str]) -> Any:
  """TFDS's builder of a prepared set, which is known to be whole.

  Raises:
    DataError: see `read_prepared`.
  """
  folder = find_prepared(directory)
  _check_format(folder)
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(folder)
  except Exception as error:  # JSON and protocol buffers, many types
    reason = " ".join(str(error).split())[:200]
    raise DataError(
      f"read_prepared: `directory` must hold a set, got {str(folder)!r}, which"
      f" TFDS cannot open ({reason}); prepare or copy it again."
    ) from None
  metadata = builder.info.metadata or {}
  if metadata.get("generator") == "vision_jax":
    _check_generator(builder.name, str(builder.version), folder)
  return builder


def check_files(name: str, split_info: Any, folder: pathlib.Path) -> None:
  """Refuses a split of which files are missing."""
  files = {pathlib.Path(part.filename) for part in split_info.file_instructions}
  missing = sorted(path.name for path in files if not path.is_file())
  if missing:
    raise DataError(
      f"read_prepared: `directory` must hold {len(files)} files of {name}, got"
      f" {str(folder)!r} without {len(missing)} of them ({missing[0]}); prepare"
      " or copy the set again."
    )
