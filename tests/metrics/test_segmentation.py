"""Scores of label maps against loops over pixels."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import metrics


def _maps(seed, size=(13, 17), classes=4):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, size)
  predictions = np.where(
    rng.random(size) < 0.4, rng.integers(0, classes, size), labels
  )
  labels[rng.random(size) < 0.1] = 255
  return labels, predictions


def _band(mask, width):
  """By the definition: is all of the square inside?"""
  h, w = mask.shape
  band = np.zeros(mask.shape, bool)
  for y, x in zip(*np.nonzero(mask), strict=True):
    for i in range(y - width, y + width + 1):
      for j in range(x - width, x + width + 1):
        if not (0 <= i < h and 0 <= j < w and mask[i, j]):
          band[y, x] = True
  return band


class MeanIoUTest(parameterized.TestCase):
  def test_equals_the_loop(self):
    labels, predictions = _maps(0)
    predictions[0, 0] = 3
    got = metrics.segmentation_scores(
      metrics.confusion_matrix(labels, predictions, 6)
    )
    right = np.zeros(6)
    union = np.zeros(6)
    for a, b in zip(labels.ravel(), predictions.ravel(), strict=True):
      if a == 255:
        continue
      union[a] += 1
      if a == b:
        right[a] += 1
      else:
        union[b] += 1
    np.testing.assert_allclose(got.iou[:4], right[:4] / union[:4])
    self.assertTrue(np.isnan(got.iou[4:]).all())
    self.assertAlmostEqual(got.mean_iou, (right[:4] / union[:4]).mean())
    kept = labels != 255
    self.assertAlmostEqual(
      got.pixel_accuracy, (labels == predictions)[kept].mean()
    )

  def test_a_class_that_only_the_prediction_has(self):
    got = metrics.segmentation_scores(
      metrics.confusion_matrix(np.array([0, 0]), np.array([0, 2]), 3)
    )
    self.assertEqual(got.mean_iou, 0.5)

  def test_nothing_labelled(self):
    got = metrics.segmentation_scores(
      metrics.confusion_matrix(np.full(3, 255), np.zeros(3, int), 2)
    )
    self.assertTrue(np.isnan(got.mean_iou) and np.isnan(got.pixel_accuracy))

  def test_errors(self):
    for call, text in (
      (
        lambda: metrics.confusion_matrix(np.zeros(2), np.zeros(3), 2),
        "one shape",
      ),
      (
        lambda: metrics.confusion_matrix(np.array([2]), np.array([0]), 2),
        r"`labels` must be in \[0, 2\) or 255",
      ),
      (lambda: metrics.segmentation_scores(np.zeros((2, 3))), r"\[K, K\]"),
      (lambda: metrics.boundary_band(np.zeros((2, 3)), 0), "`width`"),
      (
        lambda: metrics.boundary_iou(np.zeros((2, 3)), np.zeros((3, 2))),
        "one shape",
      ),
      (
        lambda: metrics.boundary_counts(np.zeros(3), np.zeros(3), 2),
        r"both be \[H, W\]",
      ),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


class BoundaryTest(parameterized.TestCase):
  @parameterized.parameters(1, 2, 3)
  def test_band(self, width):
    rng = np.random.default_rng(width)
    mask = rng.random((12, 17)) < 0.93
    got = metrics.boundary_band(mask, width)
    np.testing.assert_array_equal(got, _band(mask, width))
    square = np.zeros((20, 24), bool)
    square[4:14, 5:15] = True
    area = metrics.boundary_band(square, width).sum()
    self.assertEqual(area, 100 - (10 - 2 * width) ** 2)

  def test_width(self):
    self.assertEqual(metrics.boundary_width((3, 4)), 1)
    self.assertEqual(metrics.boundary_width((300, 400)), 10)
    self.assertEqual(metrics.boundary_width((1024, 2048), ratio=0.005), 11)

  def test_iou_of_masks(self):
    mask = np.zeros((60, 80), bool)
    mask[:30, 10:40] = True  # touches the border of the image
    moved = np.roll(mask, 1, 1)
    self.assertEqual(metrics.boundary_iou(mask, mask), 1)
    a, b = _band(mask, 2), _band(moved, 2)
    self.assertAlmostEqual(
      metrics.boundary_iou(mask, moved), (a & b).sum() / (a | b).sum()
    )
    # More severe than the IoU of the masks.
    whole = (mask & moved).sum() / (mask | moved).sum()
    self.assertLess(metrics.boundary_iou(mask, moved), whole - 0.1)
    empty = np.zeros_like(mask)
    self.assertEqual(metrics.boundary_iou(empty, empty), 1)
    self.assertEqual(metrics.boundary_iou(mask, empty), 0)

  def test_counts_of_label_maps(self):
    labels, predictions = _maps(1, (40, 50), 3)
    labels[:, :10] = np.where(labels[:, :10] == 255, 255, 1)
    got = metrics.boundary_counts(labels, predictions, 5)
    ended = np.where(labels == 255, 255, predictions)
    for k in range(5):
      a, b = _band(ended == k, 1), _band(labels == k, 1)
      expected = ((a & b).sum(), (a | b).sum(), b.sum())
      self.assertEqual(tuple(got[:, k]), expected)
    mean, _ = metrics.intersection_over_union(got[0], got[1], got[2] > 0)
    self.assertBetween(mean, 0.3, 0.9)
    same = metrics.boundary_counts(labels, labels, 5)
    mean, _ = metrics.intersection_over_union(same[0], same[1], same[2] > 0)
    self.assertEqual(mean, 1)


if __name__ == "__main__":
  absltest.main()
