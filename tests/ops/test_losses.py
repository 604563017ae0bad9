"""Losses against their definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from tests.ops.test_boxes import _terms, random_boxes
from vision_jax import ops

X = np.linspace(-6, 6, 25).astype(np.float32)
T = np.linspace(0, 1, 25).astype(np.float32)


def _sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


class RegressionTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 1 / 9, 0.0)
  def test_smooth_l1(self, beta):
    e = X.astype(np.float64)
    flat = np.abs(e) - beta / 2
    curved = e**2 / (2 * beta) if beta else flat
    expected = np.where(np.abs(e) < beta, curved, flat)
    np.testing.assert_allclose(
      ops.smooth_l1(X, beta=beta), expected, rtol=1e-6, atol=1e-7
    )

  def test_huber(self):
    e = X.astype(np.float64)
    expected = np.where(np.abs(e) < 2, e**2 / 2, 2 * (np.abs(e) - 1))
    np.testing.assert_allclose(ops.huber(X, delta=2.0), expected, rtol=1e-6)

  def test_large_errors_keep_a_slope(self):
    slope = jax.grad(lambda e: ops.smooth_l1(e).sum())(
      jnp.array([1e30, -0.5, 0])
    )
    np.testing.assert_allclose(slope, [1, -0.5, 0])

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, "`beta` must be >= 0"):
      ops.smooth_l1(X, beta=-1.0)
    with self.assertRaisesRegex(ValueError, "`delta` must be > 0"):
      ops.huber(X, delta=0.0)


class ClassificationTest(parameterized.TestCase):
  def test_binary(self):
    p = _sigmoid(X)
    expected = -T * np.log(p) - (1 - T) * np.log(1 - p)
    np.testing.assert_allclose(
      ops.binary_cross_entropy(X, T), expected, rtol=1e-5, atol=1e-7
    )
    far = jnp.array([-1e4, 1e4])
    value, slope = jax.value_and_grad(
      lambda x: ops.binary_cross_entropy(x, jnp.array([1.0, 0])).sum()
    )(far)
    self.assertEqual(value, 2e4)
    np.testing.assert_array_equal(slope, [-1, 1])

  def test_softmax(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (3, 4))
    e = np.exp(x.astype(np.float64))
    p = np.take_along_axis(e, labels[..., None], -1)[..., 0] / e.sum(-1)
    np.testing.assert_allclose(
      ops.softmax_cross_entropy(x, labels), -np.log(p), rtol=1e-5
    )
    outside = labels.copy()
    outside[0], outside[1] = -1, 5
    loss, pull = jax.vjp(lambda x: ops.softmax_cross_entropy(x, outside), x)
    (slope,) = pull(jnp.ones_like(loss))
    np.testing.assert_array_equal(loss[:2], 0)
    np.testing.assert_array_equal(slope[:2], 0)
    self.assertGreater(np.abs(slope[2]).min(), 0)

  @parameterized.product(alpha=(0.25, None), gamma=(2.0, 0.5, 0.0))
  def test_focal(self, alpha, gamma):
    t = (T > 0.5).astype(np.float32)
    p = np.where(t, _sigmoid(X), 1 - _sigmoid(X))
    expected = -((1 - p) ** gamma) * np.log(p)
    if alpha is not None:
      expected *= np.where(t, alpha, 1 - alpha)
    got = ops.focal_loss(X, t, alpha=alpha, gamma=gamma)
    np.testing.assert_allclose(got, expected, rtol=2e-4)
    slope = jax.grad(
      lambda x: ops.focal_loss(x, jnp.ones(2), alpha=alpha, gamma=gamma).sum()
    )(jnp.array([200.0, -200.0]))
    self.assertTrue(np.isfinite(slope).all())

  def test_dice(self):
    rng = np.random.default_rng(1)
    p, t = rng.random((2, 3, 11)).astype(np.float32)
    top = 2 * (p * t).sum(-1) + 0.5
    expected = 1 - top / (p.sum(-1) + t.sum(-1) + 0.5)
    np.testing.assert_allclose(
      ops.dice_loss(p, t, smooth=0.5), expected, rtol=1e-5
    )
    self.assertEqual(ops.dice_loss(jnp.zeros(4), jnp.zeros(4)), 0)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, "`labels` must have the shape"):
      ops.softmax_cross_entropy(jnp.zeros((2, 3)), jnp.zeros(3, int))
    with self.assertRaisesRegex(ValueError, "`probs` and `targets` must"):
      ops.dice_loss(jnp.zeros((2, 3)), jnp.zeros(3))
    with self.assertRaisesRegex(ValueError, "`smooth` must be > 0"):
      ops.dice_loss(jnp.zeros(3), jnp.zeros(3), smooth=0.0)


class BoxLossTest(parameterized.TestCase):
  def test_equal_the_definitions(self):
    rng = np.random.default_rng(2)
    a, b = random_boxes(rng, 20), random_boxes(rng, 20)
    expected = np.array([_terms(p, q) for p, q in zip(a, b, strict=True)])
    self.assertGreater((expected[:, 0] > 0).sum(), 3)
    losses = (
      ops.generalized_iou_loss,
      ops.distance_iou_loss,
      ops.complete_iou_loss,
    )
    for k, loss in enumerate(losses, 1):
      np.testing.assert_allclose(loss(a, b), 1 - expected[:, k], atol=1e-5)

      def total(a, loss=loss):
        return loss(a, jnp.zeros((2, 4))).sum()

      empty = jnp.array([[1.0, 1, 1, 1], [0, 0, 0, 0]])
      self.assertTrue(np.isfinite(jax.grad(total)(empty)).all())

  def test_descent_brings_a_box_to_its_target(self):
    target = jnp.array([4.0, 5, 12, 9])
    for loss in (ops.distance_iou_loss, ops.complete_iou_loss):

      def step(_, box, loss=loss):
        return box - jax.grad(loss)(box, target)

      start = jnp.array([14.0, 11, 22, 16])  # apart
      box = jax.lax.fori_loop(0, 3000, step, start)
      self.assertGreater(ops.box_iou(box[None], target[None])[0, 0], 0.8)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, "`boxes` and `targets` must"):
      ops.complete_iou_loss(jnp.zeros((2, 4)), jnp.zeros((3, 4)))


if __name__ == "__main__":
  absltest.main()
