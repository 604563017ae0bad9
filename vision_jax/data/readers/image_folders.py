"""Folders of pictures: one folder per class, or one folder without classes."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision_jax.data import images
from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = ["open_image_folder"]

_READER = "open_image_folder"
# Names that are hardly ever classes, but are found one level too high.
_SPLITS = {"train", "training", "val", "valid", "validation", "test"}


def _load(item: tuple[str, int | None], *, root: str) -> dict[str, Any]:
  path, label = item
  example: dict[str, Any] = {
    "image": file_sources.read_picture(os.path.join(root, path))
  }
  if label is not None:
    example["label"] = np.asarray(label, np.int32)
  return example


def _list(folder: pathlib.Path, *, recursive: bool) -> list[pathlib.Path]:
  """The pictures of a folder, sorted; none if there are none."""
  try:
    return images.list_images(folder, recursive=recursive)
  except images.ImageError:
    return []


def _classes(
  folder: pathlib.Path, found: Sequence[str], given: Sequence[str] | None
) -> tuple[str, ...]:
  """The classes of a folder with the subfolders `found`."""
  if given is None:
    if _SPLITS.issuperset(found):
      raise DataError(
        f"{_READER}: `root` must hold a folder per class, got {str(folder)!r}"
        f" with the splits {' '.join(found)}; name one of them, for example"
        f" {str(folder / found[0])!r}."
      )
    return tuple(found)
  unknown = sorted(set(found) - set(given))
  if unknown:
    raise DataError(
      f"{_READER}: `class_names` must have all folders of {str(folder)!r}, got"
      f" {' '.join(given)} without {' '.join(unknown)}."
    )
  return tuple(given)


def open_image_folder(
  root: str | os.PathLike[str], *, class_names: Sequence[str] | None = None
) -> file_sources.FileSource:
  """Opens a folder of pictures; its folders, if it has any, are classes.

  Convention:
    `root/class/.../picture.png` has a label, the position of the class in
    `class_names` of the source; `root/picture.png` has none. Classes and
    files are sorted by name. Files without a suffix in `IMAGE_SUFFIXES` and
    names with a leading dot are left out.

  Args:
    root: the folder of one split.
    class_names: the classes in their order, for a split in which some have no
      folder, or another order; the names of the folders by default.

  Returns:
    A source of `image` uint8 [H, W, 3], `index` and, with classes, `label`
    int32 []. Its `name` is that of the folder.

  Raises:
    DataError: if `root` is no folder, holds no picture, holds pictures beside
      folders, has a folder without pictures or one that is no class, or has
      splits in place of classes. Later, from `source[i]`: if a picture is
      damaged.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_image_folder, write_image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("dog", "cat"):
    ...   (root / name).mkdir()
    ...   write_image(root / name / "1.png", np.zeros((4, 6, 3)))
    >>> source = open_image_folder(root)
    >>> source.class_names, int(source[1]["label"]), source[1]["image"].shape
    (('cat', 'dog'), 1, (4, 6, 3))

  Source:
    The layout of torchvision's `ImageFolder` and of ImageNet.
  """
  folder = file_sources.check_root(_READER, root, "check the path")
  found = file_sources.folder_names(folder)
  flat = _list(folder, recursive=False)
  name = folder.absolute().name
  if flat and found:
    raise DataError(
      f"{_READER}: `root` must hold pictures or a folder per class, got"
      f" {str(folder)!r} with both ({flat[0].name!r}, {found[0]!r}); move the"
      " pictures into a folder."
    )
  if not flat and not found:
    raise DataError(
      f"{_READER}: `root` must hold pictures or a folder per class, got"
      f" {str(folder)!r} without any; known suffixes are"
      f" {' '.join(images.IMAGE_SUFFIXES)}."
    )
  items: list[tuple[str, int | None]] = [(path.name, None) for path in flat]
  classes = _classes(folder, found, class_names) if found else ()
  for label, class_name in enumerate(classes):
    if class_name not in found:
      continue
    paths = _list(folder / class_name, recursive=True)
    if not paths:
      raise DataError(
        f"{_READER}: every class must have a picture, got"
        f" {str(folder / class_name)!r} without any; copy the set again, or"
        " remove the folder and name the classes."
      )
    items.extend((str(path.relative_to(folder)), label) for path in paths)
  load = functools.partial(_load, root=str(folder))
  return file_sources.FileSource(
    _READER, name, None, items, load, class_names=classes
  )
