"""Checksums of a folder, so that damage is found before anything is read.

Without them a flipped bit in stored arrays is read without complaint, and a
missing file raises errors of many types.
"""

import json
import os
import zlib

__all__ = ["find_damage", "write_checksums"]

_NAME = "_CRC32.json"


def write_checksums(folder: str) -> None:
  """Writes size and CRC-32 of every file in the subfolders of a folder.

  Args:
    folder: path of the folder; gets the file `_CRC32.json`.

  Example:
    >>> from vision_jax.train import checksums
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "state").mkdir()
    >>> _ = (folder / "state" / "data").write_text("numbers")
    >>> checksums.write_checksums(str(folder))
    >>> checksums.find_damage(str(folder))
    >>> _ = (folder / "state" / "data").write_text("nunbers")
    >>> checksums.find_damage(str(folder)).split(":")[0]
    'file state/data is damaged'

  Source:
    Interface of this library.
  """
  with open(os.path.join(folder, _NAME), "w") as file:
    json.dump(_sums(folder), file)


def find_damage(folder: str) -> str | None:
  """Compares every file with the sums written at its time.

  Args:
    folder: path of a folder that `write_checksums` was called for.

  Returns:
    What is wrong, in words; None if nothing is.
  """
  try:
    with open(os.path.join(folder, _NAME)) as file:
      wanted = json.load(file)
    found = _sums(folder)
  except (OSError, ValueError) as error:
    return f"file {_NAME} cannot be read ({error})"
  for name in sorted(wanted):
    if name not in found:
      return f"file {name} is missing"
    if found[name] != wanted[name]:
      return (
        f"file {name} is damaged: size and CRC-32 are {found[name]}, were "
        f"{wanted[name]}"
      )
  return None


def _sums(folder: str) -> dict[str, list[int]]:
  """Relative path -> [size, CRC-32].

  Files beside the subfolders (a time stamp) change later and are not needed to
  read them.
  """
  sums = {}
  for root, _, names in os.walk(folder):
    for name in names if root != folder else ():
      path = os.path.join(root, name)
      size, crc = 0, 0
      with open(path, "rb") as file:
        while block := file.read(1 << 20):
          size, crc = size + len(block), zlib.crc32(block, crc)
      sums[os.path.relpath(path, folder)] = [size, crc]
  return sums
