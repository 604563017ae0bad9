"""Rankings, expansion and diffusion against dense NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax.systems import retrieval


def _vectors(count=30, dims=6, seed=0):
  x = np.random.default_rng(seed).normal(size=(count, dims)) + 0.5
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


class RankingTest(parameterized.TestCase):
  def test_best_region_of_each_image(self):
    rng = np.random.default_rng(1)
    ids = np.sort(rng.integers(0, 12, 40))
    scores = rng.normal(size=40).round(1)
    scores[ids == 3] = -np.inf
    got = retrieval.rank_images(scores, ids)
    expected = []
    for image in np.unique(ids):
      rows = np.flatnonzero(ids == image)
      best = rows[np.argmax(scores[rows])]
      if np.isfinite(scores[best]):
        expected.append((-scores[best], image, best))
    expected.sort()
    self.assertEqual(got.order.tolist(), [e[1] for e in expected])
    self.assertEqual(got.regions.tolist(), [e[2] for e in expected])
    np.testing.assert_array_equal(got.scores, [-e[0] for e in expected])
    empty = retrieval.rank_images(np.zeros(0), np.zeros(0, int))
    self.assertEqual(len(empty.order), 0)
    with pytest.raises(ValueError, match="must be ascending"):
      retrieval.rank_images(np.zeros(2), np.array([1, 0]))

  @parameterized.parameters(0.0, 3.0)
  def test_expansion(self, alpha):
    queries, vectors = _vectors(2), _vectors(8).reshape(2, 4, 6)
    similar = np.einsum("qd,qnd->qn", queries, vectors)
    got = retrieval.expand_queries(
      jnp.asarray(queries), jnp.asarray(vectors), jnp.asarray(similar),
      alpha=alpha,
    )  # fmt: skip
    for q in range(2):
      total = queries[q].astype(np.float64)
      for n in range(4):
        total = total + max(similar[q, n], 0) ** alpha * vectors[q, n]
      np.testing.assert_allclose(
        got[q], total / np.linalg.norm(total), rtol=1e-4
      )

  def test_augmented_database(self):
    x = _vectors(9)
    got = retrieval.augment_database(jnp.asarray(x), num_neighbours=3)
    similar = x @ x.T
    for i in range(9):
      others = [j for j in np.argsort(-similar[i]) if j != i][:3]
      total = x[i] + sum(max(similar[i, j], 0) ** 3 * x[j] for j in others)
      np.testing.assert_allclose(
        got[i], total / np.linalg.norm(total), rtol=1e-4
      )

  def test_diffusion_solves_the_system(self):
    x = _vectors(40)
    similar = (x @ x.T).astype(np.float64)
    np.fill_diagonal(similar, -np.inf)
    near = np.argsort(-similar, 1)[:, :8]
    dense = np.zeros((40, 40))
    for i in range(40):
      for j in near[i]:
        if i in near[j]:
          dense[i, j] = max(similar[i, j], 0) ** 3
    degree = dense.sum(1)
    root = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    dense = dense * root[:, None] * root[None]
    index, weights = retrieval.mutual_graph(jnp.asarray(x), num_neighbours=8)
    ours = np.zeros((40, 40))
    np.add.at(ours, (np.arange(40)[:, None], np.asarray(index)), weights)
    np.testing.assert_allclose(ours, dense, atol=1e-5)
    starts = np.eye(40)[:2] + 0.3 * np.eye(40)[5:7]
    got = retrieval.diffuse(
      (index, weights), jnp.asarray(starts, jnp.float32), alpha=0.9,
      rounds=200, tolerance=1e-8,
    )  # fmt: skip
    expected = np.linalg.solve(np.eye(40) - 0.9 * dense, starts.T).T
    np.testing.assert_allclose(got, expected, atol=1e-5)
