"""Exact search against a sort, on one device and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax.systems import retrieval
from vision_jax.systems.retrieval import exact_search


def _data(rows=1003, dims=8, ties=False):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, dims)).astype(np.float32)
  q = rng.normal(size=(3, dims)).astype(np.float32)
  if ties:  # small whole numbers: exact in any order of summation
    x, q = np.rint(x), np.rint(q)
  return q, x


def _sorted(q, x, top_k):
  scores = q.astype(np.float64) @ x.T
  order = np.argsort(-scores, 1, kind="stable")[:, :top_k]
  return order, np.take_along_axis(scores, order, 1)


class SearchTest(parameterized.TestCase):
  @parameterized.product(devices=(1, 2, 8), ties=(False, True))
  def test_equals_the_sort(self, devices, ties):
    q, x = _data(ties=ties)
    database = retrieval.place_database(x, devices=jax.devices()[:devices])
    got = retrieval.search(q, database, top_k=20)
    rows, scores = _sorted(q, x, 20)
    np.testing.assert_array_equal(got.rows, rows)
    np.testing.assert_allclose(got.scores, scores, rtol=1e-5)

  @parameterized.parameters(1, 8)
  def test_long_rows(self, devices):
    q, x = _data(300, dims=exact_search._LONG)
    database = retrieval.place_database(x, devices=jax.devices()[:devices])
    got = retrieval.search(q, database, top_k=20)
    rows, scores = _sorted(q, x, 20)
    np.testing.assert_array_equal(got.rows, rows)
    np.testing.assert_allclose(got.scores, scores, rtol=1e-4)

  @parameterized.parameters(False, True)
  def test_in_parts(self, ties):
    q, x = _data(5000, ties=ties)
    database = retrieval.place_database(x)
    index, scores = exact_search._search(
      jnp.asarray(q), database.vectors, 5000, 5, 2300
    )
    rows, expected = _sorted(q, x, 5)
    np.testing.assert_array_equal(index, rows)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)

  @parameterized.parameters(False, True)
  def test_blocks_of_maxima(self, ties):
    scores = np.random.default_rng(1).normal(size=(2, 4111)).astype(np.float32)
    scores = scores.round(1) if ties else scores
    values, place = exact_search._best(jnp.asarray(scores), 7)
    order = np.argsort(-scores, 1, kind="stable")[:, :7]
    np.testing.assert_array_equal(place, order)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, order, 1))

  def test_fewer_rows_than_wanted(self):
    q, x = _data(5)
    for devices in (1, 2):
      got = retrieval.search(
        q, retrieval.place_database(x, devices=jax.devices()[:devices]),
        top_k=9,
      )  # fmt: skip
      np.testing.assert_array_equal(got.rows[:, :5], _sorted(q, x, 5)[0])
      self.assertTrue((np.asarray(got.rows)[:, 5:] == -1).all())
      self.assertTrue(np.isneginf(got.scores[:, 5:]).all())

  def test_half_precision_storage(self):
    q, x = _data()
    database = retrieval.place_database(x, dtype=jnp.bfloat16)
    got = retrieval.search(q, database, top_k=1)
    np.testing.assert_allclose(got.scores, _sorted(q, x, 1)[1], rtol=2e-2)

  def test_errors(self):
    q, x = _data(5)
    with pytest.raises(ValueError, match="at least one row"):
      retrieval.place_database(x[:0])
    database = retrieval.place_database(x)
    with pytest.raises(ValueError, match="another model"):
      retrieval.search(q[:, :3], database)
    with pytest.raises(ValueError, match="`top_k` must be"):
      retrieval.search(q, database, top_k=0)
