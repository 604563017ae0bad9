"""Checks and products of small matrices."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from vision_jax.ops import matrix_tools


class MatrixToolsTest(absltest.TestCase):
  def test_shapes_are_checked_from_the_end(self):
    x = matrix_tools.as_shape("f", "x", np.zeros((5, 2, 3), np.int32), 2, 3)
    self.assertEqual(x.dtype, jnp.float32)
    with self.assertRaisesRegex(ValueError, r"f: `x` must be \[..., 3\], got"):
      matrix_tools.as_shape("f", "x", np.zeros((3, 2)), 3)
    with self.assertRaisesRegex(ValueError, "must be"):
      matrix_tools.as_shape("f", "x", np.zeros(3), 3, 3)

  def test_half_precision_becomes_float32(self):
    self.assertEqual(
      matrix_tools.as_float(jnp.zeros(2, jnp.bfloat16)).dtype, jnp.float32
    )

  def test_stack_broadcasts_entries(self):
    got = matrix_tools.stack_matrix([[jnp.arange(2.0), 1], [0.5, 2]])
    self.assertEqual(got.shape, (2, 2, 2))
    np.testing.assert_array_equal(got[1], [[1, 1], [0.5, 2]])

  def test_map_lattice_equals_a_loop(self):
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(5, 3, 4)).astype(np.float32)
    lines = [jnp.asarray(rng.normal(size=n), jnp.float32) for n in (4, 3, 2)]
    got = matrix_tools.map_lattice(matrix, lines)
    self.assertEqual(got.shape, (5, 2, 3, 4, 3))
    for z, y, x in np.ndindex(2, 3, 4):
      point = [lines[0][x], lines[1][y], lines[2][z], 1.0]
      np.testing.assert_allclose(
        got[:, z, y, x], matrix @ np.array(point), atol=1e-5
      )

  def test_join_and_product(self):
    rng = np.random.default_rng(0)
    linear = rng.normal(size=(4, 2, 2)).astype(np.float32)
    shift = rng.normal(size=(2,)).astype(np.float32)
    joined = matrix_tools.join_affine(jnp.asarray(linear), jnp.asarray(shift))
    self.assertEqual(joined.shape, (4, 3, 3))
    np.testing.assert_array_equal(joined[:, 2], np.tile([0, 0, 1], (4, 1)))
    got = matrix_tools.product(joined, joined[0], joined[1])
    expected = np.asarray(joined) @ np.asarray(joined[0] @ joined[1])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
  absltest.main()
