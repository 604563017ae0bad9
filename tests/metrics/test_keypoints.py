"""Tests of the key-point scores against plain loops and counted cases."""

import numpy as np
from absl.testing import absltest, parameterized

from tests.metrics import pairs
from vision_jax import metrics


def _loop_greedy(cost, limit):
  """Sort every pair, accept when both ends are free."""
  order = sorted(
    (cost[i][j], i, j)
    for i in range(len(cost))
    for j in range(len(cost[0]) if len(cost) else 0)
    if cost[i][j] <= limit
  )
  rows, columns, kept = set(), set(), []
  for _, i, j in order:
    if i not in rows and j not in columns:
      rows.add(i)
      columns.add(j)
      kept.append((i, j))
  return kept


def _loop_scores(xy0, xy1, d0, d1, homography, size0, size1, threshold):
  """Repeatability and matching score in scalar Python."""
  inverse = np.linalg.inv(homography)

  def inside(p, size):
    return 0 <= p[0] < size[1] and 0 <= p[1] < size[0]

  kept0 = [
    i
    for i, p in enumerate(xy0)
    if inside(pairs.loop_warp(homography, p), size1)
  ]
  kept1 = [
    j for j, p in enumerate(xy1) if inside(pairs.loop_warp(inverse, p), size0)
  ]
  if not kept0 or not kept1:
    return 0.0, 0.0
  position = [
    [
      sum(
        (a - b) ** 2
        for a, b in zip(
          pairs.loop_warp(homography, xy0[i]), xy1[j], strict=True
        )
      )
      ** 0.5
      for j in kept1
    ]
    for i in kept0
  ]
  descriptor = [
    [
      sum((a - b) ** 2 for a, b in zip(d0[i], d1[j], strict=True)) ** 0.5
      for j in kept1
    ]
    for i in kept0
  ]
  near = _loop_greedy(position, threshold)
  alike = _loop_greedy(descriptor, 10000)
  smaller = min(len(kept0), len(kept1))
  return len(near) / smaller, len(set(near) & set(alike)) / smaller


class GreedyAssignmentTest(parameterized.TestCase):
  @parameterized.product(
    shape=((1, 1), (7, 5), (5, 9), (30, 41)),
    levels=(3, 50, None),
    limit=(0.0, 0.3, 0.8, np.inf),
  )
  def test_equals_the_sorted_loop_in_order(self, shape, levels, limit):
    rng = np.random.default_rng(sum(shape))
    for _ in range(5):
      cost = rng.random(shape)
      if levels:  # many equal costs
        cost = np.round(cost * levels) / levels
      rows, columns = metrics.greedy_assignment(cost, max_cost=limit)
      self.assertEqual(
        list(zip(rows, columns, strict=True)),
        _loop_greedy(cost.tolist(), limit),
      )

  def test_ties_go_to_the_lowest_row_then_column(self):
    rows, columns = metrics.greedy_assignment(np.ones((2, 3)))
    np.testing.assert_array_equal(rows, [0, 1])
    np.testing.assert_array_equal(columns, [0, 1])

  def test_limit_is_inclusive(self):
    cost = np.array([[5.0]])
    self.assertLen(metrics.greedy_assignment(cost, max_cost=5.0)[0], 1)
    cost = np.array([[np.nextafter(5.0, 6.0)]])
    self.assertEmpty(metrics.greedy_assignment(cost, max_cost=5.0)[0])

  def test_greedy_is_not_optimal(self):
    # The cheapest pair is taken although the sum 0 + 10 exceeds 1 + 1.
    rows, columns = metrics.greedy_assignment(np.array([[0.0, 1], [1, 10]]))
    np.testing.assert_array_equal(rows, [0, 1])
    np.testing.assert_array_equal(columns, [0, 1])

  def test_infinite_and_nan_costs_are_never_paired(self):
    cost = np.array([[np.nan, np.inf], [np.inf, 2.0]])
    rows, columns = metrics.greedy_assignment(cost)
    np.testing.assert_array_equal(rows, [1])
    np.testing.assert_array_equal(columns, [1])

  def test_chain_that_resolves_one_pair_per_round(self):
    x = np.cumsum(1 + 0.01 * np.arange(60))
    cost = np.abs(x[0::2][:, None] - x[1::2][None])
    rows, columns = metrics.greedy_assignment(cost)
    self.assertEqual(
      list(zip(rows, columns, strict=True)), _loop_greedy(cost.tolist(), np.inf)
    )

  @parameterized.parameters(((0, 4),), ((4, 0),), ((0, 0),))
  def test_empty(self, shape):
    rows, columns = metrics.greedy_assignment(np.zeros(shape))
    self.assertEqual((rows.shape, columns.shape), ((0,), (0,)))
    self.assertEqual(rows.dtype.kind, "i")

  def test_bad_rank_names_the_argument(self):
    with self.assertRaisesRegex(ValueError, "`cost` must be"):
      metrics.greedy_assignment(np.zeros(3))


class ElfProtocolTest(parameterized.TestCase):
  @parameterized.parameters(*range(20))
  def test_equals_the_loop(self, seed):
    xy0, xy1, d0, d1, homography, size0, size1 = pairs.random_pair(seed)
    truth = metrics.homography_ground_truth(homography, size0, size1)
    for threshold in (1.0, 5.0):
      rep, ms = _loop_scores(
        xy0, xy1, d0, d1, homography, size0, size1, threshold
      )
      self.assertAlmostEqual(
        metrics.repeatability(xy0, xy1, truth, threshold=threshold), rep, 12
      )
      self.assertAlmostEqual(
        metrics.matching_score(xy0, xy1, d0, d1, truth, threshold=threshold),
        ms,
        12,
      )
      if threshold == 5.0:
        self.assertGreater(ms, 0.1)  # enough happened
        self.assertGreater(rep, ms)

  def test_identical_points_score_one(self):
    xy = np.random.default_rng(0).random((500, 2)) * [640, 480]
    d = np.random.default_rng(1).standard_normal((500, 16))
    self.assertEqual(metrics.repeatability(xy, xy, pairs.identity()), 1.0)
    self.assertEqual(
      metrics.matching_score(xy, xy, d, d, pairs.identity()), 1.0
    )

  def test_chance_level_of_uniform_points(self):
    rng = np.random.default_rng(2)
    scores = [
      metrics.repeatability(
        rng.random((500, 2)) * [640, 480],
        rng.random((500, 2)) * [640, 480],
        pairs.identity(),
      )
      for _ in range(40)
    ]
    self.assertBetween(np.mean(scores), 0.118 - 0.02, 0.118 + 0.02)

  def test_chance_level_of_spaced_points(self):
    rng = np.random.default_rng(3)

    def spaced():
      found = np.empty((0, 2))
      while len(found) < 500:
        point = rng.random(2) * [640, 480]
        if (np.abs(found - point).max(1) >= 10).all():
          found = np.vstack([found, point])
      return found

    sets = [spaced() for _ in range(6)]
    scores = [
      metrics.repeatability(sets[i], sets[j], pairs.identity())
      for i in range(6)
      for j in range(i)
    ]
    self.assertBetween(np.mean(scores), 0.139 - 0.02, 0.139 + 0.02)

  def test_counted_by_hand(self):
    # Picture 1 is shifted by 10: point 2 leaves it, point 1 of picture 1 was
    # never in picture 0. One of two pairs is within 5 pixels.
    truth = metrics.homography_ground_truth(
      [[1, 0, 10], [0, 1, 0], [0, 0, 1]], (40, 60), (40, 60)
    )
    xy0 = np.array([[5.0, 5], [30, 20], [55, 5]])
    xy1 = np.array([[18.0, 9], [5, 5], [46, 20]])
    keep0, keep1 = metrics.covisible(xy0, xy1, truth)
    np.testing.assert_array_equal(keep0, [True, True, False])
    np.testing.assert_array_equal(keep1, [True, False, True])
    self.assertEqual(metrics.repeatability(xy0, xy1, truth), 0.5)
    right, wrong = np.eye(3)[[0, 1, 2]], np.eye(3)[[0, 2, 1]]
    self.assertEqual(metrics.matching_score(xy0, xy1, right, wrong, truth), 0.5)
    wrong = np.eye(3)[[1, 2, 0]]  # points 0 and 1 prefer each other's partner
    self.assertEqual(metrics.matching_score(xy0, xy1, right, wrong, truth), 0.0)

  def test_frame_is_half_open(self):
    xy = np.array(
      [[0.0, 0], [639.99, 479.99], [640, 10], [10, 480], [-0.01, 5]]
    )
    keep0, keep1 = metrics.covisible(xy, xy, pairs.identity())
    np.testing.assert_array_equal(keep0, [True, True, False, False, False])
    np.testing.assert_array_equal(keep1, keep0)

  def test_sizes_are_height_then_width(self):
    xy = np.array([[50.0, 10.0]])
    truth = metrics.homography_ground_truth(np.eye(3), (20, 60), (20, 40))
    keep0, keep1 = metrics.covisible(xy, xy, truth)
    self.assertFalse(keep0[0])  # x = 50 is beyond picture 1's width of 40
    self.assertTrue(keep1[0])

  def test_distance_is_measured_in_picture_1(self):
    truth = metrics.homography_ground_truth(
      np.diag([2.0, 2.0, 1.0]), (40, 60), (80, 120)
    )
    xy0, xy1 = np.array([[10.0, 10]]), np.array([[26.0, 20]])
    # 3 pixels apart in picture 0, 6 in picture 1.
    self.assertEqual(metrics.repeatability(xy0, xy1, truth), 0.0)
    self.assertEqual(metrics.repeatability(xy0, xy1, truth, threshold=6.0), 1.0)

  def test_no_points_score_zero(self):
    xy, none = np.array([[5.0, 5]]), np.zeros((0, 2))
    for a, b in ((none, xy), (xy, none), (none, none), (xy, xy + 700)):
      self.assertEqual(metrics.repeatability(a, b, pairs.identity()), 0.0)
      self.assertEqual(
        metrics.matching_score(
          a, b, np.ones((len(a), 4)), np.ones((len(b), 4)), pairs.identity()
        ),
        0.0,
      )

  def test_errors_name_the_argument(self):
    xy, truth = np.zeros((3, 2)), pairs.identity()
    with self.assertRaisesRegex(ValueError, "`xy1` must be .N, 2., got"):
      metrics.repeatability(xy, np.zeros((3, 3)), truth)
    with self.assertRaisesRegex(ValueError, "`xy0` must be finite"):
      metrics.repeatability(np.full((3, 2), np.nan), xy, truth)
    with self.assertRaisesRegex(ValueError, "`descriptors0` must be .3, D."):
      metrics.matching_score(xy, xy, np.zeros((2, 4)), np.zeros((3, 4)), truth)
    with self.assertRaisesRegex(ValueError, "`descriptors1` must be as long"):
      metrics.matching_score(xy, xy, np.zeros((3, 4)), np.zeros((3, 5)), truth)
    with self.assertRaisesRegex(ValueError, "`descriptors1` must be finite"):
      metrics.matching_score(
        xy, xy, np.zeros((3, 4)), np.full((3, 4), np.inf), truth
      )


class MeanMatchingAccuracyTest(parameterized.TestCase):
  @parameterized.parameters(*range(20))
  def test_equals_the_loop(self, seed):
    xy0, xy1, _, _, homography, size0, size1 = pairs.random_pair(seed)
    points0, points1 = xy0[:50], xy1[:50]  # the last ten are wrong
    truth = metrics.homography_ground_truth(homography, size0, size1)
    expected = []
    for threshold in range(1, 11):
      right = 0
      for p, q in zip(points0, points1, strict=True):
        x, y = pairs.loop_warp(homography, p)
        right += (x - q[0]) ** 2 + (y - q[1]) ** 2 <= threshold**2
      expected.append(right / 50)
    np.testing.assert_allclose(
      metrics.mean_matching_accuracy(points0, points1, truth), expected
    )
    self.assertGreater(expected[-1], expected[0])

  def test_four_matches_by_hand(self):
    # Errors 0.5, 3.0, 3.0001 and infinite (the point is behind the camera).
    homography = np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1.0]])
    truth = metrics.homography_ground_truth(homography, (40, 60), (40, 60))
    points0 = np.array([[0.0, 5], [0, 10], [0, 15], [55, 20]])
    points1 = np.array([[0.5, 5], [0, 13], [3.0001, 15], [20, 20]])
    got = metrics.mean_matching_accuracy(
      points0, points1, truth, thresholds=(0.4, 0.5, 3, 3.01, 1e6)
    )
    np.testing.assert_array_equal(got, [0.0, 0.25, 0.5, 0.75, 0.75])

  def test_default_thresholds_are_1_to_10(self):
    xy = np.zeros((10, 2)) + 100
    moved = xy + np.arange(1.0, 11.0)[:, None] * [1, 0]
    got = metrics.mean_matching_accuracy(xy, moved, pairs.identity())
    np.testing.assert_allclose(got, np.arange(1, 11) / 10)

  def test_no_matches_count_zero(self):
    none = np.zeros((0, 2))
    got = metrics.mean_matching_accuracy(none, none, pairs.identity())
    np.testing.assert_array_equal(got, np.zeros(10))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "one row per match"):
      metrics.mean_matching_accuracy(
        np.zeros((2, 2)), np.zeros((3, 2)), pairs.identity()
      )


if __name__ == "__main__":
  absltest.main()
