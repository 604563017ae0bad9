"""Objects found by the bundled detector, on the demo page."""

import time

import numpy as np

from vision_jax import data, metrics, viz, weights
from vision_jax.systems import proposals, yolo

__all__ = ["detection_section"]

_SEED = 1  # of the test pictures, which no detector has seen
_SHOWN = 6
_SCORED = 200


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
  """The picture, twice its size, with boxes and names."""
  large = image.repeat(3, 0).repeat(3, 1)
  scores = found.get("scores", np.ones(len(found["labels"])))
  texts = [
    data.SHAPE_NAMES[label] + (f" {score:.2f}" if "scores" in found else "")
    for label, score in zip(found["labels"], scores, strict=True)
  ]
  return viz.draw_boxes(
    large, 3 * found["boxes"], texts=texts, valid=scores > above
  )


def _recall(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Whether each object has a box of overlap above a half, bool [G]."""
  low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
  high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
  shared = np.maximum(high - low, 0).prod(-1)
  areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, truth)]
  union = areas[0][:, None] + areas[1][None] - shared
  return (shared > 0.5 * union).any(0)


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
    "Objects in one pass",
    "YOLOv3 in small, trained here in minutes on generated shapes and bundled: "
    "every cell of two grids says which objects have their middle in it.",
  )
  module, variables, _ = weights.load_bundled("yolo_small")
  examples = _examples(_SCORED)
  found = yolo.predict(
    module, variables, [e["image"] for e in examples], batch_size=20
  )
  pictures, titles = [], []
  for example, result in zip(examples[:_SHOWN], found, strict=False):
    pictures += [
      _drawn(example["image"], result),
      _drawn(example["image"], example),
    ]
    titles += ["found", "truth"]
  section.figure(
    viz.image_grid(pictures, titles=titles, columns=4),
    "Test pictures: what is found with a score above 0.3, and the truth.",
  )
  scores = metrics.coco_average_precision(
    examples, found, num_classes=len(data.SHAPE_NAMES)
  )
  section.table(
    ("measure", f"{_SCORED} test pictures"),
    [(name, f"{scores.summary[name]:.3f}") for name in ("AP", "AP50", "AP75")],
  )
  section.table(
    ("class", "AP"),
    [
      (name, f"{value:.3f}")
      for name, value in zip(data.SHAPE_NAMES, scores.per_class, strict=True)
    ],
  )
  section.table(
    ("proposals for Fast R-CNN", "boxes", "objects covered", "ms a picture"),
    _proposals(examples[:20]),
  )
  section.seconds = time.perf_counter() - started
