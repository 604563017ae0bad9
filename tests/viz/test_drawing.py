"""Tests of drawn key points and matches."""

import numpy as np
from absl.testing import parameterized

from vision_jax import viz

_GREEN, _RED = (22, 199, 132), (234, 67, 53)


def _coverage_centre(picture, channel):
  """Centre of mass (x, y) of one channel."""
  mass = picture[..., channel].astype(np.float64)
  rows, columns = np.mgrid[: mass.shape[0], : mass.shape[1]]
  return (columns * mass).sum() / mass.sum(), (rows * mass).sum() / mass.sum()


class DrawKeypointsTest(parameterized.TestCase):
  def test_dot_lies_at_x_y(self):
    image = np.full((20, 30), 0.6, np.float32)
    out = viz.draw_keypoints(image, [[11.0, 7.0]], radius=2.0, color=(9, 8, 7))
    np.testing.assert_array_equal(out[7, 11], (9, 8, 7))
    np.testing.assert_array_equal(out[7, 12], (9, 8, 7))
    self.assertLess(out[7, 13, 0], 60)  # the edge over the dark rim
    np.testing.assert_array_equal(out[11, 7], 153)  # not (y, x)
    changed = np.argwhere((out != 153).any(-1))
    np.testing.assert_array_equal(changed.min(0), [4, 8])
    np.testing.assert_array_equal(changed.max(0), [10, 14])

  @parameterized.parameters((8.0, 6.0), (8.5, 6.25), (9.3, 5.8))
  def test_position_is_sub_pixel(self, x, y):
    out = viz.draw_keypoints(
      np.zeros((14, 19)), [[x, y]], radius=2.0, color=(255, 0, 0)
    )
    np.testing.assert_allclose(_coverage_centre(out, 0), (x, y), atol=0.05)

  def test_scores_colour_by_rank_and_the_best_is_on_top(self):
    xy = [[5.0, 5.0], [5.0, 5.0], [14.0, 5.0]]
    image = np.zeros((11, 20))
    first = viz.draw_keypoints(image, xy, scores=[3.0, 1.0, 2.0], radius=2.0)
    second = viz.draw_keypoints(image, xy, scores=[1.0, 9.0, 3.0], radius=2.0)
    np.testing.assert_array_equal(first, second)
    best = viz.colorize([[0.0, 1.0]])[0, 1]
    np.testing.assert_array_equal(first[5, 5], best)
    self.assertTrue((first[5, 14] != best).any())

  def test_invalid_outside_and_non_finite_points_are_left_out(self):
    image = np.full((8, 9), 0.5)
    xy = [[4.0, 4.0], [np.nan, 1.0], [-50.0, 3.0], [100.0, 100.0]]
    out = viz.draw_keypoints(image, xy, valid=[False, True, True, True])
    np.testing.assert_array_equal(out, viz.to_picture(image))
    np.testing.assert_array_equal(
      viz.draw_keypoints(image, []), viz.to_picture(image)
    )
    cut = viz.draw_keypoints(image, [[0.0, 0.0]], radius=2.0)
    self.assertTrue((cut[0, 0] != 128).any())

  def test_bad_input(self):
    image = np.zeros((8, 9))
    with self.assertRaisesRegex(ValueError, r"`xy` must be \[K, 2\]"):
      viz.draw_keypoints(image, np.zeros((3, 3)))
    with self.assertRaisesRegex(ValueError, r"`scores` must be \[3\]"):
      viz.draw_keypoints(image, np.zeros((3, 2)), scores=[1.0])
    with self.assertRaisesRegex(ValueError, r"`valid` must be \[3\]"):
      viz.draw_keypoints(image, np.zeros((3, 2)), valid=[True])


class DrawMatchesTest(parameterized.TestCase):
  def test_layout(self):
    left, right = np.full((9, 12), 0.2), np.full((14, 5), 0.4)
    out = viz.draw_matches(left, right, [], [], gap=3, background=(1, 2, 3))
    self.assertEqual(out.shape, (14, 20, 3))
    np.testing.assert_array_equal(out[:9, :12], 51)
    np.testing.assert_array_equal(out[:, 15:], 102)
    np.testing.assert_array_equal(out[9:, 0], [(1, 2, 3)] * 5)
    np.testing.assert_array_equal(out[0, 12:15], [(1, 2, 3)] * 3)

  def test_line_joins_the_points_in_the_colour_of_its_kind(self):
    image = np.zeros((40, 50))
    out = viz.draw_matches(
      image,
      image,
      [[10.0, 8.0], [10.0, 30.0]],
      [[40.0, 8.0], [40.0, 30.0]],
      inliers=[True, False],
      gap=6,
      alpha=1.0,
      background=(0, 0, 0),
    )
    np.testing.assert_array_equal(out[8, 10], _GREEN)
    np.testing.assert_array_equal(out[8, 56 + 40], _GREEN)
    # Across the gap; OpenCV's strokes cover their centre to 91 %.
    np.testing.assert_allclose(out[8, 50], 0.91 * np.array(_GREEN), atol=2)
    np.testing.assert_array_equal(out[30, 10], _RED)
    faint = out[30, 50].astype(int)
    np.testing.assert_allclose(faint, 0.7 * 0.91 * np.array(_RED), atol=2)
    self.assertEqual(out[14:25].max(), 0)
    self.assertEqual(out[:, :4].max(), 0)

  def test_inliers_are_drawn_over_outliers(self):
    image = np.zeros((20, 20))
    for inliers in ([True, False], [False, True]):
      out = viz.draw_matches(
        image,
        image,
        [[4.0, 9.0], [4.0, 9.0]],
        [[15.0, 9.0], [15.0, 9.0]],
        inliers=inliers,
        alpha=1.0,
      )
      self.assertGreater(out[9, 12, 1], 3 * out[9, 12, 0].astype(int))

  def test_at_most_max_lines_with_an_even_share(self):
    rows = np.arange(5, 95)
    xy = np.stack([np.full(90, 5.0), rows.astype(float)], -1)
    inliers = rows % 2 == 0
    image = np.zeros((100, 20))
    out = viz.draw_matches(
      image,
      image,
      xy[::3],
      xy[::3],
      inliers=inliers[::3],
      max_lines=10,
      alpha=1.0,
    )
    ink = out[:, 14:18].max((1, 2)) > 100  # between the points: lines alone
    self.assertEqual(ink.sum(), 10)
    none = viz.draw_matches(image, image, xy, xy, max_lines=0)
    self.assertEqual(none[:, :20].max(), 0)

  def test_without_inliers_and_with_odd_points(self):
    image = np.zeros((30, 40))
    out = viz.draw_matches(
      image, image, [[5.0, 5.0], [np.nan, 2.0]], [[20.0, 9.0], [3.0, 3.0]]
    )
    self.assertGreater(out[5, 5].max(), 0)
    self.assertEqual(out[20:, :40].max(), 0)

  def test_bad_input(self):
    image = np.zeros((8, 9))
    with self.assertRaisesRegex(ValueError, "`xy1` must have as many rows"):
      viz.draw_matches(image, image, np.zeros((3, 2)), np.zeros((2, 2)))
    with self.assertRaisesRegex(ValueError, r"`inliers` must be \[3\]"):
      viz.draw_matches(
        image, image, np.zeros((3, 2)), np.zeros((3, 2)), inliers=[True]
      )
    with self.assertRaisesRegex(ValueError, "`alpha` must be in"):
      viz.draw_matches(image, image, [], [], alpha=2.0)
    with self.assertRaisesRegex(ValueError, "`max_lines` must be"):
      viz.draw_matches(image, image, [], [], max_lines=-1)
