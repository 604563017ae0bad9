"""Examples and detections as COCO files, which other tools read."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_jax.data import decoding, mask_codes
from vision_jax.data.generated import mask_truth

if TYPE_CHECKING:  # the structures come with JAX, which readers do not need
  from vision_jax.ops import Detections

__all__ = ["write_coco", "write_coco_detections"]

_SEGMENTATIONS = ("rle", "polygons")


def _short(values: np.ndarray) -> list[float]:
  """The shortest decimals that stand for the same float32 numbers."""
  flat = np.asarray(values, np.float32).reshape(-1)
  return [float(str(value)) for value in flat]


def _xywh(box: np.ndarray) -> list[float]:
  """Corners to COCO's box; adding up gives the same float32 corners."""
  x1, y1, x2, y2 = (float(value) for value in box)
  return [x1, y1, x2 - x1, y2 - y1]


def _write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a file that is whole or not there."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(path.name + ".part")
  part.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
  os.replace(part, path)


def _segmentation(
  example: Mapping[str, Any], row: int, kind: str
) -> dict[str, Any] | list[list[float]] | None:
  """An object's mask as run lengths or polygons; None where it has none."""
  rings = example["polygons"][row] if "polygons" in example else []
  mask = example["masks"][row] if "masks" in example else None
  is_crowd = "crowd" in example and bool(example["crowd"][row])
  if mask is not None and (kind == "rle" or is_crowd):
    return mask_codes.mask_to_rle(mask)
  if mask is not None and not len(rings):
    rings = mask_truth.mask_polygons(mask)
  return [_short(ring) for ring in rings] if len(rings) else None


def _annotation(
  example: Mapping[str, Any], row: int, category: int, kind: str
) -> dict[str, Any]:
  """One object, without its ids."""
  box = np.asarray(example["boxes"][row], np.float64)
  area = float((box[2] - box[0]) * (box[3] - box[1]))
  if "area" in example:
    area = float(example["area"][row])
  elif "masks" in example:
    area = float(np.count_nonzero(example["masks"][row]))
  annotation: dict[str, Any] = {
    "category_id": category,
    "bbox": _xywh(box),
    "area": area,
    "iscrowd": int(example["crowd"][row]) if "crowd" in example else 0,
  }
  segmentation = _segmentation(example, row, kind)
  if segmentation is not None:
    annotation["segmentation"] = segmentation
  if "keypoints" in example:
    points = np.asarray(example["keypoints"][row], np.float32)
    annotation["keypoints"] = _short(points)
    annotation["num_keypoints"] = int((points[:, 2] > 0).sum())
  return annotation


def _categories(
  class_names: Sequence[str],
  category_ids: Sequence[int],
  keypoint_names: Sequence[str],
  skeleton: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
  """The list of categories."""
  entries: list[dict[str, Any]] = [
    {"id": int(key), "name": name}
    for key, name in zip(category_ids, class_names, strict=True)
  ]
  for entry in entries if keypoint_names else ():
    entry["keypoints"] = list(keypoint_names)
    entry["skeleton"] = [[a + 1, b + 1] for a, b in skeleton]
  return entries


def _labels(
  example: Mapping[str, Any], num_classes: int, place: int
) -> np.ndarray:
  """Labels of the objects, which a set of one class need not have."""
  number = len(example["boxes"])
  if "labels" not in example and num_classes > 1:
    raise ValueError(
      "write_coco: `examples` must have `labels` where there are"
      f" {num_classes} classes, got example {place} without."
    )
  labels = np.asarray(example.get("labels", np.zeros(number, int)))
  if number and not (0 <= labels.min() and labels.max() < num_classes):
    raise ValueError(
      f"write_coco: `labels` must be in 0..{num_classes - 1}, got"
      f" {labels.tolist()} in example {place}; give all `class_names`."
    )
  return labels


def _picture(
  example: Mapping[str, Any],
  place: int,
  key: int,
  folder: str | os.PathLike[str] | None,
) -> dict[str, Any]:
  """The entry of a picture, which is written if there is a folder."""
  missing = {"image", "boxes"} - set(example)
  if missing:
    raise ValueError(
      "write_coco: `examples` must have `image` and `boxes`, got example"
      f" {place} without {' and '.join(sorted(missing))}."
    )
  image = np.asarray(example["image"])
  if image.ndim != 3:
    raise ValueError(
      f"write_coco: `image` must be [H, W, 3], got shape {image.shape} in"
      f" example {place}; write the frames of a clip as examples of their own."
    )
  name = f"{key:012d}.png"
  if folder is not None:
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    pathlib.Path(folder, name).write_bytes(decoding.encode_png(image))
  height, width = image.shape[:2]
  return {"id": key, "file_name": name, "height": height, "width": width}


def _given(
  value: Sequence[Any] | None, examples: Any, name: str
) -> tuple[Any, ...]:
  """What is said here, or else what the source knows about itself."""
  return tuple(value if value is not None else getattr(examples, name, ()))


def write_coco(
  examples: Iterable[Mapping[str, Any]],
  annotation_file: str | os.PathLike[str],
  *,
  image_folder: str | os.PathLike[str] | None = None,
  class_names: Sequence[str] | None = None,
  category_ids: Sequence[int] | None = None,
  image_ids: Sequence[int] | None = None,
  segmentation: str = "rle",
  keypoint_names: Sequence[str] | None = None,
  skeleton: Sequence[tuple[int, int]] | None = None,
) -> None:
  """Writes examples as a COCO annotation file, with their pictures if asked.

  Examples are read one at a time. What a source knows about itself
  (`class_names`, `category_ids`, `image_ids`, `keypoint_names`, `skeleton`) is
  taken from it where it is not given here. `open_coco` reads the file back to
  the same numbers, bit by bit.

  Convention:
    Boxes, polygons and keypoints in the frames of this library, which are
    COCO's; see `open_coco`. Annotations are numbered from 1, since COCO's
    evaluation takes 0 for none.

  Args:
    examples: a source, or examples with `image` and `boxes` and, where they
      have them, `labels`, `masks`, `polygons`, `keypoints`, `crowd`, `area`;
      rows where `valid` is False are left out.
    annotation_file: file to write.
    image_folder: folder for the pictures, as PNG; none are written by default.
    class_names: the classes; needed if the source has none and there are
      `labels`.
    category_ids: id of each class; 1, 2, ... by default.
    image_ids: id of each picture; 0, 1, ... by default.
    segmentation: "rle" writes masks as run lengths, exactly; "polygons" writes
      the polygons of an example, or the outlines of its masks.
    keypoint_names: names of the keypoints; their numbers by default.
    skeleton: pairs of keypoints that are joined, counted from 0.

  Raises:
    ValueError: if `segmentation` is unknown, a label has no class, or an
      example lacks what is needed.

  Example:
    >>> import json, pathlib, tempfile
    >>> from vision_jax.data import write_coco
    >>> example = {"image": np.zeros((40, 60, 3), np.uint8),
    ...            "boxes": np.array([[8.0, 4.0, 24.0, 40.0]])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   file = pathlib.Path(folder, "annotations.json")
    ...   write_coco([example], file)
    ...   json.loads(file.read_text())["annotations"][0]["bbox"]
    [8.0, 4.0, 16.0, 36.0]

  Source:
    cocodataset.org, "Data format".
  """
  if segmentation not in _SEGMENTATIONS:
    raise ValueError(
      f"write_coco: `segmentation` must be one of {' '.join(_SEGMENTATIONS)},"
      f" got {segmentation!r}."
    )
  names = _given(class_names, examples, "class_names") or ("object",)
  keys = _given(category_ids, examples, "category_ids")
  keys = keys or tuple(range(1, len(names) + 1))
  numbers = _given(image_ids, examples, "image_ids")
  joints = _given(keypoint_names, examples, "keypoint_names")
  pairs = _given(skeleton, examples, "skeleton")
  entries: list[dict[str, Any]] = []
  annotations: list[dict[str, Any]] = []
  for place, example in enumerate(examples):
    key = int(numbers[place]) if len(numbers) else place
    entries.append(_picture(example, place, key, image_folder))
    labels = _labels(example, len(names), place)
    valid = example.get("valid", np.ones(len(labels), bool))
    for row in map(int, np.flatnonzero(valid)):
      content = _annotation(example, row, int(keys[labels[row]]), segmentation)
      annotations.append(
        {"id": len(annotations) + 1, "image_id": key, **content}
      )
    if "keypoints" in example and not joints:
      joints = tuple(str(k) for k in range(example["keypoints"].shape[1]))
  _write_json(
    pathlib.Path(annotation_file),
    {
      "images": entries,
      "annotations": annotations,
      "categories": _categories(names, keys, joints, pairs),
    },
  )


def write_coco_detections(
  detections: "Iterable[Detections]",
  result_file: str | os.PathLike[str],
  *,
  image_ids: Sequence[int],
  category_ids: Sequence[int],
) -> None:
  """Writes detections as a COCO result file, for `COCO.loadRes`.

  Convention:
    Boxes become [x, y, width, height], continuous frame; masks are cut at 0.5
    and written as run lengths; keypoints are written as they are (index frame,
    with their scores). Padding is left out.

  Args:
    detections: one for each picture, without a batch axis.
    result_file: file to write.
    image_ids: id of each picture, as of the source.
    category_ids: id of each label, as of the source.

  Raises:
    ValueError: if there are more or fewer detections than ids.

  Example:
    >>> import json, pathlib, tempfile
    >>> from vision_jax.data import write_coco_detections
    >>> from vision_jax.ops import Detections
    >>> found = Detections(np.array([[8.0, 4.0, 24.0, 40.0]]), np.array([0.5]),
    ...                    np.array([1]), np.array([True]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   file = pathlib.Path(folder, "results.json")
    ...   write_coco_detections([found], file, image_ids=[785],
    ...                         category_ids=[1, 3])
    ...   json.loads(file.read_text())[0]["category_id"]
    3

  Source:
    cocodataset.org, "Results format".
  """
  results: list[dict[str, Any]] = []
  for key, found in zip(image_ids, detections, strict=True):
    boxes, labels = np.asarray(found.boxes), np.asarray(found.labels)
    for row in np.flatnonzero(found.valid):
      result: dict[str, Any] = {
        "image_id": int(key),
        "category_id": int(category_ids[int(labels[row])]),
        "bbox": _xywh(boxes[row]),
        "score": float(found.scores[row]),
      }
      if found.masks is not None:
        mask = np.asarray(found.masks[row])
        result["segmentation"] = mask_codes.mask_to_rle(mask > 0.5)
      if found.keypoints is not None:
        result["keypoints"] = _short(np.asarray(found.keypoints[row]))
      results.append(result)
  _write_json(pathlib.Path(result_file), results)
