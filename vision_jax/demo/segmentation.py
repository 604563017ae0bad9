"""Segmentation as rendering, on the demo page."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import data, metrics, ops, viz, weights

__all__ = ["segmentation_section"]

_SEED = 1  # of the test pictures
_SHOWN = 3
_SCORED = 60
_COARSE, _END, _POINTS = (7, 7), (224, 224), 784


def _star(points: jax.Array) -> jax.Array:
  """Scores of a star with a hole: positive inside, [N, 2] -> [N, 1]."""
  x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
  radius = jnp.sqrt(x * x + y * y + 1e-12)
  rim = 0.31 + 0.1 * jnp.cos(5 * jnp.arctan2(y, x) + 0.4)
  return 40 * jnp.minimum(rim - radius, radius - 0.09)[..., None]


def _rendered() -> tuple[ops.Refinement, jax.Array, np.ndarray]:
  """The refined star, the coarse one enlarged, and the truth."""
  coarse = _star(ops.grid_points(_COARSE)).reshape(*_COARSE, 1)
  refine = jax.jit(
    lambda z: ops.refine(
      z,
      _star,
      ops.subdivision_sizes(_COARSE, _END),
      num_points=_POINTS,
      uncertainty=ops.binary_uncertainty,
    )
  )
  truth = _star(ops.grid_points(_END)).reshape(_END) > 0
  return refine(coarse), ops.resize(coarse, _END), np.asarray(truth)


def _drawn(mask: np.ndarray, points: np.ndarray | None) -> np.ndarray:
  """A mask, and the points of a step on it."""
  picture = np.where(mask[..., None], 0.85, 0.15).repeat(3, -1)
  if points is None:
    return viz.to_picture(picture)
  at = points * [_END[1], _END[0]] - 0.5
  return viz.draw_keypoints(picture, at, radius=1.0, color=(230, 60, 40))


def _learned(
  count: int,
) -> tuple[list[dict[str, np.ndarray]], ops.Refinement, np.ndarray, np.ndarray]:
  """Test pictures, their refinement, coarse and refined classes."""
  module: Any
  module, variables, metadata = weights.load_bundled("pointrend_small")
  examples = [data.shapes(_SEED, index) for index in range(count)]
  images = weights.normalize(
    jnp.stack([e["image"] / np.float32(255) for e in examples]),
    metadata.preprocessing,
  )

  @jax.jit
  def run(variables, images):
    result, maps = module.apply(variables, images, method="refine")
    return result, ops.resize(maps.logits, images.shape[1:3])

  result, coarse = run(variables, images)
  return (
    examples,
    result,
    np.asarray(coarse.argmax(-1)),
    np.asarray(result.logits.argmax(-1)),
  )


def _classes_drawn(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """The picture, twice its size, each class but the background in a colour."""
  classes = np.arange(1, len(data.SHAPE_NAMES) + 1)
  masks = (labels[None] == classes[:, None, None]).repeat(2, 1).repeat(2, 2)
  return viz.draw_masks(image.repeat(2, 0).repeat(2, 1), masks, opacity=0.6)


def _learned_figure(section: viz.Section) -> None:
  """Coarse, the points of the last step, refined, true; and the scores."""
  examples, result, coarse, fine = _learned(_SCORED)
  pictures = []
  covered = [(e["semantic"] > 0).mean() for e in examples]
  for k in np.argsort(covered)[::-1][:_SHOWN]:
    example = examples[k]
    image, truth = example["image"], example["semantic"]
    side = 2 * image.shape[0]
    xy = np.asarray(result.points[-1][k]) * side - 0.5
    pictures += [
      _classes_drawn(image, coarse[k]),
      viz.draw_keypoints(
        image.repeat(2, 0).repeat(2, 1), xy, radius=1.0, color=(230, 60, 40)
      ),
      _classes_drawn(image, fine[k]),
      _classes_drawn(image, truth),
    ]
  section.figure(
    viz.image_grid(
      pictures,
      titles=["coarse, enlarged", "points of the last step", "refined", "truth"]
      * _SHOWN,
      columns=4,
    ),
    "The bundled network, 8 x 8 cells and a head of points, on the test "
    f"pictures, of the first {_SCORED}, that objects cover most.",
  )
  names = ("mean IoU", "boundary IoU")
  found = {"coarse, enlarged": coarse, "refined": fine}
  rows = []
  for title, classes in found.items():
    number = len(data.SHAPE_NAMES) + 1
    confusion = np.zeros((number, number), np.int64)
    counts = np.zeros((3, number), np.int64)
    for example, labels in zip(examples, classes, strict=True):
      truth = example["semantic"]
      confusion += metrics.confusion_matrix(truth, labels, number)
      counts += metrics.boundary_counts(truth, labels, number)
    mean = metrics.segmentation_scores(confusion).mean_iou
    border, _ = metrics.intersection_over_union(
      counts[0], counts[1], counts[2] > 0
    )
    rows.append((title, f"{mean:.3f}", f"{border:.3f}"))
  section.table((f"{_SCORED} test pictures", *names), rows)


def segmentation_section(page: viz.Page) -> None:
  """Adds PointRend's subdivision, and what the bundled network does with it.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import segmentation
    >>> segmentation.segmentation_section.__name__
    'segmentation_section'
  """
  started = time.perf_counter()
  section = page.section(
    "Segmentation as rendering",
    "PointRend enlarges a coarse mask step by step and computes anew only the "
    "cells it is least sure of. Here the network of points is replaced by the "
    "formula of the shape, so that what is seen is the subdivision alone.",
  )
  result, enlarged, truth = _rendered()
  pictures = {"coarse, 7 x 7, enlarged": np.asarray(enlarged[..., 0]) > 0}
  titles = list(pictures)
  drawn = [_drawn(pictures[titles[0]], None)]
  final = np.asarray(result.logits[..., 0]) > 0
  for k, points in enumerate(result.points[1:], 1):
    side = 28 * 2**k
    titles.append(f"the {_POINTS} points of {side} x {side}")
    drawn.append(_drawn(final, np.asarray(points)))
  titles.append("refined, 224 x 224")
  drawn.append(_drawn(final, None))
  section.figure(
    viz.image_grid(drawn, titles=titles, columns=3),
    f"{sum(len(p) for p in result.points)} evaluated cells of {truth.size}: "
    "the points follow the border.",
  )
  rows = []
  for name, mask in (("coarse", pictures[titles[0]]), ("refined", final)):
    shared = np.count_nonzero(mask & truth) / np.count_nonzero(mask | truth)
    rows.append(
      (name, f"{shared:.4f}", f"{metrics.boundary_iou(mask, truth):.4f}")
    )
  section.table(("mask", "IoU", "boundary IoU"), rows)
  _learned_figure(section)
  section.seconds = time.perf_counter() - started
