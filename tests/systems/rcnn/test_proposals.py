"""Anchors and proposals against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.systems import rcnn
from vision_jax.systems.rcnn.proposals import make_levels, make_proposals

CELLS = ((200, 272), (100, 136), (50, 68), (25, 34), (13, 17))
MODULE = rcnn.fasterrcnn_resnet50_fpn()


def test_anchors_of_the_usual_picture():
  levels = make_levels(MODULE, CELLS, (800, 1088), jnp.array([800, 1088]))
  assert sum(len(level.anchors) for level in levels) == 217413
  assert all(bool(level.inside.all()) for level in levels)
  first = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
  np.testing.assert_array_equal(levels[0].anchors[:3], first)
  # 800 // 13 = 61 pixels from row to row, 1088 // 17 = 64 across.
  step = levels[4].anchors[3 * 18] - levels[4].anchors[0]
  np.testing.assert_array_equal(step, [64, 61, 64, 61])


def test_anchors_behind_the_picture_are_outside():
  levels = make_levels(MODULE, CELLS, (800, 1088), jnp.array([416, 1088]))
  rows = [104, 52, 26, 13, 7]
  for level, row, (_, wide) in zip(levels, rows, CELLS, strict=True):
    assert int(level.inside.sum()) == 3 * row * wide
  step = levels[4].anchors[3 * 17] - levels[4].anchors[0]
  np.testing.assert_array_equal(step, [0, 59, 0, 59])  # 416 // 7


def _greedy(boxes, scores, levels, limit):
  order = np.lexsort((np.arange(len(scores)), -scores))
  kept = []
  for i in order:
    for j in kept:
      if levels[i] != levels[j]:
        continue
      low = np.maximum(boxes[i, :2], boxes[j, :2])
      high = np.minimum(boxes[i, 2:], boxes[j, 2:])
      common = np.prod(np.maximum(high - low, 0))
      areas = [np.prod(b[2:] - b[:2]) for b in (boxes[i], boxes[j])]
      if common / (sum(areas) - common) > limit:
        break
    else:
      kept.append(i)
  return kept


def test_proposals_are_the_greedy_ones():
  module = rcnn.rcnn_small(
    anchor_sizes=((8.0,), (16.0,), (32.0,), (64.0,)),
    rpn_pre_test=30,
    rpn_post_test=40,
  )
  cells = ((8, 12), (4, 6), (2, 3), (1, 2))
  size = jnp.array([30, 41])
  levels = make_levels(module, cells, (32, 48), jnp.array([32, 48]))
  rng = np.random.default_rng(0)
  logits = [rng.normal(size=len(v.anchors)) for v in levels]
  logits[1][3] = np.nan
  deltas = [rng.normal(0, 0.3, (len(v.anchors), 4)) for v in levels]
  logits, deltas = jax.tree.map(
    lambda v: jnp.asarray(v, jnp.float32), (logits, deltas)
  )
  got = make_proposals(levels, logits, deltas, size, settings=module.settings)
  boxes, scores, numbers = [], [], []
  for k, level in enumerate(levels):
    score = np.nan_to_num(np.asarray(logits[k], np.float64), nan=-np.inf)
    best = np.argsort(-score, kind="stable")[: min(30, len(score))]
    best = best[score[best] > -np.inf]
    anchor = np.asarray(level.anchors, np.float64)[best]
    move = np.asarray(deltas[k], np.float64)[best]
    sides = anchor[:, 2:] - anchor[:, :2]
    center = anchor[:, :2] + sides / 2 + move[:, :2] * sides
    sides = sides * np.exp(move[:, 2:])
    box = np.concatenate([center - sides / 2, center + sides / 2], 1)
    boxes.append(np.clip(box, 0, [41, 30, 41, 30]))
    scores.append(1 / (1 + np.exp(-score[best])))
    numbers.append(np.full(len(best), k))
  boxes, scores = np.concatenate(boxes), np.concatenate(scores)
  numbers = np.concatenate(numbers)
  keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1e-3).all(1)
  boxes, scores, numbers = boxes[keep], scores[keep], numbers[keep]
  kept = _greedy(boxes, scores, numbers, 0.7)[:40]
  count = int(got.valid.sum())
  assert count == len(kept)
  assert 10 < count < len(boxes)
  np.testing.assert_allclose(got.boxes[:count], boxes[kept], atol=1e-4)
  np.testing.assert_allclose(got.scores[:count], scores[kept], atol=1e-6)
  assert not np.asarray(got.boxes[count:]).any()
