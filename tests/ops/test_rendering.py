"""Subdivision against a plain float64 loop over all channels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


def _enlarge(x, size):
  """Bilinear resize of [h, w, K] by the definition, float64."""
  for axis in (0, 1):
    n, m = x.shape[axis], size[axis]
    at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    low = np.floor(at).astype(int)
    t = (at - low).reshape([-1 if k == axis else 1 for k in range(3)])
    below = np.take(x, low, axis)
    above = np.take(x, np.minimum(low + 1, n - 1), axis)
    x = below * (1 - t) + above * t
  return x


def _field(seed, channels):
  """A smooth function of points with many changes of sign, and NumPy's."""
  rng = np.random.default_rng(seed)
  w1, w2 = rng.normal(0, 9, (2, 24)), rng.normal(size=(24, channels))
  b = rng.uniform(0, 6, (1, 24))

  def head(points):
    xp = jnp if isinstance(points, jax.Array) else np
    return xp.sin(points @ w1 + b) @ w2

  return head


def _loop(coarse, head, sizes, num_points, channel):
  """K-channel subdivision as the paper has it; `channel` decides."""
  logits = coarse
  for height, width in sizes:
    logits = _enlarge(logits, (height, width))
    u = -np.abs(logits[..., channel]).ravel()
    for cell in np.argsort(-u, kind="stable")[:num_points]:
      y, x = divmod(int(cell), width)
      point = np.array([[(x + 0.5) / width, (y + 0.5) / height]])
      logits[y, x] = head(point)[0]
  return logits


class RefineTest(parameterized.TestCase):
  def test_one_channel_equals_all_channels(self):
    with jax.enable_x64(True):
      for seed, channel in ((0, 2), (1, 0)):
        head = _field(seed, 4)
        coarse = head(np.asarray(ops.grid_points((5, 7)), float))
        coarse = coarse.reshape(5, 7, 4) * 0.9
        sizes = ops.subdivision_sizes((5, 7), (40, 56))
        expected = _loop(coarse.copy(), head, sizes, 100, channel)
        alone = ops.refine(
          jnp.asarray(coarse[..., channel : channel + 1]),
          lambda p: head(p)[..., channel : channel + 1],  # noqa: B023
          sizes,
          num_points=100,
          uncertainty=ops.binary_uncertainty,
        )
        # The points themselves are float32.
        got = alone.logits[..., 0]
        np.testing.assert_allclose(got, expected[..., channel], atol=1e-5)
        np.testing.assert_array_equal(got > 0, expected[..., channel] > 0)
        self.assertBetween(float((got > 0).mean()), 0.2, 0.8)
        every = ops.refine(
          jnp.asarray(coarse),
          head,
          sizes,
          num_points=100,
          uncertainty=lambda z: -jnp.abs(z[..., channel]),  # noqa: B023
        )
        np.testing.assert_allclose(every.logits, expected, atol=1e-5)

  def test_steps_that_are_overwritten_are_left_out(self):
    head = _field(2, 1)
    coarse = jnp.zeros((7, 7, 1))
    sizes = ops.subdivision_sizes((7, 7), (56, 56))
    settings = {
      "num_points": 784,
      "uncertainty": ops.binary_uncertainty,
    }
    result = ops.refine(coarse, head, sizes, **settings)
    self.assertEqual([len(p) for p in result.points], [784, 784])
    np.testing.assert_allclose(
      result.points[0], ops.grid_points((28, 28)), atol=1e-7
    )
    logits = coarse
    for size in sizes:
      logits = ops.subdivide(logits, head, size, **settings).logits
    np.testing.assert_array_equal(logits, result.logits)

  def test_all_points_and_no_points(self):
    head = _field(3, 3)
    coarse = jnp.asarray(np.random.default_rng(3).normal(size=(4, 5, 3)))
    sizes = ops.subdivision_sizes((4, 5), (16, 20))
    dense = ops.refine(coarse, head, sizes, num_points=320).logits
    np.testing.assert_allclose(
      dense.reshape(-1, 3), head(ops.grid_points((16, 20))), atol=1e-5
    )
    none = ops.refine(coarse, head, sizes, num_points=0)
    expected = _enlarge(_enlarge(np.asarray(coarse), (8, 10)), (16, 20))
    np.testing.assert_allclose(none.logits, expected, atol=1e-6)
    self.assertEqual(none.points[0].shape, (0, 2))

  def test_error_falls_with_the_points(self):
    head = _field(4, 1)
    coarse = head(ops.grid_points((7, 7))).reshape(7, 7, 1)
    dense = head(ops.grid_points((52, 60))).reshape(52, 60)
    errors = []
    for count in (0, 100, 400, 1600):
      result = ops.refine(
        coarse,
        head,
        ops.subdivision_sizes((7, 7), (52, 60)),
        num_points=count,
        uncertainty=ops.binary_uncertainty,
      )
      errors.append(float(((result.logits[..., 0] > 0) != (dense > 0)).mean()))
    self.assertEqual(errors, sorted(errors, reverse=True))
    self.assertGreater(errors[0], 0.05)
    self.assertLess(errors[-1], 0.01)

  def test_vmap_is_the_loop_and_an_empty_batch_works(self):
    head = _field(5, 1)
    coarse = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    run = functools.partial(
      ops.refine,
      sizes=ops.subdivision_sizes((4, 4), (10, 9)),
      num_points=20,
      uncertainty=ops.binary_uncertainty,
    )
    many = jax.jit(jax.vmap(lambda z: run(z, head)))
    got = many(coarse)
    for k in range(3):
      one = run(coarse[k], head)
      np.testing.assert_allclose(got.logits[k], one.logits, atol=1e-5)
      np.testing.assert_array_equal(got.points[1][k], one.points[1])
    self.assertEqual(many(coarse[:0]).logits.shape, (0, 10, 9, 1))

  def test_gradient_reaches_head_and_coarse_map(self):
    coarse = jax.random.normal(jax.random.key(1), (3, 4, 2))
    base = _field(6, 2)

    def loss(coarse, scale):
      step = ops.subdivide(
        coarse, lambda p: scale * base(p), (6, 8), num_points=10
      )
      return step.logits.sum()

    by_map, by_head = jax.grad(loss, (0, 1))(coarse, 1.0)
    step = ops.subdivide(coarse, base, (6, 8), num_points=10)
    self.assertAlmostEqual(
      float(by_head), float(base(step.points).sum()), places=3
    )
    self.assertAlmostEqual(float(by_map.sum()), 2 * (48 - 10), places=3)


class ThresholdTest(parameterized.TestCase):
  def _setup(self):
    head = _field(7, 3)
    coarse = head(ops.grid_points((6, 8))).reshape(6, 8, 3)
    return coarse, head

  def test_none_and_infinity_are_the_default(self):
    coarse, head = self._setup()
    run = functools.partial(ops.subdivide, coarse, head, (12, 16))
    a = run(num_points=30)
    b = run(num_points=30, threshold=np.inf)
    np.testing.assert_array_equal(a.logits, b.logits)
    self.assertTrue(bool(b.valid.all()))

  def test_only_small_margins_are_written(self):
    coarse, head = self._setup()
    settings = {
      "num_points": 150,
      "uncertainty": ops.probability_uncertainty,
      "threshold": 0.5,
    }
    step = ops.subdivide(coarse, head, (12, 16), **settings)
    larger = _enlarge(np.asarray(coarse, float), (12, 16))
    p = np.exp(larger)
    p = np.sort(p / p.sum(-1, keepdims=True), -1)
    small = (p[..., -1] - p[..., -2] < 0.5).ravel()
    self.assertBetween(int(small.sum()), 20, 149)
    self.assertEqual(int(step.valid.sum()), int(small.sum()))
    expected = np.where(
      small[:, None], head(ops.grid_points((12, 16))), larger.reshape(-1, 3)
    )
    np.testing.assert_allclose(step.logits.reshape(-1, 3), expected, atol=1e-5)
    # The same cells in rounds of 16: the budget follows the map.
    rounds = jax.jit(
      lambda z: ops.subdivide(
        z, head, (12, 16), **{**settings, "num_points": 16}, max_rounds=12
      )
    )(coarse)
    np.testing.assert_allclose(rounds.logits, step.logits, atol=1e-5)
    self.assertEqual(int(rounds.valid.sum()), int(small.sum()))
    self.assertEqual(rounds.points.shape, (12 * 16, 2))
    np.testing.assert_array_equal(rounds.points[~rounds.valid], 0)

  def test_rounds_are_limited(self):
    coarse, head = self._setup()
    step = ops.subdivide(
      coarse, head, (12, 16), num_points=10, threshold=1e9, max_rounds=3
    )
    self.assertEqual(int(step.valid.sum()), 30)
    self.assertLen({tuple(p) for p in step.points.tolist()}, 30)


class SizesTest(absltest.TestCase):
  def test_sizes(self):
    self.assertLen(ops.subdivision_sizes((7, 7), (224, 224)), 5)
    self.assertEqual(ops.subdivision_sizes((7, 7), (7, 7)), ())
    self.assertEqual(
      ops.subdivision_sizes((64, 128), (1024, 2048))[0], (128, 256)
    )

  def test_errors(self):
    run = functools.partial(
      ops.subdivide, jnp.zeros((2, 2, 2)), lambda p: p, (4, 4)
    )
    for call, text in (
      (lambda: ops.subdivision_sizes((7, 7), (6, 9)), "at least `start`"),
      (lambda: run(num_points=3, max_rounds=2), "with a `threshold`"),
      (lambda: run(num_points=-1), "`num_points`"),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


if __name__ == "__main__":
  absltest.main()
