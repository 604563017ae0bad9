"""Warps, crops, patches and reprojection against what they must show."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops
from vision_jax.ops import image_warps


def _picture(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _ramp(height, width):
  """Value 10 y + x at pixel (x, y)."""
  y, x = np.mgrid[:height, :width]
  return (10.0 * y + x)[..., None].astype(np.float32)


class WarpTest(parameterized.TestCase):
  @parameterized.parameters("nearest", "bilinear", "bicubic")
  def test_whole_pixels_move_exactly(self, mode):
    image = _picture(6, 7, 2)
    matrix = np.float32([[1, 0, 2], [0, 1, -1]])
    got = ops.warp(image, matrix, mode=mode)
    expected = np.zeros_like(image)
    expected[1:, :5] = image[:-1, 2:]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(
      ops.warp(image, 3 * np.eye(3), mode=mode), image, atol=1e-5
    )

  def test_volumes(self):
    volume = _picture(3, 4, 5, 1)
    matrix = np.float32([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]])
    got = ops.warp(volume, matrix)
    np.testing.assert_allclose(got[:2, :, :4], volume[1:, :, 1:], atol=1e-6)
    np.testing.assert_array_equal(got[2], 0)

  def test_batches_and_many_matrices(self):
    images = _picture(2, 5, 6, 3)
    matrices = np.tile(np.eye(3, dtype=np.float32)[:2], (2, 4, 1, 1))
    matrices[..., 2] = np.random.default_rng(1).uniform(-1, 1, (2, 4, 2))
    got = ops.warp(images, matrices, (3, 4))
    self.assertEqual(got.shape, (2, 4, 3, 4, 3))
    for b in range(2):
      for k in range(4):
        np.testing.assert_allclose(
          got[b, k], ops.warp(images[b], matrices[b, k], (3, 4)), atol=1e-6
        )

  def test_equals_the_grid_of_torchs_frame(self):
    image = _picture(7, 9, 2)
    rng = np.random.default_rng(2)
    matrix = np.eye(3, dtype=np.float32) + 0.1 * rng.normal(size=(3, 3)).astype(
      np.float32
    )
    matrix[2] = 0, 0, 1
    theta = ops.matrix_to_theta(matrix, (7, 9), (5, 6))
    for padding_mode in ("zeros", "border", "reflection"):
      expected = ops.grid_sample(
        image, ops.affine_grid(theta[:2], (5, 6)), padding_mode=padding_mode
      )
      got = ops.warp(image, matrix, (5, 6), padding_mode=padding_mode)
      np.testing.assert_allclose(got, expected, atol=1e-4)

  def test_homography_equals_reading_point_by_point(self):
    image = _ramp(8, 9)
    matrix = np.float32([[1.1, 0.1, -0.5], [0.05, 0.9, 0.3], [0.01, -0.02, 1]])
    got = ops.warp(image, matrix, (6, 7), padding_mode="border")
    for y in range(6):
      for x in range(7):
        u, v, w = matrix @ [x, y, 1]
        u, v = np.clip(u / w, 0, 8), np.clip(v / w, 0, 7)
        self.assertAlmostEqual(float(got[y, x, 0]), 10 * v + u, delta=1e-3)

  def test_nothing_is_seen_behind_the_horizon(self):
    image = np.ones((4, 4, 1), np.float32)
    matrix = jnp.array([[1.0, 0, 0], [0, 1, 0], [-0.5, 0, 1]])
    for padding_mode in ("zeros", "border"):

      def values(matrix, padding_mode=padding_mode):
        return ops.warp(
          image, matrix, padding_mode=padding_mode, fill_value=7.0
        )

      got = values(matrix)
      np.testing.assert_array_equal(got[:, 2:], 7)  # denominators 0 and below
      np.testing.assert_allclose(got[0, :2, 0], [1, 1], atol=1e-6)
      slope = jax.jacobian(values)(matrix)
      self.assertTrue(np.isfinite(slope).all())
      np.testing.assert_array_equal(slope[:, 2:], 0)
    # The sign decides which half is in front.
    got = ops.warp(image, -matrix, padding_mode="border")
    np.testing.assert_array_equal(got[:, :3], 0)
    np.testing.assert_array_equal(got[:, 3], 1)

  def test_a_matrix_that_is_no_number(self):
    image = np.ones((3, 3, 1), np.float32)
    matrix = np.eye(3, dtype=np.float32)
    matrix[0, 0] = np.nan
    for m in (matrix, matrix[:2]):
      got = jax.jit(ops.warp)(image, m)
      self.assertTrue(np.isnan(got[:, 1:]).all())

  def test_antialiasing(self):
    # Stripes of two pixels vanish in a picture four times smaller.
    x = np.mgrid[:64, :64][1]
    stripes = np.where((x // 2) % 2, 1.0, 0.0)[..., None].astype(np.float32)
    matrix = np.float32([[4.0, 0, 1.5], [0, 4, 1.5]])
    plain = np.asarray(ops.warp(stripes, matrix * [[1, 1, 0.4]], (16, 16)))
    smooth = np.asarray(ops.warp(stripes, matrix, (16, 16), antialias=True))
    inside = np.s_[2:-2, 2:-2]
    self.assertGreater(abs(plain[inside].mean() - 0.5), 0.4)
    np.testing.assert_allclose(smooth[inside], 0.5, atol=1e-5)
    # At the level where pixels are averages of 4 x 4 this is exact.
    picture = _picture(64, 64, 1)
    expected = picture.reshape(16, 4, 16, 4, 1).mean((1, 3))
    got = ops.warp(picture, matrix, (16, 16), antialias=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    # Nothing happens where the output is as fine as the input.
    fine = np.float32([[0.5, 0, 3], [0, 0.5, 4]])
    np.testing.assert_allclose(
      ops.warp(picture, fine, antialias=True),
      ops.warp(picture, fine),
      atol=1e-6,
    )
    self.assertTrue(
      np.isfinite(
        jax.grad(
          lambda m: ops.warp(picture, m, (16, 16), antialias=True).sum()
        )(jnp.asarray(matrix))
      ).all()
    )

  def test_errors(self):
    image = np.zeros((4, 4, 1), np.float32)
    for call, text in (
      (lambda: ops.warp(image, np.eye(2)), "`matrix` must be"),
      (lambda: ops.warp(image, np.eye(3)[None], (2, 2, 2)), "`size` must be 2"),
      (lambda: ops.warp(image, np.eye(3), (0, 2)), "at least 1"),
      (lambda: ops.warp(image[None], np.eye(3)), "begin with the same"),
      (lambda: ops.warp(image, np.eye(3), mode="cubic"), "`mode` must be one"),
      (
        lambda: ops.warp(np.zeros((2, 2, 2, 1)), np.eye(4), antialias=True),
        "`antialias` must be False",
      ),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


class CropTest(parameterized.TestCase):
  def test_reads_where_the_formula_says(self):
    image = _ramp(8, 9)
    box = np.float32([1.3, 2.0, 7.1, 6.4])
    got = ops.crop_and_resize(image, box, (3, 4))
    for i in range(3):
      for j in range(4):
        x = 1.3 + (j + 0.5) * 5.8 / 4 - 0.5
        y = 2.0 + (i + 0.5) * 4.4 / 3 - 0.5
        self.assertAlmostEqual(float(got[i, j, 0]), 10 * y + x, delta=1e-4)

  def test_the_whole_image_is_the_image(self):
    image = _picture(5, 7, 2)
    got = ops.crop_and_resize(image, np.float32([0, 0, 7, 5]), (5, 7))
    np.testing.assert_allclose(got, image, atol=1e-6)
    got = ops.crop_and_resize(
      image, np.float32([0, 0, 6, 4]), (5, 7), align_corners=True
    )
    np.testing.assert_allclose(got, image, atol=1e-5)

  def test_mirrored_outside_and_empty(self):
    image = _ramp(4, 5)
    got = ops.crop_and_resize(image, np.float32([5, 0, 0, 4]), (4, 5))
    np.testing.assert_allclose(got, image[:, ::-1], atol=1e-5)
    got = ops.crop_and_resize(image, np.float32([50, 50, 60, 60]), (2, 2))
    np.testing.assert_array_equal(got, 0)
    got = ops.crop_and_resize(image, np.float32([2.5, 1.5, 2.5, 1.5]), (2, 2))
    np.testing.assert_allclose(got[..., 0], 12.0, atol=1e-5)
    one = ops.crop_and_resize(
      image, np.float32([0, 0, 4, 2]), (1, 1), align_corners=True
    )
    np.testing.assert_allclose(one[0, 0, 0], 12.0, atol=1e-5)

  def test_batches(self):
    images = _picture(2, 6, 6, 3)
    boxes = np.random.default_rng(3).uniform(0, 6, (2, 5, 4)).astype(np.float32)
    got = ops.crop_and_resize(images, boxes, (2, 3))
    self.assertEqual(got.shape, (2, 5, 2, 3, 3))
    np.testing.assert_allclose(
      got[1, 4], ops.crop_and_resize(images[1], boxes[1, 4], (2, 3)), atol=1e-6
    )
    with self.assertRaisesRegex(ValueError, "`boxes` must be"):
      ops.crop_and_resize(images, boxes[..., :3], (2, 2))
    with self.assertRaisesRegex(ValueError, "`size` must be"):
      ops.crop_and_resize(images, boxes, (2, 0))


class PatchTest(parameterized.TestCase):
  def test_samples_of_lift(self):
    # p(u, v) = (x, y) + 6 s [c -s'; s' c] (u, v), u and v in linspace(-1, 1).
    point, s, angle, size = np.array([40.0, 30.0]), 2.0, 0.7, 64
    matrix = ops.patch_matrix(point, 6 * s, size, angle=angle)
    line = np.linspace(-1, 1, size)
    turn = np.array(
      [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    for i, j in ((0, 0), (10, 63), (63, 5)):
      expected = point + 6 * s * turn @ [line[j], line[i]]
      np.testing.assert_allclose(
        np.asarray(matrix) @ [j, i, 1], expected, atol=1e-4
      )

  def test_edges(self):
    matrix = ops.patch_matrix(
      jnp.array([[10.0, 20.0]]), 4.0, 8, align_corners=False
    )
    np.testing.assert_allclose(matrix[0], [[1, 0, 6.5], [0, 1, 16.5]])
    with self.assertRaisesRegex(ValueError, "`size` must be at least 2"):
      ops.patch_matrix(jnp.zeros(2), 1.0, 1)

  def test_a_patch_shows_the_turned_picture(self):
    y, x = np.mgrid[:60, :60]
    picture = np.sin(0.2 * x + 0.1 * y)[..., None].astype(np.float32)
    matrices = ops.patch_matrix(
      jnp.array([[30.0, 28.0], [25.0, 33.0]]),
      8.0,
      17,
      angle=jnp.array([0.5, 2]),
    )
    patches = ops.warp(picture, matrices, (17, 17), antialias=True)
    self.assertEqual(patches.shape, (2, 17, 17, 1))
    # From the middle to the right of the patch is the direction of the angle.
    px, py = 30 + 8 * np.cos(0.5), 28 + 8 * np.sin(0.5)
    self.assertAlmostEqual(
      float(patches[0, 8, 16, 0]), np.sin(0.2 * px + 0.1 * py), delta=0.02
    )


class ReprojectTest(absltest.TestCase):
  def test_a_plane_is_a_homography(self):
    k0 = np.float32([[50, 0, 8], [0, 52, 6], [0, 0, 1]])
    k1 = np.float32([[48, 0, 7], [0, 47, 5], [0, 0, 1]])
    rotation = ops.axis_angle_to_rotation(jnp.array([0.02, -0.1, 0.05]))
    shift = np.float32([0.1, 0.05, -0.1])
    normal, distance = np.float32([0.1, -0.2, 0.97]), 2.0
    y, x = np.mgrid[:12, :16]
    rays = np.linalg.inv(k0) @ np.stack([x, y, np.ones_like(x)], 0).reshape(
      3, -1
    )
    depth = (distance / (normal @ rays)).reshape(12, 16).astype(np.float32)
    points, valid = ops.reproject_depth(depth, k0, k1, rotation, shift)
    self.assertTrue(valid.all())
    matrix = ops.plane_homography(k0, k1, rotation, shift, normal, distance)
    expected, _ = ops.warp_points(matrix, (12, 16))
    np.testing.assert_allclose(points, expected, atol=1e-3)

  def test_behind_a_camera(self):
    k = jnp.diag(jnp.array([10.0, 10.0, 1.0]))
    depth = jnp.array([[2.0, 0.5, -1.0]])

    def points(depth):
      return ops.reproject_depth(
        depth, k, k, jnp.eye(3), jnp.array([0.0, 0, -1.0])
      )

    got, valid = points(depth)
    np.testing.assert_array_equal(valid, [[True, False, False]])
    np.testing.assert_array_equal(got[0, 1:], 0)
    slope = jax.grad(lambda d: points(d)[0].sum())(depth)
    self.assertTrue(np.isfinite(slope).all())
    np.testing.assert_array_equal(slope[0, 1:], 0)
    with self.assertRaisesRegex(ValueError, "`depth` must be"):
      ops.reproject_depth(jnp.zeros(3), k, k, jnp.eye(3), jnp.zeros(3))


class SpacingTest(absltest.TestCase):
  def test_spacing_is_the_larger_step(self):
    matrix = np.float32([[3.0, 0, 0], [0, 5, 0]])
    points, _ = ops.warp_points(matrix, (4, 6))
    np.testing.assert_allclose(image_warps._spacing(points), 5.0)
    points, _ = ops.warp_points(matrix, (1, 6))
    np.testing.assert_allclose(image_warps._spacing(points), 3.0)


if __name__ == "__main__":
  absltest.main()
