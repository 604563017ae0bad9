import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops

MATRIX = np.array([[1.1, 0.1, 20], [-0.05, 0.9, -7], [2e-4, -1e-4, 1]])


def _warp(matrix, points):
  """One point after the other, float64."""
  result = []
  for x, y in np.asarray(points, np.float64):
    u, v, w = np.asarray(matrix, np.float64) @ [x, y, 1]
    result.append([u / w, v / w])
  return np.array(result).reshape(-1, 2)


def _points(count, seed=0):
  p = np.random.default_rng(seed).uniform([0, 0], [640, 480], (count, 2))
  return p.astype(np.float32)


def _linear_method(points0, points1, weights):
  """Algorithm 4.2 of Hartley and Zisserman, with weights, float64."""
  moved, transforms = [], []
  for p in (points0, points1):
    p = np.asarray(p, np.float64)
    mean = np.average(p, axis=0, weights=weights)
    spread = np.average(((p - mean) ** 2).sum(axis=1), weights=weights)
    s = np.sqrt(2 / spread)
    t = np.array([[s, 0, -s * mean[0]], [0, s, -s * mean[1]], [0, 0, 1]])
    moved.append(np.c_[p, np.ones(len(p))] @ t.T)
    transforms.append(t)
  rows = []
  for a, b, weight in zip(*moved, weights, strict=True):
    cross = np.array([[0, -b[2], b[1]], [b[2], 0, -b[0]]])
    rows += [np.sqrt(weight) * np.kron(line, a) for line in cross]
  h = np.linalg.eigh(np.array(rows).T @ np.array(rows))[1][:, 0]
  matrix = np.linalg.inv(transforms[1]) @ h.reshape(3, 3) @ transforms[0]
  return matrix / matrix[2, 2]


class ApplyHomographyTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_matches_reference(self):
    p = _points(50)
    got = self.variant(ops.apply_homography)(MATRIX, p)
    np.testing.assert_allclose(got, _warp(MATRIX, p), atol=2e-4)

  def test_convention_is_x_then_y_and_from_0_to_1(self):
    matrix = np.float32([[1, 0, 10], [0, 2, 0], [0, 0, 1]])
    got = ops.apply_homography(matrix, jnp.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(got, [[13, 8]])

  def test_scale_and_sign_do_not_matter(self):
    p = _points(20)
    expected = ops.apply_homography(MATRIX, p)
    for factor in (-1, 8, -0.25):
      got = ops.apply_homography(factor * MATRIX, p)
      np.testing.assert_array_equal(got, expected)

  def test_behind_the_horizon(self):
    matrix = np.float32([[1, 0, 0], [0, 1, 0], [0.1, 0, 1]])
    got = ops.apply_homography(matrix, jnp.array([[-20.0, 5.0]]))
    np.testing.assert_allclose(got, [[20, -5]])

  def test_points_on_the_horizon_are_at_infinity(self):
    # 0.1 * 10 and 0.7 * 10 are not exact: w vanishes only to rounding.
    matrix = np.float32([[1, 2, 0], [0, 1, 3], [0.1, -0.7, -1]])
    p = np.float32([[10, 0], [80, 10], [0, 0]])
    got = ops.apply_homography(matrix, p)
    np.testing.assert_array_equal(np.isposinf(got[:2]), np.ones((2, 2), bool))
    np.testing.assert_allclose(got[2], [0, -3])
    zero = ops.apply_homography(np.zeros((3, 3)), p)
    self.assertTrue(np.isposinf(zero).all())
    inside = lambda m, p: jnp.where(  # noqa: E731
      jnp.isfinite(q := ops.apply_homography(m, p)), q, 0
    ).sum()
    gradients = jax.jit(jax.grad(inside, (0, 1)))(matrix, p)
    chex.assert_tree_all_finite(gradients)
    self.assertFalse(gradients[1][:2].any())

  def test_gradient_is_correct(self):
    with jax.enable_x64(True):
      p = _points(4).astype(np.float64) / 100
      matrix = np.array([[1, 0.1, 0.2], [0.1, 0.9, 0], [0.02, -0.01, 1]])
      loss = lambda m, q: (ops.apply_homography(m, q) ** 2).sum()  # noqa: E731
      chex.assert_numerical_grads(jax.jit(loss), (matrix, p), 1)

  def test_vmap_and_broadcasting_equal_the_loop(self):
    matrices = np.stack([MATRIX, MATRIX.T, np.eye(3)]).astype(np.float32)
    p = _points(10).reshape(2, 1, 5, 2)
    apply = jax.jit(ops.apply_homography)
    got = apply(matrices, p)
    self.assertEqual(got.shape, (2, 3, 5, 2))
    mapped = jax.vmap(jax.vmap(apply, (0, None)), (None, 0))(matrices, p[:, 0])
    np.testing.assert_allclose(got, mapped, rtol=1e-6)
    for i in range(2):
      for j in range(3):
        expected = apply(matrices[j], p[i, 0])
        np.testing.assert_allclose(got[i, j], expected, rtol=1e-6)

  def test_empty_and_dtypes(self):
    got = ops.apply_homography(np.eye(3), np.zeros((0, 2)))
    self.assertEqual(got.shape, (0, 2))
    half = jnp.ones((4, 2), jnp.bfloat16)
    self.assertEqual(ops.apply_homography(np.eye(3), half).dtype, jnp.float32)

  def test_errors(self):
    with self.assertRaisesRegex(
      ValueError, r"`matrix` must be \[\.\.\., 3, 3\]"
    ):
      ops.apply_homography(np.eye(2), np.zeros((4, 2)))
    with self.assertRaisesRegex(ValueError, "`points` must be"):
      ops.apply_homography(np.eye(3), np.zeros((4, 3)))
    with self.assertRaisesRegex(ValueError, "`points` must be"):
      ops.apply_homography(np.eye(3), np.zeros(2))


def _fit(points0, points1, weights):
  return ops.homography_from_points(points0, points1, weights=weights)


_jitted_fit = jax.jit(_fit)
_jitted_gradient = jax.jit(
  jax.value_and_grad(lambda p, q, w: _fit(p, q, w).sum(), (0, 1, 2))
)


class HomographyFromPointsTest(chex.TestCase):
  @parameterized.parameters((4, True), (60, True), (5, False))
  def test_exact_points_are_recovered(self, count, jitted):
    p = _points(60)[:count]
    fit = ops.homography_from_points
    matrix = (jax.jit(fit) if jitted else fit)(
      p, _warp(MATRIX, p).astype(np.float32)
    )
    self.assertEqual(matrix[2, 2], 1)
    np.testing.assert_allclose(_warp(matrix, p), _warp(MATRIX, p), atol=1e-3)

  @parameterized.parameters(False, True)
  def test_noisy_points_match_reference(self, weighted):
    p = _points(30)
    rng = np.random.default_rng(1)
    q = (_warp(MATRIX, p) + rng.normal(0, 5, p.shape)).astype(np.float32)
    weights = rng.uniform(0.1, 4, 30) if weighted else np.ones(30)
    expected = _linear_method(p, q, weights)
    got = jax.jit(_fit)(p, q, weights if weighted else None)
    np.testing.assert_allclose(_warp(got, p), _warp(expected, p), atol=5e-3)
    with jax.enable_x64(True):
      got = _jitted_fit(p.astype(float), q.astype(float), weights)
      np.testing.assert_allclose(got, expected, rtol=1e-7)

  def test_padding_has_no_influence(self):
    p = _points(20)
    q = _warp(MATRIX, p).astype(np.float32) + _points(20, 3) / 100
    expected = jax.jit(ops.homography_from_points)(p, q)
    valid = np.arange(26) < 20
    for junk in (0, 1e6, np.nan):
      padding = np.full((6, 2), junk, np.float32)
      got = _jitted_fit(
        np.concatenate([p, padding]), np.concatenate([q, padding]), valid
      )
      np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)

  def test_corner_entry_that_vanishes(self):
    # The origin is on the horizon.
    matrix = np.array([[0.0, 1, 5], [1, 0, 2], [0.01, 0.02, 0]])
    p = _points(12) + 10
    q = _warp(matrix, p).astype(np.float32)
    got = jax.jit(ops.homography_from_points)(p, q)
    chex.assert_tree_all_finite(got)
    np.testing.assert_allclose(
      _warp(np.float64(got), p), _warp(matrix, p), rtol=1e-2
    )

  def test_gradient_is_correct(self):
    with jax.enable_x64(True):
      p = _points(6).astype(np.float64) / 100
      q = _warp(np.array([[1, 0.1, 0.2], [0, 0.9, 0], [0.02, 0, 1]]), p)
      q += np.random.default_rng(2).normal(0, 0.05, q.shape)
      weights = np.linspace(0.5, 2, 6)
      fit = lambda *values: _jitted_fit(*values).sum()  # noqa: E731
      _, gradients = _jitted_gradient(p, q, weights)
      for k, values in enumerate((p, q, weights)):
        for index in np.ndindex(*values.shape):
          step = np.zeros_like(values)
          step[index] = 1e-6
          both = []
          for sign in (1, -1):
            moved = [p, q, weights]
            moved[k] = values + sign * step
            both.append(fit(*moved))
          np.testing.assert_allclose(
            gradients[k][index], (both[0] - both[1]) / 2e-6, atol=1e-6
          )

  # With four pairs, and with symmetric ones, singular values coincide.
  @parameterized.parameters("four", "square", "line", "same", "few", "none")
  def test_gradient_is_finite(self, case):
    square = np.float32([[-1, -1], [1, -1], [1, 1], [-1, 1], [0, 0]])
    p = {
      "four": _points(5),
      "square": square,
      "line": np.float32([[1, 2], [2, 4], [3, 6], [4, 8], [5, 10]]),
      "same": np.full((5, 2), 7, np.float32),
    }.get(case, _points(5))
    used = {"four": 4, "few": 3, "none": 0}.get(case, 5)
    weights = (np.arange(5) < used).astype(np.float32)
    value, gradients = _jitted_gradient(p, p + 3, weights)
    chex.assert_tree_all_finite((value, gradients))
    for gradient in gradients:
      self.assertFalse(gradient[used:].any())

  def test_vmap_equals_loop(self):
    p = np.stack([_points(8, seed) for seed in range(3)])
    q = np.stack([_warp(MATRIX, v) for v in p]).astype(np.float32)
    fit = ops.homography_from_points
    got = jax.jit(jax.vmap(fit))(p, q)
    for k in range(3):
      expected = jax.jit(fit)(p[k], q[k])
      np.testing.assert_allclose(got[k], expected, rtol=1e-3, atol=1e-6)

  def test_errors(self):
    p = _points(5)
    with self.assertRaisesRegex(ValueError, "at least 4 rows, got 3"):
      ops.homography_from_points(p[:3], p[:3])
    with self.assertRaisesRegex(ValueError, "`points0` must be"):
      ops.homography_from_points(p[None], p[None])
    with self.assertRaisesRegex(ValueError, "`points1` must be"):
      ops.homography_from_points(p, p[:4])
    with self.assertRaisesRegex(ValueError, r"`weights` must be \[5\]"):
      ops.homography_from_points(p, p, weights=np.ones((5, 1)))


METHODS = ("ransac", "magsac", "lmeds")


class EstimateHomographyTest(chex.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.points0 = _points(80)
    self.points1 = _warp(MATRIX, self.points0) + rng.normal(0, 0.3, (80, 2))
    self.wrong = np.arange(80) < 24
    self.points1[self.wrong] = rng.uniform([0, 0], [640, 480], (24, 2))

  @parameterized.parameters(*METHODS)
  def test_finds_the_inliers(self, method):
    estimate = ops.estimate_homography(
      self.points0, self.points1, method=method
    )
    self.assertTrue(estimate.success)
    self.assertEqual(estimate.inliers.dtype, bool)
    self.assertLess((estimate.inliers == self.wrong).sum(), 4)
    self.assertFalse((estimate.inliers & self.wrong).any())
    corners = np.float32([[0, 0], [639, 0], [639, 479], [0, 479]])
    error = _warp(estimate.matrix, corners) - _warp(MATRIX, corners)
    self.assertLess(np.linalg.norm(error, axis=1).mean(), 1.0)

  @parameterized.parameters(*METHODS)
  def test_is_deterministic(self, method):
    first = ops.estimate_homography(self.points0, self.points1, method=method)
    cv2.setRNGSeed(123)
    second = ops.estimate_homography(self.points0, self.points1, method=method)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    np.testing.assert_array_equal(first.inliers, second.inliers)

  def test_equals_opencv(self):
    cv2.setRNGSeed(0)
    matrix, mask = cv2.findHomography(
      np.float64(self.points0),
      self.points1,
      cv2.RANSAC,
      1.5,
      maxIters=500,
      confidence=0.9,
    )
    estimate = ops.estimate_homography(
      self.points0,
      self.points1,
      threshold=1.5,
      max_iterations=500,
      confidence=0.9,
    )
    np.testing.assert_array_equal(estimate.matrix, matrix)
    np.testing.assert_array_equal(estimate.inliers, mask[:, 0] > 0)

  @parameterized.parameters(*METHODS)
  def test_padding_has_no_influence(self, method):
    expected = ops.estimate_homography(
      self.points0, self.points1, method=method
    )
    # Invalid rows in between, and a pair that is not finite.
    rows = np.sort(np.random.default_rng(1).permutation(100)[:80])
    valid = np.isin(np.arange(100), rows)
    points = np.full((2, 100, 2), 5.0)
    points[0, rows], points[1, rows] = self.points0, self.points1
    broken = np.flatnonzero(~valid)[0]
    valid[broken] = True
    points[1, broken] = np.nan
    got = ops.estimate_homography(*points, valid=valid, method=method)
    np.testing.assert_array_equal(got.matrix, expected.matrix)
    np.testing.assert_array_equal(got.inliers[rows], expected.inliers)
    self.assertEqual(got.inliers.sum(), expected.inliers.sum())

  @parameterized.product(
    method=METHODS,
    case=(
      "empty",
      "three",
      "none_valid",
      "same",
      "line",
      "line_and_one",
      "two",
      "collapsed",
    ),
  )
  def test_degenerate_input_fails_quietly(self, method, case):
    p = _points(10)
    t = np.arange(10.0)[:, None]
    line = t * [3.7, 1.3] + [5, 9]
    points0, points1, valid = {
      "empty": (p[:0], p[:0], None),
      "three": (p[:3], p[:3], None),
      "none_valid": (p, p, np.zeros(10, bool)),
      "same": (0 * p + 5, 0 * p + 7, None),
      "line": (line, line + 3, None),
      "line_and_one": (
        np.append(line, [[1, 90]], 0),
        np.append(line, [[1, 90]], 0) + 3,
        None,
      ),
      "two": (np.tile(p[:2], (5, 1)), np.tile(p[2:4], (5, 1)), None),
      "collapsed": (p, line, None),
    }[case]
    estimate = ops.estimate_homography(
      points0, points1, valid=valid, method=method
    )
    self.assertFalse(estimate.success)
    np.testing.assert_array_equal(estimate.matrix, np.eye(3))
    np.testing.assert_array_equal(
      estimate.inliers, np.zeros(len(points0), bool)
    )

  @parameterized.parameters(*METHODS)
  def test_four_exact_pairs(self, method):
    p = np.float64([[0, 0], [9, 0], [9, 5], [0, 5]])
    estimate = ops.estimate_homography(p, p + 2, method=method)
    self.assertTrue(estimate.success)
    self.assertEqual(estimate.inliers.sum(), 4)
    np.testing.assert_allclose(_warp(estimate.matrix, p), p + 2, atol=1e-9)

  def test_errors(self):
    p = _points(5)
    with self.assertRaisesRegex(ValueError, "`points0` must be"):
      ops.estimate_homography(p[:, :1], p)
    with self.assertRaisesRegex(ValueError, "`points1` must be"):
      ops.estimate_homography(p, p[:4])
    with self.assertRaisesRegex(ValueError, r"`valid` must be \[5\]"):
      ops.estimate_homography(p, p, valid=np.ones(4, bool))
    with self.assertRaisesRegex(ValueError, "`method` must be .*'usac'"):
      ops.estimate_homography(p, p, method="usac")
    for bad in (
      {"threshold": 0},
      {"max_iterations": 0},
      {"confidence": 1.0},
      {"threshold": np.nan},
    ):
      with self.assertRaisesRegex(ValueError, "must be positive"):
        ops.estimate_homography(p, p, **bad)
