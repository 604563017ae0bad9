"""Suppression that rescores, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from tests.ops.test_box_suppression import indices, iou_row, scene
from vision_jax import ops


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
      self.assertEqual(indices((index, kept)), [i for i, _ in expected])
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
