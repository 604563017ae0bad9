"""From similarities of regions to ranked images, and better rankings.

Vectors are unit rows, similarity is the dot product; scores of regions that
are not valid are -inf.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from vision_jax import ops

__all__ = [
  "ImageRanking",
  "augment_database",
  "diffuse",
  "expand_queries",
  "mutual_graph",
  "rank_images",
]


class ImageRanking(NamedTuple):
  """Images in the order of their best region.

  Attributes:
    order: images, best first, int [N].
    scores: of the images in that order, [N].
    regions: the best region of each, in that order: its row, int [N].
  """

  order: np.ndarray
  scores: np.ndarray
  regions: np.ndarray


def rank_images(scores: np.ndarray, image_ids: np.ndarray) -> ImageRanking:
  """Ranks images by the largest similarity of their regions.

  Args:
    scores: of the regions, [M]; -inf for those that do not count.
    image_ids: image of each region, int [M], ascending.

  Returns:
    The ranking; images without a region that counts are left out. Ties: lowest
    image, lowest region.

  Raises:
    ValueError: if `image_ids` are not ascending or the lengths differ.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> found = retrieval.rank_images(np.array([0.1, 0.9, 0.5]),
    ...                               np.array([0, 0, 1]))
    >>> print(found.order, found.scores, found.regions)
    [0 1] [0.9 0.5] [1 2]

  Source:
    wlzhao22/MSAR.
  """
  scores, image_ids = np.asarray(scores), np.asarray(image_ids)
  if scores.shape != image_ids.shape or (np.diff(image_ids) < 0).any():
    raise ValueError(
      "rank_images: `image_ids` must be ascending and as long as `scores`, got "
      f"{image_ids.shape} and {scores.shape}."
    )
  if not len(scores):
    return ImageRanking(image_ids, scores, np.zeros(0, np.int64))
  starts = np.flatnonzero(np.r_[True, image_ids[1:] != image_ids[:-1]])
  best = np.maximum.reduceat(scores, starts)
  group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(scores)]))
  hits = np.flatnonzero(scores == best[group])
  _, first = np.unique(group[hits], return_index=True)
  rows = hits[first]
  order = np.argsort(-best, kind="stable")
  order = order[np.isfinite(best[order])]
  return ImageRanking(image_ids[starts][order], best[order], rows[order])


def expand_queries(
  queries: jax.Array,
  neighbours: jax.Array,
  similarities: jax.Array,
  *,
  alpha: float = 0.0,
) -> jax.Array:
  """Adds to queries what they found first.

  Args:
    queries: unit vectors [Q, D].
    neighbours: vectors of their first n results, [Q, n, D].
    similarities: of the results, [Q, n].
    alpha: results weigh similarity^alpha; 0 is plain expansion (AQE), 3 usual
      for alpha-QE.

  Returns:
    Unit vectors [Q, D].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> out = retrieval.expand_queries(jnp.array([[1.0, 0.0]]),
    ...                                jnp.array([[[0.0, 1.0]]]),
    ...                                jnp.array([[0.5]]))
    >>> print(out)
    [[0.70710677 0.70710677]]

  Source:
    Chum et al., "Total Recall", ICCV 2007; Radenović et al. (arXiv
    1711.02512), sec. 3.3 (alpha).
  """
  weights = jnp.maximum(similarities, 0) ** alpha
  added = jnp.einsum("qn,qnd->qd", weights, neighbours, precision="highest")
  return ops.unit_rows(queries + added)


def augment_database(
  vectors: jax.Array, *, num_neighbours: int = 10, alpha: float = 3.0
) -> jax.Array:
  """Replaces each vector by a weighted sum of itself and its neighbours.

  Args:
    vectors: unit vectors [N, D].
    num_neighbours: n.
    alpha: as `expand_queries`.

  Returns:
    Unit vectors [N, D].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.augment_database(jnp.eye(4), num_neighbours=2).shape
    (4, 4)

  Source:
    Arandjelović, Zisserman, CVPR 2012, sec. 5.
  """
  similar = jnp.matmul(vectors, vectors.T, precision="highest")
  similar = jnp.where(jnp.eye(len(vectors), dtype=bool), -jnp.inf, similar)
  values, index = jax.lax.top_k(similar, min(num_neighbours, len(vectors) - 1))
  return expand_queries(vectors, vectors[index], values, alpha=alpha)


def mutual_graph(
  vectors: jax.Array, *, num_neighbours: int = 50, power: float = 3.0
) -> tuple[jax.Array, jax.Array]:
  """The normalised graph of mutual neighbours, as padded lists.

  Args:
    vectors: unit vectors [N, D].
    num_neighbours: k.
    power: similarities above 0 are raised to it.

  Returns:
    Neighbours int32 [N, k] and the entries of S = D^(-1/2) A D^(-1/2), [N, k];
    0 where the neighbour is not mutual.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> index, weight = retrieval.mutual_graph(jnp.eye(3), num_neighbours=2)
    >>> index.shape, weight.shape
    ((3, 2), (3, 2))

  Source:
    Iscen et al. (arXiv 1611.05113), sec. 3.
  """
  count = len(vectors)
  similar = jnp.matmul(vectors, vectors.T, precision="highest")
  similar = jnp.where(jnp.eye(count, dtype=bool), -jnp.inf, similar)
  values, index = jax.lax.top_k(similar, min(num_neighbours, count - 1))
  here = jnp.arange(count)
  mutual = (index[index] == here[:, None, None]).any(-1)
  weights = jnp.where(mutual, jnp.maximum(values, 0) ** power, 0)
  degree = weights.sum(-1)
  root = jnp.where(degree > 0, jax.lax.rsqrt(jnp.maximum(degree, 1e-30)), 0)
  return index, weights * root[:, None] * root[index]


def diffuse(
  graph: tuple[jax.Array, jax.Array],
  starts: jax.Array,
  *,
  alpha: float = 0.99,
  rounds: int = 20,
  tolerance: float = 1e-6,
) -> jax.Array:
  """Scores after a diffusion over the graph: solves (I - alpha S) f = y.

  Args:
    graph: from `mutual_graph`, N nodes.
    starts: y, the similarity to the nearest nodes and 0 elsewhere, [Q, N].
    alpha: share that is passed on.
    rounds: steps of conjugate gradients.
    tolerance: relative residual at which they end.

  Returns:
    f, [Q, N].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> vectors = jnp.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> graph = retrieval.mutual_graph(vectors, num_neighbours=2)
    >>> retrieval.diffuse(graph, jnp.array([[1.0, 0.0, 0.0]])).shape
    (1, 3)

  Source:
    Iscen et al. (arXiv 1611.05113), eq. 6 and 8; ahmetius/diffusion-retrieval.
  """
  index, weights = graph

  def product(f):
    return f - alpha * (weights * f[index]).sum(-1)

  def solve(y):
    return cg(product, y, tol=tolerance, maxiter=rounds)[0]

  return jax.vmap(solve)(starts)
