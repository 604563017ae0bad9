"""Families of warps: against affine_grid, homographies and the identity."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


class TransformGridTest(parameterized.TestCase):
  @parameterized.product(name=list(ops.TRANSFORMS), align_corners=[False, True])
  def test_the_identity_is_the_grid_of_the_image(self, name, align_corners):
    transform = ops.TRANSFORMS[name]
    size = (3, 4, 5)[: transform.num_dims]
    parameters = jnp.array([transform.identity, transform.identity])
    grid = ops.transform_grid(
      name, parameters, size, align_corners=align_corners
    )
    dims = transform.num_dims
    expected = ops.affine_grid(
      jnp.eye(dims, dims + 1), size, align_corners=align_corners
    )
    self.assertEqual(grid.shape, (2, *size, dims))
    np.testing.assert_allclose(grid[1], expected, atol=1e-5)

  def test_affine_families_equal_affine_grid(self):
    rng = np.random.default_rng(0)
    p = rng.normal(size=(7, 6)).astype(np.float32)
    np.testing.assert_allclose(
      ops.transform_grid("affine", p, (4, 5)),
      ops.affine_grid(p.reshape(7, 2, 3), (4, 5)),
      atol=1e-5,
    )
    c, s = np.cos(p[:, 0]), np.sin(p[:, 0])
    theta = np.stack([c, s, p[:, 1], -s, c, p[:, 2]], -1).reshape(7, 2, 3)
    np.testing.assert_allclose(
      ops.transform_grid("rotation_translation", p[:, :3], (4, 5)),
      ops.affine_grid(theta, (4, 5)),
      atol=1e-5,
    )
    zero = np.zeros_like(c)
    theta = [p[:, 0], zero, p[:, 1], zero, p[:, 0], p[:, 2]]
    np.testing.assert_allclose(
      ops.transform_grid("attention", p[:, :3], (4, 5)),
      ops.affine_grid(np.stack(theta, -1).reshape(7, 2, 3), (4, 5)),
      atol=1e-5,
    )
    theta = [p[:, 0], -p[:, 1], p[:, 2], p[:, 1], p[:, 0], p[:, 3]]
    np.testing.assert_allclose(
      ops.transform_grid("similarity", p[:, :4], (4, 5)),
      ops.affine_grid(np.stack(theta, -1).reshape(7, 2, 3), (4, 5)),
      atol=1e-5,
    )
    p = rng.normal(size=(2, 12)).astype(np.float32)
    np.testing.assert_allclose(
      ops.transform_grid("affine3d", p, (2, 3, 4)),
      ops.affine_grid(p.reshape(2, 3, 4), (2, 3, 4)),
      atol=1e-5,
    )

  def test_projective_equals_the_homography(self):
    p = jnp.array([1.1, 0.1, 0.2, -0.1, 0.9, 0.1, 0.3, -0.2])
    grid = ops.transform_grid("projective", p, (5, 6))
    base = ops.affine_grid(jnp.eye(2, 3), (5, 6)).reshape(-1, 2)
    expected = ops.apply_homography(ops.homography_from_parameters(p), base)
    np.testing.assert_allclose(grid.reshape(-1, 2), expected, atol=1e-5)

  def test_behind_the_horizon_is_padding_without_derivative(self):
    image = jnp.ones((4, 4, 1))

    def seen(p):
      grid = ops.transform_grid("projective", p, (4, 4))
      return ops.grid_sample(image, grid)

    p = jnp.array([1.0, 0, 0, 0, 1, 0, -2.0, 0])
    np.testing.assert_array_equal(seen(p)[:, 3], 0)
    slope = jax.jacobian(seen)(p)
    self.assertTrue(np.isfinite(slope).all())
    np.testing.assert_array_equal(slope[:, 3], 0)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "one of rotation_translation"):
      ops.transform_grid("shear", jnp.zeros(3), (2, 2))
    with self.assertRaisesRegex(ValueError, r"must be \[..., 6\]"):
      ops.transform_grid("affine", jnp.zeros(5), (2, 2))
    with self.assertRaisesRegex(ValueError, "`size` must be 3 numbers"):
      ops.transform_grid("affine3d", jnp.zeros(12), (2, 2))


if __name__ == "__main__":
  absltest.main()
