"""Rotations of space against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest
from scipy.spatial.transform import Rotation

from vision_jax import ops


class RotationTest(absltest.TestCase):
  def test_axis_angle_equals_scipy(self):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 3)) * np.geomspace(1e-9, 3, 20)[:, None]
    with jax.enable_x64(True):
      got = ops.axis_angle_to_rotation(jnp.asarray(vectors))
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(got, expected, atol=1e-12)

  def test_derivative_at_zero(self):
    slope = jax.jacobian(ops.axis_angle_to_rotation)(jnp.zeros(3))
    expected = np.zeros((3, 3, 3))
    for k, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
      expected[i, j, k], expected[j, i, k] = 1, -1
    np.testing.assert_allclose(slope, expected, atol=1e-6)

  def test_quaternion_equals_scipy_at_any_length(self):
    rng = np.random.default_rng(1)
    q = rng.normal(size=(20, 4)).astype(np.float32)
    expected = Rotation.from_quat(q[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(
      ops.quaternion_to_rotation(q), expected, atol=1e-5
    )
    np.testing.assert_allclose(
      ops.quaternion_to_rotation(7 * q), expected, atol=1e-5
    )

  def test_quaternion_zero_is_the_identity(self):
    zero = jnp.zeros(4)
    np.testing.assert_array_equal(ops.quaternion_to_rotation(zero), np.eye(3))
    slope = jax.jacobian(ops.quaternion_to_rotation)(zero)
    self.assertTrue(np.isfinite(slope).all())

  def test_rigid_matrix(self):
    rng = np.random.default_rng(2)
    rotation = Rotation.random(random_state=3).as_matrix().astype(np.float32)
    shift, point = rng.normal(size=(2, 3)).astype(np.float32)
    matrix = ops.rigid_matrix(rotation, shift, scale=1.5)
    np.testing.assert_allclose(
      matrix @ np.append(point, 1),
      [*(1.5 * rotation @ point + shift), 1],
      atol=1e-5,
    )
    with self.assertRaisesRegex(ValueError, "same D"):
      ops.rigid_matrix(jnp.eye(3), jnp.zeros(2))
    for f in (ops.axis_angle_to_rotation, ops.quaternion_to_rotation):
      with self.assertRaisesRegex(ValueError, "must be"):
        f(jnp.zeros(5))


if __name__ == "__main__":
  absltest.main()
