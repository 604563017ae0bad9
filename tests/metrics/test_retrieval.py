"""Hand-computed cases, and the revisited-Oxford definition written anew."""

import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import metrics


def _revisitop(ranks, relevant, junk):
  """compute_map of revisitop for one query: positions, junk counted off."""
  position = np.arange(len(ranks))[np.isin(ranks, relevant)].astype(float)
  ignored = np.arange(len(ranks))[np.isin(ranks, junk)]
  k = ij = 0
  ip = 0
  while ip < len(position):
    while ij < len(ignored) and position[ip] > ignored[ij]:
      k += 1
      ij += 1
    position[ip] = position[ip] - k
    ip += 1
  ap = 0.0
  for j, rank in enumerate(position):
    first = 1.0 if rank == 0 else j / rank
    second = (j + 1) / (rank + 1)
    ap += (first + second) / (2 * len(relevant))
  precisions = []
  for limit in (1, 5, 10):
    kq = min(int(position.max()) + 1, limit)
    precisions.append((position + 1 <= kq).sum() / kq)
  return ap, precisions


class AveragePrecisionTest(parameterized.TestCase):
  def test_hand_cases(self):
    trapezoid = metrics.average_precision_trapezoid
    for ranking, relevant, plain, area in (
      ([3, 1, 2], [3], 1.0, 1.0),
      ([1, 3, 2], [3], 0.5, 0.25),
      ([3, 4, 1], [3, 4], 1.0, 1.0),
      # Hits at ranks 0 and 2: 1 and 2/3; trapezoids 1 + 1 and 1/2 + 2/3.
      ([3, 1, 4], [3, 4], (1 + 2 / 3) / 2, (2 + 1 / 2 + 2 / 3) / 4),
      ([1, 2], [3], 0.0, 0.0),
      ([], [3], 0.0, 0.0),
    ):
      self.assertAlmostEqual(
        metrics.average_precision(ranking, relevant), plain, places=12
      )
      self.assertAlmostEqual(trapezoid(ranking, relevant), area, places=12)

  def test_junk_is_taken_out(self):
    with_junk = metrics.average_precision([9, 3, 8, 4], [3, 4], junk=[9, 8])
    self.assertEqual(with_junk, 1.0)

  def test_first_k(self):
    ranking, relevant = [3, 1, 4, 2, 5], [3, 4, 5]
    for top_k, total in ((1, 1), (3, 1 + 2 / 3), (5, 1 + 2 / 3 + 3 / 5)):
      got = metrics.average_precision_at(ranking, relevant, top_k)
      self.assertAlmostEqual(got, total / 3, places=12)
      cut = metrics.average_precision_truncated(ranking, relevant, top_k)
      self.assertAlmostEqual(cut, total / min(3, top_k), places=12)
    self.assertEqual(
      metrics.average_precision_at(ranking, relevant, 99),
      metrics.average_precision(ranking, relevant),
    )

  @parameterized.parameters("easy", "medium", "hard")
  def test_revisited_definition(self, protocol):
    rng = np.random.default_rng(0)
    for _ in range(30):
      images = rng.permutation(60)
      truth = {
        "easy": images[:7],
        "hard": images[7:12],
        "junk": images[12:20],
      }
      ranking = rng.permutation(60)
      relevant, junk = metrics.revisited_truth(truth, protocol)
      self.assertEqual(
        len(relevant), {"easy": 7, "medium": 12, "hard": 5}[protocol]
      )
      ap, precisions = _revisitop(ranking, relevant, junk)
      got = metrics.average_precision_trapezoid(ranking, relevant, junk=junk)
      self.assertAlmostEqual(got, ap, places=9)
      for top_k, expected in zip((1, 5, 10), precisions, strict=True):
        at = metrics.precision_at(ranking, relevant, top_k, junk=junk)
        self.assertAlmostEqual(at, expected, places=9)

  def test_random_ranking(self):
    rng = np.random.default_rng(1)
    values = [
      metrics.average_precision(rng.permutation(20), range(4))
      for _ in range(4000)
    ]
    expected = metrics.random_average_precision(4, 20)
    self.assertAlmostEqual(np.mean(values), expected, delta=0.01)
    self.assertEqual(metrics.random_average_precision(5, 5), 1.0)

  def test_mean_leaves_out_queries_without_truth(self):
    mean, values = metrics.mean_average_precision(
      [[0, 1], [1, 0], [0, 1]],
      [[0], [], [1]],
      score=metrics.average_precision_at,
      top_k=1,
    )
    self.assertEqual(mean, 0.5)
    self.assertTrue(np.isnan(values[1]))

  def test_errors(self):
    with pytest.raises(ValueError, match="without repeated images"):
      metrics.average_precision([1, 1], [1])
    with pytest.raises(ValueError, match="`relevant` must not be empty"):
      metrics.average_precision_trapezoid([1, 2], [])
    with pytest.raises(ValueError, match="one entry for each query"):
      metrics.mean_average_precision([[1]], [])
    with pytest.raises(ValueError, match="not be empty for every query"):
      metrics.mean_average_precision([[1]], [[]])
    with pytest.raises(ValueError, match="`protocol` must be one of"):
      metrics.revisited_truth({}, "all")
    with pytest.raises(ValueError, match="between 1 and"):
      metrics.random_average_precision(0, 5)
