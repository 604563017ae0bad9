import importlib.util
from unittest import mock

import numpy as np
import pytest

from vision_jax.systems import retrieval

_MISSING = importlib.util.find_spec("faiss") is None


def test_settings():
  with pytest.raises(ValueError, match="`kind` must be"):
    retrieval.build_faiss(np.eye(4), kind="tree")
  with pytest.raises(ValueError, match="`num_codes` must divide"):
    retrieval.build_faiss(np.eye(4), kind="ivfpq", num_codes=3)


def test_what_to_install_is_said():
  with mock.patch.dict("sys.modules", {"faiss": None}):
    with pytest.raises(ImportError, match=r"vision_jax\[search\]"):
      retrieval.build_faiss(np.eye(4))


def test_results_are_scored_again():
  """A stand-in for an index that only knows candidates."""
  vectors = np.eye(4, dtype=np.float32)
  query = np.array([[0.1, 0.9, 0.3, 0.0]], np.float32)

  class Index:
    def search(self, queries, top_k):
      return np.zeros((1, 3)), np.array([[0, 2, -1]])

  rows, scores = retrieval.search_faiss(
    query, Index(), top_k=3, vectors=vectors
  )
  np.testing.assert_array_equal(rows, [[2, 0, -1]])
  np.testing.assert_allclose(scores, [[0.3, 0.1, -np.inf]])


@pytest.mark.skipif(_MISSING, reason="faiss-cpu is not installed")
def test_flat_equals_ours():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(500, 16)).astype(np.float32)
  q = rng.normal(size=(3, 16)).astype(np.float32)
  rows, _ = retrieval.search_faiss(q, retrieval.build_faiss(x), top_k=9)
  ours = retrieval.search(q, retrieval.place_database(x), top_k=9)
  np.testing.assert_array_equal(rows, ours.rows)
