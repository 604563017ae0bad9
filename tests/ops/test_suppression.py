import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops


def _sequential(scores, candidates, radius):
  """Greedy loop: best first, ties in row-major order."""
  kept = np.zeros(scores.shape, bool)
  alive = candidates & ~np.isnan(scores)
  order = sorted(
    zip(*np.nonzero(alive), strict=True),
    key=lambda p: (-scores[p], p[0], p[1]),
  )
  for y, x in order:
    if alive[y, x]:
      kept[y, x] = True
      alive[
        max(0, y - radius) : y + radius + 1,
        max(0, x - radius) : x + radius + 1,
      ] = False
  return kept


class SuppressPointsTest(chex.TestCase):
  @parameterized.parameters(0, 1, 2, 3, 5, 10)
  def test_equals_the_sequential_loop(self, radius):
    rng = np.random.default_rng(radius)
    run = jax.jit(lambda s, c: ops.suppress_points(s, c, radius=radius))
    for case in range(34):
      scores = rng.normal(size=(29, 37)).astype(np.float32)
      if case % 2:  # many ties
        scores = np.round(scores * (1 + case % 5))
      candidates = scores > (-1.0 if case % 3 else 0.5)
      np.testing.assert_array_equal(
        run(scores, candidates), _sequential(scores, candidates, radius)
      )

  def test_long_chain_needs_many_rounds(self):
    scores = np.arange(40.0, dtype=np.float32)[None]
    kept = ops.suppress_points(scores, scores >= 0, radius=1)
    np.testing.assert_array_equal(np.flatnonzero(kept), np.arange(1, 40, 2))

  def test_constant_nan_and_empty_maps(self):
    flat = jnp.zeros((7, 9))
    kept = np.asarray(ops.suppress_points(flat, flat == 0, radius=2))
    np.testing.assert_array_equal(
      kept, _sequential(np.zeros((7, 9)), np.ones((7, 9), bool), 2)
    )
    nan = flat.at[3, 3].set(jnp.nan)
    kept = np.asarray(ops.suppress_points(nan, flat == 0, radius=1))
    self.assertFalse(kept[3, 3])
    none = ops.suppress_points(flat, flat > 0, radius=2)
    self.assertFalse(bool(none.any()))

  def test_vmap_equals_loop(self):
    s = np.random.default_rng(0).normal(size=(3, 20, 24)).astype(np.float32)
    f = lambda v: ops.suppress_points(v, v > 0, radius=3)  # noqa: E731
    np.testing.assert_array_equal(jax.vmap(f)(s), np.stack([f(v) for v in s]))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "of one shape"):
      ops.suppress_points(jnp.zeros((3, 4)), jnp.zeros((4, 3), bool), radius=1)
    with self.assertRaisesRegex(ValueError, "`radius` must be"):
      ops.suppress_points(jnp.zeros((3, 4)), jnp.zeros((3, 4), bool), radius=-1)


class TopPointsTest(chex.TestCase):
  @parameterized.parameters((2, 5), (2, 200), (0, 30))
  def test_equals_a_sort(self, radius, num_points):
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(33, 26)) * 2).astype(np.float32)
    kept = np.asarray(ops.suppress_points(scores, scores > 0, radius=radius))
    xy, s, valid = jax.jit(
      lambda a, b: ops.top_points(a, b, num_points=num_points, radius=radius)
    )(scores, kept)
    expected = sorted(
      zip(*np.nonzero(kept), strict=True), key=lambda p: (-scores[p], p)
    )[:num_points]
    self.assertEqual(int(valid.sum()), len(expected))
    np.testing.assert_array_equal(
      xy[: len(expected)], np.array(expected)[:, ::-1]
    )
    np.testing.assert_array_equal(
      s[: len(expected)], [scores[p] for p in expected]
    )
    self.assertEqual(float(jnp.abs(xy[len(expected) :]).sum()), 0.0)
    self.assertEqual(xy.shape, (num_points, 2))

  def test_scores_carry_a_derivative(self):
    scores = jnp.array([[1.0, 3.0], [2.0, 0.5]])
    g = jax.grad(lambda v: ops.top_points(v, v > 0.7, num_points=2)[1].sum())(
      scores
    )
    np.testing.assert_array_equal(g, [[0, 1], [1, 0]])

  def test_error(self):
    with self.assertRaisesRegex(ValueError, "of one shape"):
      ops.top_points(jnp.zeros(3), jnp.zeros(3, bool), num_points=1)
