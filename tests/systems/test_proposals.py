from unittest import mock

import cv2
import numpy as np
from absl.testing import absltest

from vision_jax import data
from vision_jax.systems import proposals


def _overlaps(boxes, truth):
  low = np.maximum(boxes[:, :2], truth[:2])
  high = np.minimum(boxes[:, 2:], truth[2:])
  shared = np.maximum(high - low, 0).prod(-1)
  areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
  return shared / (areas + (truth[2:] - truth[:2]).prod() - shared)


class SelectiveSearchTest(absltest.TestCase):
  def test_finds_flat_rectangles_of_any_colour(self):
    rng = np.random.default_rng(0)
    image = np.full((80, 120, 3), 0.4)
    truths = []
    for row, column in ((6, 8), (44, 8), (6, 60), (40, 66)):
      height, width = rng.integers(16, 30, 2)
      image[row : row + height, column : column + width] = rng.random(3)
      truths.append([column, row, column + width, row + height])
    boxes = proposals.selective_search(image)
    self.assertEqual(boxes.dtype, np.float32)
    for truth in np.array(truths, float):
      self.assertGreater(_overlaps(boxes, truth).max(), 0.85)
    self.assertTrue((boxes >= 0).all())
    self.assertTrue((boxes[:, 2:] <= [120, 80]).all())
    again = proposals.selective_search(image)
    np.testing.assert_array_equal(boxes, again)
    few = proposals.selective_search(image, max_proposals=3, min_side=10)
    self.assertEqual(few.shape, (3, 4))
    self.assertTrue((few[:, 2:] - few[:, :2] >= 10).all())

  def test_more_of_the_shapes_than_a_lattice_of_as_many(self):
    hits = np.zeros(2)
    total = 0
    for index in range(6):
      example = data.shapes(1, index)
      image = example["image"].astype(np.float32) / 255
      found = proposals.selective_search(image, max_proposals=300)
      lattice = proposals.grid_proposals(image.shape[:2])
      rng = np.random.default_rng(index)
      lattice = lattice[rng.permutation(len(lattice))[: len(found)]]
      for truth in example["boxes"]:
        for k, boxes in enumerate((found, lattice)):
          hits[k] += _overlaps(boxes, truth).max() > 0.5
        total += 1
    self.assertGreater(total, 10)
    self.assertGreater(hits[0], hits[1])

  def test_bad_input(self):
    with self.assertRaisesRegex(ValueError, r"`image` must be \[H, W, 3\]"):
      proposals.selective_search(np.zeros((4, 0, 3)))
    with self.assertRaisesRegex(TypeError, "divide bytes by 255"):
      proposals.selective_search(np.zeros((4, 4, 3), np.uint8))
    with self.assertRaisesRegex(ValueError, "one of fast, quality, got 'slow'"):
      proposals.selective_search(np.zeros((4, 4, 3)), mode="slow")
    with (
      mock.patch.dict("sys.modules", cv2=mock.Mock(spec=["imread"])),
      self.assertRaisesRegex(ImportError, "opencv-contrib-python-headless"),
    ):
      proposals.selective_search(np.zeros((4, 4, 3)))
    self.assertTrue(hasattr(cv2, "ximgproc"))


class GridTest(absltest.TestCase):
  def test_covers_every_place(self):
    boxes = proposals.grid_proposals((60, 90))
    self.assertTrue((boxes >= 0).all() and (boxes[:, 2:] <= [90, 60]).all())
    self.assertTrue((boxes[:, 2:] > boxes[:, :2]).all())
    rng = np.random.default_rng(0)
    overlaps = []
    for _ in range(200):
      side = rng.uniform(9, 36)
      corner = rng.uniform(0, [90 - side, 60 - side])
      truth = np.concatenate([corner, corner + side])
      overlaps.append(_overlaps(boxes, truth).max())
    self.assertGreater(np.mean(overlaps), 0.5)
    self.assertGreater(min(overlaps), 0.25)

  def test_bad_settings(self):
    with self.assertRaisesRegex(ValueError, "must be positive"):
      proposals.grid_proposals((60, 90), step=0)


if __name__ == "__main__":
  absltest.main()
