"""Cityscapes: street scenes with maps of 19 classes and of instances.

The data set is not part of this project and nothing is fetched.
"""

import functools
import io
import json
import os
import pathlib
from typing import Any

import numpy as np
import PIL.Image

from vision_jax.data import images
from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = ["CITYSCAPES_CLASSES", "open_cityscapes"]

# The 19 classes that are evaluated, and their numbers in the files.
_IDS = {
  "road": 7,
  "sidewalk": 8,
  "building": 11,
  "wall": 12,
  "fence": 13,
  "pole": 17,
  "traffic light": 19,
  "traffic sign": 20,
  "vegetation": 21,
  "terrain": 22,
  "sky": 23,
  "person": 24,
  "rider": 25,
  "car": 26,
  "truck": 27,
  "bus": 28,
  "train": 31,
  "motorcycle": 32,
  "bicycle": 33,
}
CITYSCAPES_CLASSES = tuple(_IDS)
"""The 19 classes; a position in this tuple is the "train id"."""

_READER = "open_cityscapes"
_IGNORED = 255
_FIRST_THING = CITYSCAPES_CLASSES.index("person")  # this and all that follow
_THINGS = CITYSCAPES_CLASSES[_FIRST_THING:]
_PICTURE, _TRUTH = "leftImg8bit", "gtFine"

_TRAIN_IDS = np.full(256, _IGNORED, np.uint8)
_TRAIN_IDS[list(_IDS.values())] = np.arange(len(_IDS))


def _read_instances(path: str) -> np.ndarray:
  """The 16-bit map of instances, int32 [H, W]."""
  data = file_sources.read_bytes(path)
  try:
    with PIL.Image.open(io.BytesIO(data)) as image:
      if image.mode not in ("I;16", "I", "L"):
        raise ValueError(f"a map of mode {image.mode!r}, not of 16 bits")
      return np.asarray(image).astype(np.int32)
  except Exception as error:  # decoders raise many types on broken data
    reason = " ".join(str(error).split())
    raise images.ImageError(
      f"{path!r}: truncated or damaged: {reason}"
    ) from None


def _read_outlines(path: str) -> dict[int, list[np.ndarray]]:
  """Polygons of each number in the map of instances, continuous frame.

  The numbers are those of the program that made the maps: objects of a class
  are counted in the order of the file, groups share the number of the class.
  """
  try:
    objects = json.loads(file_sources.read_bytes(path))["objects"]
    found: dict[int, list[np.ndarray]] = {}
    counts = dict.fromkeys(_THINGS, 0)
    for entry in objects:
      label = entry["label"]
      name = label.removesuffix("group")
      if name not in counts or entry.get("deleted"):
        continue
      number = _IDS[name]
      if label == name:
        number = 1000 * number + counts[name]
        counts[name] += 1
      # The files hold pixels, drawn from centre to centre.
      points = np.array(entry["polygon"], np.float32).reshape(-1, 2) + 0.5
      found.setdefault(number, []).append(points.astype(np.float32))
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f"{path!r}: no polygons: {error!r}") from None
  except ValueError as error:
    raise ValueError(f"{path!r}: {error}") from None
  return found


def _objects(instances: np.ndarray) -> tuple[list[int], dict[str, np.ndarray]]:
  """Numbers and features of all objects and groups of the 8 thing classes."""
  present = [int(number) for number in np.unique(instances)]
  labels = {_IDS[name]: CITYSCAPES_CLASSES.index(name) for name in _THINGS}
  numbers = [k for k in present if (k // 1000 if k >= 1000 else k) in labels]
  masks = np.zeros((len(numbers), *instances.shape), np.uint8)
  boxes = np.zeros((len(numbers), 4), np.float32)
  for place, number in enumerate(numbers):
    mask = instances == number
    masks[place] = mask
    y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    boxes[place] = x[0], y[0], x[-1] + 1, y[-1] + 1
  kinds = [k // 1000 if k >= 1000 else k for k in numbers]
  return numbers, {
    "boxes": boxes,
    "labels": np.array([labels[kind] for kind in kinds], np.int32),
    "masks": masks,
    "crowd": np.array([k < 1000 for k in numbers], bool),
    "area": masks.sum((1, 2), dtype=np.int64).astype(np.float32),
  }


def _same_size(example: dict[str, Any], found: np.ndarray, path: str) -> None:
  height, width = example["image"].shape[:2]
  if found.shape != (height, width):
    raise ValueError(
      f"{path!r} has {found.shape[1]} x {found.shape[0]} pixels in place of"
      f" {width} x {height}"
    )


def _load(
  item: tuple[str, str],
  *,
  root: str,
  split: str,
  instances: bool,
  polygons: bool,
) -> dict[str, Any]:
  city, name = item
  picture = os.path.join(root, _PICTURE, split, city, f"{name}_{_PICTURE}.png")
  truth = os.path.join(root, _TRUTH, split, city, f"{name}_{_TRUTH}")
  example: dict[str, Any] = {"image": file_sources.read_picture(picture)}
  path = f"{truth}_labelIds.png"
  kinds = file_sources.read_map(path)
  _same_size(example, kinds, path)
  example["semantic"] = _TRAIN_IDS[kinds]
  if instances:
    path = f"{truth}_instanceIds.png"
    found = _read_instances(path)
    _same_size(example, found, path)
    numbers, objects = _objects(found)
    example.update(objects)
    if polygons:
      outlines = _read_outlines(f"{truth}_polygons.json")
      example["polygons"] = [outlines.get(number, []) for number in numbers]
  return example


def _pictures(folder: pathlib.Path, split: str) -> list[tuple[str, str]]:
  """(city, name) of the pictures of a split, sorted; DataError if none."""
  ending = f"_{_PICTURE}.png"
  place = folder / _PICTURE / split
  found = [
    (city, entry.removesuffix(ending))
    for city in file_sources.folder_names(place)
    for entry in sorted(os.listdir(place / city))
    if entry.endswith(ending) and not entry.startswith(".")
  ]
  if not found:
    raise DataError(
      f"{_READER}: `root` must hold pictures city/*{ending}, got {str(place)!r}"
      " without any; unpack leftImg8bit_trainvaltest.zip."
    )
  return found


def _check_layout(folder: pathlib.Path, split: str) -> None:
  """DataError if the folders of pictures or maps of the split are missing."""
  missing = [p for p in (_PICTURE, _TRUTH) if not (folder / p).is_dir()]
  if missing:
    raise DataError(
      f"{_READER}: `root` must hold {_PICTURE} and {_TRUTH}, got"
      f" {str(folder)!r} without {' '.join(missing)}; unpack"
      " leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip in it."
    )
  known = file_sources.folder_names(folder / _PICTURE)
  if split not in known:
    raise DataError(
      f"{_READER}: `split` must be one of {' '.join(known) or '(none)'} in"
      f" {str(folder / _PICTURE)!r}, got {split!r}."
    )


def open_cityscapes(
  root: str | os.PathLike[str],
  split: str,
  *,
  instances: bool = False,
  polygons: bool = False,
) -> file_sources.FileSource:
  """Opens a split of Cityscapes with its fine annotations.

  Convention:
    Boxes and polygons are in pixels, continuous frame; boxes are tight around
    the masks. The files give polygons from pixel centre to pixel centre: 0.5
    is added. Objects are the instances of the 8 classes from "person" on, in
    the order of their numbers; regions of many ("cargroup") are one object
    per class, with `crowd`, and come first.

  Args:
    root: the folder with `leftImg8bit` and `gtFine`.
    split: "train", "val" or "test" (the maps of which are published empty).
    instances: whether to read objects; their masks are large.
    polygons: whether to read their outlines as well; needs `instances`.

  Returns:
    A source of `image` uint8 [H, W, 3], `semantic` uint8 [H, W] (a position
    in `CITYSCAPES_CLASSES`, 255 to be ignored), `index`. With `instances`
    also `boxes` float32 [N, 4], `labels` int32 [N] (a position in the same
    19 classes), `masks` uint8 [N, H, W], `crowd` bool [N], `area` float32
    [N]; with `polygons` also these, a list of N lists of float32 [P, 2]: as
    they were drawn, covered parts too.

  Raises:
    ValueError: if there are to be polygons without instances.
    DataError: if `root`, a part of it, the split or files of the split are
      missing. Later, from `source[i]`: if a file is damaged.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_cityscapes, write_image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for kind in ("leftImg8bit", "gtFine"):
    ...   (root / kind / "val" / "ulm").mkdir(parents=True)
    >>> name = "ulm_000000_000019"
    >>> write_image(root / f"leftImg8bit/val/ulm/{name}_leftImg8bit.png",
    ...             np.zeros((2, 3, 3)))
    >>> write_image(root / f"gtFine/val/ulm/{name}_gtFine_labelIds.png",
    ...             np.array([[7, 8, 0], [26, 9, 33]], np.uint8))
    >>> print(open_cityscapes(root, "val")[0]["semantic"])
    [[  0   1 255]
     [ 13 255  18]]

  Source:
    M. Cordts et al., "The Cityscapes dataset", CVPR 2016, and its scripts
    (`labels.py`, `json2instanceImg.py`) for the numbers.
  """
  if polygons and not instances:
    raise ValueError(
      f"{_READER}: `polygons` must go with instances=True, got {instances}."
    )
  remedy = "name the folder that holds leftImg8bit and gtFine"
  folder = file_sources.check_root(_READER, root, remedy)
  _check_layout(folder, split)
  items = _pictures(folder, split)
  endings = ["labelIds.png"]
  endings += ["instanceIds.png"] if instances else []
  endings += ["polygons.json"] if polygons else []
  for ending in endings:
    file_sources.check_files(
      _READER,
      f"files *_{ending}",
      (
        folder / _TRUTH / split / city / f"{name}_{_TRUTH}_{ending}"
        for city, name in items
      ),
    )
  load = functools.partial(
    _load,
    root=str(folder),
    split=split,
    instances=instances,
    polygons=polygons,
  )
  return file_sources.FileSource(
    _READER,
    "cityscapes",
    split,
    items,
    load,
    class_names=CITYSCAPES_CLASSES,
  )
