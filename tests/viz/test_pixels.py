"""Tests of pictures from arrays."""

import matplotlib
import numpy as np
from absl.testing import parameterized

from vision_jax import viz


class ToPictureTest(parameterized.TestCase):
  @parameterized.parameters((4, 7), (4, 7, 1), (4, 7, 3))
  def test_shapes(self, *shape):
    out = viz.to_picture(np.zeros(shape, np.float32))
    self.assertEqual(out.shape, (4, 7, 3))
    self.assertEqual(out.dtype, np.uint8)

  def test_values_round_and_clip(self):
    values = np.array([[-1.0, 0.0, 1 / 255, 1.49 / 255, 1.51 / 255, 1.0, 9.0]])
    np.testing.assert_array_equal(
      viz.to_picture(values)[0, :, 1], [0, 0, 1, 1, 2, 255, 255]
    )
    odd = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(viz.to_picture(odd)[0, :, 0], [0, 255, 0])

  def test_bytes_are_copied(self):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    out = viz.to_picture(image)
    np.testing.assert_array_equal(out, image)
    out[0, 0] = 99
    self.assertEqual(image[0, 0, 0], 0)

  def test_bad_input(self):
    for shape in ((3,), (2, 3, 4), (0, 3), (2, 3, 3, 3)):
      with self.assertRaisesRegex(ValueError, "`image` must be"):
        viz.to_picture(np.zeros(shape, np.float32))
    with self.assertRaisesRegex(TypeError, "uint8 or float, got int64"):
      viz.to_picture(np.zeros((2, 3), np.int64))


class ColorizeTest(parameterized.TestCase):
  @parameterized.parameters("viridis", "magma", "turbo")
  def test_is_the_table_of_matplotlib(self, name):
    values = np.linspace(-3.0, 5.0, 12).reshape(3, 4)
    table = matplotlib.colormaps[name]
    for row in range(3):
      for column in range(4):
        color = table(float(np.float32((values[row, column] + 3.0) / 8.0)))
        got = viz.colorize(values, colormap=name)[row, column]
        np.testing.assert_allclose(got, 255 * np.array(color[:3]), atol=0.51)

  def test_limits_and_odd_values(self):
    values = np.array([[0.0, 1.0, 2.0, np.nan]])
    grey = viz.colorize(values, colormap="gray", minimum=0.0, maximum=1.0)
    np.testing.assert_array_equal(grey[0, :, 0], [0, 255, 255, 0])
    constant = viz.colorize(np.full((2, 3), 7.0), colormap="gray")
    self.assertEqual(constant.max(), 0)
    self.assertEqual(viz.colorize(np.full((2, 3), np.nan)).shape, (2, 3, 3))

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, "`heatmap` must be"):
      viz.colorize(np.zeros(3))
    with self.assertRaisesRegex(ValueError, "`colormap` must be .*'jetty'"):
      viz.colorize(np.zeros((2, 3)), colormap="jetty")


class OverlayHeatmapTest(parameterized.TestCase):
  def test_zero_map_leaves_the_image(self):
    image = np.random.default_rng(0).random((5, 8, 3)).astype(np.float32)
    out = viz.overlay_heatmap(image, np.zeros((5, 8)))
    np.testing.assert_array_equal(out, viz.to_picture(image))

  def test_blend_is_by_value(self):
    image = np.full((1, 3, 3), 0.5, np.float32)  # 128 of 255
    out = viz.overlay_heatmap(
      image,
      np.array([[0.0, 1.0, 2.0]]),
      alpha=0.5,
      colormap="gray",
      percentile=100.0,
    )
    # Opacity 0, 1/4, 1/2; colour 0, ~128, 255.
    np.testing.assert_allclose(out[0, :, 0], [128, 128, 192], atol=1)
    plain = viz.overlay_heatmap(
      image,
      np.array([[0.0, 1.0, 2.0]]),
      alpha=1.0,
      colormap="gray",
      percentile=100.0,
      fade=False,
    )
    np.testing.assert_allclose(plain[0, :, 0], [0, 128, 255], atol=1)

  def test_a_spike_does_not_darken_the_rest(self):
    heatmap = np.ones((40, 50))
    heatmap[3, 4] = 1e6
    out = viz.overlay_heatmap(
      np.zeros((40, 50)), heatmap, colormap="gray", alpha=1.0
    )
    self.assertEqual(out.min(), 255)

  def test_small_map_covers_the_image(self):
    heatmap = np.array([[0.0, 0.0, 1.0]])
    out = viz.overlay_heatmap(
      np.zeros((4, 12)), heatmap, colormap="gray", percentile=100.0
    )
    self.assertEqual(out.shape, (4, 12, 3))
    self.assertEqual(out[:, :6].max(), 0)
    self.assertGreater(out[:, 10:].min(), 180)

  def test_blur_spreads_and_grey_removes_colour(self):
    image = np.zeros((21, 31, 3), np.float32)
    image[..., 0] = 1.0
    heatmap = np.zeros((21, 31))
    heatmap[10, 12] = 1.0
    plain = viz.overlay_heatmap(image, heatmap, percentile=100.0)
    np.testing.assert_array_equal(plain[10, 14], [255, 0, 0])
    out = viz.overlay_heatmap(
      image, heatmap, percentile=100.0, blur=2.0, grey=True, colormap="gray"
    )
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    self.assertEqual(out[0, 0, 0], 76)  # luma of red
    rows, columns = np.mgrid[:21, :31]
    weights = np.exp(-((columns - 12) ** 2 + (rows - 10) ** 2) / 8.0)
    expected = (1 - 0.85 * weights) * 76 + 0.85 * weights * 255 * weights
    np.testing.assert_allclose(out[..., 0], expected, atol=3)

  def test_bad_input(self):
    image = np.zeros((4, 5))
    with self.assertRaisesRegex(ValueError, "`blur` must be at least 0"):
      viz.overlay_heatmap(image, image, blur=-1.0)
    with self.assertRaisesRegex(ValueError, "`alpha` must be in"):
      viz.overlay_heatmap(image, image, alpha=1.5)
    with self.assertRaisesRegex(ValueError, "`percentile` must be in"):
      viz.overlay_heatmap(image, image, percentile=0.0)
    with self.assertRaisesRegex(ValueError, "`heatmap` must be"):
      viz.overlay_heatmap(image, np.zeros((4, 5, 3)))


class ImageGridTest(parameterized.TestCase):
  def test_places_of_the_pictures(self):
    images = [np.full((3, 4), value) for value in (0.0, 0.2, 0.4)]
    grid = viz.image_grid(images, columns=2, padding=2)
    self.assertEqual(grid.shape, (2 * 3 + 3 * 2, 2 * 4 + 3 * 2, 3))
    np.testing.assert_array_equal(grid[2:5, 2:6], 0)
    np.testing.assert_array_equal(grid[2:5, 8:12], 51)
    np.testing.assert_array_equal(grid[7:10, 2:6], 102)
    np.testing.assert_array_equal(grid[7:10, 8:12], 255)
    np.testing.assert_array_equal(grid[:2], 255)

  def test_smaller_pictures_are_centred(self):
    grid = viz.image_grid(
      [np.zeros((5, 9)), np.zeros((3, 5))], columns=2, padding=0
    )
    dark = np.argwhere(grid[:, 9:, 0] == 0)
    np.testing.assert_array_equal(dark.min(0), [1, 2])
    np.testing.assert_array_equal(dark.max(0), [3, 6])

  def test_titles_take_a_bar_and_are_cut(self):
    images = [np.zeros((10, 60))] * 2
    plain = viz.image_grid(images, columns=2, padding=4)
    titled = viz.image_grid(
      images, columns=2, padding=4, titles=["a", "a long title " * 9]
    )
    self.assertEqual(titled.shape[0], plain.shape[0] + 25)
    bar = titled[:29]
    self.assertLess(bar[:, 4:64].min(), 128)  # some ink
    self.assertLess(bar[:, 68:128].min(), 128)
    np.testing.assert_array_equal(bar[:, 129:], 255)  # none beyond its cell

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, "must not be empty"):
      viz.image_grid([])
    with self.assertRaisesRegex(ValueError, "`titles` must have 1 entries"):
      viz.image_grid([np.zeros((2, 3))], titles=["a", "b"])
