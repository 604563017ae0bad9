"""Tests of the bootstrap against theory and a plain loop."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import metrics


class PairedBootstrapTest(parameterized.TestCase):
  def test_interval_approaches_the_normal_one(self):
    values = np.random.default_rng(0).normal(0.3, 1.0, 400)
    mean, low, high = metrics.paired_bootstrap(values, num_resamples=4000)
    error = values.std() / np.sqrt(len(values))
    self.assertAlmostEqual(mean, values.mean(), 12)
    self.assertAlmostEqual(low, values.mean() - 1.96 * error, delta=0.1 * error)
    self.assertAlmostEqual(
      high, values.mean() + 1.96 * error, delta=0.1 * error
    )

  def test_confidence_changes_the_width(self):
    values = np.random.default_rng(1).normal(size=200)
    error = values.std() / np.sqrt(200)
    for confidence, factor in ((0.5, 0.674), (0.99, 2.576)):
      _, low, high = metrics.paired_bootstrap(values, confidence=confidence)
      self.assertAlmostEqual(
        (high - low) / 2, factor * error, delta=0.1 * error
      )

  def test_covers_the_truth_as_often_as_it_says(self):
    rng = np.random.default_rng(2)
    hits = 0
    for number in range(300):
      _, low, high = metrics.paired_bootstrap(
        rng.normal(size=60), num_resamples=400, confidence=0.9, seed=number
      )
      hits += low <= 0 <= high
    self.assertBetween(hits / 300, 0.84, 0.95)

  def test_clusters_are_drawn_whole(self):
    # Ten identical values per cluster hold no more news than one.
    centres = np.random.default_rng(3).normal(size=7)
    values = np.repeat(centres, 10)
    names = np.repeat([f"photograph {i}" for i in range(7)], 10)
    alone = metrics.paired_bootstrap(centres)
    clustered = metrics.paired_bootstrap(values, clusters=names)
    np.testing.assert_allclose(clustered, alone, atol=1e-12)
    _, low, high = metrics.paired_bootstrap(values)
    self.assertLess(high - low, 0.5 * (clustered.high - clustered.low))

  def test_clusters_of_different_size_equal_a_loop(self):
    values = np.array([1.0, 2, 3, 10, -4])
    clusters = [0, 0, 0, 1, 2]
    got = metrics.paired_bootstrap(
      values, num_resamples=20000, clusters=clusters
    )
    groups = [[1.0, 2, 3], [10.0], [-4.0]]
    means = [
      np.mean(groups[a] + groups[b] + groups[c])
      for a in range(3)
      for b in range(3)
      for c in range(3)
    ]  # every sample there is, all equally likely
    low, high = np.quantile(np.repeat(means, 1000), [0.025, 0.975])
    self.assertAlmostEqual(got.mean, 2.4)
    self.assertAlmostEqual(got.low, low, delta=0.2)
    self.assertAlmostEqual(got.high, high, delta=0.2)

  def test_seed_fixes_the_interval(self):
    values = np.random.default_rng(4).normal(size=30)
    a = metrics.paired_bootstrap(values, seed=1)
    self.assertEqual(a, metrics.paired_bootstrap(values, seed=1))
    self.assertNotEqual(a, metrics.paired_bootstrap(values, seed=2))

  def test_one_value_has_no_width(self):
    self.assertEqual(metrics.paired_bootstrap([0.25]), (0.25, 0.25, 0.25))

  @parameterized.parameters(
    ([], {}, "`differences` must be"),
    ([[1.0, 2.0]], {}, "`differences` must be"),
    ([1.0, np.nan], {}, "must be finite"),
    ([1.0], {"confidence": 1.0}, "`confidence` must be"),
    ([1.0], {"num_resamples": 0}, "`num_resamples` must be"),
    ([1.0, 2.0], {"clusters": ["a"]}, "`clusters` must hold"),
  )
  def test_errors_name_the_argument(self, values, settings, message):
    with self.assertRaisesRegex(ValueError, message):
      metrics.paired_bootstrap(values, **settings)


if __name__ == "__main__":
  absltest.main()
