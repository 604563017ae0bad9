"""Suppression of boxes against the greedy loop."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops

METHODS = ("sequential", "fixpoint", "blocked", "argmax")


def iou_row(box, boxes):
  """float32, one operation after the other."""
  low = np.maximum(box[:2], boxes[:, :2])
  high = np.minimum(box[2:], boxes[:, 2:])
  side = np.maximum(high - low, np.float32(0))
  common = side[:, 0] * side[:, 1]
  area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
  union = (box[2] - box[0]) * (box[3] - box[1]) + area - common
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.where(union > 0, common / union, 0)


def greedy(boxes, scores, valid, labels, threshold, count):
  """The sequential loop; indices in score order."""
  alive = valid & ~np.isnan(scores)
  kept = []
  for i in np.argsort(-scores, kind="stable"):
    if not alive[i]:
      continue
    kept.append(i)
    over = iou_row(boxes[i], boxes).astype(np.float64) > threshold
    alive &= ~(over & (labels == labels[i]))
  return kept[:count]


def scene(rng, count):
  """Clusters on a grid of quarters: ties in score and in overlap."""
  center = rng.uniform(-20, 60, (max(count // 6, 1), 2))
  center = center[rng.integers(0, len(center), count)]
  center = center + rng.normal(0, 3, (count, 2))
  half = rng.uniform(1, 10, (count, 2))
  boxes = np.round(np.concatenate([center - half, center + half], -1) * 4) / 4
  boxes[rng.random(count) < 0.03, 2:] = boxes[0, :2]  # degenerate ones
  scores = np.round(rng.random(count) * 20) / 20
  return (
    boxes.astype(np.float32),
    scores.astype(np.float32),
    rng.random(count) > 0.1,
    rng.integers(0, 3, count),
  )


def _indices(result):
  index, valid = (np.asarray(v) for v in result)
  assert (index[~valid] == -1).all()
  assert valid[: valid.sum()].all()
  return index[valid].tolist()


class NmsTest(parameterized.TestCase):
  @parameterized.parameters(*METHODS, "auto")
  def test_kept_sets_are_those_of_the_loop(self, method):
    rng = np.random.default_rng(0)
    count = 300  # more than one tile
    run = jax.jit(
      lambda boxes, scores, valid, labels, limit: ops.nms(
        boxes,
        scores,
        valid,
        labels=labels,
        iou_threshold=limit,
        max_outputs=count,
        method=method,
      )
    )
    kept = 0
    for threshold in np.arange(1, 10) / 10:
      # As the reference compares: the largest float32 not above.
      limit = np.float32(threshold)
      if float(limit) > threshold:
        limit = np.nextafter(limit, np.float32(0))
      for _ in range(8):
        boxes, scores, valid, labels = scene(rng, count)
        expected = greedy(boxes, scores, valid, labels, threshold, count)
        got = _indices(run(boxes, scores, valid, labels, jnp.asarray(limit)))
        self.assertEqual(got, expected)
        kept += len(expected)
    self.assertGreater(kept, 1000)
    self.assertLess(kept, 72 * 250)


if __name__ == "__main__":
  absltest.main()
