"""Tests of the boxes and outlines of masks."""

import cv2
import numpy as np
from absl.testing import absltest, parameterized
from pycocotools import mask as coco_mask

from vision_jax.data.generated import mask_truth


def _masks(count):
  """Noise, blobs with holes and islands, of any shape."""
  rng = np.random.default_rng(0)
  for number in range(count):
    height, width = rng.integers(1, 40, 2)
    noise = rng.random((height, width))
    if number % 2:
      noise = cv2.GaussianBlur(noise, (0, 0), 2)
      yield (noise > np.median(noise)).astype(np.uint8)
    else:
      yield (noise < rng.random()).astype(np.uint8)


def _coco_fill(polygons, shape):
  """The union of polygons as COCO's own tools fill them."""
  height, width = (int(side) for side in shape)
  flat = [polygon.ravel().tolist() for polygon in polygons]
  parts = coco_mask.frPyObjects(flat, height, width)
  return coco_mask.decode(coco_mask.merge(parts))


def _signed_area(polygon):
  x, y = polygon.astype(np.float64).T
  return (y * np.roll(x, -1) - x * np.roll(y, -1)).sum() / 2


class MaskBoxTest(parameterized.TestCase):
  def test_matches_a_search_of_the_pixels(self):
    for mask in _masks(50):
      rows, columns = np.nonzero(mask)
      expected = np.zeros(4)
      if rows.size:
        expected = [
          columns.min(),
          rows.min(),
          columns.max() + 1,
          rows.max() + 1,
        ]
      for kind in (np.uint8, bool, np.int32):
        got = mask_truth.mask_box(mask.astype(kind))
        np.testing.assert_array_equal(got, expected)
      self.assertEqual(got.dtype, np.float32)

  def test_empty(self):
    np.testing.assert_array_equal(
      mask_truth.mask_box(np.zeros((3, 5))), [0] * 4
    )


class MaskPolygonsTest(parameterized.TestCase):
  def test_filled_again_by_coco_they_are_the_mask(self):
    holes = 0
    for mask in _masks(300):
      polygons = mask_truth.mask_polygons(mask)
      if not mask.any():
        self.assertEqual(polygons, [])
        continue
      np.testing.assert_array_equal(_coco_fill(polygons, mask.shape), mask)
      self.assertEqual(sum(map(_signed_area, polygons)), mask.sum())
      parts, _ = cv2.connectedComponents(mask, connectivity=8)
      self.assertLen(polygons, parts - 1)
      outside = np.pad(1 - mask, 1, constant_values=1)
      holes += cv2.connectedComponents(outside, connectivity=4)[0] - 2
      for polygon in polygons:
        self.assertEqual(polygon.dtype, np.float32)
        self.assertGreaterEqual(len(polygon), 4)
    self.assertGreater(holes, 300)

  def test_filled_again_by_an_even_odd_rule_in_floating_point(self):
    """Another way to fill: crossings to the left of every pixel's centre."""
    for mask in list(_masks(40))[1::2]:
      crossings = np.zeros(mask.shape, int)
      y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
      for polygon in mask_truth.mask_polygons(mask):
        for (x0, y0), (x1, y1) in zip(
          polygon, np.roll(polygon, -1, 0), strict=True
        ):
          if y0 != y1:
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            crossings += (min(y0, y1) <= y) & (y < max(y0, y1)) & (at < x)
      np.testing.assert_array_equal(crossings % 2, mask)

  def test_pixel_is_a_square_in_the_continuous_frame(self):
    mask = np.zeros((4, 7), np.uint8)
    mask[2, 5] = 1
    (polygon,) = mask_truth.mask_polygons(mask)
    corners = {tuple(point) for point in polygon.tolist()}
    self.assertEqual(corners, {(5, 2), (6, 2), (6, 3), (5, 3)})

  def test_ring_is_one_polygon_with_a_cut(self):
    mask = np.ones((5, 6), np.uint8)
    mask[2, 2:4] = 0
    (polygon,) = mask_truth.mask_polygons(mask)
    self.assertLen(polygon, 4 + 4 + 2)
    self.assertEqual(_signed_area(polygon), 28)

  def test_straight_edges_have_two_points(self):
    mask = np.zeros((30, 50), bool)
    mask[3:20, 4:41] = True
    self.assertLen(mask_truth.mask_polygons(mask)[0], 4)

  @parameterized.parameters((0, 0), (0, 4), (3, 5))
  def test_empty(self, *shape):
    self.assertEqual(mask_truth.mask_polygons(np.zeros(shape, np.uint8)), [])


if __name__ == "__main__":
  absltest.main()
