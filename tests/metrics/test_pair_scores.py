"""Tests of the scores of a pair: what enters them, and the means."""

import numpy as np
from absl.testing import absltest, parameterized

from tests.metrics import pairs
from vision_jax import metrics, ops


def _keypoints(xy, descriptors, padding):
  """Key points with rows of padding that would spoil every score."""
  count = len(xy)
  filler = np.full((padding, 2), 7.0)
  rng = np.random.default_rng(count)
  return ops.Keypoints(
    np.concatenate([filler, xy]),
    np.concatenate([np.full(padding, 9.0), rng.random(count)]),
    np.arange(count + padding) >= padding,
    np.concatenate([np.ones((padding, descriptors.shape[1])), descriptors]),
  )


class ScorePairTest(parameterized.TestCase):
  @parameterized.parameters(*range(4))
  def test_padding_does_not_count(self, seed):
    xy0, xy1, d0, d1, matrix, size0, size1 = pairs.random_pair(seed)
    truth = metrics.homography_ground_truth(matrix, size0, size1)
    ends = xy0[:40], xy1[:40]
    plain = metrics.score_pair(
      _keypoints(xy0, d0, 0), _keypoints(xy1, d1, 0), *ends, truth
    )
    padded = metrics.score_pair(
      _keypoints(xy0, d0, 11), _keypoints(xy1, d1, 30), *ends, truth
    )
    self.assertEqual(plain, padded)
    self.assertEqual(plain.num_points, 62.5)
    self.assertEqual(plain.num_matches, 40)
    errors = [
      np.hypot(*np.subtract(pairs.loop_warp(matrix, a), b))
      for a, b in zip(*ends, strict=True)
    ]
    for t, share in enumerate(plain.matching_accuracy, 1):
      self.assertAlmostEqual(share, np.mean(np.array(errors) <= t))

  def test_exact_matches_give_the_homography(self):
    xy0, _, d0, _, matrix, size0, size1 = pairs.random_pair(1)
    truth = metrics.homography_ground_truth(matrix, size0, size1)
    xy1 = truth.warp0to1(xy0)
    k0, k1 = _keypoints(xy0, d0, 2), _keypoints(xy1, d0, 0)
    scores = metrics.score_pair(k0, k1, xy0, xy1, truth)
    self.assertLess(scores.corner_error, 1e-3)
    self.assertEqual(scores.matching_score, 1.0)
    few = metrics.score_pair(k0, k1, xy0[:3], xy1[:3], truth)
    self.assertEqual(few.corner_error, np.inf)
    none = metrics.score_pair(k0, k1, xy0[:0], xy1[:0], truth)
    self.assertEqual(none.matching_accuracy, (0.0,) * 10)

  def test_a_disparity_has_no_homography(self):
    truth = metrics.disparity_ground_truth(np.full((40, 60), 4.0, np.float32))
    xy = np.array([[20.0, 9.0], [30.0, 20.0], [50.0, 31.0], [44.0, 5.0]])
    k0 = _keypoints(xy, np.eye(4), 0)
    k1 = _keypoints(xy - [4.0, 0.0], np.eye(4), 1)
    scores = metrics.score_pair(k0, k1, xy, xy - [4.0, 0.0], truth)
    self.assertEqual(scores.matching_score, 1.0)
    self.assertTrue(np.isnan(scores.corner_error))


class AverageScoresTest(absltest.TestCase):
  def test_counted_by_hand(self):
    base = metrics.PairScores(10.0, 4, 0.5, 0.25, 0.75, (0.1,) * 10, 0.5)
    rows = [
      base,
      base._replace(num_points=20.0, num_matches=7, corner_error=2.0),
      base._replace(matching_score=0.5, corner_error=4.0),
      base._replace(matching_accuracy=(0.5,) * 10, corner_error=np.inf),
    ]
    mean = metrics.average_scores(rows)
    self.assertEqual(mean.num_pairs, 4)
    self.assertEqual(mean.num_points, 12.5)
    self.assertEqual(mean.num_matches, 4.75)
    self.assertEqual(mean.repeatability, 0.5)
    self.assertEqual(mean.matching_score, 0.3125)
    self.assertEqual(mean.superpoint_repeatability, 0.75)
    np.testing.assert_allclose(mean.mma, 0.2)
    self.assertEqual(mean.mha, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(mean.auc, (0.1875, 0.375, 0.525))

  def test_without_homographies_and_without_pairs(self):
    base = metrics.PairScores(10.0, 4, 0.5, 0.25, 0.75, (0.1,) * 10, np.nan)
    self.assertTrue(np.isnan(metrics.average_scores([base]).mha).all())
    with self.assertRaisesRegex(ValueError, "`scores` must not be empty"):
      metrics.average_scores([])


if __name__ == "__main__":
  absltest.main()
