"""The head of regional attention: its formula, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax.systems import retrieval


class AttentionTest(parameterized.TestCase):
  def test_formula(self):
    rng = np.random.default_rng(0)
    vectors, means = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
    image = rng.normal(size=(2, 4)).astype(np.float32)
    head = retrieval.RegionalAttention(hidden=3)
    variables = head.init(jax.random.key(0), vectors, means, image)
    got, logits = head.apply(variables, vectors, means, image)
    self.assertIsNone(logits)
    params = jax.tree.map(np.asarray, variables["params"])
    for b in range(2):
      total = np.zeros(4)
      for r in range(5):
        x = np.concatenate([means[b, r], image[b]])
        h = np.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        s = h @ params["score"]["kernel"][:, 0] + params["score"]["bias"][0]
        total += np.log1p(np.exp(s)) * vectors[b, r]
      np.testing.assert_allclose(
        got[b], total / np.linalg.norm(total), atol=1e-5
      )

  def test_learns_which_regions_matter(self):
    """Region 0 says its class, the others shout another."""
    rng = np.random.default_rng(1)
    labels = np.arange(8) % 2
    vectors = np.zeros((8, 3, 4), np.float32)
    vectors[np.arange(8), 0, labels] = 1
    vectors[:, 1:, 2:] = rng.normal(size=(8, 2, 2)) * 3
    image = vectors.mean(1)
    head = retrieval.RegionalAttention(hidden=8, num_classes=2)
    params = head.init(jax.random.key(0), vectors, vectors, image)

    @jax.jit
    def step(params):
      def loss(params):
        _, logits = head.apply(params, vectors, vectors, image)
        return retrieval.attention_loss(logits, jnp.asarray(labels))

      value, slope = jax.value_and_grad(loss)(params)
      return value, jax.tree.map(lambda p, g: p - 0.5 * g, params, slope)

    first, _ = step(params)
    for _ in range(40):
      last, params = step(params)
    self.assertLess(float(last), 0.5 * float(first))
