"""Overlaps and localised precision by hand."""

import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import metrics


class LocalizationTest(parameterized.TestCase):
  def test_best_region(self):
    regions = np.array([[0, 0, 2, 2], [4, 4, 8, 8], [0, 0, 1, 1]], float)
    truth = np.array([[1, 0, 3, 2], [5, 5, 9, 9]], float)
    self.assertAlmostEqual(
      metrics.best_region_overlap(regions, truth), 9 / 23, places=12
    )
    self.assertAlmostEqual(
      metrics.best_region_overlap(regions, truth, hull=True), 9 / 25, places=12
    )
    self.assertEqual(metrics.best_region_overlap(np.zeros((0, 4)), truth), 0)

  def test_scores(self):
    boxes = np.array([[0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 0, 0]], float)
    truth = np.array([[0, 0, 4, 4], [0, 0, 2, 4], [0, 0, 3, 3]], float)
    got = metrics.localization_scores(boxes, truth)
    self.assertAlmostEqual(got.ranked_iou, 0.5)
    self.assertAlmostEqual(got.corloc, 2 / 3)
    self.assertEqual(got.num_images, 3)
    none = metrics.localization_scores(boxes[:0], truth[:0])
    self.assertTrue(np.isnan(none.ranked_iou))

  def test_localized_precision(self):
    good, bad = [0, 0, 4, 4], [8, 8, 9, 9]
    truth = {1: np.array([good]), 2: np.array([bad, good]), 3: np.array([good])}
    ap = metrics.average_precision_localized(
      [1, 7, 2, 3], np.array([bad, good, good, good]), truth
    )
    # Image 1 has the wrong box; hits at ranks 2 and 3.
    self.assertAlmostEqual(ap, (1 / 3 + 2 / 4) / 3)

  def test_errors(self):
    with pytest.raises(ValueError, match="must be \\[N, 4\\]"):
      metrics.localization_scores(np.zeros((2, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="`truth` must not be empty"):
      metrics.best_region_overlap(np.zeros((2, 4)), np.zeros((0, 4)))
