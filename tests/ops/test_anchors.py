"""Anchors, matches and samples against loops."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


class GridTest(parameterized.TestCase):
  def test_cells_of_the_pyramid(self):
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    got = ops.cell_anchors((32,), (0.5, 1.0, 2.0))
    np.testing.assert_array_equal(got, expected)
    # Ratios outside, sizes inside; 33 / 2 rounds to the even 16.
    got = ops.cell_anchors((33, 64), (1.0, 4.0))
    np.testing.assert_array_equal(got[0], [-16, -16, 16, 16])
    np.testing.assert_array_equal(got[1], [-32, -32, 32, 32])
    np.testing.assert_array_equal(got[3], [-16, -64, 16, 64])
    plain = ops.cell_anchors((33,), (1.0,), rounded=False)
    np.testing.assert_array_equal(plain, [[-16.5, -16.5, 16.5, 16.5]])

  def test_order_and_place(self):
    cell = ops.cell_anchors((8, 16), (1.0, 2.0))
    got = jax.jit(lambda s: ops.grid_anchors(cell, (2, 3), s, offset=0.5))(
      (jnp.int32(61), 16.0)
    )
    rows = [
      cell[a] + np.array([(j + 0.5) * 16, (i + 0.5) * 61] * 2)
      for i in range(2)
      for j in range(3)
      for a in range(4)
    ]
    np.testing.assert_allclose(got, np.array(rows), rtol=1e-6)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, "`sizes` must be positive"):
      ops.cell_anchors((), (1.0,))
    with self.assertRaisesRegex(ValueError, "`ratios` must be positive"):
      ops.cell_anchors((1.0,), (0.0,))
    with self.assertRaisesRegex(ValueError, r"`cell` must be \[A, 4\]"):
      ops.grid_anchors(np.zeros(4), (1, 1), (1, 1))


def _match(iou, low, high, allow, valid):
  """Anchor by anchor."""
  count, total = iou.shape
  rows = [g for g in range(count) if valid[g]]
  result = []
  for n in range(total):
    best = max(rows, key=lambda g: (iou[g, n], -g), default=None)
    value = -1 if best is None else iou[best, n]
    if value >= high:
      found = best
    else:
      found = -1 if value < low else -2
    if allow:
      for g in rows:
        if iou[g].max() > 0 and iou[g, n] == iou[g].max():
          found = best
    result.append(found)
  return result


class MatchTest(parameterized.TestCase):
  @parameterized.parameters((0.3, 0.7, True), (0.5, 0.5, False))
  def test_equals_the_loop(self, low, high, allow):
    rng = np.random.default_rng(0)
    run = jax.jit(
      lambda iou, valid: ops.match_boxes(
        iou, low=low, high=high, allow_low_quality=allow, valid=valid
      )
    )
    seen = set()
    for _ in range(20):
      # Tenths: ties everywhere, also at the thresholds.
      iou = (rng.integers(0, 11, (4, 15)) / 10).astype(np.float32)
      iou *= rng.random((4, 15)) < 0.4
      iou[1] *= rng.random() < 0.5  # sometimes overlaps nothing
      valid = rng.random(4) < 0.7
      low32, high32 = np.float32(low), np.float32(high)
      expected = _match(iou, low32, high32, allow, valid)
      np.testing.assert_array_equal(run(iou, valid), expected)
      seen.update(np.sign(expected) + 2 * (np.array(expected) == -2))
    self.assertGreaterEqual(len(seen), 3)

  def test_nothing_to_match(self):
    settings = dict(low=0.3, high=0.7, allow_low_quality=True)
    got = ops.match_boxes(jnp.zeros((0, 3)), **settings)
    np.testing.assert_array_equal(got, [-1, -1, -1])
    self.assertEqual(ops.match_boxes(jnp.zeros((2, 0)), **settings).shape, (0,))
    none = jnp.zeros(2, bool)
    got = ops.match_boxes(jnp.ones((2, 3)), valid=none, **settings)
    np.testing.assert_array_equal(got, [-1, -1, -1])

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, r"`iou` must be \[G, N\]"):
      ops.match_boxes(jnp.zeros(3), low=0.3, high=0.7)
    with self.assertRaisesRegex(ValueError, "`low` must not exceed"):
      ops.match_boxes(jnp.zeros((1, 1)), low=0.8, high=0.7)


class SampleTest(parameterized.TestCase):
  @parameterized.parameters(
    (3, 20, 3, 13),  # all positives, filled with negatives
    (30, 20, 8, 8),  # half
    (30, 2, 8, 2),  # too few negatives: fewer than asked for
    (0, 5, 0, 5),
    (0, 0, 0, 0),
  )
  def test_counts(self, positives, negatives, taken, filled):
    matches = np.concatenate(
      [np.arange(positives), np.full(negatives, -1), np.full(7, -2)]
    )
    matches = np.random.default_rng(0).permutation(matches)
    settings = dict(size=16, positive_fraction=0.5)
    key = jax.random.key(1)
    positive, negative = ops.sample_matches(key, matches, **settings)
    self.assertEqual((positive.sum(), negative.sum()), (taken, filled))
    self.assertTrue((matches[np.asarray(positive)] >= 0).all())
    self.assertTrue((matches[np.asarray(negative)] == -1).all())
    index, is_positive, valid = ops.sample_match_indices(
      key, matches, **settings
    )
    index, is_positive = np.asarray(index), np.asarray(is_positive)
    valid = np.asarray(valid)
    self.assertEqual(set(index[is_positive]), set(np.flatnonzero(positive)))
    self.assertEqual(
      set(index[valid & ~is_positive]), set(np.flatnonzero(negative))
    )
    self.assertTrue((index[~valid] == -1).all())
    self.assertFalse((is_positive & ~valid).any())

  def test_the_draw_is_the_keys_and_fair(self):
    matches = jnp.array([0, 1, 2, 3, -1, -1, -1, -1, -1, -2])
    valid = jnp.arange(10) != 2
    run = jax.jit(
      jax.vmap(
        lambda key: ops.sample_matches(
          key, matches, size=4, positive_fraction=0.25, valid=valid
        )
      )
    )
    keys = jax.random.split(jax.random.key(0), 600)
    positive, negative = run(keys)
    np.testing.assert_array_equal(run(keys)[0], positive)
    share = np.asarray(positive).mean(0)
    np.testing.assert_allclose(share[[0, 1, 3]], 1 / 3, atol=0.08)
    share = np.asarray(negative).mean(0)
    np.testing.assert_allclose(share[4:9], 3 / 5, atol=0.08)
    self.assertEqual(np.asarray(positive)[:, 2].sum(), 0)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, "`matches` and `valid` must be"):
      ops.sample_matches(
        jax.random.key(0), jnp.zeros((2, 2)), size=2, positive_fraction=0.5
      )
    with self.assertRaisesRegex(ValueError, "`size` must be >= 1"):
      ops.sample_matches(
        jax.random.key(0), jnp.zeros(2), size=0, positive_fraction=0.5
      )


if __name__ == "__main__":
  absltest.main()
