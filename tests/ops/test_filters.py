import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import ndimage

from vision_jax import ops


class GaussianBlurTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((5, 4.0), (5, 5.0), (17, 6.0), (3, 0.5), (1, 1.0))
  def test_matches_scipy_mirror(self, size, sigma):
    x = np.random.default_rng(0).normal(size=(2, 19, 23))
    i = np.arange(size) - size // 2
    w = np.exp(-(i**2) / (2 * sigma**2))
    w /= w.sum()
    expected = ndimage.correlate1d(x, w, axis=1, mode="mirror")
    expected = ndimage.correlate1d(expected, w, axis=2, mode="mirror")
    blur = lambda v: ops.gaussian_blur(v, size=size, sigma=sigma)  # noqa: E731
    got = self.variant(blur)(x.astype(np.float32))
    np.testing.assert_allclose(got, expected, atol=1e-6)

  def test_axes_choose_the_spatial_ones(self):
    x = np.random.default_rng(1).normal(size=(9, 11, 3)).astype(np.float32)
    got = ops.gaussian_blur(x, size=5, sigma=2.0, axes=(0, 1))
    expected = np.stack(
      [ops.gaussian_blur(x[..., c], size=5, sigma=2.0) for c in range(3)], -1
    )
    np.testing.assert_allclose(got, expected, atol=1e-6)

  def test_rounded_result_is_within_a_level_of_opencv(self):
    x = np.random.default_rng(2).integers(0, 256, (120, 160)).astype(np.uint8)
    expected = cv2.GaussianBlur(x, (5, 5), 4.0).astype(int)
    got = np.round(ops.gaussian_blur(jnp.float32(x), size=5, sigma=4.0))
    self.assertGreater(np.mean(np.abs(got - expected) <= 1), 0.999)
    self.assertGreater(np.mean(got == expected), 0.9)

  def test_gradient(self):
    x = np.random.default_rng(3).normal(size=(5, 6)).astype(np.float32)
    f = lambda v: (ops.gaussian_blur(v, size=3, sigma=1.0) ** 2).sum()  # noqa: E731
    chex.assert_numerical_grads(f, (x,), 1, atol=5e-2, rtol=5e-2)

  def test_errors(self):
    x = jnp.zeros((4, 9))
    with self.assertRaisesRegex(ValueError, "`size` must be odd"):
      ops.gaussian_blur(x, size=4, sigma=1.0)
    with self.assertRaisesRegex(ValueError, "`size` must be at most 7"):
      ops.gaussian_blur(x, size=9, sigma=1.0)
    with self.assertRaisesRegex(ValueError, "`sigma` must be"):
      ops.gaussian_kernel(3, 0.0)


class HistogramTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_bincount(self):
    x = np.random.default_rng(0).integers(-5, 300, (37, 41))
    inside = x[(x >= 0) & (x < 256)]
    np.testing.assert_array_equal(
      self.variant(ops.histogram)(x), np.bincount(inside, minlength=256)
    )

  def test_empty_vmap_and_errors(self):
    self.assertEqual(int(ops.histogram(jnp.zeros((0,), jnp.int32)).sum()), 0)
    x = np.random.default_rng(1).integers(0, 32, (3, 50))
    np.testing.assert_array_equal(
      jax.vmap(lambda v: ops.histogram(v, num_bins=32))(x),
      np.stack([np.bincount(v, minlength=32) for v in x]),
    )
    with self.assertRaisesRegex(TypeError, "integers"):
      ops.histogram(jnp.zeros(3))
    with self.assertRaisesRegex(ValueError, "`num_bins` must be"):
      ops.histogram(jnp.zeros(3, jnp.int32), num_bins=0)


def _kapur_loop(h):
  h = np.asarray(h, np.float64)
  filled = np.flatnonzero(h)
  best, where = 0.0, 0
  if not filled.size:
    return 0, 0.0

  def entropy(part):
    part, total = part[part > 0], part.sum()
    return np.log(total) - np.sum(part * np.log(part)) / total if total else 0.0

  for t in range(filled[0], filled[-1] + 1):
    e = entropy(h[: t + 1]) + entropy(h[t + 1 :])
    if e > best + 1e-12:
      best, where = e, t
  return where, best


class KapurThresholdTest(chex.TestCase):
  def test_two_equal_plateaus(self):
    h = np.zeros(256)
    h[:100] = h[150:250] = 1
    t = int(ops.kapur_threshold(jnp.asarray(h)))
    self.assertBetween(t, 99, 149)
    self.assertAlmostEqual(_kapur_loop(h)[1], 2 * np.log(100), places=9)

  @chex.variants(with_jit=True, without_jit=True)
  def test_random_histograms_match_a_float64_loop(self):
    rng = np.random.default_rng(0)
    h = rng.poisson(rng.gamma(0.5, 200, (300, 256)))
    h[:100] = (h[:100] * np.exp(-np.arange(256) / 20)).astype(int)
    h[100:150, :40] = 0
    h[150:200, 30:] = 0
    got = np.asarray(self.variant(ops.kapur_threshold)(h))
    expected = np.array([_kapur_loop(row)[0] for row in h])
    self.assertGreaterEqual(np.mean(got == expected), 0.99)
    self.assertLessEqual(np.abs(got - expected).max(), 1)

  def test_degenerate(self):
    self.assertEqual(int(ops.kapur_threshold(jnp.zeros(256))), 0)
    one = jnp.zeros(256).at[17].set(1000)
    self.assertEqual(int(ops.kapur_threshold(one)), 0)
    with self.assertRaisesRegex(ValueError, "`counts` must be"):
      ops.kapur_threshold(jnp.zeros(()))
