"""Cross-entropy of labelled pixels against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


class LossTest(parameterized.TestCase):
  def test_equals_the_loop(self):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 4, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 4, 5))
    labels[rng.random(labels.shape) < 0.3] = 255
    total, losses = 0.0, []
    for place in np.ndindex(labels.shape):
      z = logits[place].astype(np.float64)
      loss = 0.0
      if labels[place] != 255:
        loss = np.log(np.exp(z).sum()) - z[labels[place]]
      losses.append(loss)
      total += loss
    got, count = ops.segmentation_loss(logits, labels)
    self.assertAlmostEqual(float(got), total, places=3)
    self.assertEqual(int(count), (labels != 255).sum())
    got, count = ops.segmentation_loss(logits, labels, hardest=0.2)
    self.assertAlmostEqual(float(got), sum(sorted(losses)[-8:]), places=3)
    self.assertEqual(int(count), 8)

  def test_nothing_labelled(self):
    labels = jnp.full((1, 4, 6), 255)
    for hardest in (1.0, 0.2):
      value, slope = jax.value_and_grad(
        lambda z, h=hardest: ops.segmentation_loss(z, labels, hardest=h)[0]
      )(jnp.ones((1, 2, 3, 4)))
      count = ops.segmentation_loss(
        jnp.ones((1, 2, 3, 4)), labels, hardest=hardest
      )[1]
      self.assertEqual((float(value), int(count)), (0.0, 0))
      np.testing.assert_array_equal(slope, 0)

  def test_errors(self):
    for call, text in (
      (
        lambda: ops.segmentation_loss(jnp.ones((2, 3)), jnp.ones((2, 3))),
        "`logits` and `labels`",
      ),
      (
        lambda: ops.segmentation_loss(
          jnp.ones((1, 2, 2, 3)), jnp.ones((1, 2, 2), int), hardest=0.0
        ),
        "`hardest`",
      ),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


if __name__ == "__main__":
  absltest.main()
