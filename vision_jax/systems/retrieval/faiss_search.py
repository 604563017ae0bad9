"""Search by FAISS, an optional extra: flat, or compressed beyond memory."""

from typing import Any

import numpy as np

__all__ = ["build_faiss", "search_faiss"]


def _faiss() -> Any:
  try:
    import faiss
  except ImportError as error:
    raise ImportError(
      "build_faiss: needs the package faiss-cpu; install vision_jax[search]."
    ) from error
  return faiss


def build_faiss(
  vectors: np.ndarray,
  *,
  kind: str = "flat",
  num_lists: int = 316,
  num_codes: int = 128,
  num_probes: int = 64,
) -> Any:
  """An index of FAISS for dot products.

  Args:
    vectors: float32 [N, D].
    kind: "flat" (exact) or "ivfpq" (inverted lists of product codes of 8 bits;
      re-score its first results exactly).
    num_lists: of "ivfpq".
    num_codes: bytes for each vector, a divisor of D.
    num_probes: lists that a query looks into.

  Returns:
    The index.

  Raises:
    ImportError: if FAISS is not installed.
    ValueError: if `kind` is unknown or `num_codes` does not divide D.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> try:
    ...   retrieval.build_faiss(np.eye(4, dtype=np.float32), kind="tree")
    ... except ValueError as error:
    ...   print(error)
    build_faiss: `kind` must be "flat" or "ivfpq", got 'tree'.

  Source:
    Johnson, Douze, Jégou (arXiv 1702.08734); settings: fyang93/diffusion.
  """
  if kind not in ("flat", "ivfpq"):
    raise ValueError(
      f'build_faiss: `kind` must be "flat" or "ivfpq", got {kind!r}.'
    )
  vectors = np.ascontiguousarray(vectors, np.float32)
  dims = vectors.shape[1]
  if kind == "ivfpq" and dims % num_codes:
    raise ValueError(
      f"build_faiss: `num_codes` must divide {dims}, got {num_codes}."
    )
  faiss = _faiss()
  flat = faiss.IndexFlatIP(dims)
  if kind == "flat":
    flat.add(vectors)
    return flat
  index = faiss.IndexIVFPQ(
    flat, dims, num_lists, num_codes, 8, faiss.METRIC_INNER_PRODUCT
  )
  index.train(vectors)
  index.add(vectors)
  index.nprobe = num_probes
  index.quantizer_of_index = flat  # kept alive
  return index


def search_faiss(
  queries: np.ndarray,
  index: Any,
  *,
  top_k: int = 100,
  vectors: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Searches an index of FAISS.

  Args:
    queries: [Q, D].
    index: from `build_faiss`.
    top_k: k.
    vectors: [N, D]; the results are scored again with them, exactly.

  Returns:
    Rows int64 [Q, k] and scores [Q, k].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.search_faiss.__name__
    'search_faiss'

  Source:
    Johnson, Douze, Jégou (arXiv 1702.08734).
  """
  queries = np.ascontiguousarray(queries, np.float32)
  scores, rows = index.search(queries, top_k)
  if vectors is None:
    return rows, scores
  exact = np.einsum("qd,qkd->qk", queries, vectors[np.maximum(rows, 0)])
  exact = np.where(rows >= 0, exact, -np.inf)
  order = np.argsort(-exact, 1, kind="stable")
  return np.take_along_axis(rows, order, 1), np.take_along_axis(exact, order, 1)
