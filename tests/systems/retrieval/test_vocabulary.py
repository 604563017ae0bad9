"""Words, bags and signatures against loops."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import ops
from vision_jax.systems import retrieval


class WordsTest(parameterized.TestCase):
  def test_assignment_is_the_nearest(self):
    rng = np.random.default_rng(0)
    x, words = rng.normal(size=(37, 5)), rng.normal(size=(6, 5))
    expected = [np.argmin([((a - w) ** 2).sum() for w in words]) for a in x]
    np.testing.assert_array_equal(retrieval.assign_words(x, words), expected)
    self.assertEqual(len(retrieval.assign_words(x[:0], words)), 0)

  def test_kmeans_finds_clusters(self):
    rng = np.random.default_rng(1)
    middles = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], np.float64)
    x = (middles[:, None] + rng.normal(size=(4, 20, 2)) * 0.2).reshape(-1, 2)
    best = min(
      np.square(x - c[retrieval.assign_words(x, c)]).sum()
      for c in (retrieval.kmeans(x, 4, seed=s) for s in range(4))
    )
    self.assertLess(best, 2 * 0.04 * 80)
    with pytest.raises(ValueError, match="`num_words` must be"):
      retrieval.kmeans(x, 99)

  def test_a_lost_centre_is_replaced(self):
    x = np.repeat([[0.0], [1.0]], 5, 0)
    self.assertEqual(retrieval.kmeans(x, 4).shape, (4, 1))

  def test_histogram(self):
    words = np.array([[0, 2], [2, 1]])
    weights = np.array([[0.5, 1.0], [2.0, 0.0]])
    expected = np.array([0.5, 0, 3.0, 0])
    np.testing.assert_allclose(
      retrieval.blcf_histogram(words, weights, 4),
      expected / np.linalg.norm(expected),
      rtol=1e-6,
    )
    none = retrieval.blcf_histogram(words, 0 * weights, 4)
    self.assertFalse(none.any())
    with pytest.raises(ValueError, match="same shape"):
      retrieval.blcf_histogram(words, weights[0], 4)

  def test_hamming_equals_the_loop(self):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 16)).astype(np.float32)
    centres = x[:4]
    words = retrieval.assign_words(x, centres)
    embedding = retrieval.fit_hamming(x, words, 4, num_bits=8)
    bits = retrieval.embed_hamming(x, words, embedding)
    np.testing.assert_allclose(
      embedding.projection.T @ embedding.projection, np.eye(8), atol=1e-5
    )
    for word in range(4):  # medians divide in halves
      share = bits[words == word].mean()
      self.assertAlmostEqual(share, 0.5, delta=0.26)
    images = [(words[i : i + 20], bits[i : i + 20]) for i in (0, 20, 40)]
    idf = retrieval.inverse_document_frequency([w for w, _ in images], 4) + 1
    got = retrieval.hamming_scores(images[0], images, idf=idf, threshold=3)
    for place, (other, theirs) in enumerate(images):
      total = 0.0
      for i in range(20):
        for j in range(20):
          near = (images[0][1][i] != theirs[j]).sum() <= 3
          if images[0][0][i] == other[j] and near:
            total += idf[other[j]] ** 2
      self.assertAlmostEqual(got[place], total / np.sqrt(20), places=4)
    self.assertEqual(got.argmax(), 0)

  def test_region_vlad(self):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 5)).astype(np.float32)
    whitening = ops.fit_whitening(rng.normal(size=(30, 5)), num_dims=3)
    centres = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)
    valid = jnp.arange(6) < 4
    got = retrieval.region_vlad(
      jnp.asarray(x), valid, centres, whitening=whitening
    )
    white = ops.whiten(jnp.asarray(x[:4]), whitening)
    np.testing.assert_allclose(got, ops.vlad(white, centres), atol=1e-5)
    self.assertAlmostEqual(float(jnp.linalg.norm(got)), 1.0, places=5)
