"""Objects found by the bundled detectors, on the demo page."""

import time
from typing import Any

import jax.numpy as jnp
import numpy as np

from vision_jax import data, metrics, ops, viz, weights
from vision_jax.systems import proposals, rcnn, yolo

__all__ = ["detection_section"]

_SEED = 1  # of the test pictures, which no detector has seen
_SHOWN = 4
_SCORED = 120


def _examples(count: int) -> list[dict[str, np.ndarray]]:
  """The first test pictures, float, with their objects."""
  examples = []
  for index in range(count):
    example = data.shapes(_SEED, index)
    image = example["image"].astype(np.float32) / 255
    examples.append({**example, "image": image})
  return examples


def _drawn(
  image: np.ndarray, found: dict[str, np.ndarray], *, above: float = 0.3
) -> np.ndarray:
  """The picture, three times its size, with masks, boxes and names."""
  large = image.repeat(3, 0).repeat(3, 1)
  scores = found.get("scores", np.ones(len(found["labels"])))
  if "masks" in found:
    masks = found["masks"].repeat(3, 1).repeat(3, 2)
    large = viz.draw_masks(large, masks, opacity=0.3, valid=scores > above)
  texts = [
    data.SHAPE_NAMES[label] + (f" {score:.2f}" if "scores" in found else "")
    for label, score in zip(found["labels"], scores, strict=True)
  ]
  return viz.draw_boxes(
    large, 3 * found["boxes"], texts=texts, valid=scores > above
  )


def _recall(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Whether each object has a box of overlap above a half, bool [G]."""
  return np.any(_overlaps(boxes, truth) > 0.5, axis=0)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Intersection over union, [N, M]; padded, since each shape is compiled."""
  a, b = (
    jnp.asarray(np.pad(x, ((0, -len(x) % 256), (0, 0))))
    for x in (boxes, others)
  )
  return np.asarray(ops.box_iou(a, b))[: len(boxes), : len(others)]


def _strongest(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Of boxes on one place, whatever their class, the first, for a picture."""
  overlaps = _overlaps(found["boxes"], found["boxes"]) > 0.6
  first = ~np.tril(overlaps, -1).any(1)
  return {name: value[first] for name, value in found.items()}


def _proposals(
  examples: list[dict[str, np.ndarray]],
) -> list[tuple[str, str, str, str]]:
  """Boxes, share of the objects found and milliseconds, of each source."""
  sources = {
    "selective search": lambda image: proposals.selective_search(image),
    "lattice": lambda image: proposals.grid_proposals(image.shape[:2]),
  }
  rows = []
  for name, propose in sources.items():
    started = time.perf_counter()
    boxes = [propose(example["image"]) for example in examples]
    took = (time.perf_counter() - started) / len(examples)
    hits = np.concatenate(
      [_recall(b, e["boxes"]) for b, e in zip(boxes, examples, strict=True)]
    )
    rows.append(
      (
        name,
        f"{np.mean([len(b) for b in boxes]):.0f}",
        f"{hits.mean():.2f}",
        f"{1000 * took:.1f}",
      )
    )
  return rows


def _predictions(
  images: list[np.ndarray],
) -> dict[str, list[dict[str, np.ndarray]]]:
  """What the bundled detectors find; labels count the shapes from 0."""
  module: Any
  module, variables, _ = weights.load_bundled("yolo_small")
  found = {"YOLOv3": yolo.predict(module, variables, images, batch_size=20)}
  for title, model, name in (
    ("Mask R-CNN", "rcnn_small", "masks"),
    ("PointRend", "pointrend_rcnn_small", "bundled"),
  ):
    module, variables, _ = weights.load_bundled(model, weights=name)
    results = rcnn.predict(
      module, variables, images, batch_size=20, mask_threshold=0.5
    )
    found[title] = [{**r, "labels": r["labels"] - 1} for r in results]
  return found


def detection_section(page: viz.Page) -> None:
  """Adds detections and their scores to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import detection
    >>> detection.detection_section.__name__
    'detection_section'
  """
  started = time.perf_counter()
  section = page.section(
    "Objects, their boxes and masks",
    "Small detectors, trained here in minutes on generated shapes and bundled. "
    "YOLOv3: every cell of two grids says which objects have their middle in "
    "it. Mask R-CNN: proposals first, then class, box and mask of each, of "
    "28 x 28 cells. PointRend: masks of 112 x 112, refined where uncertain.",
  )
  examples = _examples(_SCORED)
  found = _predictions([example["image"] for example in examples])
  pictures, titles = [], []
  for k, example in enumerate(examples[:_SHOWN]):
    for name, results in (*found.items(), ("truth", examples)):
      best = results[k] if name == "truth" else _strongest(results[k])
      pictures.append(_drawn(example["image"], best))
      titles.append(name)
  section.figure(
    viz.image_grid(pictures, titles=titles, columns=4),
    "Test pictures: what is found with a score above 0.3, of boxes on one "
    "place the strongest, and the truth.",
  )

  def score(results: list[dict[str, np.ndarray]], kind: str) -> Any:
    return metrics.coco_average_precision(
      examples, results, num_classes=len(data.SHAPE_NAMES), kind=kind
    )

  scores = {name: score(results, "boxes") for name, results in found.items()}
  rows = [
    (name, *(f"{s.summary[name]:.3f}" for s in scores.values()))
    for name in ("AP", "AP50", "AP75")
  ]
  for kind in ("masks", "boundaries"):
    rows.append(
      (
        f"AP of {kind}",
        *(
          f"{score(results, kind).summary['AP']:.3f}"
          if "masks" in results[0]
          else "-"
          for results in found.values()
        ),
      )
    )
  section.table((f"{_SCORED} test pictures", *scores), rows)
  section.table(
    ("AP of class", *scores),
    [
      (name, *(f"{s.per_class[k]:.3f}" for s in scores.values()))
      for k, name in enumerate(data.SHAPE_NAMES)
    ],
  )
  section.table(
    ("proposals for Fast R-CNN", "boxes", "objects covered", "ms a picture"),
    _proposals(examples[:20]),
  )
  section.seconds = time.perf_counter() - started
