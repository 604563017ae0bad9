"""Tests of the structure tensor and of corner responses."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import ndimage

from vision_jax import ops


def _image(channels=1, size=(60, 70)):
  noise = np.random.default_rng(0).standard_normal((*size, channels))
  smooth = ndimage.gaussian_filter(noise, (1.5, 1.5, 0), mode="mirror")
  return smooth.astype(np.float32)


class StructureTensorTest(chex.TestCase):
  def test_equals_scipy(self):
    image = _image(3).astype(np.float64)
    axes = {"sigma": 1.0, "mode": "mirror", "truncate": 4.0}
    down, right = (
      np.stack(
        [
          ndimage.gaussian_filter(image[..., c], order=order, **axes)
          for c in range(3)
        ],
        -1,
      )
      for order in ((1, 0), (0, 1))
    )
    ours = ops.structure_tensor(jnp.asarray(image, jnp.float32))
    for values, product in zip(
      ours, (down * down, down * right, right * right), strict=True
    ):
      expected = ndimage.gaussian_filter(
        product.sum(-1), 1.5, mode="mirror", radius=4
      )
      error = np.abs(values - expected).max() / np.abs(expected).max()
      self.assertLess(error, 0.01)  # SciPy's derivative is not rescaled


class HarrisResponseTest(chex.TestCase):
  def test_sobel_equals_the_formula_in_float64(self):
    """Grey image, Sobel / 8, 7 x 7 window of sigma 1, k = 0.04."""
    image = _image()[..., 0].astype(np.float64)
    slope = np.array([-1.0, 0.0, 1.0]) / 8
    smooth = np.array([1.0, 2.0, 1.0])

    def sobel(along, across):
      out = ndimage.correlate1d(image, slope, along, mode="mirror")
      return ndimage.correlate1d(out, smooth, across, mode="mirror")

    def average(m):
      return ndimage.gaussian_filter(m, 1.0, mode="mirror", radius=3)

    gy, gx = sobel(0, 1), sobel(1, 0)
    xx, yy, xy = average(gx * gx), average(gy * gy), average(gx * gy)
    expected = np.maximum(xx * yy - xy**2 - 0.04 * (xx + yy) ** 2, 0.0)
    ours = ops.harris_response(
      jnp.asarray(image, jnp.float32)[..., None],
      measure="harris",
      derivative_sigma=None,
      integration_sigma=1.0,
      normalize=False,
    )
    np.testing.assert_allclose(ours, expected, atol=1e-5 * expected.max())
    self.assertGreater((expected > 0).mean(), 0.2)

  @parameterized.parameters("harmonic", "harris", "min_eigenvalue")
  def test_mixing_channels_by_a_rotation_changes_nothing(self, measure):
    image = _image(6)
    mixing = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    plain, mixed = (
      ops.harris_response(jnp.asarray(x, jnp.float32), measure=measure)
      for x in (image, image @ mixing)
    )
    np.testing.assert_allclose(plain, mixed, atol=1e-4 * float(plain.max()))

  def test_measures_are_functions_of_the_eigenvalues(self):
    image = jnp.asarray(_image(2))
    yy, xy, xx = (
      np.asarray(m, np.float64) for m in ops.structure_tensor(image)
    )
    matrices = np.stack([np.stack([yy, xy], -1), np.stack([xy, xx], -1)], -1)
    low, high = np.moveaxis(np.linalg.eigvalsh(matrices), -1, 0)
    expected = {
      "harmonic": low * high / (low + high),
      "harris": np.maximum(low * high - 0.06 * (low + high) ** 2, 0),
      "min_eigenvalue": low,
    }
    for measure, values in expected.items():
      ours = ops.harris_response(
        image, measure=measure, k=0.06, normalize=False
      )
      np.testing.assert_allclose(ours, values, atol=1e-5 * values.max())

  def test_edges_and_flat_places_do_not_answer(self):
    square = jnp.zeros((60, 60, 1)).at[20:, 20:].set(1.0)
    response = jax.jit(ops.harris_response)(square)
    y, x = divmod(int(response.argmax()), 60)
    self.assertLess(max(abs(y - 20), abs(x - 20)), 2.5)
    self.assertLess(float(response[45, 20]), 1e-3 * float(response.max()))
    flat = jax.jit(ops.harris_response)(jnp.full((20, 20, 2), 0.7))
    np.testing.assert_allclose(flat, 0.0, atol=1e-6)

  @parameterized.parameters("harmonic", "harris", "min_eigenvalue")
  def test_batch_and_derivative(self, measure):
    images = jnp.asarray(np.stack([_image(2), _image(2)[::-1]]))
    f = jax.jit(jax.vmap(lambda x: ops.harris_response(x, measure=measure)))
    np.testing.assert_allclose(
      f(images)[1],
      ops.harris_response(images[1], measure=measure),
      rtol=1e-4,
      atol=1e-6,
    )
    gradient = jax.grad(lambda x: ops.harris_response(x, measure=measure).sum())
    chex.assert_tree_all_finite(gradient(images[0]))
    chex.assert_tree_all_finite(gradient(jnp.zeros_like(images[0])))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "harris_response: `measure`"):
      ops.harris_response(jnp.ones((20, 20, 1)), measure="trace")
    with self.assertRaisesRegex(ValueError, "structure_tensor: `features`"):
      ops.harris_response(jnp.ones((20, 20)))
