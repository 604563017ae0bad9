"""The soft-argmax family against its definition and known biases."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops
from vision_jax.ops import heatmaps


def _expected(scores, beta):
  """Position by a loop over the cells, float64; scores [H, W] or [D, H, W]."""
  p = np.exp(beta * (scores - scores.max()).astype(np.float64))
  p /= p.sum()
  total = np.zeros(scores.ndim)
  for place in itertools.product(*[range(n) for n in scores.shape]):
    total += p[place] * np.array(place[::-1])
  return total


def _log_gaussian(center, size, sigma):
  y, x = np.mgrid[: size[0], : size[1]]
  square = (x - center[0]) ** 2 + (y - center[1]) ** 2
  return (-square / (2 * sigma**2))[..., None].astype(np.float32)


class SoftArgmaxTest(parameterized.TestCase):
  @parameterized.parameters(((5, 7), 1.0), ((4, 6), 10.0), ((3, 4, 5), 2.0))
  def test_equals_the_loop(self, size, beta):
    scores = np.random.default_rng(0).normal(size=(2, *size, 3))
    got = ops.soft_argmax(
      scores.astype(np.float32), beta=beta, num_dims=len(size)
    )
    self.assertEqual(got.shape, (2, 3, len(size)))
    for b, j in itertools.product(range(2), range(3)):
      np.testing.assert_allclose(
        got[b, j], _expected(scores[b, ..., j], beta), atol=1e-5
      )

  def test_a_separable_volume_is_its_factors(self):
    rng = np.random.default_rng(1)
    lines = [rng.normal(size=n).astype(np.float32) for n in (4, 5, 6)]
    volume = (
      lines[0][:, None, None] + lines[1][None, :, None] + lines[2][None, None]
    )
    got = ops.soft_argmax(volume[..., None], num_dims=3)[0]
    for k, line in enumerate(reversed(lines)):
      alone = ops.soft_argmax(line[None, :, None])[0, 0]
      np.testing.assert_allclose(got[k], alone, atol=1e-5)

  def test_bias_on_a_lattice(self):
    # At most 4 pi s^2 exp(-2 pi^2 s^2), and reached at a quarter of a cell.
    for sigma, bound in ((0.5, 2.3e-2), (0.8, 2.7e-5)):
      worst = 0.0
      for offset in np.linspace(-0.5, 0.5, 21):
        center = (30 + offset, 31.0)
        got = ops.soft_argmax(_log_gaussian(center, (64, 64), sigma))[0]
        worst = max(worst, float(np.abs(got - np.array(center)).max()))
      self.assertLess(worst, bound)
      if sigma == 0.5:
        self.assertGreater(worst, 0.8 * bound)

  def test_pull_of_the_background(self):
    peak = np.zeros((64, 64, 1), np.float32)
    peak[10, 20] = 1
    mass = np.exp(10) / (np.exp(10) + 64 * 64 - 1)
    self.assertAlmostEqual(mass, 0.843, places=3)
    got = ops.soft_argmax(peak, beta=10.0)[0]
    n = 64 * 64
    rest = (31.5 * n - np.array([20, 10])) / (n - 1)
    np.testing.assert_allclose(
      got, mass * np.array([20, 10]) + (1 - mass) * rest, atol=1e-3
    )

  def test_jacobian_and_derivative_in_beta(self):
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
      scores = jnp.asarray(rng.normal(size=(4, 5, 1)))
      beta = 3.0
      p = np.asarray(jax.nn.softmax(beta * scores.ravel())).reshape(4, 5)
      y, x = np.mgrid[:4, :5]
      e = np.array([(p * x).sum(), (p * y).sum()])
      got = jax.jacobian(lambda s: ops.soft_argmax(s, beta=beta)[0])(scores)
      expected = beta * p * (np.stack([x, y]) - e[:, None, None])
      np.testing.assert_allclose(got[..., 0], expected, atol=1e-12)
      np.testing.assert_allclose(got.sum((1, 2, 3)), 0, atol=1e-12)
      slope = jax.jacobian(lambda b: ops.soft_argmax(scores, beta=b)[0])(beta)
      s = np.asarray(scores[..., 0])
      covariance = [
        (p * s * c).sum() - (p * s).sum() * (p * c).sum() for c in (x, y)
      ]
      np.testing.assert_allclose(slope, covariance, atol=1e-12)

  def test_offsets_and_shifts(self):
    base = _log_gaussian((20.3, 21.7), (48, 48), 1.5)
    got = ops.soft_argmax(base)
    np.testing.assert_allclose(ops.soft_argmax(base + 1e4), got, atol=2e-2)
    np.testing.assert_allclose(ops.soft_argmax(base - 1e30), [[23.5, 23.5]])
    moved = np.roll(base, (3, 5), (0, 1))
    np.testing.assert_allclose(
      ops.soft_argmax(moved), got + np.array([[5, 3]]), atol=1e-3
    )

  def test_cells_that_count(self):
    scores = np.zeros((4, 6, 2), np.float32)
    where = np.zeros((4, 6, 2), bool)
    where[1, 2:4, 0] = True
    for variant in (ops.soft_argmax, jax.jit(ops.soft_argmax)):
      got = variant(scores, where=where)
      np.testing.assert_allclose(got, [[2.5, 1], [2.5, 1.5]], atol=1e-6)
    slope = jax.grad(lambda s: ops.soft_argmax(s, where=where).sum())(scores)
    self.assertTrue(np.isfinite(slope).all())
    np.testing.assert_array_equal(slope[..., 1], 0)

  def test_moments(self):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(3, 4, 5, 1)).astype(np.float32)
    mean, covariance = ops.soft_argmax_moments(scores, num_dims=3)
    p = np.exp(scores[..., 0].astype(np.float64))
    p /= p.sum()
    z, y, x = np.mgrid[:3, :4, :5]
    cells = np.stack([x, y, z], -1).reshape(-1, 3)
    expected = np.cov(cells.T, aweights=p.ravel(), ddof=0)
    np.testing.assert_allclose(covariance[0], expected, atol=1e-5)
    np.testing.assert_allclose(mean, ops.soft_argmax(scores, num_dims=3))

  def test_errors(self):
    for call, text in (
      (lambda: ops.soft_argmax(jnp.zeros((3, 3))), r"must be \[..., H, W, J\]"),
      (lambda: ops.soft_argmax(jnp.zeros((0, 3, 1))), "at least one cell"),
      (lambda: ops.soft_argmax(jnp.zeros((3, 3, 1)), num_dims=4), "2 or 3"),
      (
        lambda: ops.local_soft_argmax(jnp.zeros((3, 3, 1)), radius=0),
        "`radius` must be at least 1",
      ),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


class DebiasedTest(parameterized.TestCase):
  @parameterized.parameters(1.0, 10.0, 200.0)
  def test_the_peak_alone(self, beta):
    y, x = np.mgrid[:64, :64]
    square = (x - 12.3) ** 2 + (y - 40.0) ** 2
    scores = np.where(square < 49, np.exp(-square / 8), 0)[..., None]
    p = (
      np.expm1(beta * scores[..., 0])
      if beta < 100
      else np.exp(beta * (scores[..., 0] - scores.max()))
    )
    expected = [(p * x).sum() / p.sum(), (p * y).sum() / p.sum()]
    got = ops.soft_argmax_debiased(scores.astype(np.float32), beta=beta)[0]
    np.testing.assert_allclose(got, expected, atol=1e-3)

  def test_the_case_of_the_literature(self):
    scores = ops.gaussian_heatmaps(
      jnp.array([[12.3, 12.3]]), (64, 64), sigma=2.0
    )
    biased = ops.soft_argmax(scores)
    np.testing.assert_allclose(biased, [[31.35, 31.35]], atol=0.05)
    got = ops.soft_argmax_debiased(scores)
    np.testing.assert_allclose(got, [[12.3, 12.3]], atol=5e-3)
    np.testing.assert_allclose(
      ops.soft_argmax(scores, beta=10.0), [[13.48, 13.48]], atol=0.02
    )

  def test_an_empty_map(self):
    empty = jnp.zeros((6, 8, 1))
    np.testing.assert_array_equal(ops.soft_argmax_debiased(empty), [[3.5, 2.5]])
    slope = jax.grad(lambda s: ops.soft_argmax_debiased(s).sum())(empty)
    self.assertTrue(np.isfinite(slope).all())


class LocalTest(parameterized.TestCase):
  def test_truncation_bias(self):
    for radius, sigma, bound in (
      (2, 0.8, 0.0095),
      (2, 1.0, 0.046),
      (2, 1.5, 0.19),
      (3, 1.0, 0.0035),
      (3, 1.5, 0.064),
    ):
      worst = 0.0
      for offset in np.linspace(-0.45, 0.45, 7):
        center = (30 + offset, 31.0)
        scores = _log_gaussian(center, (64, 64), sigma)
        got = ops.local_soft_argmax(scores, radius=radius)[0]
        worst = max(worst, float(np.abs(got - np.array(center)).max()))
      self.assertLess(worst, bound, (radius, sigma))
      self.assertGreater(worst, 0.3 * bound, (radius, sigma))

  def test_a_window_far_below_another_map(self):
    # Scores 5 and 4 beside each other: the mean is 10 + 1 / (1 + e).
    scores = np.full((21, 21, 1), -1e9, np.float32)
    scores[10, 10], scores[10, 11] = 5, 4
    both = np.concatenate([scores, np.full_like(scores, 0)], -1)
    both[3, 3, 1] = 200
    got = ops.local_soft_argmax(both, radius=2)
    np.testing.assert_allclose(got[0], [10 + 1 / (1 + np.e), 10], atol=1e-5)
    np.testing.assert_allclose(got[1], [3, 3], atol=1e-5)

  def test_at_a_corner_and_in_volumes(self):
    scores = np.zeros((5, 6, 1), np.float32)
    scores[0, 5] = 50
    np.testing.assert_allclose(
      ops.local_soft_argmax(scores, radius=2), [[5, 0]], atol=1e-5
    )
    volume = np.random.default_rng(4).normal(size=(6, 7, 8, 1))
    volume[2, 3, 4] = 5
    got = ops.local_soft_argmax(volume.astype(np.float32), radius=1, num_dims=3)
    window = volume[1:4, 2:5, 3:6, 0]
    np.testing.assert_allclose(
      got[0], _expected(window, 1.0) + np.array([3, 2, 1]), atol=1e-5
    )

  def test_derivative_goes_through_the_window(self):
    rng = np.random.default_rng(5)
    scores = jnp.asarray(rng.normal(size=(9, 9, 1)), jnp.float32)
    scores = scores.at[4, 4].set(6.0)
    slope = jax.grad(lambda s: ops.local_soft_argmax(s, radius=1)[0, 0])(scores)
    outside = np.asarray(slope).copy()
    outside[3:6, 3:6] = 0
    np.testing.assert_array_equal(outside, 0)
    self.assertGreater(np.abs(slope).max(), 1e-4)


class StraightThroughTest(absltest.TestCase):
  def test_value_and_derivative(self):
    rng = np.random.default_rng(6)
    scores = jnp.asarray(rng.normal(size=(5, 6, 2)), jnp.float32)
    got = ops.straight_through_argmax(scores, beta=2.0)
    for j in range(2):
      row, column = np.unravel_index(np.argmax(scores[..., j]), (5, 6))
      np.testing.assert_allclose(got[j], [column, row], atol=1e-5)
    a = jax.jacobian(lambda s: ops.straight_through_argmax(s, beta=2.0))(scores)
    b = jax.jacobian(lambda s: ops.soft_argmax(s, beta=2.0))(scores)
    np.testing.assert_allclose(a, b)


class WindowTest(absltest.TestCase):
  def test_values_around_cells(self):
    scores = np.arange(30.0).reshape(5, 6, 1)
    cells = jnp.array([[0, 4]])
    got = heatmaps.window(jnp.asarray(scores), cells, 1, 2, -1.0)[0]
    padded = np.pad(scores[..., 0], 1, constant_values=-1)
    np.testing.assert_array_equal(got.reshape(3, 3), padded[4:7, 0:3])


if __name__ == "__main__":
  absltest.main()
