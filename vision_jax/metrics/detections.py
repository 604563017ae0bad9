"""Average precision of detections: COCO's by pycocotools, and VOC's.

A truth is a dict of arrays of one picture, as the readers of
`vision_jax.data` give it: `boxes` [G, 4] and `labels` [G]; optionally `masks`
[G, H, W], `keypoints` [G, K, 3] (x, y, visibility), `area` [G], `crowd` [G],
`difficult` [G]. What was found is a dict of `boxes` [N, 4], `labels` [N],
`scores` [N], and `masks` [N, H, W] or `keypoints` [N, K, 3], as the `predict`
of a detector gives it. Boxes are (x1, y1, x2, y2) in the continuous frame.
"""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vision_jax.metrics.segmentation import boundary_band, boundary_width

__all__ = [
  "CocoScores",
  "VocScores",
  "coco_average_precision",
  "coco_file_average_precision",
  "precision_average",
  "voc_average_precision",
]

_KINDS = {
  "boxes": "bbox",
  "masks": "segm",
  "boundaries": "segm",
  "keypoints": "keypoints",
}
_NAMES = {
  "boxes": (
    "AP AP50 AP75 AP_small AP_medium AP_large "
    "AR1 AR10 AR100 AR_small AR_medium AR_large"
  ).split(),
  "keypoints": (
    "AP AP50 AP75 AP_medium AP_large AR AR50 AR75 AR_medium AR_large"
  ).split(),
}
_NAMES["masks"] = _NAMES["boundaries"] = _NAMES["boxes"]
# What a kind reads, where that has another name.
_CONTENT = {"boundaries": "masks"}
_METHODS = ("11_points", "all_points")


class CocoScores(NamedTuple):
  """What COCO's evaluation says.

  Attributes:
    summary: its numbers by name: AP, AP50, AP75, AP_small, ... and AR1, AR10,
      AR100, ...; for keypoints AP, ..., AR, .... NaN where there is no truth.
    per_class: AP of each class, [K]; NaN for a class without truth.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.CocoScores({"AP": 0.5}, np.array([0.5])).summary["AP"]
    0.5
  """

  summary: dict[str, float]
  per_class: np.ndarray


class VocScores(NamedTuple):
  """What VOC's evaluation says.

  Attributes:
    mean: mean over the classes that have truth; NaN if none has.
    per_class: AP of each class, [K]; NaN for a class without truth.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.VocScores(0.5, np.array([0.5])).mean
    0.5
  """

  mean: float
  per_class: np.ndarray


def _rows(entry: Mapping[str, Any], name: str, index: int, *needed: str) -> int:
  """Number of objects of an entry whose arrays agree, or an error."""
  missing = [key for key in needed if key not in entry]
  if missing:
    raise ValueError(
      f"{name} must have {', '.join(needed)}, got picture {index} without "
      f"{', '.join(missing)}."
    )
  lengths = {key: len(entry[key]) for key in needed}
  if len(set(lengths.values())) > 1:
    raise ValueError(
      f"{name} must have one row for each object, got {lengths} in picture "
      f"{index}."
    )
  return lengths["boxes"]


def _check_pair(
  function: str,
  truths: Sequence[Mapping[str, Any]],
  found: Sequence[Mapping[str, Any]],
  num_classes: int,
  *extra: str,
) -> None:
  if len(truths) != len(found):
    raise ValueError(
      f"{function}: `found` must have one entry for each of the "
      f"{len(truths)} truths, got {len(found)}."
    )
  for index, (truth, result) in enumerate(zip(truths, found, strict=True)):
    _rows(truth, f"{function}: `truths`", index, "boxes", "labels", *extra)
    _rows(
      result, f"{function}: `found`", index, "boxes", "labels", "scores", *extra
    )
    for name, entry in (("truths", truth), ("found", result)):
      labels = np.asarray(entry["labels"])
      if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
          f"{function}: labels of `{name}` must be in 0..{num_classes - 1}, "
          f"got {labels.min()}..{labels.max()} in picture {index}."
        )
    if not np.isfinite(np.asarray(result["scores"])).all():
      raise ValueError(
        f"{function}: `scores` must be finite, got NaN or infinity in picture "
        f"{index}."
      )


def _xywh(box: np.ndarray) -> list[float]:
  x1, y1, x2, y2 = (float(value) for value in box)
  return [x1, y1, x2 - x1, y2 - y1]


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
  from pycocotools import mask as coco_mask

  return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def _image(truth: Mapping[str, Any], index: int, kind: str) -> dict[str, Any]:
  """A picture as COCO has it; only masks need its size."""
  if kind != "masks":
    return {"id": index}
  height, width = np.shape(truth["masks"])[1:]
  return {"id": index, "height": height, "width": width}


def _truth_annotation(
  truth: Mapping[str, Any], row: int, kind: str
) -> dict[str, Any]:
  """An object as COCO has it, without its ids."""
  box = _xywh(truth["boxes"][row])
  area = box[2] * box[3]
  content: dict[str, Any] = {"bbox": box}
  if "masks" in truth:
    area = float(np.count_nonzero(truth["masks"][row]))
    if kind == "masks":
      content["segmentation"] = _run_lengths(truth["masks"][row])
  if kind == "keypoints":
    points = np.asarray(truth["keypoints"][row], np.float64)
    content["keypoints"] = points.reshape(-1).tolist()
    content["num_keypoints"] = int((points[:, 2] > 0).sum())
  content["area"] = float(truth["area"][row]) if "area" in truth else area
  content["iscrowd"] = int(truth["crowd"][row]) if "crowd" in truth else 0
  return content


def _result(found: Mapping[str, Any], row: int, kind: str) -> dict[str, Any]:
  """A detection as COCO has it, without its ids."""
  content: dict[str, Any] = {"score": float(found["scores"][row])}
  if kind == "boxes":
    content["bbox"] = _xywh(found["boxes"][row])
  elif kind == "masks":
    mask = np.asarray(found["masks"][row])
    mask = mask if mask.dtype == bool else mask >= 0.5
    content["segmentation"] = _run_lengths(mask)
  else:
    points = np.asarray(found["keypoints"][row], np.float64)
    content["keypoints"] = points.reshape(-1).tolist()
  return content


def _boundary_evaluation() -> type:
  """COCO's evaluation of masks with the lesser of their two overlaps."""
  from pycocotools import mask as coco_mask
  from pycocotools.cocoeval import COCOeval

  def band(annotation: dict[str, Any]) -> Any:
    if "band" not in annotation:
      mask = coco_mask.decode(annotation["segmentation"])
      width = boundary_width(mask.shape)
      annotation["band"] = _run_lengths(boundary_band(mask, width))
    return annotation["band"]

  class Evaluation(COCOeval):
    """As its base."""

    def computeIoU(self, imgId, catId):
      """[detections, truths] of a picture and a class."""
      whole = super().computeIoU(imgId, catId)
      if not len(whole):
        return whole
      truths = self._gts[imgId, catId]
      found = self._dts[imgId, catId]
      order = np.argsort([-d["score"] for d in found], kind="mergesort")
      found = [found[k] for k in order[: self.params.maxDets[-1]]]
      crowd = [int(t["iscrowd"]) for t in truths]
      of_bands = coco_mask.iou(
        [band(d) for d in found], [band(t) for t in truths], crowd
      )
      return np.where(crowd, whole, np.minimum(whole, of_bands))

  return Evaluation


def _evaluate(
  truth: Any,
  results: list[dict[str, Any]],
  kind: str,
  sigmas: Sequence[float] | None,
) -> CocoScores:
  """COCO's evaluation, silent."""
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  with contextlib.redirect_stdout(io.StringIO()):
    if results:
      found = truth.loadRes(results)
    else:  # `loadRes` cannot
      found = COCO()
      found.dataset = {**truth.dataset, "annotations": []}
      found.createIndex()
    evaluator = _boundary_evaluation() if kind == "boundaries" else COCOeval
    evaluation = evaluator(truth, found, _KINDS[kind])
    if sigmas is not None:
      evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
  stats = [float("nan") if s < 0 else float(s) for s in evaluation.stats]
  # [thresholds, recalls, classes, areas, numbers of detections]
  precision = evaluation.eval["precision"][:, :, :, 0, -1]
  precision = np.where(precision < 0, np.nan, precision)
  per_class = np.array(
    [
      np.nan if np.isnan(p).all() else np.nanmean(p)
      for p in np.moveaxis(precision, 2, 0)
    ]
  )
  summary = dict(zip(_NAMES[kind], stats, strict=True))
  return CocoScores(summary, per_class)


def _check_kind(function: str, kind: str) -> None:
  if kind not in _KINDS:
    raise ValueError(
      f"{function}: `kind` must be one of {', '.join(_KINDS)}, got {kind!r}."
    )


def coco_average_precision(
  truths: Sequence[Mapping[str, Any]],
  found: Sequence[Mapping[str, Any]],
  *,
  num_classes: int,
  kind: str = "boxes",
  sigmas: Sequence[float] | None = None,
) -> CocoScores:
  """COCO's average precision, by pycocotools.

  Convention:
    See the head of this module. An object without `area` has that of its mask,
    or else of its box. Masks that are not bool are cut at 0.5.

  Args:
    truths: one dict for each picture.
    found: one dict for each picture, in the same order.
    num_classes: K; labels are 0 to K - 1.
    kind: "boxes", "masks", "keypoints", or "boundaries": masks, whose overlap
      is the lesser of that of the masks and that of their bands
      (`boundary_iou`).
    sigmas: tolerance of each keypoint, for sets other than COCO's 17.

  Returns:
    `CocoScores`.

  Raises:
    ValueError: if pictures, rows, labels or scores are not as above.

  Example:
    >>> from vision_jax import metrics
    >>> box, label = np.array([[0.0, 0, 10, 10]]), np.array([0])
    >>> scores = metrics.coco_average_precision(
    ...     [{"boxes": box, "labels": label}],
    ...     [{"boxes": box + 1, "labels": label, "scores": np.ones(1)}],
    ...     num_classes=1)
    >>> print(round(scores.summary["AP"], 6))  # IoU 0.68: 4 of 10 thresholds
    0.4

  Source:
    pycocotools, COCOeval; Cheng et al., Boundary IoU, 2021, section 5.
  """
  from pycocotools.coco import COCO

  _check_kind("coco_average_precision", kind)
  content_kind = _CONTENT.get(kind, kind)
  extra = () if kind == "boxes" else (content_kind,)
  _check_pair("coco_average_precision", truths, found, num_classes, *extra)
  annotations: list[dict[str, Any]] = []
  results: list[dict[str, Any]] = []
  for index, (truth, result) in enumerate(zip(truths, found, strict=True)):
    for row, label in enumerate(np.asarray(truth["labels"])):
      content = _truth_annotation(truth, row, content_kind)
      # Numbered from 1: the evaluation takes 0 for no match.
      ids = {"id": len(annotations) + 1, "image_id": index}
      annotations.append({**ids, "category_id": int(label), **content})
    results += [
      {
        "image_id": index,
        "category_id": int(label),
        **_result(result, row, content_kind),
      }
      for row, label in enumerate(np.asarray(result["labels"]))
    ]
  coco = COCO()
  coco.dataset = {
    "info": {},
    "images": [
      _image(t, index, content_kind) for index, t in enumerate(truths)
    ],
    "annotations": annotations,
    "categories": [{"id": k, "name": str(k)} for k in range(num_classes)],
  }
  with contextlib.redirect_stdout(io.StringIO()):
    coco.createIndex()
  return _evaluate(coco, results, kind, sigmas)


def coco_file_average_precision(
  annotation_file: str | os.PathLike[str],
  result_file: str | os.PathLike[str],
  *,
  kind: str = "boxes",
  sigmas: Sequence[float] | None = None,
) -> CocoScores:
  """COCO's average precision of a result file against an annotation file.

  Args:
    annotation_file: `instances_*.json`, `person_keypoints_*.json` or alike.
    result_file: as `data.write_coco_detections` writes it.
    kind: as `coco_average_precision`.
    sigmas: tolerance of each keypoint, for sets other than COCO's 17.

  Returns:
    `CocoScores`; classes in the order of their ids.

  Raises:
    ValueError: if `kind` is unknown.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.coco_file_average_precision("a.json", "b.json", kind="box")
    Traceback (most recent call last):
    ...
    ValueError: coco_file_average_precision: `kind` must be one of boxes...

  Source:
    pycocotools, COCOeval.
  """
  import json
  import pathlib

  from pycocotools.coco import COCO

  _check_kind("coco_file_average_precision", kind)
  results = json.loads(pathlib.Path(result_file).read_text(encoding="utf-8"))
  with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(os.fspath(annotation_file))
  coco.dataset.setdefault("info", {})  # `loadRes` copies it
  return _evaluate(coco, results, kind, sigmas)


def precision_average(
  recall: np.ndarray, precision: np.ndarray, *, method: str = "all_points"
) -> float:
  """Average precision from a curve of recall and precision.

  Args:
    recall: not falling, [N].
    precision: at each recall, [N].
    method: "11_points" is the mean over recalls 0, 0.1, ..., 1 of the highest
      precision from there on (VOC 2007); "all_points" the area under the curve
      of that highest precision (from VOC 2010 on).

  Returns:
    A number in [0, 1]; 0 for an empty curve.

  Raises:
    ValueError: if `method` is unknown.

  Example:
    >>> from vision_jax import metrics
    >>> curve = np.array([0.5, 1.0]), np.array([1.0, 0.5])
    >>> round(metrics.precision_average(*curve, method="11_points"), 4)
    0.7727
    >>> metrics.precision_average(*curve)
    0.75

  Source:
    M. Everingham and others, "The PASCAL Visual Object Classes Challenge",
    IJCV 2010, section 4.2; the development kit of VOC 2012.
  """
  if method not in _METHODS:
    raise ValueError(
      f"precision_average: `method` must be one of {', '.join(_METHODS)}, got "
      f"{method!r}."
    )
  if method == "11_points":
    points = np.linspace(0, 1, 11)
    return float(
      np.mean([precision[recall >= t].max(initial=0) for t in points])
    )
  best = np.maximum.accumulate(precision[::-1])[::-1]
  return float((np.diff(recall, prepend=0) * best).sum())


def voc_average_precision(
  truths: Sequence[Mapping[str, Any]],
  found: Sequence[Mapping[str, Any]],
  *,
  num_classes: int,
  method: str = "all_points",
  iou_threshold: float = 0.5,
) -> VocScores:
  """VOC's average precision.

  A detection is right if it overlaps an object of its class that is not taken
  yet by more than the threshold; a second one is wrong. Difficult objects
  neither count nor punish.

  Convention:
    Boxes in the continuous frame, as `data.open_voc` gives them. There the
    overlap is that of VOC, which adds 1 to the sides of boxes whose corners
    are pixels, both inside.

  Args:
    truths: one dict for each picture.
    found: one dict for each picture, in the same order.
    num_classes: K; labels are 0 to K - 1.
    method: "11_points" (VOC 2007) or "all_points"; see `precision_average`.
    iou_threshold: overlaps must be above it.

  Returns:
    `VocScores`.

  Raises:
    ValueError: if pictures, rows, labels or scores are not as above.

  Example:
    >>> from vision_jax import metrics
    >>> box, label = np.array([[0.0, 0, 10, 10]]), np.array([0])
    >>> twice = {"boxes": np.repeat(box, 2, 0), "labels": np.array([0, 0]),
    ...          "scores": np.array([0.9, 0.8])}
    >>> metrics.voc_average_precision(
    ...     [{"boxes": box, "labels": label}], [twice], num_classes=2)
    VocScores(mean=1.0, per_class=array([ 1., nan]))

  Source:
    VOCevaldet.m of the development kit of VOC 2012.
  """
  _check_pair("voc_average_precision", truths, found, num_classes)
  precision_average(np.zeros(0), np.zeros(0), method=method)  # checks it
  per_class = np.array(
    [
      _voc_class(truths, found, k, method, iou_threshold)
      for k in range(num_classes)
    ]
  )
  has = ~np.isnan(per_class)
  mean = float(per_class[has].mean()) if has.any() else float("nan")
  return VocScores(mean, per_class)


def _voc_class(
  truths: Sequence[Mapping[str, Any]],
  found: Sequence[Mapping[str, Any]],
  label: int,
  method: str,
  iou_threshold: float,
) -> float:
  """AP of one class."""
  boxes: list[np.ndarray] = []
  difficult: list[np.ndarray] = []
  for truth in truths:
    own = np.asarray(truth["labels"]) == label
    boxes.append(np.asarray(truth["boxes"], np.float64)[own])
    hard = truth.get("difficult", np.zeros(len(own), bool))
    difficult.append(np.asarray(hard, bool)[own])
  positives = sum(int((~hard).sum()) for hard in difficult)
  if not positives:
    return float("nan")
  entries = [
    (float(score), index, np.asarray(box, np.float64))
    for index, result in enumerate(found)
    for score, box, own in zip(
      result["scores"], result["boxes"], result["labels"], strict=True
    )
    if own == label
  ]
  entries.sort(key=lambda entry: -entry[0])  # stable
  taken = [np.zeros(len(b), bool) for b in boxes]
  right, wrong = np.zeros(len(entries)), np.zeros(len(entries))
  for rank, (_, index, box) in enumerate(entries):
    overlaps = _overlaps(box, boxes[index])
    best = int(overlaps.argmax()) if len(overlaps) else -1
    if best < 0 or not overlaps[best] > iou_threshold:
      wrong[rank] = 1
    elif difficult[index][best]:
      continue
    elif taken[index][best]:
      wrong[rank] = 1
    else:
      taken[index][best] = True
      right[rank] = 1
  hits, misses = right.cumsum(), wrong.cumsum()
  precision = hits / np.maximum(hits + misses, 1e-12)
  return precision_average(hits / positives, precision, method=method)


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """IoU [G] of a box [4] with boxes [G, 4]."""
  low = np.maximum(box[:2], boxes[:, :2])
  high = np.minimum(box[2:], boxes[:, 2:])
  shared = np.maximum(high - low, 0).prod(-1)
  areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
  both = (box[2:] - box[:2]).prod() + areas - shared
  return shared / np.maximum(both, 1e-12)
