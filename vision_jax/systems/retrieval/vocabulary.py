"""Visual words: k-means, bags of local features (BLCF), Hamming embedding.

BLCF: Mohedano et al., "Bags of Local Convolutional Features for Scalable
Instance Search" (arXiv 1604.04653) and "Saliency Weighted Convolutional
Features" (arXiv 1711.10795). Hamming embedding: Jégou, Douze, Schmid, ECCV
2008.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops

__all__ = [
  "HammingEmbedding",
  "assign_words",
  "blcf_histogram",
  "embed_hamming",
  "fit_hamming",
  "hamming_scores",
  "inverse_document_frequency",
  "kmeans",
  "region_vlad",
]

_ROWS = 1 << 14  # descriptors compared with the words at once


@jax.jit
def _nearest(descriptors, words):
  products = jnp.matmul(descriptors, words.T, precision="highest")
  squares = (words * words).sum(-1)[None, :]
  return jnp.argmin(squares - 2 * products, -1)


def assign_words(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
  """Number of the nearest word of each descriptor; ties: the lowest.

  Args:
    descriptors: [N, D].
    words: [K, D].

  Returns:
    int32 [N].

  Raises:
    ValueError: if the lengths differ.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> words = np.array([[0.0, 0.0], [5.0, 5.0]], np.float32)
    >>> print(retrieval.assign_words(words + 1, words))
    [0 1]

  Source:
    Definition.
  """
  descriptors = np.asarray(descriptors, np.float32)
  words = np.asarray(words, np.float32)
  if descriptors.ndim != 2 or descriptors.shape[1:] != words.shape[1:]:
    raise ValueError(
      "assign_words: `descriptors` [N, D] and `words` [K, D] must have the "
      f"same D, got {descriptors.shape} and {words.shape}."
    )
  found = np.zeros(len(descriptors), np.int32)
  for start in range(0, len(descriptors), _ROWS):
    part = descriptors[start : start + _ROWS]
    room = 1 << max(len(part) - 1, 1).bit_length()  # few shapes to compile
    padded = np.zeros((min(room, _ROWS), part.shape[1]), np.float32)
    padded[: len(part)] = part
    found[start : start + len(part)] = _nearest(padded, words)[: len(part)]
  return found


def kmeans(
  descriptors: np.ndarray, num_words: int, *, rounds: int = 20, seed: int = 0
) -> np.ndarray:
  """Lloyd's algorithm, from descriptors drawn at random as centres.

  A centre that loses all members is set on the member of the largest group
  that is drawn next.

  Args:
    descriptors: [N, D].
    num_words: K, at most N.
    rounds: at most so many; ends when nothing changes.
    seed: of the draws.

  Returns:
    Centres float32 [K, D].

  Raises:
    ValueError: if there are fewer descriptors than words.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> x = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> print(np.sort(retrieval.kmeans(x, 2).ravel()))
    [ 0.5 10.5]

  Source:
    Lloyd, "Least squares quantization in PCM", 1982.
  """
  x = np.asarray(descriptors, np.float32)
  if x.ndim != 2 or not 1 <= num_words <= len(x):
    raise ValueError(
      f"kmeans: `num_words` must be between 1 and the number of descriptors "
      f"{len(x)}, got {num_words}."
    )
  rng = np.random.default_rng(seed)
  centres = x[rng.choice(len(x), num_words, replace=False)]
  member = np.full(len(x), -1)
  for _ in range(rounds):
    now = assign_words(x, centres)
    if (now == member).all():
      break
    member = now
    counts = np.bincount(member, minlength=num_words)
    sums = np.zeros(centres.shape, np.float64)
    np.add.at(sums, member, x)
    centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    for empty in np.flatnonzero(counts == 0):
      group = np.flatnonzero(member == counts.argmax())
      centres[empty] = x[rng.choice(group)]
  return centres


def blcf_histogram(
  words: np.ndarray, weights: np.ndarray, num_words: int
) -> np.ndarray:
  """Bag of local convolutional features: weights summed for each word.

  Args:
    words: of the cells of a map, int [...], from `assign_words`.
    weights: of the cells, [...]: 1, a saliency, or 0 outside of a query's box.
    num_words: K.

  Returns:
    Unit vector float32 [K]; 0 if all weights are.

  Raises:
    ValueError: if the shapes differ.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> words = np.array([[0, 1], [1, 1]])
    >>> print(retrieval.blcf_histogram(words, np.ones((2, 2)), 2).round(3))
    [0.316 0.949]

  Source:
    Mohedano et al. (arXiv 1711.10795), sec. 3.
  """
  words, weights = np.asarray(words), np.asarray(weights, np.float64)
  if words.shape != weights.shape:
    raise ValueError(
      "blcf_histogram: `words` and `weights` must have the same shape, got "
      f"{words.shape} and {weights.shape}."
    )
  counts = np.bincount(words.ravel(), weights.ravel(), minlength=num_words)
  norm = np.linalg.norm(counts)
  return (counts / (norm if norm > 0 else 1)).astype(np.float32)


def inverse_document_frequency(
  words: list[np.ndarray], num_words: int
) -> np.ndarray:
  """log(N / images that have the word); 0 for words that none has.

  Args:
    words: of each image, int [n].
    num_words: K.

  Returns:
    float32 [K].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> idf = retrieval.inverse_document_frequency(
    ...   [np.array([0, 0]), np.array([0, 1])], 3)
    >>> print(idf.round(3))
    [0.    0.693 0.   ]

  Source:
    Sivic, Zisserman, "Video Google", ICCV 2003.
  """
  counts = np.zeros(num_words)
  for one in words:
    counts[np.unique(one)] += 1
  known = counts > 0
  ratio = len(words) / np.where(known, counts, 1)
  return np.where(known, np.log(ratio), 0).astype(np.float32)


class HammingEmbedding(NamedTuple):
  """Random directions and, for each word, their medians.

  Attributes:
    projection: orthonormal columns, float32 [D, bits].
    medians: float32 [K, bits].
  """

  projection: np.ndarray
  medians: np.ndarray


def fit_hamming(
  descriptors: np.ndarray,
  words: np.ndarray,
  num_words: int,
  *,
  num_bits: int = 64,
  seed: int = 0,
) -> HammingEmbedding:
  """Learns where each word is divided by each direction.

  Args:
    descriptors: [N, D].
    words: of the descriptors, int [N].
    num_words: K.
    num_bits: at most D.
    seed: of the directions.

  Returns:
    The embedding; words without members get the medians of all.

  Raises:
    ValueError: if there are more bits than dimensions.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> x = np.random.default_rng(0).normal(size=(50, 8))
    >>> embedding = retrieval.fit_hamming(x, np.zeros(50, int), 1, num_bits=4)
    >>> embedding.projection.shape, embedding.medians.shape
    ((8, 4), (1, 4))

  Source:
    Jégou, Douze, Schmid, ECCV 2008, sec. 4.1.
  """
  x = np.asarray(descriptors, np.float32)
  if not 1 <= num_bits <= x.shape[1]:
    raise ValueError(
      f"fit_hamming: `num_bits` must be between 1 and {x.shape[1]}, got "
      f"{num_bits}."
    )
  draws = np.random.default_rng(seed).normal(size=(x.shape[1], x.shape[1]))
  projection = np.linalg.qr(draws)[0][:, :num_bits].astype(np.float32)
  seen = x @ projection
  medians = np.tile(np.median(seen, 0), (num_words, 1)).astype(np.float32)
  for word in np.unique(words):
    medians[word] = np.median(seen[words == word], 0)
  return HammingEmbedding(projection, medians)


def embed_hamming(
  descriptors: np.ndarray, words: np.ndarray, embedding: HammingEmbedding
) -> np.ndarray:
  """Signatures: one bit for each direction.

  Args:
    descriptors: [N, D].
    words: int [N].
    embedding: from `fit_hamming`.

  Returns:
    bool [N, bits].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> embedding = retrieval.HammingEmbedding(np.eye(2), np.zeros((1, 2)))
    >>> print(retrieval.embed_hamming(np.array([[1.0, -1.0]]),
    ...                               np.array([0]), embedding))
    [[ True False]]

  Source:
    Jégou, Douze, Schmid, ECCV 2008, sec. 4.1.
  """
  seen = np.asarray(descriptors, np.float32) @ embedding.projection
  return seen > embedding.medians[words]


def hamming_scores(
  query: tuple[np.ndarray, np.ndarray],
  database: list[tuple[np.ndarray, np.ndarray]],
  *,
  idf: np.ndarray,
  threshold: int = 24,
) -> np.ndarray:
  """Scores of images: pairs of the same word whose signatures are near.

  A pair counts idf^2; the sum is divided by the root of the number of
  descriptors of the image. `threshold` is for 64 bits.

  Args:
    query: words int [n] and signatures bool [n, bits].
    database: the same of each image.
    idf: of the words, [K].
    threshold: largest Hamming distance.

  Returns:
    float64 [number of images].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> one = (np.array([0, 1]), np.zeros((2, 8), bool))
    >>> print(retrieval.hamming_scores(one, [one], idf=np.ones(2)).round(3))
    [1.414]

  Source:
    Jégou, Douze, Schmid, ECCV 2008, sec. 4.2.
  """
  words, bits = query
  scores = np.zeros(len(database))
  for place, (other, theirs) in enumerate(database):
    rows, columns = np.nonzero(words[:, None] == other[None, :])
    distance = (bits[rows] != theirs[columns]).sum(-1)
    near = distance <= threshold
    total = (idf[words[rows[near]]].astype(np.float64) ** 2).sum()
    scores[place] = total / np.sqrt(max(len(other), 1))
  return scores


def region_vlad(
  descriptors: jax.Array,
  valid: jax.Array,
  centres: jax.Array,
  *,
  whitening: ops.Whitening | None = None,
) -> jax.Array:
  """DASR+VLAD: one vector of the region descriptors of an image.

  Args:
    descriptors: unit vectors [R, D].
    valid: bool [R].
    centres: of the (whitened) descriptors, [K, d].
    whitening: from D to d; the deck's size, 8192, is K = 64 by d = 128.

  Returns:
    Unit vector [K d].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> out = retrieval.region_vlad(jnp.eye(3), jnp.ones(3, bool),
    ...                             jnp.zeros((2, 3)))
    >>> out.shape
    (6,)

  Source:
    Deck of DASR; sizes inferred, after Jégou et al., CVPR 2010.
  """
  if whitening is not None:
    descriptors = ops.whiten(descriptors, whitening)
  return ops.vlad(descriptors, centres, valid=valid)
