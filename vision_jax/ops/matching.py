"""Matching of descriptors, and greedy assignment.

Every matcher takes one table [K0, K1] and returns `Matches` of K0 rows, of
which row i speaks about item i of set 0. Sizes are static: padding is passed as
`valid` to `similarity` (or to `match_greedy`) and is never matched, nor are
descriptors that are not finite. Ties go to the lowest index. For a batch use
`jax.vmap`.

    matches = match_mutual(similarity(descriptors0, descriptors1), ratio=0.9)
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.floats import at_least_float32
from vision_jax.ops.structures import Matches

__all__ = [
  "match_dual_softmax",
  "match_greedy",
  "match_mutual",
  "match_one_way",
  "similarity",
]


def similarity(
  descriptors0: jax.Array,
  descriptors1: jax.Array,
  *,
  valid0: jax.Array | None = None,
  valid1: jax.Array | None = None,
) -> jax.Array:
  """Dot products of all pairs of descriptors; -inf for impossible pairs.

  Convention:
    Cosine similarity if the descriptors have length 1. Computed in float32 or
    wider at the highest matrix precision.

  Args:
    descriptors0: descriptors of image 0, [K0, D].
    descriptors1: descriptors of image 1, [K1, D].
    valid0: bool [K0]; False marks padding. None means all.
    valid1: bool [K1].

  Returns:
    Table [K0, K1]; -inf where a row is padding or not finite.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> d = jnp.eye(2)
    >>> print(ops.similarity(d, d, valid1=jnp.array([True, False])))
    [[  1. -inf]
     [  0. -inf]]

  Source:
    Definition.
  """
  descriptors0, descriptors1 = (
    jnp.asarray(descriptors0),
    jnp.asarray(descriptors1),
  )
  for name, d in (
    ("descriptors0", descriptors0),
    ("descriptors1", descriptors1),
  ):
    if d.ndim != 2:
      raise ValueError(
        f"similarity: `{name}` must be [K, D], got shape {d.shape}; use "
        "jax.vmap for a batch."
      )
  if descriptors0.shape[1] != descriptors1.shape[1]:
    raise ValueError(
      "similarity: `descriptors1` must have the dimension of `descriptors0`, "
      f"{descriptors0.shape[1]}, got {descriptors1.shape[1]}."
    )
  dtype = jnp.promote_types(
    jnp.promote_types(descriptors0.dtype, descriptors1.dtype), jnp.float32
  )
  tables = []
  for name, d, valid in (
    ("valid0", descriptors0.astype(dtype), valid0),
    ("valid1", descriptors1.astype(dtype), valid1),
  ):
    usable = jnp.isfinite(d).all(axis=1)
    usable &= _valid_rows("similarity", name, valid, len(d))
    tables.append((jnp.where(usable[:, None], d, 0), usable))
  (d0, usable0), (d1, usable1) = tables
  products = jnp.matmul(d0, d1.T, precision="highest")
  return jnp.where(usable0[:, None] & usable1[None, :], products, -jnp.inf)


def match_one_way(
  similarities: jax.Array,
  *,
  ratio: float | None = None,
  max_distance: float | None = None,
) -> Matches:
  """The most similar item of set 1 for each item of set 0.

  Convention:
    The limits are on the distance d of descriptors of length 1,
    d^2 = 2 - 2 similarity. Several rows may name the same item.

  Args:
    similarities: table [K0, K1]; -inf or NaN marks impossible pairs.
    ratio: keep a match if d1 <= ratio * d2, where d1 and d2 are the distances
      to the nearest and the second nearest item. It has no effect on a row with
      fewer than two possible items.
    max_distance: keep a match if d1 <= max_distance.

  Returns:
    `Matches` of K0 rows; row i has index0 = i and the similarity as score, or
    -1, -1, 0 and valid False.

  Raises:
    ValueError: if the table is not [K0, K1] or a limit is negative.

  Example:
    >>> from vision_jax import ops
    >>> table = jnp.array([[0.9, 0.1], [0.8, 0.2]])
    >>> print(ops.match_one_way(table).index1)
    [0 0]

  Source:
    Lowe, Distinctive image features from scale-invariant keypoints, 2004,
    section 7.1 (ratio).
  """
  table = _as_table("match_one_way", "similarities", similarities)
  _check_limits("match_one_way", ratio, max_distance)
  if not table.size:
    return _no_matches(table)
  index, kept = _nearest(table, 1, ratio, max_distance)
  return _as_matches(table, index, kept)


def match_mutual(
  similarities: jax.Array,
  *,
  ratio: float | None = None,
  max_distance: float | None = None,
) -> Matches:
  """Pairs of which each is the other's most similar item.

  Convention:
    As `match_one_way`; the limits must hold in both directions.

  Args:
    similarities: table [K0, K1]; -inf or NaN marks impossible pairs.
    ratio: see `match_one_way`.
    max_distance: see `match_one_way`.

  Returns:
    `Matches` of K0 rows, each item of set 1 at most once; see `match_one_way`.

  Raises:
    ValueError: if the table is not [K0, K1] or a limit is negative.

  Example:
    >>> from vision_jax import ops
    >>> table = jnp.array([[0.9, 0.1], [0.8, 0.2]])
    >>> print(ops.match_mutual(table).index1)
    [ 0 -1]

  Source:
    Lowe 2004, section 7.1 (ratio), in both directions as is usual for learned
    features.
  """
  table = _as_table("match_mutual", "similarities", similarities)
  _check_limits("match_mutual", ratio, max_distance)
  if not table.size:
    return _no_matches(table)
  index1, kept0 = _nearest(table, 1, ratio, max_distance)
  index0, kept1 = _nearest(table, 0, ratio, max_distance)
  mutual = index0[index1] == jnp.arange(len(table))
  return _as_matches(table, index1, kept0 & mutual & kept1[index1])


def match_dual_softmax(
  similarities: jax.Array, *, beta: float = 20.0, threshold: float = 0.1
) -> Matches:
  """Mutual best pairs by the product of the softmax over rows and columns.

  The score p = softmax_j(beta s_ij) softmax_i(beta s_ij) is the probability
  that both items choose each other.

  Args:
    similarities: table s [K0, K1]; -inf or NaN marks impossible pairs.
    beta: inverse temperature.
    threshold: keep a pair if p > threshold.

  Returns:
    `Matches` of K0 rows with p as score, differentiable; each item of set 1 at
    most once; see `match_one_way`.

  Raises:
    ValueError: if the table is not [K0, K1].

  Example:
    >>> from vision_jax import ops
    >>> matches = ops.match_dual_softmax(jnp.eye(2))
    >>> print(matches.index1, matches.scores)
    [0 1] [1. 1.]

  Source:
    Rocco et al., Neighbourhood consensus networks, 2018 (dual softmax); Edstedt
    et al., DeDoDe, 2024 (settings).
  """
  table = _as_table("match_dual_softmax", "similarities", similarities)
  if not table.size:
    return _no_matches(table)
  possible = table > -jnp.inf
  # Finite, so that a row without any possible pair has a gradient (of 0).
  logits = jnp.where(possible, beta * table, jnp.finfo(table.dtype).min / 2)
  probs = jax.nn.softmax(logits, axis=1) * jax.nn.softmax(logits, axis=0)
  probs = jnp.where(possible, probs, 0)
  _, index1 = _first_maximum(probs, 1)
  _, index0 = _first_maximum(probs, 0)
  score = jnp.take_along_axis(probs, index1[:, None], axis=1)[:, 0]
  mutual = index0[index1] == jnp.arange(len(table))
  possible = jnp.take_along_axis(possible, index1[:, None], axis=1)[:, 0]
  return _as_matches(probs, index1, mutual & possible & (score > threshold))


def match_greedy(
  cost: jax.Array,
  *,
  max_cost: float = math.inf,
  valid0: jax.Array | None = None,
  valid1: jax.Array | None = None,
) -> Matches:
  """One-to-one assignment that takes the cheapest free pair again and again.

  Equal to sorting all pairs by (cost, index0, index1) and accepting each pair
  of which both ends are free. It is computed by rounds that accept every pair
  that is the first of its row and of its column among the free ones, which is
  the same set because the order is strict.

  Args:
    cost: table [K0, K1], e.g. distances; a cost that is not finite forbids the
      pair.
    max_cost: largest cost that is accepted, inclusive.
    valid0: bool [K0]; False marks padding. None means all.
    valid1: bool [K1].

  Returns:
    `Matches` of K0 rows with -cost as score, each item of set 1 at most once;
    see `match_one_way`.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> cost = jnp.array([[1.0, 2.0], [0.5, 9.0]])
    >>> print(ops.match_greedy(cost).index1)
    [1 0]
    >>> print(ops.match_greedy(cost, max_cost=1.0).index1)
    [-1  0]

  Source:
    Benbihi et al., ELF, ICCV 2019 (evaluation protocol); Preis, Linear time
    1/2-approximation for maximum weighted matching, 1999 (locally best pairs).
  """
  table = _as_table("match_greedy", "cost", cost)
  num0, num1 = table.shape
  allowed = (
    _valid_rows("match_greedy", "valid0", valid0, num0)[:, None]
    & _valid_rows("match_greedy", "valid1", valid1, num1)[None, :]
    & (table > -jnp.inf)
    & (table <= max_cost)
  )
  if not table.size:
    return _no_matches(table)
  gain = lax.stop_gradient(jnp.where(allowed, -table, -jnp.inf))

  def unfinished(state):
    free0, free1, _, progress = state
    return progress & free0.any() & free1.any()

  def accept_first_pairs(state):
    free0, free1, assigned, _ = state
    free = jnp.where(free0[:, None] & free1[None, :], gain, -jnp.inf)
    best, index1 = _first_maximum(free, 1)
    _, index0 = _first_maximum(free, 0)
    accepted = (best > -jnp.inf) & (index0[index1] == jnp.arange(num0))
    taken = jnp.where(accepted, index1, num1)
    return (
      free0 & ~accepted,
      free1.at[taken].set(False, mode="drop"),
      jnp.where(accepted, index1, assigned),
      accepted.any(),
    )

  state = (
    allowed.any(axis=1),
    allowed.any(axis=0),
    jnp.full(num0, -1, jnp.int32),
    jnp.array(True),
  )
  _, _, assigned, _ = lax.while_loop(unfinished, accept_first_pairs, state)
  return _as_matches(-table, jnp.maximum(assigned, 0), assigned >= 0)


def _as_table(function: str, name: str, table: jax.Array) -> jax.Array:
  """Checks [K0, K1]; float32 or wider, -inf for all that is not finite."""
  table = jnp.asarray(table)
  if table.ndim != 2:
    raise ValueError(
      f"{function}: `{name}` must be [K0, K1], got shape {table.shape}; use "
      "jax.vmap for a batch."
    )
  table = at_least_float32(table)
  return jnp.where(jnp.isfinite(table), table, -jnp.inf)


def _valid_rows(
  function: str, name: str, valid: jax.Array | None, count: int
) -> jax.Array:
  """`valid` as bool [count]; all True for None."""
  if valid is None:
    return jnp.ones(count, bool)
  valid = jnp.asarray(valid)
  if valid.shape != (count,):
    raise ValueError(
      f"{function}: `{name}` must be [{count}], got shape {valid.shape}."
    )
  return valid.astype(bool)


def _check_limits(
  function: str, ratio: float | None, max_distance: float | None
) -> None:
  """Raises if a limit is negative."""
  for name, limit in (("ratio", ratio), ("max_distance", max_distance)):
    if limit is not None and limit < 0:
      raise ValueError(
        f"{function}: `{name}` must be at least 0 or None, got {limit}."
      )


def _first_maximum(table: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  """Maximum along `axis` and its first index; no gradient."""
  table = lax.stop_gradient(table)
  best = table.max(axis=axis, keepdims=True)
  # Two reductions of floats, several times faster than argmax on a CPU.
  position = lax.broadcasted_iota(jnp.float32, table.shape, axis)
  index = jnp.where(table == best, position, jnp.inf).min(axis=axis)
  return best.squeeze(axis), index.astype(jnp.int32)


def _nearest(
  table: jax.Array,
  axis: int,
  ratio: float | None,
  max_distance: float | None,
) -> tuple[jax.Array, jax.Array]:
  """Index of the first maximum along `axis`, and whether the limits hold."""
  best, index = _first_maximum(table, axis)
  kept = best > -jnp.inf
  square = jnp.maximum(2 - 2 * best, 0)
  if max_distance is not None:
    kept &= square <= max_distance**2
  if ratio is not None:
    position = lax.broadcasted_iota(jnp.int32, table.shape, axis)
    rest = jnp.where(
      position == jnp.expand_dims(index, axis), -jnp.inf, table
    ).max(axis=axis)
    alone = rest == -jnp.inf
    kept &= alone | (square <= ratio**2 * jnp.maximum(2 - 2 * rest, 0))
  return index, kept


def _as_matches(
  scores: jax.Array, index1: jax.Array, valid: jax.Array
) -> Matches:
  """Matches of row i with `index1[i]`; padding where not `valid`."""
  rows = jnp.arange(len(index1), dtype=jnp.int32)
  score = jnp.take_along_axis(scores, index1[:, None], axis=1)[:, 0]
  return Matches(
    index0=jnp.where(valid, rows, -1),
    index1=jnp.where(valid, index1, -1),
    scores=jnp.where(valid, score, 0),
    valid=valid,
  )


def _no_matches(table: jax.Array) -> Matches:
  """Padding only, for a table without entries."""
  rows = jnp.full(len(table), -1, jnp.int32)
  return Matches(rows, rows, jnp.zeros(len(table), table.dtype), rows >= 0)
