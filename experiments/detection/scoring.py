"""Average precision of a detector over a source, each picture once."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vision_jax import metrics

__all__ = ["KINDS", "find_all", "score"]

KINDS = ("boxes", "masks", "boundaries")
"""What a detector with masks is scored for."""

_TRUTH = ("boxes", "labels", "crowd", "area", "difficult", "masks", "keypoints")

Predict = Callable[[list[np.ndarray]], list[dict[str, np.ndarray]]]


def find_all(
  predict: Predict,
  source: Any,
  *,
  batch_size: int,
  progress: bool = False,
  limit: int | None = None,
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
  """(truth, found) of every picture of a source, in order."""
  import tqdm

  count = len(source) if limit is None else min(limit, len(source))
  bar = tqdm.tqdm(total=count, unit="pictures", disable=not progress)
  for start in range(0, count, batch_size):
    examples = [source[k] for k in range(start, min(start + batch_size, count))]
    images = [e["image"].astype(np.float32) / 255 for e in examples]
    for example, found in zip(examples, predict(images), strict=True):
      yield {k: example[k] for k in _TRUTH if k in example}, found
    bar.update(len(examples))
  bar.close()


def score(
  pairs: Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]],
  *,
  num_classes: int,
  metric: str,
  kinds: tuple[str, ...] = ("boxes",),
) -> dict[str, float]:
  """The numbers of COCO (masks as "mask_AP", ...) or the one of VOC."""
  truths, found = zip(*pairs, strict=True)
  if metric.startswith("voc"):
    method = "11_points" if metric == "voc_11" else "all_points"
    scores = metrics.voc_average_precision(
      truths, found, num_classes=num_classes, method=method
    )
    return {"AP50": scores.mean}
  result = {}
  for kind in kinds:
    prefix = {"boxes": "", "boundaries": "boundary_"}.get(kind, f"{kind[:-1]}_")
    summary = metrics.coco_average_precision(
      truths, found, num_classes=num_classes, kind=kind
    ).summary
    result |= {f"{prefix}{name}": value for name, value in summary.items()}
  return result
