"""Sets that TFDS has prepared, here or elsewhere, without TensorFlow."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vision_jax.data import decoding, prepared_folders, storage
from vision_jax.data.errors import DataError
from vision_jax.data.readers import file_sources

__all__ = ["PreparedSource", "read_prepared"]

# TFDS's names in ours, for sets that were prepared elsewhere.
_NAMES = {
  "image": "image",
  "label": "label",
  "objects/bbox": "boxes",
  "objects/label": "labels",
  "objects/is_crowd": "crowd",
  "objects/area": "area",
}
_NAMES_OF_SETS = {"oxford_iiit_pet": {"segmentation_mask": "semantic"}}


def _undo_voc(example: dict[str, Any]) -> None:
  """VOC's corners are whole pixels, counted from 1, the last one inside."""
  if "boxes" in example:
    example["boxes"] = np.rint(example["boxes"]) - np.array(
      [1, 1, 0, 0], np.float32
    )


def _undo_trimap(example: dict[str, Any]) -> None:
  """Pets are 1, background 2, the border 3, which nobody has decided."""
  if "semantic" in example:
    table = np.full(256, 255, np.uint8)
    table[[1, 2]] = 1, 0
    example["semantic"] = table[example["semantic"]]


_CORRECTIONS: Mapping[str, Callable[[dict[str, Any]], None]] = {
  "voc": _undo_voc,
  "oxford_iiit_pet": _undo_trimap,
}


class _Field(NamedTuple):
  """One feature: its name here, its place in a record, and its kind."""

  name: str
  path: tuple[str, ...]
  kind: str


def _pick(record: Mapping[str, Any], path: Sequence[str]) -> Any:
  """A feature of a record by its path."""
  value: Any = record
  for step in path:
    value = value[step]
  if value is None:  # what is left of a file that was cut off
    raise ValueError(f"a record without {'/'.join(path)}")
  return value


class PreparedSource(file_sources.FileSource):
  """Random access to the examples of one split; made by `read_prepared`.

  `len(source)` and `source[i]`; records are read and decoded when they are
  asked for. It can be pickled.

  Attributes:
    name: name of the set.
    split: name of the split.
    directory: folder of the set.
    class_names: the classes; empty where the set has none.
    keypoint_names: names of the keypoints; empty where there are none.
    skeleton: pairs of keypoints that are joined, counted from 0.

  Example:
    >>> import tempfile
    >>> from vision_jax.data import prepare_generated, read_prepared
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = prepare_generated("generated_textures", folder,
    ...                            num_examples={"test": 3}, progress=False)
    ...   source = read_prepared(path, "test")
    ...   len(source), source.name, source.class_names[0]
    (3, 'generated_textures', 'stripes')
  """

  def __init__(
    self,
    name: str,
    split: str,
    directory: pathlib.Path,
    load: "_Load",
    *,
    class_names: Sequence[str],
    keypoint_names: Sequence[str],
    skeleton: Sequence[Sequence[int]],
  ) -> None:
    super().__init__(
      "read_prepared",
      name,
      split,
      range(len(load.records)),
      load,
      class_names=class_names,
    )
    self.directory = directory
    self.keypoint_names = tuple(keypoint_names)
    self.skeleton = tuple((int(a), int(b)) for a, b in skeleton)


@dataclasses.dataclass(frozen=True)
class _Load:
  """Reads and decodes one record.

  Attributes:
    records: TFDS's source; images are left encoded.
    fields: what is decoded.
    image_path: where the image is, which other features are measured by.
    num_frames: pictures in one image; 0 where there is no time.
    correct: what is special about the set.
    directory: folder of the set, for errors.
  """

  records: Any
  fields: Sequence[_Field]
  image_path: Sequence[str]
  num_frames: int
  correct: Callable[[dict[str, Any]], None] | None
  directory: pathlib.Path

  def __call__(self, place: int) -> dict[str, Any]:
    try:
      record = self.records[place]
      example = {
        field.name: self._value(field, _pick(record, field.path), record)
        for field in self.fields
      }
      if self.correct is not None:
        self.correct(example)
    except MemoryError:
      raise
    except Exception as error:
      # The readers and decoders below raise many types on damaged data.
      reason = " ".join(str(error).split())[:200] or type(error).__name__
      raise ValueError(f"{str(self.directory)!r}: {reason}") from None
    return example

  def _value(self, field: _Field, value: Any, record: Mapping[str, Any]) -> Any:
    """One feature in the convention of this library."""
    if field.kind == "picture":
      return self._frames(decoding.decode_picture(value))
    if field.kind == "map":
      return self._frames(decoding.decode_map(value))
    if field.kind == "masks":
      return storage.decode_masks(value, self._size(record))
    if field.kind == "unit boxes":
      height, width = self._size(record)
      y1, x1, y2, x2 = np.asarray(value, np.float32).reshape(-1, 4).T
      sides = np.array([width, height, width, height], np.float32)
      return np.stack([x1, y1, x2, y2], axis=-1) * sides
    if field.kind == "polygons":
      return storage.decode_polygons(value)
    if field.kind == "text":
      return value.decode("utf-8")
    return np.asarray(value, field.kind)

  def _frames(self, pixels: np.ndarray) -> np.ndarray:
    """Pictures that lie below each other, one after the other."""
    if not self.num_frames:
      return pixels
    return pixels.reshape(self.num_frames, -1, *pixels.shape[1:])

  def _size(self, record: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the picture of a record."""
    data = _pick(record, self.image_path)
    height, width = decoding.picture_size(data)
    return height // max(self.num_frames, 1), width


def _walk(feature: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
  """(path, feature) of all features, those in dictionaries and in lists."""
  inner = getattr(feature, "feature", feature)  # of a list
  if hasattr(inner, "items"):
    for name, part in inner.items():
      yield from _walk(part, (*path, name))
  else:
    yield "/".join(path), feature


def _kind(name: str, feature: Any) -> str:
  """How a feature is decoded: a word, or the dtype of its array."""
  from tensorflow_datasets import features as kinds

  inner = getattr(feature, "feature", feature)
  if isinstance(inner, kinds.Image):
    return "map" if name in storage.MAPS else "picture"
  if isinstance(inner, kinds.BBoxFeature):
    return "unit boxes"
  if isinstance(inner, kinds.Text):
    return "masks" if name == "masks" else "text"
  if isinstance(inner, kinds.ClassLabel):
    return "int32"
  return {"area": "float32", "crowd": "bool"}.get(
    name, np.dtype(inner.np_dtype).name
  )


def _fields(
  builder: Any, wanted: Sequence[str] | None, rename: Mapping[str, str]
) -> tuple[list[_Field], tuple[str, ...], tuple[str, ...]]:
  """What is read of a record, where its image is, and the classes."""
  features = dict(_walk(builder.info.features, ()))
  metadata = builder.info.metadata or {}
  if metadata.get("generator") == "vision_jax":
    names = {path: path for path in features if "polygons/" not in path}
  else:
    names = {**_NAMES, **_NAMES_OF_SETS.get(builder.name, {})}
  unknown = set(rename) - set(features)
  if unknown:
    raise KeyError(
      f"read_prepared: `rename` must name features of {builder.name}, got"
      f" {' '.join(sorted(unknown))}; it has {' '.join(sorted(features))}."
    )
  names = {**names, **rename}
  fields = [
    _Field(name, tuple(path.split("/")), _kind(name, features[path]))
    for path, name in names.items()
    if path in features
  ]
  if "polygons/points" in features and "image" in features:
    fields.append(_Field("polygons", ("polygons",), "polygons"))
  classes: tuple[str, ...] = tuple(metadata.get("class_names", ()))
  for path, name in names.items():
    feature = features.get(path)
    inner: Any = getattr(feature, "feature", feature)
    if name in ("label", "labels") and hasattr(inner, "names"):
      classes = tuple(inner.names)
  if wanted is not None:
    known = [field.name for field in fields]
    missing = set(wanted) - {*known, "index"}
    if missing:
      raise KeyError(
        f"read_prepared: `features` must be features of {builder.name}, got"
        f" {' '.join(sorted(missing))}; it has {' '.join(sorted(known))}."
      )
  image_path = next((f.path for f in fields if f.name == "image"), ())
  if wanted is not None:
    fields = [field for field in fields if field.name in wanted]
  return fields, image_path, classes


def read_prepared(
  directory: str | os.PathLike[str],
  split: str,
  *,
  features: Sequence[str] | None = None,
  rename: Mapping[str, str] | None = None,
) -> PreparedSource:
  """Opens a split of a set that TFDS has prepared as ArrayRecord.

  The generated sets are read as they were drawn. Of sets that were prepared
  elsewhere (`mnist`, `cifar10`, `imagenet2012`, `oxford_iiit_pet`, `coco`,
  `voc` and others of their kind) the image, the label, and boxes, labels,
  areas and crowds of objects are read under the names of this library; the
  rest of their features is left out unless `rename` names it.

  Convention:
    Pictures are uint8 [H, W, 3]; grey ones are repeated over the channels.
    Boxes are (x1, y1, x2, y2) in pixels, continuous frame: TFDS's normalised
    (ymin, xmin, ymax, xmax) times the sides. `voc` gets back its half-open
    pixels, and `semantic` of `oxford_iiit_pet` is 1 on the pet, 0 on the
    background, 255 on the border. `index` is the position in the source.

  Args:
    directory: see `find_prepared`.
    split: name of a split, a part of it or a sum: "train", "train[:50%]",
      "train[90%:]+test".
    features: names of the features to decode; all of them by default.
    rename: further features, as {TFDS's name: name here}, with "/" between
      the parts of a name; names of images that are no pictures must be
      "semantic" or "ignore".

  Returns:
    The source.

  Raises:
    DataError: if the set is missing, half prepared, of another format or
      drawn by another version of its generator, or has no such split. Later,
      from `source[i]`: if the record or its picture is damaged.
    KeyError: if `features` or `rename` name what the set does not have.

  Example:
    >>> import tempfile
    >>> from vision_jax.data import prepare_generated, read_prepared
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = prepare_generated("generated_textures", folder,
    ...                            num_examples={"train": 4}, progress=False)
    ...   source = read_prepared(path, "train[50%:]")
    ...   sorted(source[0]), source[0]["image"].shape
    (['image', 'index', 'label'], (64, 64, 3))

  Source:
    TFDS, "Loading existing datasets"; the boxes of `voc`: its builder.
  """
  import tensorflow_datasets as tfds

  builder = prepared_folders.open_builder(directory)
  folder = pathlib.Path(builder.data_dir)
  metadata = builder.info.metadata or {}
  try:
    split_info = builder.info.splits[split]
  except (KeyError, ValueError, AssertionError):
    raise DataError(
      f"read_prepared: `split` must be one of"
      f" {' '.join(sorted(builder.info.splits))}, or a part such as"
      f" 'train[:50%]', got {split!r} of {builder.name}."
    ) from None
  prepared_folders.check_files(builder.name, split_info, folder)
  fields, image_path, classes = _fields(builder, features, rename or {})
  skip = {
    name: tfds.decode.SkipDecoding()
    for name, feature in builder.info.features.items()
    if isinstance(feature, tfds.features.Image)
  }
  load = _Load(
    records=builder.as_data_source(
      split, decoders=skip, file_format="array_record"
    ),
    fields=fields,
    image_path=image_path,
    num_frames=metadata.get("num_frames", 0),
    correct=_CORRECTIONS.get(builder.name),
    directory=folder,
  )
  return PreparedSource(
    builder.name,
    split,
    folder,
    load,
    class_names=classes,
    keypoint_names=metadata.get("keypoint_names", ()),
    skeleton=metadata.get("skeleton", ()),
  )
