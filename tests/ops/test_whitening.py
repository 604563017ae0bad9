import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import linalg

from vision_jax import ops


def _samples(count=400, dims=6, seed=0):
  rng = np.random.default_rng(seed)
  mixing = rng.normal(size=(dims, dims)) * np.geomspace(3.0, 0.3, dims)
  return rng.normal(size=(count, dims)) @ mixing.T + 5.0


class FitWhiteningTest(chex.TestCase):
  @parameterized.parameters(0.5, 0.25, 0.0)
  def test_equals_a_power_of_the_covariance(self, power):
    """Gram matrices do not depend on signs or order: compare those."""
    x = _samples()
    learned = ops.fit_whitening(x, power=power, shrinkage=0.0)
    covariance = np.cov(x, rowvar=False)
    expected = linalg.fractional_matrix_power(covariance, -2 * power)
    got = np.asarray(learned.projection, np.float64)
    np.testing.assert_allclose(
      got @ got.T, expected.real, rtol=1e-4, atol=1e-5 * abs(expected).max()
    )
    np.testing.assert_allclose(learned.mean, x.mean(0), rtol=1e-6)

  def test_keeps_the_directions_of_most_variance(self):
    x = _samples()
    learned = ops.fit_whitening(x, num_dims=2, power=0.0)
    kept = (x - x.mean(0)) @ np.asarray(learned.projection, np.float64)
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    np.testing.assert_allclose(
      np.linalg.norm(kept, axis=0), singular[:2], rtol=1e-5
    )

  def test_directions_without_variance_stay_finite(self):
    x = _samples()
    x[:, 3] = 2.0
    learned = ops.fit_whitening(x)
    chex.assert_tree_all_finite(learned)
    variance = np.trace(np.cov(x, rowvar=False)) / 6
    bound = (1e-3 * variance) ** -0.5
    self.assertLess(float(jnp.abs(learned.projection).max()), 1.001 * bound)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "fit_whitening: `descriptors`"):
      ops.fit_whitening(np.ones((1, 4)))
    with self.assertRaisesRegex(ValueError, "finite"):
      ops.fit_whitening(np.full((5, 4), np.nan))
    with self.assertRaisesRegex(ValueError, "`num_dims` must be between 1"):
      ops.fit_whitening(_samples(), num_dims=7)


class WhitenTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_unit_rows_and_padding(self):
    x = _samples()
    learned = ops.fit_whitening(x, num_dims=4)
    rows = jnp.asarray(x[:5], jnp.float32).at[3].set(0.0)
    got = self.variant(ops.whiten)(rows, learned)
    expected = (x[:5] - x.mean(0)) @ np.asarray(learned.projection)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected[3] = 0.0
    np.testing.assert_allclose(got, expected, atol=1e-5)

  def test_a_common_direction_no_longer_decides(self):
    """Neighbours told apart by a faint direction are found again."""
    rng = np.random.default_rng(1)
    faint = rng.normal(size=(60, 4))
    loud = 20 * rng.normal(size=(2, 60, 4))
    views = [np.concatenate([faint, noise], 1) for noise in loud]
    learned = ops.fit_whitening(np.concatenate(views))

    def share(a, b):
      nearest = np.asarray(jnp.argmax(a @ b.T, 1))
      return (nearest == np.arange(60)).mean()

    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in views]
    white = [ops.whiten(jnp.asarray(v, jnp.float32), learned) for v in views]
    self.assertLess(share(*unit), 0.1)
    self.assertGreater(share(*white), share(*unit) + 0.2)

  def test_vmap_and_gradient(self):
    x = jnp.asarray(_samples(20), jnp.float32)
    learned = ops.fit_whitening(x)
    batch = jax.vmap(lambda v: ops.whiten(v, learned))(x.reshape(4, 5, 6))
    np.testing.assert_allclose(
      batch.reshape(20, 6), ops.whiten(x, learned), atol=1e-6
    )
    grad = jax.grad(lambda v: ops.whiten(v, learned)[0].sum())(x[:2] * 0)
    chex.assert_tree_all_finite(grad)

  def test_errors(self):
    learned = ops.fit_whitening(_samples())
    with self.assertRaisesRegex(ValueError, "whiten: `descriptors`"):
      ops.whiten(jnp.ones((3, 5)), learned)
