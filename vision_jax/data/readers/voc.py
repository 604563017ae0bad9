"""PASCAL VOC: boxes in XML, and maps of classes and objects for some pictures.

The data set is not part of this project and nothing is fetched.
"""

import functools
import os
import pathlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = ["VOC_CLASSES", "open_voc"]

VOC_CLASSES = (
  "aeroplane",
  "bicycle",
  "bird",
  "boat",
  "bottle",
  "bus",
  "car",
  "cat",
  "chair",
  "cow",
  "diningtable",
  "dog",
  "horse",
  "motorbike",
  "person",
  "pottedplant",
  "sheep",
  "sofa",
  "train",
  "tvmonitor",
)
"""The 20 classes; in the maps of classes, the first is 1."""

_READER = "open_voc"
_BORDER = 255  # in the maps of classes and objects


def _number(node: ET.Element, name: str, default: str | None = None) -> float:
  """The number in a child of an element; ValueError without one."""
  text = node.findtext(name, default)
  try:
    return float(text)  # type: ignore[arg-type]
  except (TypeError, ValueError):
    raise ValueError(f"<{node.tag}> has <{name}> {text!r}") from None


def _parse(text: bytes, class_names: Sequence[str]) -> dict[str, np.ndarray]:
  """Objects of an annotation, and the picture's (height, width) as `size`.

  Raises:
    ValueError: if it is damaged; the text is a bare reason.
  """
  try:
    root = ET.fromstring(text)
  except ET.ParseError as error:
    raise ValueError(f"no XML: {error}") from None
  corners, labels, difficult, truncated = [], [], [], []
  for node in root.iterfind("object"):
    name = (node.findtext("name") or "").strip()
    if name not in class_names:
      raise ValueError(
        f"an object of class {name!r}; known classes are"
        f" {' '.join(class_names)}"
      )
    box = node.find("bndbox")
    if box is None:
      raise ValueError(f"{name!r} has no <bndbox>")
    corner = [_number(box, c) for c in ("xmin", "ymin", "xmax", "ymax")]
    if not (corner[2] >= corner[0] and corner[3] >= corner[1]):
      raise ValueError(f"{name!r} has the empty box {corner}")
    corners.append(corner)
    labels.append(list(class_names).index(name))
    difficult.append(_number(node, "difficult", "0") != 0)
    truncated.append(_number(node, "truncated", "0") != 0)
  boxes = np.array(corners, np.float32).reshape(-1, 4)
  size = root.find("size")
  shape = [0.0, 0.0]  # some programs write no size, or 0
  if size is not None:
    shape = [_number(size, "height", "0"), _number(size, "width", "0")]
  return {
    # Pixels are counted from 1 and the last one belongs to the box.
    "boxes": boxes - np.array([1, 1, 0, 0], np.float32),
    "labels": np.array(labels, np.int32),
    "difficult": np.array(difficult, bool),
    "truncated": np.array(truncated, bool),
    "size": np.array(shape, np.int64),
  }


def _check_size(shape: Sequence[int], expected: np.ndarray, what: str) -> None:
  if expected.all() and tuple(shape[:2]) != tuple(expected):
    raise ValueError(
      f"{what} has {shape[1]} x {shape[0]} pixels in place of"
      f" {expected[1]} x {expected[0]}"
    )


def _add_maps(example: dict[str, Any], root: str, name: str) -> None:
  """Adds `semantic`, `masks` and `area`; ValueError if they do not fit."""
  kinds, objects = (
    file_sources.read_map(os.path.join(root, folder, f"{name}.png"))
    for folder in ("SegmentationClass", "SegmentationObject")
  )
  shape = np.array(example["image"].shape[:2])
  for value, folder in (
    (kinds, "SegmentationClass"),
    (objects, "SegmentationObject"),
  ):
    _check_size(value.shape, shape, f"{folder}/{name}.png")
  count = len(example["labels"])
  highest = objects[objects != _BORDER].max(initial=0)
  if highest > count:
    raise ValueError(
      f"SegmentationObject/{name}.png has {highest} objects in place of {count}"
    )
  numbers = np.arange(1, count + 1, dtype=np.uint8)[:, None, None]
  masks = (objects == numbers).astype(np.uint8)
  for number, mask in enumerate(masks):
    counts = np.bincount(kinds[mask > 0], minlength=1)
    if mask.any() and counts.argmax() != example["labels"][number] + 1:
      raise ValueError(
        f"object {number + 1} of SegmentationObject/{name}.png is of class"
        f" {counts.argmax()} in place of {example['labels'][number] + 1}"
      )
  example["semantic"], example["masks"] = kinds, masks
  example["area"] = masks.sum((1, 2), dtype=np.int64).astype(np.float32)


def _load(
  name: str, *, root: str, class_names: tuple[str, ...], segmentation: bool
) -> dict[str, Any]:
  path = os.path.join(root, "Annotations", f"{name}.xml")
  text = file_sources.read_bytes(path)
  try:
    objects = _parse(text, class_names)
  except ValueError as error:
    raise ValueError(f"{path!r}: {error}") from None
  picture = os.path.join(root, "JPEGImages", f"{name}.jpg")
  example: dict[str, Any] = {"image": file_sources.read_picture(picture)}
  _check_size(example["image"].shape, objects.pop("size"), repr(picture))
  example.update(objects)
  if segmentation:
    _add_maps(example, root, name)
  return example


def _where_instead(folder: pathlib.Path) -> str:
  """What to name instead: a folder below that looks right, or what to do."""
  for below in (folder, folder / "VOCdevkit"):
    for name in file_sources.folder_names(below) if below.is_dir() else ():
      if (below / name / "Annotations").is_dir():
        return f"name {str(below / name)!r}"
  return "unpack VOCtrainval_*.tar and name VOCdevkit/VOC2007 or VOC2012"


def _names(folder: pathlib.Path, split: str, lists: str) -> list[str]:
  """The names of a split's pictures; DataError if there is no such list."""
  place = folder / "ImageSets" / lists
  path = place / f"{split}.txt"
  if not path.is_file():
    # aeroplane_train.txt and its like are lists of a class.
    known = sorted(p.stem for p in place.glob("*.txt") if "_" not in p.stem)
    raise DataError(
      f"{_READER}: `split` must be one of {' '.join(known) or '(none)'} in"
      f" {str(place)!r}, got {split!r}."
    )
  text = path.read_text(encoding="utf-8", errors="replace")
  names = [line.split()[0] for line in text.splitlines() if line.strip()]
  if not names:
    raise DataError(
      f"{_READER}: `split` must name pictures, got the empty {str(path)!r};"
      " copy the set again."
    )
  return names


def open_voc(
  root: str | os.PathLike[str],
  split: str,
  *,
  segmentation: bool = False,
  class_names: Sequence[str] = VOC_CLASSES,
) -> file_sources.FileSource:
  """Opens a split of PASCAL VOC, or of a set in its layout.

  Convention:
    Boxes are (x1, y1, x2, y2) in pixels, continuous frame: the files' pixels,
    counted from 1 with the last one inside, become xmin - 1, ymin - 1, xmax,
    ymax. Objects in the order of the file, difficult ones too: leave them out
    in training, ignore them in evaluation.

  Args:
    root: the folder with `Annotations`, `JPEGImages` and `ImageSets`, for
      example `VOCdevkit/VOC2007`.
    split: name of a list in `ImageSets/Main` (with `segmentation`, in
      `ImageSets/Segmentation`): "train", "val", "trainval", "test".
    segmentation: whether to read the pictures with maps, and their maps.
    class_names: the classes, in the order of the labels.

  Returns:
    A source of `image` uint8 [H, W, 3], `boxes` float32 [N, 4], `labels`
    int32 [N], `difficult` and `truncated` bool [N], `index`. With
    `segmentation` also `semantic` uint8 [H, W] (0 background, label + 1, 255
    border), `masks` uint8 [N, H, W] (without the border; empty where the map
    lacks the object) and their `area` float32 [N]. Its `name` is that of the
    folder.

  Raises:
    DataError: if `root` or a part of it is missing, there is no such split,
      or files of the split are missing. Later, from `source[i]`: if a file is
      damaged, a class is unknown, or sizes do not agree.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_voc, write_image
    >>> root = pathlib.Path(tempfile.mkdtemp(), "VOC2007")
    >>> for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
    ...   (root / name).mkdir(parents=True)
    >>> write_image(root / "JPEGImages" / "000001.jpg", np.zeros((8, 9, 3)))
    >>> _ = (root / "ImageSets/Main/train.txt").write_text("000001")
    >>> box = "<xmin>2</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax>"
    >>> _ = (root / "Annotations" / "000001.xml").write_text(
    ...   "<annotation><object><name>cat</name>"
    ...   f"<bndbox>{box}</bndbox></object></annotation>")
    >>> print(open_voc(root, "train")[0]["boxes"])
    [[1. 0. 9. 8.]]

  Source:
    M. Everingham et al., "The PASCAL visual object classes (VOC) challenge",
    IJCV 2010, and its development kit.
  """
  folder = file_sources.check_root(
    _READER, root, "unpack VOCtrainval_*.tar and name VOCdevkit/VOC2007"
  )
  lists = "Segmentation" if segmentation else "Main"
  parts = ["Annotations", "JPEGImages", f"ImageSets/{lists}"]
  if segmentation:
    parts += ["SegmentationClass", "SegmentationObject"]
  missing = [part for part in parts if not (folder / part).is_dir()]
  if missing:
    raise DataError(
      f"{_READER}: `root` must hold {' '.join(parts)}, got {str(folder)!r}"
      f" without {' '.join(missing)}; {_where_instead(folder)}."
    )
  names = _names(folder, split, lists)
  files = [("Annotations", "xml"), ("JPEGImages", "jpg")]
  files += [(part, "png") for part in parts[3:]]
  for part, suffix in files:
    file_sources.check_files(
      _READER,
      f"files in {part}",
      (folder / part / f"{name}.{suffix}" for name in names),
    )
  load = functools.partial(
    _load,
    root=str(folder),
    class_names=tuple(class_names),
    segmentation=segmentation,
  )
  return file_sources.FileSource(
    _READER,
    folder.absolute().name,
    split,
    names,
    load,
    class_names=class_names,
  )
