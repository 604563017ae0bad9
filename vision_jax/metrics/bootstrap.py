"""Intervals for the mean of paired differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Interval", "paired_bootstrap"]

_CHUNK = 1 << 22  # random numbers held at once


class Interval(NamedTuple):
  """A mean with its confidence interval.

  Attributes:
    mean: mean of the sample.
    low: lower end of the interval.
    high: upper end of the interval.

  Example:
    >>> from vision_jax.metrics import Interval
    >>> Interval(0.2, 0.1, 0.3).low > 0
    True
  """

  mean: float
  low: float
  high: float


def paired_bootstrap(
  differences: np.ndarray,
  *,
  num_resamples: int = 10000,
  confidence: float = 0.95,
  seed: int = 0,
  clusters: Sequence | np.ndarray | None = None,
) -> Interval:
  """Percentile bootstrap interval of the mean of paired differences.

  Differences are drawn with replacement. With `clusters` whole clusters are
  drawn instead (all pairs of a photograph together), which is honest when the
  members of a cluster resemble each other; the mean is then that of all
  members drawn.

  Args:
    differences: score of method A minus that of method B, per pair, [N].
    num_resamples: number of bootstrap samples.
    confidence: level of the interval, in (0, 1).
    seed: of the resampling; the same seed gives the same interval.
    clusters: label of the cluster of each difference (names or numbers), [N].

  Returns:
    `Interval(mean, low, high)`.

  Raises:
    ValueError: if `differences` is empty, has another shape than [N], or
      holds values that are not finite; if a setting is out of range.

  Example:
    >>> from vision_jax.metrics import paired_bootstrap
    >>> mean, low, high = paired_bootstrap(np.array([0.1, 0.2, 0.3]))
    >>> print(f"{mean:.1f} in [{low:.1f}, {high:.1f}]")
    0.2 in [0.1, 0.3]

  Source:
    B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993,
    chapter 13 (percentile interval).
  """
  values = np.asarray(differences, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(
      "paired_bootstrap: `differences` must be [N] with N >= 1, got shape"
      f" {values.shape}."
    )
  if not np.isfinite(values).all():
    raise ValueError(
      "paired_bootstrap: `differences` must be finite, got NaN or infinite"
      " values."
    )
  if num_resamples < 1:
    raise ValueError(
      "paired_bootstrap: `num_resamples` must be at least 1, got"
      f" {num_resamples}."
    )
  if not 0 < confidence < 1:
    raise ValueError(
      f"paired_bootstrap: `confidence` must be in (0, 1), got {confidence}."
    )
  sums: np.ndarray
  counts: np.ndarray
  if clusters is None:
    sums, counts = values, np.ones(len(values))
  else:
    labels = np.asarray(clusters)
    if labels.shape != values.shape:
      raise ValueError(
        "paired_bootstrap: `clusters` must hold one label per difference,"
        f" [{len(values)}], got {labels.shape}."
      )
    _, group = np.unique(labels, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group) * 1.0
  rng = np.random.Generator(np.random.Philox(key=seed))
  means = np.empty(num_resamples)
  step = max(1, _CHUNK // len(sums))
  for start in range(0, num_resamples, step):
    stop = min(start + step, num_resamples)
    drawn = rng.integers(len(sums), size=(stop - start, len(sums)))
    means[start:stop] = sums[drawn].sum(1) / counts[drawn].sum(1)
  tail = 0.5 * (1 - confidence)
  low, high = np.quantile(means, [tail, 1 - tail])
  return Interval(float(values.mean()), float(low), float(high))
