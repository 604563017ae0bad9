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


def indices(result):
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
        got = indices(run(boxes, scores, valid, labels, jnp.asarray(limit)))
        self.assertEqual(got, expected)
        kept += len(expected)
    self.assertGreater(kept, 1000)
    self.assertLess(kept, 72 * 250)

  def test_thresholds_are_compared_as_they_are(self):
    # IoU 3/10 and 6/10 exactly: not above, though float32(0.3) > 0.3.
    boxes = np.array(
      [[0, 0, 13, 1], [7, 0, 20, 1], [0, 5, 8, 6], [2, 5, 10, 6]]
    )
    for threshold in np.arange(1, 10) / 10:
      for base in (boxes, boxes + 0.25):
        base = base.astype(np.float32)
        inputs = base, np.array([4.0, 3, 2, 1], np.float32)
        expected = greedy(*inputs, np.ones(4, bool), np.zeros(4), threshold, 4)
        got = ops.nms(*inputs, iou_threshold=float(threshold), max_outputs=4)
        self.assertEqual(indices(got), expected, threshold)

  @parameterized.parameters(*METHODS)
  def test_fewer_and_more_outputs(self, method):
    boxes, scores, valid, labels = scene(np.random.default_rng(1), 60)
    everything = greedy(boxes, scores, valid, labels, 0.5, 60)
    for count in (1, 7, 100):
      got = ops.nms(
        boxes,
        scores,
        valid,
        labels=labels,
        iou_threshold=0.5,
        max_outputs=count,
        method=method,
      )
      self.assertEqual(got[0].shape, (count,))
      self.assertEqual(indices(got), everything[:count])

  @parameterized.parameters(*METHODS)
  def test_odd_scores(self, method):
    boxes = np.array(
      [
        [0, 0, 2, 2],
        [9, 9, 11, 11],
        [5, 0, 7, 2],
        [20, 0, 22, 2],
        [0, 0, 2, 2],
      ],
      np.float32,
    )
    scores = np.array([-np.inf, np.nan, 0.0, -0.0, np.inf], np.float32)
    run = jax.jit(
      lambda b, s: ops.nms(
        b, s, iou_threshold=0.5, max_outputs=5, method=method
      )
    )
    self.assertEqual(indices(run(boxes, scores)), [4, 2, 3])
    scores[4] = np.nan
    self.assertEqual(indices(run(boxes, scores)), [2, 3, 0])
    boxes[2] = np.nan
    self.assertEqual(indices(run(boxes, scores)), [2, 3, 0])

  @parameterized.parameters(*METHODS, "auto")
  def test_vmap_is_a_loop(self, method):
    rng = np.random.default_rng(2)
    scenes = [
      np.stack(v) for v in zip(*[scene(rng, 40) for _ in range(3)], strict=True)
    ]

    def run(boxes, scores, valid, labels):
      return ops.nms(
        boxes,
        scores,
        valid,
        labels=labels,
        iou_threshold=0.4,
        max_outputs=12,
        method=method,
      )

    together = jax.jit(jax.vmap(run))(*scenes)
    for k in range(3):
      alone = greedy(*(v[k] for v in scenes), 0.4, 12)
      self.assertEqual(indices([v[k] for v in together]), alone)

  def test_nothing_and_messages(self):
    none = jnp.zeros((0, 4)), jnp.zeros(0)
    got = ops.nms(*none, iou_threshold=0.5, max_outputs=3)
    self.assertEqual(indices(got), [])
    got = ops.nms(
      jnp.zeros((2, 4)), jnp.zeros(2), iou_threshold=0.5, max_outputs=0
    )
    self.assertEqual(got[0].shape, (0,))
    settings = dict(iou_threshold=0.5, max_outputs=3)
    with self.assertRaisesRegex(ValueError, r"nms: `boxes` must be \[N, 4\]"):
      ops.nms(jnp.zeros((2, 4)), jnp.zeros(3), **settings)
    with self.assertRaisesRegex(ValueError, "`method` must be one of auto"):
      ops.nms(jnp.zeros((2, 4)), jnp.zeros(2), method="fast", **settings)


class AmongBestTest(parameterized.TestCase):
  def test_says_whether_it_is_exact(self):
    rng = np.random.default_rng(3)
    run = jax.jit(
      lambda b, s, v, y, limit: ops.nms_among_best(
        b,
        s,
        v,
        labels=y,
        num_candidates=12,
        iou_threshold=limit,
        max_outputs=10,
      )
    )
    seen = []
    for k in range(40):
      boxes, scores, valid, labels = scene(rng, 50)
      if k % 2:
        valid &= rng.random(50) < 0.5
      threshold = 0.125 * (k % 7 + 1)
      index, kept, exact = run(
        boxes, scores, valid, labels, jnp.float32(threshold)
      )
      expected = greedy(boxes, scores, valid, labels, threshold, 10)
      got = indices((index, kept))
      self.assertEqual(got, expected[: len(got)])
      if exact:
        self.assertEqual(got, expected)
      seen.append((bool(exact), got == expected))
    self.assertIn((False, False), seen)
    self.assertIn((True, True), seen)

  def test_nothing_and_messages(self):
    settings = dict(iou_threshold=0.5, max_outputs=3)
    index, _, exact = ops.nms_among_best(
      jnp.zeros((0, 4)), jnp.zeros(0), num_candidates=2, **settings
    )
    np.testing.assert_array_equal(index, [-1, -1, -1])
    self.assertTrue(exact)
    with self.assertRaisesRegex(ValueError, "`num_candidates` must be >= 1"):
      ops.nms_among_best(
        jnp.zeros((2, 4)), jnp.zeros(2), num_candidates=0, **settings
      )


if __name__ == "__main__":
  absltest.main()
