"""Matrices of warps: senses, corners, planes, and the change of frame."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized
from jax.test_util import check_grads

from vision_jax import ops


def _map(matrix, point):
  x, y, w = np.asarray(matrix, np.float64) @ [*point, 1.0]
  return np.array([x, y]) / w


class SimilarityTest(parameterized.TestCase):
  def test_the_lectures_formula(self):
    angle, shift = 0.3, (2.0, -1.0)
    matrix = ops.similarity_matrix(angle, sense="pull_cw", translation=shift)
    c, s = np.cos(angle), np.sin(angle)
    for m, n in ((0, 0), (3, 5)):
      expected = [c * m + s * n + shift[0], -s * m + c * n + shift[1]]
      np.testing.assert_allclose(_map(matrix, (m, n)), expected, atol=1e-5)

  def test_senses_on_the_screen(self):
    # A bright pixel right of the middle, seen after a quarter turn.
    image = np.zeros((5, 5, 1), np.float32)
    image[2, 4] = 1
    for sense, (row, column) in (("pull_cw", (4, 2)), ("pull_ccw", (0, 2))):
      matrix = ops.similarity_matrix(np.pi / 2, sense=sense, center=(2.0, 2.0))
      turned = ops.warp(image, matrix)
      np.testing.assert_allclose(turned[row, column], 1, atol=1e-5)
      np.testing.assert_allclose(turned.sum(), 1, atol=1e-4)

  def test_the_centre_stays_and_distances_scale(self):
    matrix = ops.similarity_matrix(
      jnp.array([0.2, 1.0]),
      sense="pull_ccw",
      scale=jnp.array([2.0, 0.5]),
      center=(3.0, 4.0),
    )
    self.assertEqual(matrix.shape, (2, 3, 3))
    for k, scale in enumerate((2.0, 0.5)):
      np.testing.assert_allclose(_map(matrix[k], (3, 4)), (3, 4), atol=1e-5)
      away = _map(matrix[k], (6, 8)) - (3, 4)
      np.testing.assert_allclose(np.hypot(*away), 5 * scale, rtol=1e-5)

  def test_the_sense_must_be_named(self):
    with self.assertRaisesRegex(ValueError, "`sense` must be one of pull_ccw"):
      ops.similarity_matrix(0.1, sense="left")
    with self.assertRaisesRegex(ValueError, "`center` must be"):
      ops.similarity_matrix(0.1, sense="pull_cw", center=(1.0, 2.0, 3.0))


class HomographyTest(parameterized.TestCase):
  def test_corners_go_where_they_should(self):
    rng = np.random.default_rng(0)
    source = np.array([[0, 0], [9, 0], [9, 5], [0, 5]], np.float32)
    corners = source + rng.uniform(-1, 1, (7, 4, 2)).astype(np.float32)
    matrices = ops.homography_from_corners(corners, source=source)
    for matrix, wanted in zip(matrices, corners, strict=True):
      for a, b in zip(source, wanted, strict=True):
        np.testing.assert_allclose(_map(matrix, a), b, atol=1e-4)

  def test_agrees_with_the_linear_method(self):
    rng = np.random.default_rng(1)
    source = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    corners = source + rng.uniform(-0.2, 0.2, (4, 2)).astype(np.float32)
    expected = ops.homography_from_points(source, corners)
    got = ops.homography_from_corners(corners)
    np.testing.assert_allclose(got, expected, atol=1e-4)

  def test_derivative_in_both_point_sets(self):
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
      source = jnp.array([[0.0, 0], [9, 0], [9, 5], [0, 5]])
      corners = source + rng.uniform(-1, 1, (4, 2))

      def f(corners, source):
        return ops.homography_from_corners(corners, source=source)

      check_grads(f, (corners, source), order=1, modes=("rev",))

  def test_three_corners_on_a_line_are_not_finite(self):
    line = jnp.array([[0.0, 0], [1, 0], [2, 0], [0, 1]])
    matrix = jax.jit(ops.homography_from_corners)(line[jnp.array([0, 1, 2, 3])])
    source = ops.homography_from_corners(
      jnp.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), source=line
    )
    self.assertTrue(
      not np.isfinite(source).all() or not np.isfinite(matrix).all()
    )

  def test_eight_parameters(self):
    identity = ops.homography_from_parameters(
      jnp.array([1.0, 0, 0, 0, 1, 0, 0, 0])
    )
    np.testing.assert_array_equal(identity, np.eye(3))
    with self.assertRaisesRegex(ValueError, r"must be \[..., 8\]"):
      ops.homography_from_parameters(jnp.zeros(9))

  def test_plane_homography_equals_the_projection_of_points(self):
    rng = np.random.default_rng(3)
    k0 = np.array([[300, 0, 64], [0, 310, 50], [0, 0, 1.0]])
    k1 = np.array([[280, 0, 60], [0, 290, 55], [0, 0, 1.0]])
    rotation = np.asarray(
      ops.axis_angle_to_rotation(jnp.array([0.1, -0.2, 0.05])), np.float64
    )
    shift, normal, distance = np.array([0.3, -0.1, 0.2]), None, 3.0
    normal = np.array([0.1, 0.2, 0.97])
    matrix = ops.plane_homography(k0, k1, rotation, shift, normal, distance)
    for _ in range(5):
      ray = np.array([*rng.uniform(-0.2, 0.2, 2), 1.0])
      point0 = ray * distance / (normal @ ray)
      point1 = rotation @ point0 + shift
      pixel0, pixel1 = (k @ p / p[2] for k, p in ((k0, point0), (k1, point1)))
      np.testing.assert_allclose(
        _map(matrix, pixel0[:2]), pixel1[:2], atol=2e-3
      )


class FrameTest(parameterized.TestCase):
  @parameterized.product(
    align_corners=[False, True],
    sizes=[((5, 8), (3, 4)), ((1, 6), (2, 1)), ((3, 4, 5), (2, 3, 4))],
  )
  def test_theta_reads_where_the_matrix_does(self, align_corners, sizes):
    size_in, size_out = sizes
    dims = len(size_in)
    rng = np.random.default_rng(4)
    matrix = np.eye(dims + 1, dtype=np.float32)
    matrix[:dims] += 0.2 * rng.normal(size=(dims, dims + 1))
    theta = ops.matrix_to_theta(
      matrix, size_in, size_out, align_corners=align_corners
    )
    grid = ops.affine_grid(theta[:dims], size_out, align_corners=align_corners)
    points, valid = ops.warp_points(matrix, size_out)
    self.assertTrue(valid.all())
    sides = np.array(size_in[::-1])
    if align_corners:
      read = (np.asarray(grid) + 1) / 2 * (sides - 1)
      keep = sides > 1  # the only pixel is at 0 whatever the coordinate
      np.testing.assert_allclose(read[..., keep], points[..., keep], atol=1e-4)
    else:
      read = ((np.asarray(grid) + 1) * sides - 1) / 2
      np.testing.assert_allclose(read, points, atol=1e-4)
    back = ops.theta_to_matrix(
      theta, size_in, size_out, align_corners=align_corners
    )
    np.testing.assert_allclose(back, matrix, atol=1e-4)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`matrix` must be"):
      ops.matrix_to_theta(jnp.eye(2), (2, 2), (2, 2))
    with self.assertRaisesRegex(ValueError, "sizes must be 2 numbers"):
      ops.matrix_to_theta(jnp.eye(3), (2, 2), (2, 2, 2))


if __name__ == "__main__":
  absltest.main()
