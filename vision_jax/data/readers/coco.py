"""Sets in the layout of COCO: a folder of pictures and one JSON file."""

import functools
import json
import math
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vision_jax.data import mask_codes
from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = ["CocoSource", "open_coco"]

_Code = list[np.ndarray] | Mapping[str, Any]  # polygons, or run lengths


class _Picture(NamedTuple):
  """One entry of the file: a picture and its objects."""

  file_name: str
  size: tuple[int, int]  # (height, width)
  boxes: np.ndarray
  labels: np.ndarray
  crowd: np.ndarray
  area: np.ndarray
  codes: list[_Code]
  keypoints: np.ndarray  # [N, K, 3]


class CocoSource(file_sources.FileSource):
  """Random access to the examples of a COCO file; made by `open_coco`.

  `len(source)` and `source[i]`; pictures and masks are decoded when they are
  asked for. It can be pickled.

  Attributes:
    name: name of the annotation file without its suffix.
    class_names: the categories, by their ids.
    category_ids: the id of each label in the file.
    image_ids: the id of each picture in the file.
    keypoint_names: names of the keypoints; empty where there are none.
    skeleton: pairs of keypoints that are joined, counted from 0.
    dropped: objects with a degenerate box and polygons of fewer than three
      points, which are left out: {"boxes": ..., "polygons": ...}.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import open_coco, textures, write_coco
    >>> example = {"image": textures(0, 0)[0], "labels": np.array([0]),
    ...            "boxes": np.array([[8.0, 4.0, 24.0, 40.0]])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   file = pathlib.Path(folder, "annotations.json")
    ...   write_coco([example], file, class_names=["thing"],
    ...              image_folder=folder)
    ...   source = open_coco(folder, file)
    ...   len(source), source.class_names, source[0]["boxes"].tolist()
    (1, ('thing',), [[8.0, 4.0, 24.0, 40.0]])
  """

  def __init__(
    self,
    name: str,
    folder: pathlib.Path,
    pictures: Mapping[int, _Picture],
    *,
    categories: Mapping[int, str],
    keypoint_names: Sequence[str],
    skeleton: Sequence[tuple[int, int]],
    dropped: Mapping[str, int],
    features: Collection[str],
  ) -> None:
    super().__init__(
      "open_coco",
      name,
      None,
      tuple(pictures.values()),
      functools.partial(_load, folder=folder, features=frozenset(features)),
      class_names=tuple(categories.values()),
    )
    self.category_ids = tuple(categories)
    self.image_ids = tuple(pictures)
    self.keypoint_names = tuple(keypoint_names)
    self.skeleton = tuple(skeleton)
    self.dropped = dict(dropped)


def _load(
  picture: _Picture, *, folder: pathlib.Path, features: Collection[str]
) -> dict[str, Any]:
  """The features that are wanted; ValueError, naming the file, if not."""
  path = folder / picture.file_name
  example: dict[str, Any] = {}
  if "image" in features:
    image = file_sources.read_picture(path)
    if image.shape[:2] != picture.size:
      raise ValueError(
        f"{str(path)!r} has {image.shape[1]} x {image.shape[0]} pixels where"
        f" the annotations say {picture.size[1]} x {picture.size[0]}"
      )
    example["image"] = image
  for name in ("boxes", "labels", "crowd", "area", "keypoints"):
    if name in features:
      example[name] = getattr(picture, name).copy()
  if "masks" in features:
    masks = np.empty((len(picture.codes), *picture.size), np.uint8)
    for place, code in enumerate(picture.codes):
      try:
        masks[place] = _decode_mask(code, picture.size)
      except ValueError as error:
        raise ValueError(f"object {place} of {str(path)!r}: {error}") from None
    example["masks"] = masks
  if "polygons" in features:
    example["polygons"] = [
      [] if isinstance(code, Mapping) else [p.astype(np.float32) for p in code]
      for code in picture.codes
    ]
  return example


def _decode_mask(code: _Code, size: tuple[int, int]) -> np.ndarray:
  if not isinstance(code, Mapping):
    return mask_codes.polygons_to_mask(code, size)
  mask = mask_codes.rle_to_mask(code)
  if mask.shape != size:
    raise ValueError(
      f"a mask of {mask.shape[0]} x {mask.shape[1]} pixels on a picture of"
      f" {size[0]} x {size[1]}"
    )
  return mask


def _fail(place: str, expected: str, got: object, remedy: str) -> DataError:
  return DataError(
    f"open_coco: `annotation_file` must have {expected} in {place}, got"
    f" {got!r}; {remedy}."
  )


def _read_json(path: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
  """The three lists of a file."""
  try:
    content = json.loads(path.read_bytes())
  except (OSError, ValueError) as error:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    raise DataError(
      f"open_coco: `annotation_file` must be a JSON file, got {str(path)!r}"
      f" ({reason}); check the path, or copy the file again."
    ) from None
  if isinstance(content, dict):
    # Files of pictures without annotations, as of test sets, have no third.
    content.setdefault("annotations", [])
    if all(
      isinstance(content.get(name), list)
      for name in ("images", "categories", "annotations")
    ):
      return content
  raise DataError(
    "open_coco: `annotation_file` must hold lists `images`, `annotations` and"
    f" `categories`, got {str(path)!r} without them; results of a detector are"
    " no annotations."
  )


def _numbers(
  entry: Mapping[str, Any], key: str, length: int, place: str
) -> list[float]:
  """A list of finite numbers of an entry."""
  values = entry.get(key)
  try:
    numbers = [float(value) for value in values]  # type: ignore[union-attr]
  except (TypeError, ValueError):
    numbers = []
  if len(numbers) != length or not all(map(math.isfinite, numbers)):
    raise _fail(
      place, f"`{key}` of {length} finite numbers", values, "repair the file"
    )
  return numbers


def _image_entries(
  entries: Sequence[Mapping[str, Any]],
) -> dict[int, tuple[str, tuple[int, int]]]:
  """{id: (file name, (height, width))}, sorted by id."""
  found: dict[int, tuple[str, tuple[int, int]]] = {}
  for number, entry in enumerate(entries):
    place = f"images[{number}]"
    try:
      key = int(entry["id"])
      size = int(entry["height"]), int(entry["width"])
      name = os.fspath(entry["file_name"])
    except (KeyError, TypeError, ValueError):
      raise _fail(
        place, "`id`, `file_name`, `height` and `width`", entry, "add them"
      ) from None
    if key in found:
      raise _fail(place, "an `id` of its own", key, "remove one of the two")
    found[key] = name, size
  return dict(sorted(found.items()))


def _category_entries(
  entries: Sequence[Mapping[str, Any]],
) -> tuple[dict[int, str], tuple[str, ...], list[tuple[int, int]]]:
  """{id: name}, sorted by id, and the keypoints and their joints."""
  found: dict[int, str] = {}
  joints: tuple[str, ...] = ()
  skeleton: list[tuple[int, int]] = []
  for number, entry in enumerate(entries):
    place = f"categories[{number}]"
    try:
      key, name = int(entry["id"]), str(entry["name"])
    except (KeyError, TypeError, ValueError):
      raise _fail(place, "`id` and `name`", entry, "add them") from None
    if key in found:
      raise _fail(place, "an `id` of its own", key, "remove one of the two")
    found[key] = name
    own = tuple(map(str, entry.get("keypoints") or ()))
    if own and joints and own != joints:
      raise _fail(
        place,
        f"the {len(joints)} keypoints of the others",
        own,
        "split the file by category",
      )
    if own and not joints:
      joints = own
      pairs = entry.get("skeleton") or ()
      skeleton = [(int(a) - 1, int(b) - 1) for a, b in pairs]
  return dict(sorted(found.items())), joints, skeleton


def _code(segmentation: Any, place: str) -> tuple[_Code, int]:
  """Polygons [P, 2] or run lengths, and how many polygons were no polygons."""
  if isinstance(segmentation, Mapping):
    return dict(segmentation), 0
  if not isinstance(segmentation, list):
    raise _fail(
      place, "`segmentation` of polygons or run lengths", segmentation, "repair"
    )
  polygons = []
  for ring in segmentation:
    try:
      points = np.asarray(ring, np.float64)
    except (TypeError, ValueError):
      points = np.zeros(0)
    if points.ndim == 1 and points.size >= 6 and points.size % 2 == 0:
      polygons.append(points.reshape(-1, 2))
  return polygons, len(segmentation) - len(polygons)


def _keypoints(
  annotation: Mapping[str, Any], number: int, place: str
) -> np.ndarray:
  """(x, y, v) of an annotation, [K, 3]; zeros for one that has none."""
  if not annotation.get("keypoints"):
    return np.zeros((number, 3), np.float32)
  values = _numbers(annotation, "keypoints", 3 * number, place)
  points = np.array(values, np.float32).reshape(number, 3)
  if not np.isin(points[:, 2], (0, 1, 2)).all():
    raise _fail(
      place, "visibilities 0, 1 or 2", points[:, 2].tolist(), "repair the file"
    )
  points[points[:, 2] == 0] = 0
  return points


class _Objects:
  """The objects of one picture, while the file is read."""

  def __init__(self, num_keypoints: int) -> None:
    self.num_keypoints = num_keypoints
    self.boxes: list[list[float]] = []
    self.labels: list[int] = []
    self.crowd: list[bool] = []
    self.area: list[float] = []
    self.codes: list[_Code] = []
    self.keypoints: list[np.ndarray] = []

  def add(
    self,
    annotation: Mapping[str, Any],
    label: int,
    size: tuple[int, int],
    place: str,
    dropped: dict[str, int],
  ) -> None:
    """Takes one annotation, unless its box is degenerate."""
    values = annotation.get("bbox")
    try:
      x, y, width, height = (float(value) for value in values)  # type: ignore[union-attr]
    except (TypeError, ValueError):
      raise _fail(
        place, "`bbox` of four numbers", values, "repair the file"
      ) from None
    corners = [x, y, x + width, y + height]
    # Not a number is no box, and neither is one beside the picture.
    is_box = width > 0 and height > 0 and all(map(math.isfinite, corners))
    if not (is_box and x < size[1] and y < size[0] and min(corners[2:]) > 0):
      dropped["boxes"] += 1
      return
    code, bad = _code(annotation.get("segmentation") or [], place)
    dropped["polygons"] += bad
    self.boxes.append(corners)
    self.labels.append(label)
    self.crowd.append(bool(annotation.get("iscrowd", 0)))
    self.area.append(float(annotation.get("area", width * height)))
    self.codes.append(code)
    self.keypoints.append(_keypoints(annotation, self.num_keypoints, place))

  def picture(self, file_name: str, size: tuple[int, int]) -> _Picture:
    """The arrays."""
    return _Picture(
      file_name,
      size,
      np.array(self.boxes, np.float64).reshape(-1, 4).astype(np.float32),
      np.array(self.labels, np.int32),
      np.array(self.crowd, bool),
      np.array(self.area, np.float32),
      self.codes,
      np.array(self.keypoints, np.float32).reshape(
        len(self.keypoints), self.num_keypoints, 3
      ),
    )


def _choose(
  wanted: Sequence[str] | None, has_masks: bool, has_keypoints: bool
) -> Sequence[str]:
  """The features to decode."""
  known = ["image", "boxes", "labels", "crowd", "area"]
  known += ["masks", "polygons"] if has_masks else []
  known += ["keypoints"] if has_keypoints else []
  unknown = set(wanted or ()) - {*known, "index"}
  if unknown:
    raise KeyError(
      "open_coco: `features` must be features of the file, got"
      f" {' '.join(sorted(unknown))}; it has {' '.join(known)}."
    )
  return known if wanted is None else wanted


def open_coco(
  image_folder: str | os.PathLike[str],
  annotation_file: str | os.PathLike[str],
  *,
  features: Sequence[str] | None = None,
  skip_empty: bool = False,
) -> CocoSource:
  """Opens a set in the layout of COCO.

  The annotations are read at once, pictures and masks when they are asked
  for. Examples are sorted by image id. Objects whose box has no area or lies
  beside the picture are left out, and so are polygons of fewer than three
  points; `source.dropped` counts both.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame, as in the file ([x, y,
    width, height]), not clipped. Polygons in the continuous frame; masks are
    what pycocotools makes of them. Keypoints in the index frame: COCO's
    numbers are kept, which are positions of pixels counted from 0 (Detectron2
    adds 0.5 to them to get continuous ones); rows with v = 0 are 0. Labels
    count the categories from 0 in the order of their ids; `category_ids` is
    the way back.

  Args:
    image_folder: folder of the pictures.
    annotation_file: `instances_*.json`, `person_keypoints_*.json` or alike.
    features: names of the features to decode; all that the file has by
      default. Leave out "masks" and "polygons" where only boxes are needed.
    skip_empty: whether pictures without objects are left out.

  Returns:
    The source: `image`, `boxes`, `labels`, `crowd`, `area`, `index`, and where
    the file has them `masks`, `polygons` (none for run lengths) and
    `keypoints`.

  Raises:
    DataError: if the folder is missing, or the file is missing, no JSON, no
      COCO file or contradicts itself. Later, from `source[i]`: if a picture
      is missing, damaged or of another size, or a mask is damaged.
    KeyError: if `features` names what the file does not have.

  Example:
    >>> from vision_jax.data import DataError, open_coco
    >>> try:
    ...   open_coco("no/such/folder", "annotations.json")
    ... except DataError as error:
    ...   print(str(error).partition(",")[0])
    open_coco: `image_folder` must be a folder

  Source:
    cocodataset.org, "Data format"; masks: pycocotools.
  """
  folder, path = pathlib.Path(image_folder), pathlib.Path(annotation_file)
  if not folder.is_dir():
    raise DataError(
      f"open_coco: `image_folder` must be a folder, got {str(folder)!r}; name"
      " the folder that holds the pictures."
    )
  content = _read_json(path)
  entries = _image_entries(content["images"])
  categories, joints, skeleton = _category_entries(content["categories"])
  labels = {key: label for label, key in enumerate(categories)}
  if not joints:
    lengths = {len(a.get("keypoints") or ()) for a in content["annotations"]}
    joints = tuple(str(k) for k in range(max(lengths, default=0) // 3))
  dropped = {"boxes": 0, "polygons": 0}
  objects = {key: _Objects(len(joints)) for key in entries}
  for number, annotation in enumerate(content["annotations"]):
    place = f"annotations[{number}]"
    image, category = annotation.get("image_id"), annotation.get("category_id")
    if image not in entries:
      raise _fail(place, "the `image_id` of a picture", image, "remove it")
    if category not in labels:
      raise _fail(
        place, "the `category_id` of a category", category, "add the category"
      )
    size = entries[image][1]
    objects[image].add(annotation, labels[category], size, place, dropped)
  pictures = {
    key: objects[key].picture(*entries[key])
    for key in entries
    if objects[key].boxes or not skip_empty
  }
  has_masks = any("segmentation" in a for a in content["annotations"])
  return CocoSource(
    path.stem,
    folder,
    pictures,
    categories=categories,
    keypoint_names=joints,
    skeleton=skeleton,
    dropped=dropped,
    features=_choose(features, has_masks, bool(joints)),
  )
