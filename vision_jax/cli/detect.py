"""`vision-jax detect`: objects in pictures, drawn and as a COCO file."""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vision_jax.cli.detectors import Detector, load_detector
from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import (
  UserError,
  check_outputs,
  describe_error,
  result_record,
  write_json,
)

if TYPE_CHECKING:
  import numpy as np

__all__ = ["DetectOptions"]

_FILE = "detections.json"
# Of COCO's person: nose, eyes, ears, shoulders, elbows, wrists, hips, knees,
# ankles, the left one first.
_LIMBS = (
  *((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10)),
  *((5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectOptions(CommonOptions):
  """Find objects in pictures; write drawn pictures and one COCO file.

  The folder --out receives every picture with its boxes, under its own path
  below the folder given, and detections.json: images, categories, and
  annotations with a score, in the form of COCO. A picture that cannot be read
  is reported and the others are finished.

  Attributes:
    images: Picture files, or folders (searched with all folders below).
    model: Detector: yolo_small (generated shapes), yolov3,
      yolov3_spp, yolov3_tiny, fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn
      and others of the R-CNN family.
    weights: "bundled", "random", a file (.safetensors, .pth, darknet's
      .weights), or the name of published weights such as COCO_V1.
    seed: Seed of random weights.
    class_names: Text file with the name of a class in each line; by default
      those of the weights, or of COCO or VOC where the number of classes fits.
    score: Smallest score that is written.
    overlap: Boxes of a class that overlap a stronger one by more are dropped.
    max_detections: At most so many objects in a picture.
    draw: Write the drawn pictures.
    out: Folder for the results.
  """

  images: tyro.conf.Positional[
    Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="IMAGE")]
  ]
  model: str = "yolo_small"
  weights: str = "bundled"
  seed: int = 0
  class_names: pathlib.Path | None = None
  score: float = 0.3
  overlap: float = 0.45
  max_detections: int = 100
  draw: bool = True
  out: pathlib.Path = pathlib.Path("detections")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    return _run(self)


def _run(options: DetectOptions) -> int:
  for name in ("score", "overlap"):
    if not 0 <= getattr(options, name) <= 1:
      value = getattr(options, name)
      raise UserError(f"--{name} must be in [0, 1], got {value}")
  if options.max_detections < 1:
    raise UserError(
      f"--max-detections must be at least 1, got {options.max_detections}"
    )
  check_outputs("--out", options.out / _FILE, (".json",))
  files, errors = _list_files(options.images, options.out)
  for error in errors:
    _report(error)
  if not files and not errors:
    raise UserError("no pictures given; name files or folders")
  if not files:
    return 2
  detector = load_detector(
    options.model,
    options.weights,
    seed=options.seed,
    class_file=options.class_names,
    score=options.score,
    overlap=options.overlap,
    max_detections=options.max_detections,
  )
  images, annotations, failed = _detect_all(options, detector, files)
  categories = [
    {"id": key, "name": name}
    for key, name in zip(
      detector.category_ids, detector.class_names, strict=True
    )
  ]
  write_json(
    options.out / _FILE,
    {
      "info": result_record(options, {"model": options.model}),
      "images": images,
      "annotations": annotations,
      "categories": categories,
    },
  )
  failed += len(errors)
  text = f", {failed} failed" if failed else ""
  print(
    f"{len(files) + len(errors)} pictures: {len(annotations)} objects written"
    f" to {options.out / _FILE}{text}"
  )
  return 1 if failed else 0


def _report(message: str) -> None:
  """Prints one line about a bad file, above the progress bar."""
  import tqdm

  tqdm.tqdm.write(f"vision-jax detect: error: {message}", file=sys.stderr)


def _list_files(
  paths: Sequence[pathlib.Path], out: pathlib.Path
) -> tuple[dict[str, pathlib.Path], list[str]]:
  """Files by their name in the results, and a message per bad argument.

  Pictures in the folder of the results, of an earlier run, are left out.

  Raises:
    UserError: if two files have the same name.
  """
  from vision_jax import data

  files: dict[str, pathlib.Path] = {}
  errors = []
  for path in paths:
    try:
      found = data.list_images(path, recursive=True)
    except data.ImageError as error:
      errors.append(describe_error(error)[0])
      continue
    base = path if path.is_dir() else path.parent
    for file in found:
      if path.is_dir() and out.resolve() in file.resolve().parents:
        continue
      name = file.relative_to(base).as_posix()
      if name in files and files[name].resolve() != file.resolve():
        raise UserError(
          f"'{files[name]}' and '{file}' would both be called '{name}';"
          " name a folder above them"
        )
      files[name] = file
  return files, errors


def _detect_all(
  options: DetectOptions,
  detector: Detector,
  files: Mapping[str, pathlib.Path],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
  """Entries of the pictures and of the objects, and how many files failed."""
  import tqdm

  from vision_jax import data

  images: list[dict[str, Any]] = []
  annotations: list[dict[str, Any]] = []
  failed = 0
  bar = tqdm.tqdm(files.items(), desc="objects", unit="image", disable=None)
  for name, path in bar:
    try:
      image = data.read_image(path)
      (found,) = detector.predict([image])
      if options.draw:
        _draw(options.out / name, image, found, detector.class_names)
    except Exception as error:
      if options.debug:
        raise
      _report(describe_error(error)[0])
      failed += 1
      continue
    key = len(images) + 1
    height, width = image.shape[:2]
    images.append(
      {"id": key, "file_name": name, "height": height, "width": width}
    )
    for row in range(len(found["labels"])):
      content = _annotation(found, row, detector)
      ids = {"id": len(annotations) + 1, "image_id": key}
      annotations.append({**ids, **content})
  return images, annotations, failed


def _annotation(
  found: "Mapping[str, np.ndarray]", row: int, detector: Detector
) -> dict[str, Any]:
  """An object as COCO has it, with its score."""
  from vision_jax import data

  x1, y1, x2, y2 = (float(v) for v in found["boxes"][row])
  content: dict[str, Any] = {
    "category_id": detector.category_ids[int(found["labels"][row])],
    "bbox": [x1, y1, x2 - x1, y2 - y1],
    "area": (x2 - x1) * (y2 - y1),
    "iscrowd": 0,
    "score": float(found["scores"][row]),
  }
  if "masks" in found:
    content["segmentation"] = data.mask_to_rle(found["masks"][row])
    content["area"] = float(found["masks"][row].sum())
  if "keypoints" in found:
    points = found["keypoints"][row]
    content["keypoints"] = points.reshape(-1).tolist()
    content["num_keypoints"] = int((points[:, 2] > 0).sum())
  return content


def _draw(
  path: pathlib.Path,
  image: "np.ndarray",
  found: "Mapping[str, np.ndarray]",
  names: Sequence[str],
) -> None:
  """Writes the picture with boxes, masks where there are any, and names."""
  from vision_jax import data, viz

  texts = [
    f"{names[label]} {score:.2f}"
    for label, score in zip(found["labels"], found["scores"], strict=True)
  ]
  picture: Any = image
  if "masks" in found:
    picture = viz.draw_masks(picture, found["masks"])
  if "keypoints" in found and found["keypoints"].shape[1:] == (17, 3):
    picture = viz.draw_skeletons(picture, found["keypoints"], _LIMBS)
  thickness = max(1, round(max(image.shape[:2]) / 400))
  picture = viz.draw_boxes(
    picture, found["boxes"], texts=texts, thickness=thickness
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  data.write_image(path, picture)
