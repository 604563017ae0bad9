"""Scores of ranked images; `localization` scores the boxes found in them.

Published numbers differ in their average precision; each variant has its own
name here. A ranking is an array of image numbers, best first; images that it
leaves out count as never found.

========================================  ===================================
Function                                  Used for
========================================  ===================================
`average_precision_trapezoid`             Oxford, Paris and their revisited
                                          forms, Holidays, INSTRE
`average_precision`                       INSTRE and Instance sets, "all"
`average_precision_at`                    Instance sets, Top-50 and Top-100
`average_precision_truncated`             the same in MSAR's code
========================================  ===================================
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
  "REVISITED_PROTOCOLS",
  "average_precision",
  "average_precision_at",
  "average_precision_trapezoid",
  "average_precision_truncated",
  "mean_average_precision",
  "precision_at",
  "random_average_precision",
  "revisited_truth",
]

Numbers = Sequence[int] | np.ndarray

REVISITED_PROTOCOLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
  "easy": (("easy",), ("junk", "hard")),
  "medium": (("easy", "hard"), ("junk",)),
  "hard": (("hard",), ("junk", "easy")),
}
"""Of revisited Oxford and Paris: what is relevant, what is ignored."""


def hit_ranks(
  function: str, ranking: Numbers, relevant: Numbers, junk: Numbers
) -> np.ndarray:
  """Ranks, from 0, of the relevant images when junk is taken out."""
  ranking = np.asarray(ranking, np.int64)
  if ranking.ndim != 1 or len(np.unique(ranking)) != len(ranking):
    raise ValueError(
      f"{function}: `ranking` must be [N] without repeated images, got shape "
      f"{ranking.shape} with {len(np.unique(ranking))} different ones."
    )
  ranking = ranking[~np.isin(ranking, np.asarray(junk, np.int64))]
  return np.flatnonzero(np.isin(ranking, np.asarray(relevant, np.int64)))


def count_relevant(function: str, relevant: Numbers) -> int:
  number = len(np.unique(np.asarray(relevant, np.int64)))
  if not number:
    raise ValueError(
      f"{function}: `relevant` must not be empty; leave such queries out."
    )
  return number


def average_precision(
  ranking: Numbers, relevant: Numbers, *, junk: Numbers = ()
) -> float:
  """Mean over the relevant images of the precision at their rank.

  Args:
    ranking: image numbers, best first, [N].
    relevant: numbers of the relevant images.
    junk: images that are taken out of the ranking.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.average_precision([7, 3], [3])
    0.5

  Source:
    Definition.
  """
  number = count_relevant("average_precision", relevant)
  ranks = hit_ranks("average_precision", ranking, relevant, junk)
  hits = np.arange(1, len(ranks) + 1)
  return float((hits / (ranks + 1)).sum() / number)


def average_precision_trapezoid(
  ranking: Numbers, relevant: Numbers, *, junk: Numbers = ()
) -> float:
  """Area under precision over recall by the rule of trapezoids.

  Args:
    ranking: image numbers, best first, [N].
    relevant: numbers of the relevant images.
    junk: images that are taken out of the ranking.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.average_precision_trapezoid([7, 3], [3])
    0.25

  Source:
    Philbin et al., CVPR 2007; filipradenovic/revisitop, evaluate.py.
  """
  name = "average_precision_trapezoid"
  number = count_relevant(name, relevant)
  ranks = hit_ranks(name, ranking, relevant, junk)
  hits = np.arange(len(ranks))
  before = np.where(ranks == 0, 1.0, hits / np.maximum(ranks, 1))
  after = (hits + 1) / (ranks + 1)
  return float((before + after).sum() / (2 * number))


def average_precision_at(
  ranking: Numbers, relevant: Numbers, top_k: int, *, junk: Numbers = ()
) -> float:
  """`average_precision` over the first k images, for all relevant ones.

  Divided by the number of relevant images even where it is above k, so that it
  cannot reach 1 there.

  Args:
    ranking: image numbers, best first, [N].
    relevant: numbers of the relevant images.
    top_k: k.
    junk: images that are taken out of the ranking.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.average_precision_at([3, 1, 4], [3, 4], 2)
    0.5

  Source:
    Xiao et al. (arXiv 2002.00185), Top-50 and Top-100; denominator inferred.
  """
  name = "average_precision_at"
  number = count_relevant(name, relevant)
  ranks = hit_ranks(name, ranking, relevant, junk)
  ranks = ranks[ranks < top_k]
  hits = np.arange(1, len(ranks) + 1)
  return float((hits / (ranks + 1)).sum() / number)


def average_precision_truncated(
  ranking: Numbers, relevant: Numbers, top_k: int, *, junk: Numbers = ()
) -> float:
  """`average_precision_at`, divided by min(k, number of relevant images).

  Args:
    ranking: image numbers, best first, [N].
    relevant: numbers of the relevant images.
    top_k: k.
    junk: images that are taken out of the ranking.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.average_precision_truncated([3, 1, 4], [3, 4], 1)
    1.0

  Source:
    wlzhao22/MSAR.
  """
  number = count_relevant("average_precision_truncated", relevant)
  value = average_precision_at(ranking, relevant, top_k, junk=junk)
  return value * number / min(top_k, number)


def precision_at(
  ranking: Numbers, relevant: Numbers, top_k: int, *, junk: Numbers = ()
) -> float:
  """Share of relevant images among the first k (mP@k).

  k is at most the rank of the last relevant image, so that a short list of
  relevant images can reach 1.

  Args:
    ranking: image numbers, best first, [N].
    relevant: numbers of the relevant images.
    top_k: k.
    junk: images that are taken out of the ranking.

  Returns:
    In [0, 1].

  Raises:
    ValueError: if an image is ranked twice or nothing is relevant.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.precision_at([3, 1, 4], [3, 1], 10)
    1.0

  Source:
    filipradenovic/revisitop, evaluate.py.
  """
  count_relevant("precision_at", relevant)
  ranks = hit_ranks("precision_at", ranking, relevant, junk)
  if not len(ranks):
    return 0.0
  limit = min(int(ranks[-1]) + 1, top_k)
  return float((ranks < limit).sum() / limit)


def revisited_truth(
  truth: Mapping[str, Numbers], protocol: str
) -> tuple[np.ndarray, np.ndarray]:
  """Relevant and junk images of a query of revisited Oxford or Paris.

  Args:
    truth: image numbers under "easy", "hard" and "junk".
    protocol: "easy", "medium" or "hard".

  Returns:
    Numbers of the relevant and of the junk images.

  Raises:
    ValueError: if the protocol is unknown.

  Example:
    >>> from vision_jax import metrics
    >>> truth = {"easy": [1], "hard": [4], "junk": [2]}
    >>> metrics.revisited_truth(truth, "hard")
    (array([4]), array([2, 1]))

  Source:
    Radenović et al. (arXiv 1803.11285), sec. 2.3.
  """
  if protocol not in REVISITED_PROTOCOLS:
    raise ValueError(
      "revisited_truth: `protocol` must be one of "
      f"{', '.join(REVISITED_PROTOCOLS)}, got {protocol!r}."
    )
  relevant, junk = (
    np.concatenate([np.asarray(truth[part], np.int64) for part in parts])
    for parts in REVISITED_PROTOCOLS[protocol]
  )
  return relevant, junk


def mean_average_precision(
  rankings: Iterable[Numbers],
  relevant: Iterable[Numbers],
  *,
  junk: Iterable[Numbers] | None = None,
  score: Callable[..., float] = average_precision_trapezoid,
  **settings: Any,
) -> tuple[float, np.ndarray]:
  """Mean of a score over the queries that have relevant images.

  Args:
    rankings: of each query.
    relevant: of each query.
    junk: of each query, or None.
    score: one of the functions of this module.
    **settings: further arguments of `score`, such as top_k.

  Returns:
    The mean and the scores, NaN for queries without a relevant image.

  Raises:
    ValueError: if the numbers of queries differ or none counts.

  Example:
    >>> from vision_jax import metrics
    >>> metrics.mean_average_precision([[0, 1], [1, 0]], [[0], []])[0]
    1.0

  Source:
    filipradenovic/revisitop, evaluate.py.
  """
  rankings, relevant = list(rankings), list(relevant)
  ignored: list[Numbers] = [()] * len(rankings)
  if junk is not None:
    ignored = list(junk)
  if not len(rankings) == len(relevant) == len(ignored):
    raise ValueError(
      "mean_average_precision: `rankings`, `relevant` and `junk` must have one "
      f"entry for each query, got {len(rankings)}, {len(relevant)} and "
      f"{len(ignored)}."
    )
  values = np.full(len(rankings), np.nan)
  for place, (ranking, good) in enumerate(zip(rankings, relevant, strict=True)):
    if len(good):
      values[place] = score(ranking, good, junk=ignored[place], **settings)
  if np.isnan(values).all():
    raise ValueError(
      "mean_average_precision: `relevant` must not be empty for every query."
    )
  return float(np.nanmean(values)), values


def random_average_precision(num_relevant: int, num_images: int) -> float:
  """Expected `average_precision` of a random ranking.

  Args:
    num_relevant: R.
    num_images: N.

  Returns:
    (R - 1) / (N - 1) + (1 - (R - 1) / (N - 1)) H_N / N, H_N the harmonic
    number.

  Raises:
    ValueError: if not 1 <= R <= N.

  Example:
    >>> from vision_jax import metrics
    >>> round(metrics.random_average_precision(1, 2), 3)
    0.75

  Source:
    Bestgen, "Exact expected average precision of the random baseline", 2015.
  """
  if not 1 <= num_relevant <= num_images:
    raise ValueError(
      "random_average_precision: `num_relevant` must be between 1 and "
      f"{num_images}, got {num_relevant}."
    )
  share = (num_relevant - 1) / max(num_images - 1, 1)
  harmonic = (1 / np.arange(1, num_images + 1)).sum()
  return float(share + (1 - share) * harmonic / num_images)
