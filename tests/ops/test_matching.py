import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops

MATCHERS = (
  ops.match_one_way,
  ops.match_mutual,
  ops.match_dual_softmax,
  ops.match_greedy,
)
JITTED = {matcher: jax.jit(matcher) for matcher in MATCHERS}


def _descriptors(num0=9, num1=12, dim=16, seed=0):
  rng = np.random.default_rng(seed)
  pair = []
  for count in (num0, num1):
    d = 0.4 * rng.normal(size=(count, dim))
    d[: min(num0, num1)] += 4 * np.eye(dim)[np.arange(min(num0, num1)) % dim]
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    pair.append(d.astype(np.float32))
  return pair


def _table(num0=9, num1=12, seed=0, ties=False):
  rng = np.random.default_rng(seed)
  if ties:
    return (rng.integers(0, 4, (num0, num1)) / 4).astype(np.float32)
  return rng.uniform(-1, 1, (num0, num1)).astype(np.float32)


def _with_padding(table, seed=1):
  """Forbids some rows, some columns, and single entries by NaN and inf."""
  rng = np.random.default_rng(seed)
  table = table.copy()
  table[rng.permutation(len(table))[:2]] = -np.inf
  table[:, rng.permutation(table.shape[1])[:2]] = np.nan
  table[rng.uniform(size=table.shape) < 0.1] = np.inf
  return table


def _nearest_loop(row, ratio=None, max_distance=None):
  """Index of the nearest item of one row, or -1; float64."""
  order = [j for j in range(len(row)) if np.isfinite(row[j])]
  order.sort(key=lambda j: (-row[j], j))
  if not order:
    return -1
  square = [max(2 - 2 * float(row[j]), 0) for j in order[:2]]
  if max_distance is not None and square[0] > max_distance**2:
    return -1
  if ratio is not None and len(order) > 1 and square[0] > ratio**2 * square[1]:
    return -1
  return order[0]


def _greedy_loop(cost, max_cost=np.inf, valid0=None, valid1=None):
  num0, num1 = cost.shape
  valid0 = np.ones(num0, bool) if valid0 is None else valid0
  valid1 = np.ones(num1, bool) if valid1 is None else valid1
  pairs = sorted(
    (cost[i, j], i, j)
    for i in range(num0)
    for j in range(num1)
    if valid0[i] and valid1[j] and np.isfinite(cost[i, j])
  )
  index1, used = np.full(num0, -1), set()
  for c, i, j in pairs:
    if c <= max_cost and index1[i] < 0 and j not in used:
      index1[i] = j
      used.add(j)
  return index1


def _check(test, matches, index1, table):
  """Compares with the expected `index1`, and checks the rules of padding."""
  count = len(index1)
  test.assertIsInstance(matches, ops.Matches)
  chex.assert_shape(matches, (count,))
  found = np.asarray(index1) >= 0
  np.testing.assert_array_equal(matches.index1, index1)
  np.testing.assert_array_equal(matches.valid, found)
  np.testing.assert_array_equal(
    matches.index0, np.where(found, np.arange(count), -1)
  )
  scores = [table[i, j] if j >= 0 else 0 for i, j in enumerate(index1)]
  np.testing.assert_allclose(matches.scores, scores, rtol=1e-5)
  test.assertEqual(matches.index1.dtype, jnp.int32)
  test.assertEqual(matches.valid.dtype, jnp.bool_)


class SimilarityTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_matches_reference(self):
    d0, d1 = _descriptors()
    got = self.variant(ops.similarity)(d0, d1)
    np.testing.assert_allclose(
      got, d0.astype(float) @ d1.astype(float).T, atol=1e-6
    )

  def test_padding_and_bad_descriptors_are_impossible(self):
    d0, d1 = _descriptors()
    expected = d0.astype(float) @ d1.T
    valid0, valid1 = np.arange(9) != 4, np.arange(12) < 7
    d0[4], d1[7:] = 1e30, np.nan
    d0[2, 5], d1[3, 0] = np.nan, np.inf
    expected[[2, 4]] = -np.inf
    expected[:, 3] = expected[:, 7:] = -np.inf
    got = jax.jit(ops.similarity)(d0, d1, valid0=valid0, valid1=valid1)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    finite = lambda a, b: jnp.where(  # noqa: E731
      jnp.isfinite(s := ops.similarity(a, b, valid0=valid0)), s, 0
    ).sum()
    gradients = jax.jit(jax.grad(finite, (0, 1)))(d0, d1)
    chex.assert_tree_all_finite(gradients)
    self.assertFalse(gradients[0][jnp.array([2, 4])].any())
    self.assertTrue(gradients[0][0].any())

  def test_gradient_is_correct(self):
    loss = lambda a, b: (ops.similarity(a, b) ** 2).sum()  # noqa: E731
    chex.assert_numerical_grads(jax.jit(loss), _descriptors(3, 4, 5), 1)

  def test_half_precision_is_multiplied_in_float32(self):
    d0, d1 = (jnp.asarray(d, jnp.float16) for d in _descriptors())
    got = jax.jit(ops.similarity)(d0, d1)
    self.assertEqual(got.dtype, jnp.float32)
    np.testing.assert_allclose(
      got, np.float64(d0) @ np.float64(d1).T, atol=1e-6
    )

  @parameterized.parameters((0, 4), (4, 0), (0, 0))
  def test_empty(self, num0, num1):
    d0, d1 = np.zeros((num0, 8), np.float32), np.zeros((num1, 8), np.float32)
    got = jax.jit(ops.similarity)(d0, d1)
    self.assertEqual(got.shape, (num0, num1))

  def test_errors(self):
    d = np.zeros((4, 8))
    with self.assertRaisesRegex(ValueError, "`descriptors0` must be"):
      ops.similarity(d[None], d)
    with self.assertRaisesRegex(ValueError, "`descriptors1` must have"):
      ops.similarity(d, d[:, :5])
    with self.assertRaisesRegex(ValueError, r"`valid1` must be \[4\]"):
      ops.similarity(d, d, valid1=np.ones(3, bool))


LIMITS = (
  {},
  {"ratio": 0.9},
  {"ratio": 0.6},
  {"max_distance": 0.8},
  {"ratio": 0.95, "max_distance": 1.1},
)


def _tables():
  """With and without ties, with and without padding; many mutual pairs."""
  for ties in (False, True):
    table = _table(30, 20, ties=ties)
    table[np.arange(12), np.arange(12)] = np.linspace(0.5, 0.99, 12)
    yield table
    yield _with_padding(table)


class NearestTest(chex.TestCase):
  def test_one_way_matches_loop(self):
    match = jax.jit(lambda t: [ops.match_one_way(t, **s) for s in LIMITS])
    for table in _tables():
      for limits, matches in zip(LIMITS, match(table), strict=True):
        index1 = [_nearest_loop(row, **limits) for row in table]
        self.assertBetween(np.sum(np.array(index1) >= 0), 1, 30)
        _check(self, matches, index1, table)

  def test_mutual_matches_loop(self):
    match = jax.jit(lambda t: [ops.match_mutual(t, **s) for s in LIMITS])
    for table in _tables():
      for limits, matches in zip(LIMITS, match(table), strict=True):
        rows = [_nearest_loop(row, **limits) for row in table]
        columns = [_nearest_loop(column, **limits) for column in table.T]
        index1 = [
          j if j >= 0 and columns[j] == i else -1 for i, j in enumerate(rows)
        ]
        self.assertBetween(np.sum(np.array(index1) >= 0), 1, 19)
        _check(self, matches, index1, table)

  def test_limits_are_inclusive_distances(self):
    # d^2 = 2 - 2 s: s = 0.5 is at distance 1, s = -1 at distance 2.
    table = jnp.array([[0.5, -1.0]])
    settings = (
      {"max_distance": 1.0},
      {"max_distance": 0.999},
      {"ratio": 0.5},
      {"ratio": 0.499},
    )
    match = jax.jit(
      lambda t: [ops.match_one_way(t, **s).valid for s in settings]
    )
    np.testing.assert_array_equal(match(table), [[1], [0], [1], [0]])

  def test_ratio_needs_two_candidates(self):
    match = jax.jit(lambda t: ops.match_one_way(t, ratio=0.5).valid)
    table = np.float32([[-0.5, -np.inf, np.nan], [0.2, 0.19, -np.inf]])
    np.testing.assert_array_equal(match(table), [True, False])

  def test_mutual_ratio_holds_in_both_directions(self):
    match = jax.jit(
      lambda t: (
        ops.match_one_way(t, ratio=0.8),
        ops.match_mutual(t, ratio=0.8),
      )
    )
    one_way, mutual = match(np.float32([[0.9, 0.0], [0.89, 0.1]]))
    np.testing.assert_array_equal(one_way.index1, [0, 0])
    np.testing.assert_array_equal(mutual.index1, [-1, -1])

  def test_ties_go_to_the_lowest_index(self):
    table, index1 = np.ones((9, 12), np.float32), np.full(9, -1)
    one_way = JITTED[ops.match_one_way](table)
    np.testing.assert_array_equal(one_way.index1, 0 * index1)
    index1[0] = 0
    mutual = JITTED[ops.match_mutual](table)
    np.testing.assert_array_equal(mutual.index1, index1)

  def test_gradient_reaches_the_matched_entries_only(self):
    table = _with_padding(_table())
    matches = JITTED[ops.match_mutual](table)
    loss = jax.jit(lambda t: ops.match_mutual(t).scores.sum())
    gradient = jax.grad(loss)(table)
    expected = np.zeros_like(table)
    expected[matches.index0[matches.valid], matches.index1[matches.valid]] = 1
    np.testing.assert_array_equal(gradient, expected)

  def test_descriptors_end_to_end(self):
    d0, d1 = _descriptors(12, 12, 64)
    order = np.random.default_rng(3).permutation(12)
    valid0 = np.arange(12) != 5
    d0[8] = np.nan
    match = jax.jit(
      lambda a, b: ops.match_mutual(ops.similarity(a, b, valid0=valid0))
    )
    expected = np.argsort(order)
    expected[[5, 8]] = -1
    np.testing.assert_array_equal(match(d0, d1[order]).index1, expected)


class DualSoftmaxTest(chex.TestCase):
  @parameterized.product(
    settings=(
      {},
      {"beta": 5.0, "threshold": 0.02},
      {"beta": 60.0, "threshold": 0.5},
    ),
    padded=(False, True),
  )
  def test_matches_reference(self, settings, padded):
    table = _table(15, 11)
    table = _with_padding(table) if padded else table
    beta = settings.get("beta", 20.0)
    threshold = settings.get("threshold", 0.1)
    e = np.where(np.isfinite(table), np.exp(beta * np.float64(table)), 0)
    with np.errstate(invalid="ignore"):
      p = np.nan_to_num(e / e.sum(1, keepdims=True))
      p *= np.nan_to_num(e / e.sum(0, keepdims=True))
    index1 = np.full(15, -1)
    for i in range(15):
      j = int(np.argmax(p[i]))
      if p[i, j] > threshold and np.argmax(p[:, j]) == i:
        index1[i] = j
    self.assertGreater((index1 >= 0).sum(), 2)
    settings = {"beta": beta, "threshold": threshold}
    matches = JITTED[ops.match_dual_softmax](table, **settings)
    _check(self, matches, index1, p)

  def test_nothing_possible(self):
    loss = lambda t: ops.match_dual_softmax(t, threshold=-1.0).scores.sum()  # noqa: E731
    table = jnp.full((9, 12), -jnp.inf)
    value, gradient = jax.jit(jax.value_and_grad(loss))(table)
    self.assertEqual(value, 0)
    np.testing.assert_array_equal(gradient, np.zeros((9, 12)))
    matches = JITTED[ops.match_dual_softmax](table, beta=1.0, threshold=-1.0)
    self.assertFalse(matches.valid.any())

  def test_gradient_is_correct(self):
    table = np.eye(4, 5, dtype=np.float32) + 0.1 * _table(4, 5)
    loss = lambda t: (ops.match_dual_softmax(t, beta=3.0).scores ** 2).sum()  # noqa: E731
    chex.assert_numerical_grads(jax.jit(loss), (table,), 1)
    padded = table.copy()
    padded[1], padded[:, 2] = -np.inf, np.nan
    gradient = jax.jit(jax.grad(loss))(padded)
    self.assertTrue(jnp.isfinite(gradient).all())
    self.assertFalse(gradient[1].any() | gradient[:, 2].any())
    self.assertTrue(gradient[0].any())


class GreedyTest(chex.TestCase):
  @parameterized.product(
    shape=((30, 20), (20, 30)),
    kind=("uniform", "ties", "constant", "chain", "points"),
    limited=(False, True),
  )
  def test_matches_loop(self, shape, kind, limited):
    rng = np.random.default_rng(sum(shape))
    i, j = np.indices(shape)
    cost = {
      "uniform": rng.uniform(0, 9, shape),
      "ties": rng.integers(0, 4, shape) * 1.0,
      "constant": np.full(shape, 2.0),
      "chain": (i + j) / 8,  # one pair per round
      "points": np.abs(rng.normal(0, 9, 40)[i] - rng.normal(0, 9, 40)[j]),
    }[kind].astype(np.float32)
    settings = {
      "max_cost": np.inf,
      "valid0": np.ones(shape[0], bool),
      "valid1": np.ones(shape[1], bool),
    }
    if limited:
      cost[rng.uniform(size=shape) < 0.1] = np.nan
      cost[0, 0], cost[-1, -1] = np.inf, -np.inf
      settings = {
        "max_cost": 2.0,
        "valid0": rng.uniform(size=shape[0]) < 0.8,
        "valid1": rng.uniform(size=shape[1]) < 0.8,
      }
    expected = _greedy_loop(cost, **settings)
    self.assertGreater(np.sum(expected >= 0), 1)
    _check(self, JITTED[ops.match_greedy](cost, **settings), expected, -cost)

  def test_many_random_tables(self):
    rng = np.random.default_rng(0)
    costs = rng.integers(0, 12, (200, 8, 9)).astype(np.float32)
    got = jax.jit(jax.vmap(ops.match_greedy))(costs)
    for k, cost in enumerate(costs):
      np.testing.assert_array_equal(got.index1[k], _greedy_loop(cost))

  def test_limit_is_inclusive(self):
    cost = np.float32([[5, 6], [7, 8]])
    for max_cost, expected in (
      (5.0, [0, -1]),
      (4.999, [-1, -1]),
      (9.0, [0, 1]),
    ):
      got = JITTED[ops.match_greedy](cost, max_cost=max_cost)
      np.testing.assert_array_equal(got.index1, expected)

  def test_differs_from_mutual_and_takes_integers(self):
    cost = np.array([[2, 4], [1, 18]])
    greedy = JITTED[ops.match_greedy](cost)
    np.testing.assert_array_equal(greedy.index1, [1, 0])
    self.assertEqual(greedy.scores.dtype, jnp.float32)
    mutual = JITTED[ops.match_mutual](-cost)
    np.testing.assert_array_equal(mutual.index1, [-1, 0])

  def test_gradient_reaches_the_matched_entries_only(self):
    cost = _table(5, 4)
    cost[2] = np.nan
    loss = jax.jit(lambda c: ops.match_greedy(c).scores.sum())
    matches = JITTED[ops.match_greedy](cost)
    expected = np.zeros_like(cost)
    expected[matches.index0[matches.valid], matches.index1[matches.valid]] = -1
    np.testing.assert_array_equal(jax.grad(loss)(cost), expected)
    _, tangent = jax.jvp(loss, (cost,), (np.ones_like(cost),))
    self.assertEqual(tangent, -4)


class EveryMatcherTest(chex.TestCase):
  @parameterized.parameters(*MATCHERS)
  def test_vmap_equals_loop(self, matcher):
    tables = np.stack([_with_padding(_table(seed=s), seed=s) for s in range(4)])
    got = jax.jit(jax.vmap(matcher))(tables)
    matcher = JITTED[matcher]
    for k in range(4):
      expected = matcher(tables[k])
      one = jax.tree.map(lambda v, k=k: v[k], got)
      np.testing.assert_array_equal(one.index1, expected.index1)
      np.testing.assert_allclose(one.scores, expected.scores, rtol=1e-6)

  @parameterized.product(matcher=MATCHERS, shape=((0, 5), (5, 0), (0, 0)))
  def test_empty(self, matcher, shape):
    table = jnp.zeros(shape)
    _check(self, JITTED[matcher](table), np.full(shape[0], -1), table)

  @parameterized.parameters(*MATCHERS)
  def test_padding_has_no_influence(self, matcher):
    table = _table(6, 7)
    padded = np.full((9, 12), -np.inf, np.float32)
    padded[:6, :7] = table
    expected, got = (JITTED[matcher](t) for t in (table, padded))
    np.testing.assert_array_equal(got.index1[:6], expected.index1)
    np.testing.assert_allclose(got.scores[:6], expected.scores, rtol=1e-6)
    self.assertFalse(got.valid[6:].any())

  @parameterized.parameters(*MATCHERS)
  def test_nothing_possible(self, matcher):
    for junk in (-np.inf, np.nan):
      table = np.full((9, 12), junk, np.float32)
      _check(self, JITTED[matcher](table), np.full(9, -1), table)

  @parameterized.parameters(*MATCHERS)
  def test_bad_rank_names_the_argument(self, matcher):
    name = "cost" if matcher is ops.match_greedy else "similarities"
    with self.assertRaisesRegex(
      ValueError, rf"{matcher.__name__}: `{name}` must be \[K0, K1\]"
    ):
      matcher(jnp.zeros((2, 3, 4)))

  def test_bad_settings_name_the_argument(self):
    table = jnp.zeros((2, 3))
    for matcher in (ops.match_one_way, ops.match_mutual):
      with self.assertRaisesRegex(ValueError, "`ratio` must be"):
        matcher(table, ratio=-0.5)
      with self.assertRaisesRegex(ValueError, "`max_distance` must be"):
        matcher(table, max_distance=-1.0)
    with self.assertRaisesRegex(ValueError, r"`valid0` must be \[2\]"):
      ops.match_greedy(table, valid0=np.ones(3, bool))
