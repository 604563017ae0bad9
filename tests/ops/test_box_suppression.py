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
        self.assertEqual(_indices(got), expected, threshold)

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
      self.assertEqual(_indices(got), everything[:count])

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
    self.assertEqual(_indices(run(boxes, scores)), [4, 2, 3])
    scores[4] = np.nan
    self.assertEqual(_indices(run(boxes, scores)), [2, 3, 0])
    boxes[2] = np.nan
    self.assertEqual(_indices(run(boxes, scores)), [2, 3, 0])

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
      self.assertEqual(_indices([v[k] for v in together]), alone)

  def test_nothing_and_messages(self):
    none = jnp.zeros((0, 4)), jnp.zeros(0)
    got = ops.nms(*none, iou_threshold=0.5, max_outputs=3)
    self.assertEqual(_indices(got), [])
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
      got = _indices((index, kept))
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


def _soft(boxes, scores, valid, labels, decay, sigma, limit, least, count):
  """Take the best, lower the others; float64."""
  scores = np.where(valid, scores, -1).astype(np.float64)
  taken = []
  while len(taken) < count:
    i = int(np.argmax(scores))
    if scores[i] < least:
      break
    taken.append((i, scores[i]))
    iou = iou_row(boxes[i], boxes).astype(np.float64)
    if decay == "gaussian":
      factor = np.exp(-(iou**2) / sigma)
    else:
      factor = np.where(iou > limit, 1 - iou, 1)
    scores = np.where(
      scores > 0, scores * np.where(labels == labels[i], factor, 1), scores
    )
    scores[i] = -1
  return taken


class RescoringTest(parameterized.TestCase):
  @parameterized.parameters("gaussian", "linear")
  def test_soft_equals_the_loop(self, decay):
    run = jax.jit(
      lambda b, s, v, y: ops.soft_nms(
        b,
        s,
        v,
        labels=y,
        max_outputs=25,
        decay=decay,
        sigma=0.4,
        iou_threshold=0.2,
        score_threshold=0.4,
      )
    )
    rng = np.random.default_rng(4)
    for _ in range(5):
      boxes, _, valid, labels = scene(rng, 40)
      scores = rng.random(40).astype(np.float32)
      expected = _soft(boxes, scores, valid, labels, decay, 0.4, 0.2, 0.4, 25)
      index, found, kept = run(boxes, scores, valid, labels)
      self.assertEqual(_indices((index, kept)), [i for i, _ in expected])
      self.assertBetween(len(expected), 3, 24)
      np.testing.assert_allclose(
        found[: len(expected)], [s for _, s in expected], rtol=1e-5
      )
      np.testing.assert_array_equal(found[len(expected) :], 0)

  @parameterized.parameters("gaussian", "linear")
  def test_matrix_equals_the_loop(self, decay):
    def f(u):
      return np.exp(-(u**2) / 0.5) if decay == "gaussian" else 1 - u

    boxes, scores, valid, _ = scene(np.random.default_rng(5), 60)
    labels = np.arange(60) % 2
    rank = np.argsort(np.argsort(-scores, kind="stable"))
    iou = np.stack([iou_row(b, boxes) for b in boxes]).astype(np.float64)

    def above(j):
      same = valid & (labels == labels[j])
      return np.flatnonzero(same & (rank < rank[j]))

    expected = np.zeros(60)
    for j in np.flatnonzero(valid):
      factor = 1.0
      for i in above(j):
        own = max(iou[above(i), i], default=0.0)
        if f(own) > 0:
          factor = min(factor, f(iou[i, j]) / f(own))
      expected[j] = scores[j] * factor
    got = ops.matrix_nms(boxes, scores, valid, labels=labels, decay=decay)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-6)
    self.assertGreater((expected < 0.9 * scores * valid).sum(), 5)

  def test_scores_carry_a_derivative(self):
    boxes, _, valid, labels = scene(np.random.default_rng(6), 12)
    scores = jnp.linspace(0.2, 0.9, 12)

    def soft(s):
      return ops.soft_nms(boxes, s, valid, labels=labels, max_outputs=12)[1]

    def matrix(s):
      return ops.matrix_nms(boxes, s, valid, labels=labels)

    for run in (soft, matrix):
      value, slope = jax.jit(lambda s, run=run: jax.jvp(run, (s,), (s,)))(
        scores
      )
      # Homogeneous of degree one in the scores.
      np.testing.assert_allclose(slope, value, rtol=1e-5)
      back = jax.jit(jax.grad(lambda s, run=run: run(s).sum()))(scores)
      np.testing.assert_allclose((back * scores).sum(), value.sum(), rtol=1e-5)

  def test_nothing_and_messages(self):
    none = jnp.zeros((0, 4)), jnp.zeros(0)
    self.assertEqual(ops.matrix_nms(*none).shape, (0,))
    self.assertEqual(ops.soft_nms(*none, max_outputs=2)[0].tolist(), [-1, -1])
    for run in (
      ops.matrix_nms,
      lambda *a, **k: ops.soft_nms(*a, max_outputs=1, **k),
    ):
      with self.assertRaisesRegex(ValueError, "`decay` must be gaussian or"):
        run(jnp.zeros((1, 4)), jnp.zeros(1), decay="cubic")


if __name__ == "__main__":
  absltest.main()
