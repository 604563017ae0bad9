"""Tests of pictures under affine maps."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data.resampling import axis_matrix, resample


def _turned(angle, scale, offset):
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  return np.array([[cos, -sin, offset[0]], [sin, cos, offset[1]], [0, 0, 1.0]])


def _bilinear(pixels, matrix, size, fill):
  """A loop over output pixels, in float64."""
  height, width = pixels.shape[:2]
  padded = np.full((height + 2, width + 2, *pixels.shape[2:]), float(fill))
  padded[1:-1, 1:-1] = pixels
  out = np.full((*size, *pixels.shape[2:]), float(fill))
  for v in range(size[0]):
    for u in range(size[1]):
      x, y, _ = matrix @ (u, v, 1)
      if not (-1 < x < width and -1 < y < height):
        continue
      i, j = int(np.floor(x)), int(np.floor(y))
      a, b = x - i, y - j
      block = padded[j + 1 : j + 3, i + 1 : i + 3]
      out[v, u] = (1 - b) * ((1 - a) * block[0, 0] + a * block[0, 1]) + b * (
        (1 - a) * block[1, 0] + a * block[1, 1]
      )
  return out


class ResampleTest(parameterized.TestCase):
  @parameterized.product(
    dtype=(np.uint8, np.float32), channels=((), (1,), (3,)), fill=(0, 90)
  )
  def test_bilinear_against_a_loop(self, dtype, channels, fill):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0, 255, (17, 24, *channels)).astype(dtype)
    matrix = _turned(0.4, 0.8, (3.3, -2.1))
    drawn = resample(pixels, matrix, (19, 15), fill=fill)
    self.assertEqual(drawn.dtype, dtype)
    expected = _bilinear(pixels, matrix, (19, 15), fill)
    self.assertGreater((expected != fill).mean(), 0.5)
    # OpenCV rounds positions to 1/32 of a pixel.
    np.testing.assert_allclose(drawn, expected, atol=255 / 32 + 1)
    self.assertLess(np.abs(drawn - expected).mean(), 2)

  def test_ramps_show_no_shift(self):
    y, x = np.mgrid[:40, :60].astype(np.float32)
    for matrix in (
      _turned(0.3, 0.9, (12, 3)),
      _turned(0, 1.0, (5.37, 4.81)),
      axis_matrix((0.7, 0.6), (5.3, 4.7)),
      axis_matrix((2, 3), (0, 0)),
      axis_matrix((1.7, 1.4), (2.2, 3.9)),
    ):
      u, v = np.meshgrid(np.arange(18), np.arange(12))
      for ramp, row in ((x, 0), (y, 1)):
        expected = matrix[row, 0] * u + matrix[row, 1] * v + matrix[row, 2]
        drawn = resample(ramp, matrix, (12, 18))
        # Areas of broken pixels are not quite even.
        np.testing.assert_allclose(drawn, expected, atol=0.1)
        np.testing.assert_allclose((drawn - expected).mean(), 0, atol=0.02)

  @parameterized.parameters(0.35, 0.0)
  def test_nearest_against_a_loop(self, angle):
    labels = np.random.default_rng(1).integers(0, 250, (13, 22), np.uint8)
    matrix = _turned(angle, 1.3, (2.2, -3.4))
    drawn = resample(labels, matrix, (11, 17), fill=255, nearest=True)
    expected = np.full((11, 17), 255)
    for v in range(11):
      for u in range(17):
        x, y, _ = np.floor(matrix @ (u, v, 1) + 0.5).astype(int)
        if 0 <= x < 22 and 0 <= y < 13:
          expected[v, u] = labels[y, x]
    self.assertBetween((expected == 255).mean(), 0.05, 0.6)
    np.testing.assert_array_equal(drawn, expected)

  def test_whole_windows_are_blocks_and_borders(self):
    pixels = np.random.default_rng(2).integers(0, 256, (12, 18, 3), np.uint8)
    # Blocks of 3 x 2 pixels; one column and two rows of border before them.
    matrix = axis_matrix((3, 2), (-3, -4))
    drawn = resample(pixels, matrix, (7, 9), fill=7)
    expected = np.full((7, 9, 3), 7.0)
    expected[2:, 1:7] = pixels[:10].reshape(5, 2, 6, 3, 3).mean((1, 3))
    np.testing.assert_allclose(drawn, expected, atol=0.51)

  def test_whole_windows_nearest(self):
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    bigger = resample(
      labels, axis_matrix((0.5, 1 / 3), (0, 0)), (12, 12), nearest=True
    )
    np.testing.assert_array_equal(bigger, labels.repeat(3, 0).repeat(2, 1))
    smaller = resample(
      labels, axis_matrix((3, 2), (0, 0)), (2, 2), nearest=True
    )
    np.testing.assert_array_equal(smaller, labels[1::2, 1::3])

  def test_identity_and_whole_shifts_are_exact(self):
    pixels = np.random.default_rng(3).random((9, 14, 3)).astype(np.float32)
    np.testing.assert_array_equal(resample(pixels, np.eye(3), (9, 14)), pixels)
    shifted = resample(pixels, axis_matrix((1, 1), (4, -2)), (9, 14), fill=0.5)
    np.testing.assert_array_equal(shifted[2:, :10], pixels[:7, 4:])
    self.assertTrue(
      (shifted[:2] == 0.5).all() and (shifted[:, 10:] == 0.5).all()
    )

  def test_a_quarter_turn_is_exact(self):
    pixels = np.random.default_rng(4).integers(0, 256, (6, 9, 3), np.uint8)
    matrix = np.array([[0, 1.0, 0], [-1, 0, 5], [0, 0, 1]])
    np.testing.assert_array_equal(
      resample(pixels, matrix, (9, 6)), np.rot90(pixels, -1)
    )

  def test_no_pixel_outside(self):
    drawn = resample(
      np.ones((4, 5, 3), np.uint8), axis_matrix((1, 1), (50, 0)), (3, 3), fill=9
    )
    np.testing.assert_array_equal(drawn, np.full((3, 3, 3), 9))

  @parameterized.parameters(0.0, 0.5)
  def test_fine_patterns_do_not_alias(self, angle):
    stripes = np.zeros((120, 160), np.float32)
    stripes[:, ::2] = 1
    matrix = _turned(angle, 3.05, (60, 5) if angle else (3.3, 4.4))
    drawn = resample(stripes, matrix, (20, 30))
    self.assertLess(drawn.std(), 0.12)
    np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.03)

  def test_fill_per_channel(self):
    pixels = np.zeros((4, 5, 3), np.uint8)
    for matrix in (axis_matrix((1, 1), (2, 0)), _turned(0.5, 1, (20, 20))):
      drawn = resample(pixels, matrix, (4, 5), fill=(1, 2, 3))
      np.testing.assert_array_equal(drawn[-1, -1], [1, 2, 3])


class AxisMatrixTest(absltest.TestCase):
  def test_is_the_continuous_map(self):
    matrix = axis_matrix((2.5, 0.3), (-4, 7))
    for x, y in ((0.0, 0.0), (3.25, -1.5)):
      moved = matrix @ (x - 0.5, y - 0.5, 1) + 0.5
      np.testing.assert_allclose(moved[:2], (2.5 * x - 4, 0.3 * y + 7))


if __name__ == "__main__":
  absltest.main()
