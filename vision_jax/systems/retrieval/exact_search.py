"""Exact search by dot products, on one device or divided over several."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["Database", "SearchResult", "place_database", "search"]

_BLOCK = 128  # scores of which the maximum is looked at first
_MOST_SCORES = 1 << 27  # held at once on each device
_LONG = 1024  # dimensions of what counts as a long row


class Database(NamedTuple):
  """Vectors on the devices, from `place_database`.

  Attributes:
    vectors: [S, n, D], row S n + r is row r of part s; zeros at the end.
    num_rows: number of vectors N.
  """

  vectors: jax.Array
  num_rows: int


class SearchResult(NamedTuple):
  """What was found, best first.

  Attributes:
    rows: of the database, int32 [Q, k]; -1 where there are fewer.
    scores: dot products [Q, k]; -inf where there are fewer.
  """

  rows: jax.Array
  scores: jax.Array


def place_database(
  vectors: np.ndarray | jax.Array,
  *,
  devices: Sequence[Any] | None = None,
  dtype: Any = jnp.float32,
) -> Database:
  """Puts vectors on devices, the same number of rows on each.

  Args:
    vectors: [N, D].
    devices: over which the rows are divided; one by default.
    dtype: of storage; bfloat16 halves the memory.

  Returns:
    The database, to be searched any number of times.

  Raises:
    ValueError: if `vectors` is not [N, D] with at least one row.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.place_database(np.eye(5, 3)).vectors.shape
    (1, 5, 3)

  Source:
    Interface of this library.
  """
  if vectors.ndim != 2 or 0 in vectors.shape:
    raise ValueError(
      "place_database: `vectors` must be [N, D] with at least one row, got "
      f"shape {vectors.shape}."
    )
  devices = list(devices) if devices else jax.devices()[:1]
  rows = math.ceil(len(vectors) / len(devices))
  missing = rows * len(devices) - len(vectors)
  if missing:
    vectors = np.concatenate(
      [vectors, np.zeros((missing, vectors.shape[1]), vectors.dtype)]
    )
  parts = vectors.reshape(len(devices), rows, -1)
  if len(devices) == 1:
    placed = jax.device_put(jnp.asarray(parts, dtype), devices[0])
  else:
    mesh = Mesh(np.array(devices), ("rows",))
    placed = jax.device_put(
      parts.astype(dtype), NamedSharding(mesh, PartitionSpec("rows"))
    )
  return Database(placed, len(vectors) - missing)


def _best(scores: jax.Array, top_k: int) -> tuple[jax.Array, jax.Array]:
  """The best of the last axis; equal scores: lowest index first.

  They lie in the blocks with the largest maxima, or behind the last whole
  block, so that only those are sorted.
  """
  length = scores.shape[-1]
  if length < 4 * _BLOCK * top_k:
    return lax.top_k(scores, min(top_k, length))
  whole = length // _BLOCK * _BLOCK
  blocks = scores[..., :whole].reshape(*scores.shape[:-1], -1, _BLOCK)
  _, chosen = lax.top_k(blocks.max(-1), top_k)
  chosen = jnp.sort(chosen, -1)
  line = jnp.arange(_BLOCK).reshape(*[1] * chosen.ndim, -1)
  place = (chosen[..., None] * _BLOCK + line).reshape(*chosen.shape[:-1], -1)
  rest = jnp.arange(whole, length)
  rest = jnp.broadcast_to(rest, (*place.shape[:-1], length - whole))
  place = jnp.concatenate([place, rest], -1)
  values, at = lax.top_k(jnp.take_along_axis(scores, place, -1), top_k)
  return values, jnp.take_along_axis(place, at, -1)


def _products(queries: jax.Array, vectors: jax.Array) -> jax.Array:
  """Dot products of [Q, D] and [S, n, D], float32 [S, Q, n].

  In this form, a product for each part, since of three axes XLA makes a loop
  that is six times slower on a CPU. Long rows come first there, at twice the
  speed, which the barrier keeps XLA from undoing.
  """
  product = functools.partial(
    jnp.einsum, precision="highest", preferred_element_type=jnp.float32
  )
  queries = jnp.broadcast_to(queries, (len(vectors), *queries.shape))
  if vectors.shape[-1] < _LONG:
    return product("sqd,srd->sqr", queries, vectors)
  scores = lax.optimization_barrier(product("srd,sqd->srq", vectors, queries))
  return scores.swapaxes(1, 2)


@functools.partial(jax.jit, static_argnames=("count", "top_k", "rows"))
def _search(queries, vectors, count, top_k, rows):
  """Parts of `rows` rows one after the other; [S, Q, k], then [Q, k]."""
  shards, length, _ = vectors.shape

  def part(start, size):
    seen = lax.dynamic_slice_in_dim(vectors, start, size, 1)
    scores = _products(queries.astype(seen.dtype), seen)
    if count < shards * length:
      first = jnp.arange(shards)[:, None, None] * length + start
      known = first + jnp.arange(size)[None, None] < count
      scores = jnp.where(known, scores, -jnp.inf)
    values, at = _best(scores, top_k)
    short = top_k - values.shape[-1]
    pads = [(0, 0), (0, 0), (0, max(short, 0))]
    values = jnp.pad(values, pads, constant_values=-jnp.inf)
    return values, jnp.pad(at + start, pads)

  def merge(a, b):
    values = jnp.concatenate([a[0], b[0]], -1)
    index = jnp.concatenate([a[1], b[1]], -1)
    values, at = lax.top_k(values, top_k)
    return values, jnp.take_along_axis(index, at, -1)

  whole = length // rows
  found = part(0, rows)
  if whole > 1:
    found = lax.fori_loop(
      1, whole, lambda k, f: merge(f, part(k * rows, rows)), found
    )
  if length % rows:
    found = merge(found, part(whole * rows, length % rows))
  values, index = found
  index = index + (jnp.arange(shards) * length)[:, None, None]
  flat, index = (
    x.swapaxes(0, 1).reshape(len(queries), -1) for x in (values, index)
  )
  best, at = lax.top_k(flat, top_k)
  index = jnp.take_along_axis(index, at, -1)
  known = jnp.isfinite(best)
  return jnp.where(known, index, -1).astype(jnp.int32), best


def search(
  queries: np.ndarray | jax.Array, database: Database, *, top_k: int = 100
) -> SearchResult:
  """The rows of a database with the largest dot products.

  Exact; the result does not depend on the number of devices. Equal scores:
  lowest row first.

  Args:
    queries: [Q, D].
    database: from `place_database`.
    top_k: k; may be more than there are.

  Returns:
    Rows and scores [Q, k].

  Raises:
    ValueError: if the lengths differ or `top_k` is below 1.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> database = retrieval.place_database(np.eye(4, dtype=np.float32))
    >>> found = retrieval.search(np.array([[0.1, 0.9, 0.0, 0.3]]), database,
    ...                          top_k=2)
    >>> print(found.rows, found.scores)
    [[1 3]] [[0.9 0.3]]

  Source:
    Definition.
  """
  queries = jnp.asarray(queries, jnp.float32)
  vectors = database.vectors
  if queries.ndim != 2 or queries.shape[1] != vectors.shape[-1]:
    raise ValueError(
      f"search: `queries` must be [Q, {vectors.shape[-1]}], got "
      f"{queries.shape}; were they described by another model?"
    )
  if top_k < 1:
    raise ValueError(f"search: `top_k` must be at least 1, got {top_k}.")
  rows = max(_MOST_SCORES // max(len(queries), 1), top_k, 1)
  rows = min(rows, vectors.shape[1])
  index, scores = _search(queries, vectors, database.num_rows, top_k, rows)
  return SearchResult(index, scores)
