"""Thin-plate splines: what defines them, and SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.interpolate
from absl.testing import absltest

from vision_jax import ops


def _apply(values, control, points):
  spline = ops.thin_plate_spline(control, values)
  return ops.apply_thin_plate_spline(spline, control, points)


class ThinPlateSplineTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.control = ops.control_lattice(4)
    self.values = (self.control + rng.normal(scale=0.2, size=(16, 2))).astype(
      np.float32
    )
    self.points = rng.uniform(-1.5, 1.5, (50, 2)).astype(np.float32)

  def test_equals_scipy(self):
    expected = scipy.interpolate.RBFInterpolator(
      self.control, self.values, kernel="thin_plate_spline", degree=1
    )(self.points)
    got = _apply(self.values, self.control, self.points)
    np.testing.assert_allclose(got, expected, atol=1e-4)

  def test_interpolates_and_its_weights_are_balanced(self):
    got = _apply(self.values, self.control, self.control.astype(np.float32))
    np.testing.assert_allclose(got, self.values, atol=1e-4)
    weights, _ = ops.thin_plate_spline(self.control, self.values)
    np.testing.assert_allclose(weights.sum(0), 0, atol=1e-4)
    np.testing.assert_allclose(weights.T @ self.control, 0, atol=1e-4)

  def test_reproduces_affine_maps(self):
    linear, shift = np.array([[1.2, 0.3], [-0.2, 0.8]]), np.array([0.1, -0.4])
    values = (self.control @ linear.T + shift).astype(np.float32)
    got = _apply(values, self.control, self.points)
    np.testing.assert_allclose(got, self.points @ linear.T + shift, atol=1e-5)

  def test_derivatives_are_finite_on_a_control_point(self):
    control = self.control

    def f(values, points):
      return _apply(values, control, points).sum()

    points = jnp.asarray(control[:3], jnp.float32)
    for slope in jax.grad(f, argnums=(0, 1))(jnp.asarray(self.values), points):
      self.assertTrue(np.isfinite(slope).all())

  def test_bad_control_points(self):
    line = np.stack([np.arange(5.0), np.arange(5.0)], -1)
    twice = np.array([[0.0, 0], [1, 0], [0, 1], [0, 1]])
    for control in (line, twice):
      with self.assertRaisesRegex(ValueError, "singular"):
        ops.thin_plate_spline(control, np.zeros((len(control), 2)))
    with self.assertRaisesRegex(ValueError, "`control` must be"):
      ops.thin_plate_spline(np.zeros((2, 2)), np.zeros((2, 2)))
    with self.assertRaisesRegex(ValueError, "`values` must be"):
      ops.thin_plate_spline(self.control, np.zeros((5, 2)))
    with self.assertRaisesRegex(ValueError, "at least 2"):
      ops.control_lattice(1)
    with self.assertRaisesRegex(ValueError, r"`points` must be \[N, 2\]"):
      _apply(self.values, self.control, jnp.zeros((2, 3)))


class ThinPlateGridTest(absltest.TestCase):
  def test_the_lattice_itself_is_the_identity(self):
    for align_corners in (False, True):
      grid = ops.thin_plate_grid(
        ops.control_lattice(4), (5, 7), align_corners=align_corners
      )
      expected = ops.affine_grid(
        jnp.eye(2, 3), (5, 7), align_corners=align_corners
      )
      np.testing.assert_allclose(grid, expected, atol=1e-5)

  def test_batches_and_the_place_of_a_control_point(self):
    rng = np.random.default_rng(1)
    values = ops.control_lattice(4) + rng.normal(scale=0.1, size=(3, 16, 2))
    grid = ops.thin_plate_grid(values, (4, 4), align_corners=True)
    self.assertEqual(grid.shape, (3, 4, 4, 2))
    np.testing.assert_allclose(
      grid.reshape(3, 16, 2), values.astype(np.float32), atol=1e-4
    )
    with self.assertRaisesRegex(ValueError, "`size` must be"):
      ops.thin_plate_grid(values, (4,))


if __name__ == "__main__":
  absltest.main()
