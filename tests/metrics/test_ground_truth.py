"""Tests of the ground truth of pairs."""

import numpy as np
from absl.testing import absltest

from tests.metrics import pairs
from vision_jax import data, metrics


class HomographyGroundTruthTest(absltest.TestCase):
  def test_warps_are_inverse_and_equal_the_loop(self):
    xy0, _, _, _, homography, size0, size1 = pairs.random_pair(5)
    truth = metrics.homography_ground_truth(homography, size0, size1)
    warped = truth.warp0to1(xy0)
    np.testing.assert_allclose(
      warped, [pairs.loop_warp(homography, p) for p in xy0], rtol=1e-12
    )
    np.testing.assert_allclose(truth.warp1to0(warped), xy0, atol=1e-9)

  def test_points_behind_the_camera_are_infinite(self):
    homography = np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]])  # x < 50
    truth = metrics.homography_ground_truth(homography, (40, 60), (40, 60))
    warped = truth.warp0to1(np.array([[49.0, 5], [50, 5], [51, 5]]))
    np.testing.assert_array_equal(
      np.isfinite(warped).all(1), [True, False, False]
    )

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "must be .3, 3., got"):
      metrics.homography_ground_truth(np.eye(2), pairs.SIZE, pairs.SIZE)
    for bad in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
      with self.assertRaisesRegex(ValueError, "finite and invertible"):
        metrics.homography_ground_truth(bad, pairs.SIZE, pairs.SIZE)


class DisparityGroundTruthTest(absltest.TestCase):
  def _scene(self):
    """A wall at disparity 2, a post at disparity 6, some pixels unknown."""
    disparity = np.full((6, 40), 2.0, np.float32)
    disparity[:, 20:26] = 6.0
    disparity[3, 8] = np.nan
    disparity[3, 9] = np.inf
    return disparity

  def test_points_move_left_by_the_disparity(self):
    truth = metrics.disparity_ground_truth(self._scene())
    warped = truth.warp0to1(np.array([[10.0, 1], [22.3, 2], [30, 5.2]]))
    np.testing.assert_allclose(warped, [[8.0, 1], [16.3, 2], [28, 5.2]])
    back = truth.warp1to0(warped)
    np.testing.assert_allclose(back, [[10.0, 1], [22.3, 2], [30, 5.2]])

  def test_unknown_and_hidden_points_are_nan(self):
    truth = metrics.disparity_ground_truth(self._scene())
    # The post covers right columns 14..19, so left wall columns 16..19 are
    # hidden; right columns 18..23 of the wall belong to left 20..25, which
    # shows the post, so 20..23 come from nowhere.
    hidden = np.array([[x, 1.0] for x in range(16, 20)])
    self.assertTrue(np.isnan(truth.warp0to1(hidden)).all())
    nowhere = np.array([[x, 1.0] for x in range(20, 24)])
    self.assertTrue(np.isnan(truth.warp1to0(nowhere)).all())
    unknown = np.array([[8.0, 3], [9.0, 3], [-3, 3], [5, 9]])
    self.assertTrue(np.isnan(truth.warp0to1(unknown)).all())
    keep0, keep1 = metrics.covisible(
      np.concatenate([hidden, unknown]), nowhere, truth
    )
    self.assertFalse(keep0.any())
    self.assertFalse(keep1.any())
    kept = metrics.disparity_ground_truth(
      self._scene(), max_inconsistency=None
    ).warp0to1(hidden)
    np.testing.assert_allclose(kept, hidden - [2.0, 0])

  def test_slanted_surface_has_no_gaps(self):
    x = np.arange(60.0)
    disparity = np.repeat((4 + 0.4 * x)[None], 3, 0)  # right is compressed
    stretched = np.repeat((30 - 0.4 * x)[None], 3, 0)  # right is stretched
    for d, inverse in (
      (disparity, lambda r: (r + 4) / 0.6),
      (stretched, lambda r: (r + 30) / 1.4),
    ):
      truth = metrics.disparity_ground_truth(d)
      right = np.arange(0.0, 18.0)
      got = truth.warp1to0(np.stack([right, np.ones_like(right)], -1))
      np.testing.assert_allclose(got[:, 0], inverse(right), atol=1e-9)

  def test_unknown_truth_is_left_out_of_the_accuracy(self):
    truth = metrics.disparity_ground_truth(self._scene())
    points0 = np.array([[10.0, 1], [11, 1], [8, 3]])
    points1 = np.array([[8.0, 1], [20, 1], [6, 3]])
    np.testing.assert_array_equal(
      metrics.mean_matching_accuracy(points0, points1, truth, thresholds=(3,)),
      [0.5],
    )

  def test_both_directions_agree_on_the_motorcycle(self):
    left, right, disparity = data.stereo_motorcycle()
    truth = metrics.disparity_ground_truth(disparity)
    rng = np.random.default_rng(0)
    xy = np.stack([rng.integers(0, 741, 4000), rng.integers(0, 500, 4000)], -1)
    keep0, _ = metrics.covisible(xy, xy, truth)
    self.assertBetween(keep0.mean(), 0.7, 0.9)
    warped = truth.warp0to1(xy)[keep0]
    back = truth.warp1to0(warped)
    known = np.isfinite(back).all(1)
    self.assertGreater(known.mean(), 0.9)
    self.assertLess(np.abs(back - xy[keep0])[known].max(), 1.01)
    # What the truth calls one point looks alike in both pictures.
    column, row = np.rint(warped).astype(int).T
    seen = np.abs(right[row, column] - left[xy[keep0][:, 1], xy[keep0][:, 0]])
    shuffled = np.abs(
      right[row, column] - left[xy[keep0][::-1, 1], xy[keep0][::-1, 0]]
    )
    self.assertLess(seen.mean(), 0.05)
    self.assertGreater(shuffled.mean(), 0.2)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`disparity` must be .H, W."):
      metrics.disparity_ground_truth(np.zeros((3, 4, 1)))
    with self.assertRaisesRegex(ValueError, "`max_inconsistency` must be"):
      metrics.disparity_ground_truth(np.ones((3, 4)), max_inconsistency=-1)
