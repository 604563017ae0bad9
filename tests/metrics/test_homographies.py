"""Tests of the homography scores against loops and counted cases."""

import fractions
import math

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import metrics, ops

_INF = float("inf")


def _loop_warp(h, p):
  x, y = (float(v) for v in p)
  w = h[2][0] * x + h[2][1] * y + h[2][2]
  return (
    (h[0][0] * x + h[0][1] * y + h[0][2]) / w,
    (h[1][0] * x + h[1][1] * y + h[1][2]) / w,
  )


def _random_homography(rng):
  angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.7, 1.4)
  c, s = scale * np.cos(angle), scale * np.sin(angle)
  matrix = np.array(
    [
      [c, -s, rng.uniform(-40, 40)],
      [s, c, rng.uniform(-40, 40)],
      [rng.uniform(-3e-4, 3e-4), rng.uniform(-3e-4, 3e-4), 1.0],
    ]
  )
  return matrix * rng.choice([-2.0, 1.0])  # the factor of a homography is free


class SuperPointRepeatabilityTest(parameterized.TestCase):
  def _loop(self, xy0, xy1, s0, s1, h, size0, size1, limit, threshold):
    """Scalar Python: keep, sort, cut, count in both directions."""
    inverse = np.linalg.inv(h)

    def best(points, scores, matrix, size):
      kept = []
      for row, point in enumerate(points):
        x, y = _loop_warp(matrix, point)
        if 0 <= x < size[1] and 0 <= y < size[0]:
          kept.append((-scores[row], row))
      return [points[row] for _, row in sorted(kept)[:limit]]

    best0 = [_loop_warp(h, p) for p in best(xy0, s0, h, size1)]
    best1 = best(xy1, s1, inverse, size0)
    if not best0 or not best1:
      return 0.0
    found = 0
    for p in best0:
      found += any(math.dist(p, q) <= threshold for q in best1)
    for q in best1:
      found += any(math.dist(p, q) <= threshold for p in best0)
    return found / (len(best0) + len(best1))

  @parameterized.parameters(*range(20))
  def test_equals_the_loop(self, seed):
    rng = np.random.default_rng(seed)
    homography = _random_homography(rng)
    size0, size1 = (120, 200), (150, 170)
    xy0 = rng.random((80, 2)) * [200, 120]
    warped = np.array([_loop_warp(homography, p) for p in xy0])
    near = warped[:50] + rng.normal(0, 2, (50, 2))
    xy1 = np.concatenate([near, rng.random((40, 2)) * [170, 150]])
    scores0 = np.round(rng.random(80), 1)  # ties
    scores1 = np.round(rng.random(90), 1)
    truth = metrics.homography_ground_truth(homography, size0, size1)
    for limit in (10, 300, None):
      for threshold in (1.0, 3.0):
        expected = self._loop(
          xy0, xy1, scores0, scores1, homography, size0, size1, limit, threshold
        )
        got = metrics.superpoint_repeatability(
          xy0,
          xy1,
          scores0,
          scores1,
          truth,
          max_points=limit,
          threshold=threshold,
        )
        self.assertAlmostEqual(got, expected, 12)
    self.assertBetween(got, 0.2, 0.95)  # enough happened

  def _identity(self):
    return metrics.homography_ground_truth(np.eye(3), (48, 64), (48, 64))

  def test_counted_by_hand(self):
    # The shift takes the last point of picture 0 out; the last of picture 1
    # was never in. Left: two points of picture 0 near one of picture 1 (3 and
    # 2 pixels), and one point each without partner (the nearest is 4 away).
    shift = np.array([[1, 0, 10], [0, 1, 0], [0, 0, 1]])
    truth = metrics.homography_ground_truth(shift, (40, 60), (40, 60))
    xy0 = np.array([[17.0, 20], [22, 20], [30, 5], [55, 5]])
    xy1 = np.array([[30.0, 20], [40, 9], [5, 5]])
    got = metrics.superpoint_repeatability(
      xy0, xy1, np.ones(4), np.ones(3), truth
    )
    self.assertEqual(got, (2 + 1) / (3 + 2))
    got = metrics.superpoint_repeatability(
      xy0, xy1, np.ones(4), np.ones(3), truth, threshold=2.999
    )
    self.assertEqual(got, (1 + 1) / (3 + 2))  # the threshold is inclusive
    # One to one, as the other protocol has it.
    self.assertEqual(
      metrics.repeatability(xy0, xy1, truth, threshold=3.0), 1 / 2
    )

  def test_the_cut_comes_after_the_covisibility_test(self):
    shift = np.array([[1, 0, 30], [0, 1, 0], [0, 0, 1]])
    truth = metrics.homography_ground_truth(shift, (40, 60), (40, 60))
    xy0 = np.array([[50.0, 5], [10, 5]])  # the better one leaves the picture
    xy1 = np.array([[40.0, 5]])
    got = metrics.superpoint_repeatability(
      xy0, xy1, np.array([0.9, 0.1]), np.ones(1), truth, max_points=1
    )
    self.assertEqual(got, 1.0)

  def test_best_points_count_and_ties_go_to_the_lowest_row(self):
    xy0 = np.array([[5.0, 5], [20, 5], [40, 5]])
    xy1 = xy0[[2]]
    for scores, expected in (
      ([0.1, 0.2, 0.3], 1.0),
      ([0.3, 0.2, 0.1], 0.0),
      ([0.3, 0.3, 0.3], 0.0),
    ):
      got = metrics.superpoint_repeatability(
        xy0,
        xy1,
        np.array(scores),
        np.ones(1),
        self._identity(),
        max_points=1,
      )
      self.assertEqual(got, expected)

  def test_default_is_300_points_at_3_pixels(self):
    xy0 = np.stack([np.arange(0.0, 400), np.zeros(400)], -1) * 10
    truth = metrics.homography_ground_truth(np.eye(3), (10, 4000), (10, 4000))
    xy1 = xy0 + np.array([0, 3])
    down, up = np.arange(400.0)[::-1], np.arange(400.0)
    self.assertEqual(
      metrics.superpoint_repeatability(xy0, xy1, down, down, truth), 1.0
    )
    # The best 300 from the left and the best 300 from the right share 200.
    self.assertEqual(
      metrics.superpoint_repeatability(xy0, xy1, down, up, truth), 400 / 600
    )
    xy1 = xy0 + np.array([0, 3.001])
    self.assertEqual(
      metrics.superpoint_repeatability(xy0, xy1, up, up, truth), 0.0
    )

  def test_distance_is_measured_in_picture_1(self):
    truth = metrics.homography_ground_truth(
      np.diag([2.0, 2.0, 1.0]), (40, 60), (80, 120)
    )
    xy0, xy1 = np.array([[10.0, 10]]), np.array([[24.0, 20]])
    score = np.ones(1)  # 2 pixels apart in picture 0, 4 in picture 1
    self.assertEqual(
      metrics.superpoint_repeatability(xy0, xy1, score, score, truth), 0.0
    )

  def test_no_points_score_zero(self):
    xy, none = np.array([[5.0, 5]]), np.zeros((0, 2))
    for a, b in ((none, xy), (xy, none), (none, none), (xy, xy + 700)):
      got = metrics.superpoint_repeatability(
        a, b, np.ones(len(a)), np.ones(len(b)), self._identity()
      )
      self.assertEqual(got, 0.0)

  def test_errors_name_the_argument(self):
    xy, one, truth = np.zeros((3, 2)), np.ones(3), self._identity()
    call = metrics.superpoint_repeatability
    with self.assertRaisesRegex(ValueError, "repeatability: `xy1` must be"):
      call(xy, np.zeros((3, 3)), one, one, truth)
    with self.assertRaisesRegex(ValueError, r"`scores0` must be \[3\]"):
      call(xy, xy, np.ones(2), one, truth)
    with self.assertRaisesRegex(ValueError, "`scores1` must be numbers"):
      call(xy, xy, one, one * np.nan, truth)
    with self.assertRaisesRegex(ValueError, "`max_points` must be at least 1"):
      call(xy, xy, one, one, truth, max_points=0)


class HomographyCornerErrorTest(parameterized.TestCase):
  def _truth(self, matrix, size0=(40, 60)):
    return metrics.homography_ground_truth(matrix, size0, (50, 70))

  @parameterized.parameters(*range(20))
  def test_equals_the_loop_in_both_frames(self, seed):
    rng = np.random.default_rng(seed)
    truth, estimate = _random_homography(rng), _random_homography(rng)
    ground_truth = self._truth(truth, (120, 200))

    def mean_distance(a, b, corners):
      return np.mean(
        [math.dist(_loop_warp(a, p), _loop_warp(b, p)) for p in corners]
      )

    self.assertAlmostEqual(
      metrics.homography_corner_error(estimate, ground_truth),
      mean_distance(truth, estimate, [(0, 0), (199, 0), (0, 119), (199, 119)]),
      9,
    )
    # The same matrices in the frame whose origin is the picture's outer corner.
    move = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    back = np.linalg.inv(move)
    self.assertAlmostEqual(
      metrics.homography_corner_error(estimate, ground_truth, corners="edges"),
      mean_distance(
        move @ truth @ back,
        move @ estimate @ back,
        [(0, 0), (200, 0), (0, 120), (200, 120)],
      ),
      9,
    )

  def test_counted_by_hand(self):
    truth = self._truth(np.eye(3))
    scaled = np.diag([2.0, 1.0, 1.0])
    # x doubles: corners move by 0, 0, 59, 59 or by 0.5, 0.5, 59.5, 59.5.
    self.assertEqual(metrics.homography_corner_error(scaled, truth), 29.5)
    self.assertEqual(
      metrics.homography_corner_error(scaled, truth, corners="edges"), 30.0
    )
    tall = np.diag([1.0, 2.0, 1.0])  # width and height are not exchanged
    self.assertEqual(metrics.homography_corner_error(tall, truth), 19.5)

  def test_factor_does_not_matter(self):
    matrix = _random_homography(np.random.default_rng(3))
    truth = self._truth(matrix)
    for factor in (1.0, -3.0, 1e-4):
      error = metrics.homography_corner_error(factor * matrix, truth)
      self.assertLess(error, 1e-9)

  def test_one_way(self):
    truth = self._truth(np.diag([2.0, 2.0, 1.0]))
    shift = np.array([[2.0, 0, 3], [0, 2, 4], [0, 0, 1]])
    # 5 pixels in picture 1, 2.5 in picture 0.
    self.assertAlmostEqual(metrics.homography_corner_error(shift, truth), 5.0)

  def test_failures_are_infinite(self):
    truth = self._truth(np.eye(3))
    flat = np.array([[1.0, 0, 0], [2, 0, 0], [0, 0, 1]])
    horizon = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 59, 0, 1]])  # x = 59
    behind = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 40, 0, 1]])  # x < 40
    broken = np.full((3, 3), np.nan)
    for matrix in (None, flat, horizon, behind, broken, np.zeros((3, 3))):
      with self.subTest(matrix=matrix):
        error = metrics.homography_corner_error(matrix, truth)
        self.assertEqual(error, _INF)

  def test_a_horizon_in_the_truth_is_a_failure_not_a_number(self):
    behind = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 40, 0, 1]])
    error = metrics.homography_corner_error(behind, self._truth(behind))
    self.assertEqual(error, _INF)

  def test_an_estimate_from_matches(self):
    rng = np.random.default_rng(0)
    matrix = _random_homography(rng)
    xy0 = rng.random((60, 2)) * [60, 40]
    xy1 = np.array([_loop_warp(matrix, p) for p in xy0])
    xy1[:20] = rng.random((20, 2)) * [70, 50]
    estimate = ops.estimate_homography(xy0, xy1)
    self.assertTrue(estimate.success)
    error = metrics.homography_corner_error(
      estimate.matrix, self._truth(matrix)
    )
    self.assertLess(error, 0.01)

  def test_errors_name_the_argument(self):
    truth = self._truth(np.eye(3))
    with self.assertRaisesRegex(ValueError, "`corners` must be"):
      metrics.homography_corner_error(np.eye(3), truth, corners="outer")
    with self.assertRaisesRegex(ValueError, "`homography_0to1` must be"):
      metrics.homography_corner_error(np.eye(2), truth)
    stereo = metrics.disparity_ground_truth(np.full((6, 9), np.nan))
    with self.assertRaisesRegex(ValueError, "`ground_truth` must say where"):
      metrics.homography_corner_error(np.eye(3), stereo)


class SummaryTest(parameterized.TestCase):
  def test_reference_case(self):
    errors = np.array([0.5, 2.0, 4.0, _INF])
    np.testing.assert_allclose(
      metrics.homography_auc(errors), [0.1875, 0.375, 0.525], rtol=1e-12
    )
    np.testing.assert_array_equal(
      metrics.homography_accuracy(errors), [0.25, 0.5, 0.75]
    )

  @staticmethod
  def _exact_auc(errors, limit):
    """Trapezoids in exact fractions, one at a time."""
    limit = fractions.Fraction(limit)
    x = y = area = fractions.Fraction(0)
    below = sorted(fractions.Fraction(e) for e in errors if e < limit)
    for rank, error in enumerate(below, 1):
      recall = fractions.Fraction(rank, len(errors))
      area += (error - x) * (y + recall) / 2
      x, y = error, recall
    return float((area + (limit - x) * y) / limit)

  @parameterized.parameters(*range(20))
  def test_equals_the_loop(self, seed):
    rng = np.random.default_rng(seed)
    errors = np.round(rng.exponential(3, size=rng.integers(1, 40)), 1)  # ties
    errors[rng.random(len(errors)) < 0.2] = _INF
    limits = (0.5, 1, 3, 5, 10)
    np.testing.assert_allclose(
      metrics.homography_auc(errors, thresholds=limits),
      [self._exact_auc(errors, limit) for limit in limits],
      rtol=1e-12,
      atol=1e-15,
    )
    np.testing.assert_allclose(
      metrics.homography_accuracy(errors, thresholds=limits),
      [sum(e <= limit for e in errors) / len(errors) for limit in limits],
      rtol=1e-12,
    )

  def test_area_equals_a_fine_sum_over_the_curve(self):
    errors = np.random.default_rng(0).exponential(2, size=30)
    below = np.sort(errors[errors < 3])
    x = (np.arange(300_000) + 0.5) * 1e-5
    curve = np.interp(
      x, np.concatenate([[0], below]), np.arange(len(below) + 1) / 30
    )
    np.testing.assert_allclose(
      metrics.homography_auc(errors, thresholds=(3,)), curve.mean(), atol=1e-6
    )

  def test_accuracy_is_inclusive_and_area_exclusive(self):
    errors = np.array([3.0])
    at, below = 3.0, np.nextafter(3.0, 0)
    limits = (below, at)
    np.testing.assert_array_equal(
      metrics.homography_accuracy(errors, thresholds=limits), [0, 1]
    )
    np.testing.assert_array_equal(
      metrics.homography_auc(errors, thresholds=limits), [0, 0]
    )
    # The curve of one error e runs up to (e, 1): area (t - e / 2) / t.
    np.testing.assert_allclose(
      metrics.homography_auc(errors, thresholds=(6.0,)), 0.75
    )

  def test_extremes(self):
    np.testing.assert_array_equal(metrics.homography_auc(np.zeros(4)), 1)
    np.testing.assert_array_equal(metrics.homography_accuracy(np.zeros(4)), 1)
    failed = np.full(4, _INF)
    np.testing.assert_array_equal(metrics.homography_auc(failed), 0)
    np.testing.assert_array_equal(metrics.homography_accuracy(failed), 0)

  @parameterized.named_parameters(
    ("accuracy", metrics.homography_accuracy), ("auc", metrics.homography_auc)
  )
  def test_errors_name_the_argument(self, function):
    for bad in (np.zeros(0), np.zeros((2, 2)), [np.nan], [-1.0]):
      with self.assertRaisesRegex(
        ValueError, f"{function.__name__}: `errors` must be"
      ):
        function(np.array(bad))
    for bad in ((0,), (1, _INF), 3):
      with self.assertRaisesRegex(ValueError, "`thresholds` must be positive"):
        function(np.ones(2), thresholds=bad)


class ResizedHomographyTest(parameterized.TestCase):
  # Picture 0 grows, picture 1 shrinks: the errors of "diag" add up.
  _SIZES = ((240, 300), (480, 450), (180, 320), (90, 240))

  def _dot(self, size, centre, sigma=4.0):
    """Gaussian dot, drawn at pixel centres."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return np.exp(-square / (2 * sigma**2))

  def _found(self, image):
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()

  @parameterized.parameters((150.0, 120.0), (101.3, 90.7), (180.2, 130.9))
  def test_dots_in_resized_pictures_agree(self, *point):
    homography = np.array([[1.05, -0.1, 12], [0.08, 0.95, -9], [2e-4, 1e-4, 1]])
    size0, new0, size1, new1 = self._SIZES
    pictures = (
      (self._dot(size0, point), new0),
      (self._dot(size1, _loop_warp(homography, point)), new1),
    )
    place0, place1 = (
      self._found(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR))
      for image, size in pictures
    )
    exact = metrics.resized_homography(homography, *self._SIZES)
    self.assertLess(math.dist(_loop_warp(exact, place0), place1), 0.02)
    diag = metrics.resized_homography(
      homography, *self._SIZES, convention="diag"
    )
    self.assertGreater(math.dist(_loop_warp(diag, place0), place1), 0.3)

  def test_diag_scales_coordinates_alone(self):
    rng = np.random.default_rng(0)
    homography = _random_homography(rng)
    size0, new0, size1, new1 = self._SIZES
    got = metrics.resized_homography(
      homography, *self._SIZES, convention="diag"
    )
    for x, y in rng.random((10, 2)) * [300, 240]:
      u, v = _loop_warp(homography, (x, y))
      there = _loop_warp(got, (x * new0[1] / size0[1], y * new0[0] / size0[0]))
      np.testing.assert_allclose(
        there, (u * new1[1] / size1[1], v * new1[0] / size1[0])
      )

  def test_exact_moves_pixel_edges_with_the_picture(self):
    homography = _random_homography(np.random.default_rng(1))
    size0, new0, size1, new1 = self._SIZES
    got = metrics.resized_homography(homography, *self._SIZES)
    for share_x in (0.0, 0.3, 1.0):
      for share_y in (0.0, 0.6, 1.0):  # of the area, from edge to edge
        old = share_x * size0[1] - 0.5, share_y * size0[0] - 0.5
        new = share_x * new0[1] - 0.5, share_y * new0[0] - 0.5
        u, v = _loop_warp(homography, old)
        np.testing.assert_allclose(
          _loop_warp(got, new),
          (
            (u + 0.5) / size1[1] * new1[1] - 0.5,
            (v + 0.5) / size1[0] * new1[0] - 0.5,
          ),
        )

  def test_errors_name_the_argument(self):
    size = (4, 4)
    with self.assertRaisesRegex(ValueError, "`homography_0to1` must be"):
      metrics.resized_homography(np.eye(2), size, size, size, size)
    with self.assertRaisesRegex(ValueError, "`convention` must be"):
      metrics.resized_homography(
        np.eye(3), size, size, size, size, convention="half"
      )


if __name__ == "__main__":
  absltest.main()
