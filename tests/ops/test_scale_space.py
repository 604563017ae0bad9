"""Tests of derivatives of Gaussians and of scale space."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import ndimage

from vision_jax import ops


def _blob(sigma, size=121, centre=None):
  y, x = np.mgrid[:size, :size].astype(np.float64)
  cy, cx = centre or ((size - 1) / 2,) * 2
  return np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))


class GaussianDerivativeTest(chex.TestCase):
  @parameterized.parameters(
    *[((a, b), s) for a in range(3) for b in range(3) for s in (1.0, 2.5)]
  )
  def test_equals_scipy(self, orders, sigma):
    """SciPy samples the derivative of the Gaussian; ours rescales it."""
    image = ndimage.gaussian_filter(
      np.random.default_rng(0).standard_normal((70, 80)), 1.5, mode="mirror"
    )
    ours = ops.gaussian_derivative(
      jnp.asarray(image, jnp.float32), sigma=sigma, orders=orders
    )
    expected = ndimage.gaussian_filter(
      image, sigma, order=orders, mode="mirror", truncate=4.0
    )
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours / scale, expected / scale, atol=0.01)

  @parameterized.parameters(0.8, 1.6, 3.0)
  def test_is_exact_on_polynomials(self, sigma):
    y, x = np.mgrid[:60, :64].astype(np.float32)
    maps = jnp.asarray(np.stack([3 + 0 * x, 2 * x, x * x / 2, x * y], -1))
    inside = (slice(20, 40), slice(20, 44))

    def derive(orders):
      out = ops.gaussian_derivative(
        maps, sigma=sigma, orders=orders, axes=(-3, -2)
      )
      return np.asarray(out)[inside]

    first, second, mixed = derive((0, 1)), derive((0, 2)), derive((1, 1))
    np.testing.assert_allclose(first[..., 0], 0.0, atol=1e-4)
    np.testing.assert_allclose(first[..., 1], 2.0, atol=1e-3)
    np.testing.assert_allclose(first[..., 2], x[inside], rtol=1e-3)
    np.testing.assert_allclose(second[..., 1], 0.0, atol=2e-3)
    np.testing.assert_allclose(second[..., 2], 1.0, atol=1e-2)
    np.testing.assert_allclose(mixed[..., 3], 1.0, atol=2e-3)

  @chex.variants(with_jit=True, without_jit=True)
  def test_small_maps_are_allowed(self):
    f = self.variant(
      lambda m: ops.gaussian_derivative(m, sigma=5.0, orders=(0, 1))
    )
    out = f(jnp.arange(35.0).reshape(5, 7))
    self.assertEqual(out.shape, (5, 7))
    chex.assert_tree_all_finite(out)

  def test_errors(self):
    image = jnp.ones((9, 9))
    with self.assertRaisesRegex(ValueError, "gaussian_derivative: `orders`"):
      ops.gaussian_derivative(image, sigma=1.0, orders=(0, 3))
    with self.assertRaisesRegex(ValueError, "gaussian_derivative: `sigma`"):
      ops.gaussian_derivative(image, sigma=0.0, orders=(0, 1))


class LaplacianTest(chex.TestCase):
  @parameterized.parameters(2.0, 4.0)
  def test_a_blob_answers_strongest_at_its_own_scale(self, sigma):
    image = jnp.asarray(_blob(sigma), jnp.float32)
    scales = sigma * np.linspace(0.9, 1.1, 21)
    response = [
      -float(ops.laplacian_of_gaussian(image, sigma=s)[60, 60]) for s in scales
    ]
    best = scales[int(np.argmax(response))]
    self.assertLess(abs(best / sigma - 1), 0.02)
    self.assertAlmostEqual(max(response), 0.5, delta=0.01)


class DifferenceOfGaussiansTest(chex.TestCase):
  def test_levels_are_differences_of_blurred_images(self):
    image = np.random.default_rng(1).standard_normal((90, 100))
    stack, scales = ops.difference_of_gaussians(
      jnp.asarray(image, jnp.float32), octaves=2
    )
    self.assertEqual(stack.shape, (8, 90, 100))
    np.testing.assert_allclose(scales, 1.6 * 2 ** (np.arange(8) / 3), rtol=1e-6)
    for level in (0, 3, 7):
      small, large = (
        ndimage.gaussian_filter(image, s, mode="mirror", truncate=6)
        for s in (scales[level], scales[level] * 2 ** (1 / 3))
      )
      np.testing.assert_allclose(stack[level], large - small, atol=0.01)

  @parameterized.parameters((3.0, (50, 60)), (6.0, (64, 58)))
  def test_a_blob_is_an_extremum_at_its_place_and_scale(self, sigma, centre):
    image = jnp.asarray(_blob(sigma, centre=centre), jnp.float32)
    stack, scales = jax.jit(ops.difference_of_gaussians)(image)
    found = np.argwhere(ops.scale_space_extrema(stack, threshold=0.02))
    self.assertLen(found, 1)
    level, y, x = found[0]
    self.assertEqual((y, x), centre)
    # G(k s) - G(s) of a blob is largest at s = sigma / sqrt(k).
    self.assertLess(
      abs(np.log2(scales[level] * 2 ** (1 / 6) / sigma)), 1 / 6 + 1e-3
    )

  def test_extrema_equal_a_brute_force_search(self):
    stack = np.random.default_rng(2).standard_normal((4, 9, 11))
    stack = stack.astype(np.float32)
    found = np.asarray(jax.jit(ops.scale_space_extrema)(jnp.asarray(stack)))
    expected = np.zeros_like(found)
    for s in range(1, 3):
      for y in range(1, 8):
        for x in range(1, 10):
          cube = stack[s - 1 : s + 2, y - 1 : y + 2, x - 1 : x + 2].ravel()
          others = np.delete(cube, 13)
          v = stack[s, y, x]
          expected[s, y, x] = v > others.max() or v < others.min()
    np.testing.assert_array_equal(found, expected)
    self.assertGreater(expected.sum(), 3)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "difference_of_gaussians: `image`"):
      ops.difference_of_gaussians(jnp.ones((9, 9, 3)))
    with self.assertRaisesRegex(ValueError, "must be positive"):
      ops.difference_of_gaussians(jnp.ones((9, 9)), sigma=0.0)
    with self.assertRaisesRegex(ValueError, "scale_space_extrema: `stack`"):
      ops.scale_space_extrema(jnp.ones((9, 9)))
