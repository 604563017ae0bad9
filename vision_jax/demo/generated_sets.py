"""The generated sets, augmentation and a classifier on the demo page."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vision_jax import data, viz, weights

__all__ = ["generated_sets_section"]

_HEADERS = ("set", "what an example holds", "pictures a second, drawn here")


def _draw_all() -> tuple[dict[str, np.ndarray], list[tuple[str, str, str]]]:
  """(title -> picture with its labels drawn, rows of the table)."""
  records = data.instance_set(num_instances=8, num_distractors=0)
  sets: Mapping[str, tuple[Callable[[int], dict[str, Any]], Callable]] = {
    "shapes": (lambda i: data.shapes(0, i, size=256), _shapes),
    "instances": (lambda i: data.draw_instance_image(records[i]), _objects),
    "StickPose, multi": (
      lambda i: data.stick_pose_multi(0, i, size=256),
      _people,
    ),
  }
  pictures, rows = {}, []
  for name, (draw, show) in sets.items():
    started, count = time.perf_counter(), 8
    examples = [draw(i) for i in range(count)]
    rate = count / (time.perf_counter() - started)
    best = max(examples[:4], key=lambda e: len(e["boxes"]))
    pictures[name] = show(best)
    held = ", ".join(k for k in examples[0] if k != "image")
    rows.append((name, held, f"{rate:.0f}"))
  return pictures, rows


def _objects(
  example: Mapping[str, Any], names: Sequence[str] | None = None
) -> np.ndarray:
  """Masks, boxes and classes, by number if they have no names."""
  picture = viz.draw_masks(example["image"], example["masks"], opacity=0.3)
  texts = [str(k) if names is None else names[k] for k in example["labels"]]
  return viz.draw_boxes(picture, example["boxes"], texts=texts)


def _shapes(example: Mapping[str, Any]) -> np.ndarray:
  """As `_objects`, with the names of the shapes."""
  return _objects(example, data.SHAPE_NAMES)


def _people(example: Mapping[str, Any]) -> np.ndarray:
  """Joints, limbs and boxes."""
  picture = viz.draw_boxes(example["image"], example["boxes"])
  return viz.draw_skeletons(picture, example["keypoints"], data.STICK_LIMBS)


def _augmented(example: dict[str, Any]) -> list[np.ndarray]:
  """One example and three random changes of it, with everything drawn."""
  change = data.random_affine(
    (256, 256), angle=25.0, scale=(0.7, 1.3), shift=0.1
  )
  flip = data.random_flip(probability=0.5)
  shown = [_shapes(example)]
  for seed in range(3):
    rng = np.random.default_rng(seed)
    shown.append(_shapes(change(flip(dict(example), rng), rng)))
  return shown


def _classified(count: int) -> tuple[list[np.ndarray], list[str], float]:
  """(pictures, what the bundled network says of them, share of right ones)."""
  module, variables, metadata = weights.load_bundled(
    "resnet_small", weights="textures"
  )
  names = metadata.class_names or data.TEXTURE_NAMES
  images, labels = data.texture_batch(1, range(count))

  @jax.jit
  def predict(images):
    images = weights.normalize(images, metadata.preprocessing)
    return jax.nn.softmax(module.apply(variables, images)[0])

  probs = np.asarray(predict(images.astype(np.float32) / 255))
  best = probs.argmax(-1)
  titles = [
    f"{names[b]} {p[b]:.0%}{'' if b == y else ' (not ' + names[y] + ')'}"
    for b, p, y in zip(best, probs, labels, strict=True)
  ]
  return list(images), titles, float((best == labels).mean())


def generated_sets_section(page: viz.Page) -> None:
  """Adds the sets, augmentation and a classifier's answers to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import generated_sets
    >>> generated_sets.generated_sets_section.__name__
    'generated_sets_section'
  """
  started = time.perf_counter()
  section = page.section(
    "Data that is drawn, not downloaded",
    "Pictures with exact labels for detection, segmentation, pose and search, "
    "fixed by a seed and an index, and what augmentation does to them: "
    "picture, masks, boxes and outlines move together.",
  )
  pictures, rows = _draw_all()
  section.table(_HEADERS, rows)
  section.figure(
    viz.image_grid(
      list(pictures.values()), titles=list(pictures), columns=len(pictures)
    ),
    "Examples with their labels.",
  )
  example = data.shapes(0, 1, size=256)
  section.figure(
    viz.image_grid(
      _augmented(example),
      titles=["as drawn", *(f"random change {k}" for k in (1, 2, 3))],
      columns=4,
    ),
    "One example and three random affine changes of it.",
  )
  images, titles, right = _classified(200)
  enlarged = [i.repeat(2, 0).repeat(2, 1) for i in images[:12]]
  section.figure(
    viz.image_grid(enlarged, titles=titles[:12], columns=6, text_size=11),
    "Twelve of 200 held-out pictures and what the bundled `resnet_small` says "
    f"of them; it is right on {right:.0%} (chance is 5 %).",
  )
  section.seconds = time.perf_counter() - started
