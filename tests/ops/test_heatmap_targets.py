"""Targets against their formulas."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


class TargetsTest(parameterized.TestCase):
  @parameterized.parameters(((6, 7),), ((4, 5, 6),))
  def test_gaussian_equals_a_loop(self, size):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 5, (2, 3, len(size))).astype(np.float32)
    got = ops.gaussian_heatmaps(points, size, sigma=1.3)
    self.assertEqual(got.shape, (2, *size, 3))
    for place in np.ndindex(*size):
      square = ((points - np.array(place[::-1])) ** 2).sum(-1)
      np.testing.assert_allclose(
        got[(slice(None), *place)], np.exp(-square / (2 * 1.3**2)), atol=1e-6
      )

  def test_quantized_form_of_simple_baselines(self):
    # Its code: centre int(x + 0.5), a window of 6 sigma + 3 cut at the map.
    got = ops.gaussian_heatmaps(
      jnp.array([[5.6, 2.2]]), (12, 16), sigma=1.0, quantized=True
    )[..., 0]
    expected = np.zeros((12, 16))
    for y in range(12):
      for x in range(16):
        if abs(x - 6) <= 3 and abs(y - 2) <= 3:
          expected[y, x] = np.exp(-((x - 6) ** 2 + (y - 2) ** 2) / 2)
    np.testing.assert_allclose(got, expected, atol=1e-6)

  def test_points_that_are_no_numbers_give_nothing(self):
    points = jnp.array([[np.nan, 1.0], [1.0, np.inf], [1.0, 1.0]])
    for maps in (
      ops.gaussian_heatmaps(points, (3, 3), sigma=1.0),
      ops.one_hot_heatmaps(points, (3, 3)),
    ):
      np.testing.assert_array_equal(maps[..., :2], 0)
      self.assertEqual(float(maps[1, 1, 2]), 1.0)

  def test_one_hot(self):
    points = jnp.array([[0.4, 2.6], [-0.6, 0.0], [3.0, 1.5]])
    maps = ops.one_hot_heatmaps(points, (4, 4))
    expected = np.zeros((4, 4, 3))
    expected[3, 0, 0] = 1
    expected[2, 3, 2] = 1  # a half goes up
    np.testing.assert_array_equal(maps, expected)

  def test_errors(self):
    for f in (
      lambda p, s: ops.gaussian_heatmaps(p, s, sigma=1.0),
      ops.one_hot_heatmaps,
    ):
      with self.assertRaisesRegex(ValueError, "`points` must be"):
        f(jnp.zeros((3, 3)), (4, 4))
      with self.assertRaisesRegex(ValueError, "`size` must be"):
        f(jnp.zeros((3, 2)), (4,))


if __name__ == "__main__":
  absltest.main()
