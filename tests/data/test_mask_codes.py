"""Run lengths and polygons of masks, beside pycocotools and a plain loop."""

import numpy as np
import pycocotools.mask
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data.generated import mask_truth


def _runs(mask):
  """Lengths of the runs down the columns, by a loop."""
  runs, current = [0], 0
  for value in mask.T.reshape(-1).tolist():
    if value != current:
      runs.append(0)
      current = value
    runs[-1] += 1
  return runs


def _random_masks(count):
  rng = np.random.default_rng(0)
  for number in range(count):
    height, width = rng.integers(1, 41, 2)
    mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    if number % 2:  # large areas: long runs
      mask[:] = mask[0, 0]
      mask[: height // 2, width // 3 :] ^= 1
    yield mask


class RunLengthsTest(parameterized.TestCase):
  def test_codes_are_those_of_pycocotools(self):
    for mask in _random_masks(300):
      rle = data.mask_to_rle(mask)
      expected = pycocotools.mask.encode(np.asfortranarray(mask))
      self.assertEqual(rle["counts"], expected["counts"].decode())
      self.assertEqual(rle["size"], list(mask.shape))
      np.testing.assert_array_equal(data.rle_to_mask(rle), mask)

  def test_all_forms_of_a_code_are_read(self):
    for mask in _random_masks(50):
      size = list(mask.shape)
      text = data.mask_to_rle(mask)["counts"]
      for counts in (text, text.encode(), _runs(mask), np.array(_runs(mask))):
        got = data.rle_to_mask({"size": size, "counts": counts})
        self.assertEqual((got.dtype, got.flags.c_contiguous), (np.uint8, True))
        np.testing.assert_array_equal(got, mask)

  def test_runs_that_are_longer_than_one_group(self):
    mask = np.zeros((700, 900), np.uint8)
    mask[50:650, 300:600] = 1
    mask[0, 0] = mask[-1, -1] = 1
    rle = data.mask_to_rle(mask)
    np.testing.assert_array_equal(data.rle_to_mask(rle), mask)
    np.testing.assert_array_equal(pycocotools.mask.decode(rle), mask)

  def test_types_of_masks(self):
    mask = np.array([[True, False, True], [False, False, True]])
    for other in (mask, mask.astype(np.uint8) * 255, mask.astype(np.float32)):
      np.testing.assert_array_equal(
        data.rle_to_mask(data.mask_to_rle(other)), mask
      )
    with self.assertRaisesRegex(ValueError, r"must be \[H, W\], got shape"):
      data.mask_to_rle(np.zeros((2, 3, 4)))

  @parameterized.parameters(
    ({"size": [40, 40]}, "runs that fill 40 x 40 pixels, got 140 in place"),
    ({"size": [4, 4]}, "runs that fill 4 x 4 pixels, got 140 in place of 16"),
    ({"size": [0, 4]}, "a size of at least 1 x 1"),
    ({"size": [10]}, "must hold `size` and `counts`, got ValueError"),
    ({"size": None}, "must hold `size` and `counts`, got TypeError"),
    ({"counts": "\x7f~zz000"}, "a character that the code does not have"),
    ({"counts": "[1370000000_"}, "an end in the middle of a run"),
    ({"counts": ""}, "an end in the middle of a run"),
    ({"counts": "o" * 30 + "0"}, "a run that no picture has"),
    ({"counts": [3, -5, 142]}, "runs of at least 0"),
    ({"counts": [3, 5]}, "runs that fill 10 x 14 pixels, got 8"),
    ({"counts": [[3, 137]]}, "runs of at least 0"),
    ({"counts": ["a"]}, "must hold `size` and `counts`, got ValueError"),
    ({"counts": None}, "must hold `size` and `counts`"),
  )
  def test_damaged_codes(self, change, text):
    mask = np.zeros((10, 14), np.uint8)
    mask[3:6, 4:9] = 1
    self.assertEqual(data.mask_to_rle(mask)["counts"], "[1370000000_1")
    rle = {**data.mask_to_rle(mask), **change}
    with self.assertRaisesRegex(ValueError, f"rle_to_mask: `rle` .*{text}"):
      data.rle_to_mask(rle)
    with self.assertRaisesRegex(ValueError, "got KeyError"):
      data.rle_to_mask({"size": [3, 4]})


class PolygonsTest(parameterized.TestCase):
  def test_pixel_centres_inside_a_convex_polygon(self):
    # Half planes, for corners that are no corners of pixels.
    corners = np.array([[3.2, 1.4], [17.6, 4.3], [12.8, 11.7], [2.4, 9.1]])
    y, x = np.mgrid[:13, :21] + 0.5
    edges = np.roll(corners, -1, 0) - corners
    sides = [
      dx * (y - py) - dy * (x - px)
      for (px, py), (dx, dy) in zip(corners, edges, strict=True)
    ]
    expected = np.min(sides, axis=0) > 0
    got = data.polygons_to_mask([corners], (13, 21))
    # pycocotools rounds corners to a fifth of a pixel.
    self.assertLess(np.mean(got != expected), 0.02)
    self.assertGreater(got.sum(), 80)

  def test_outlines_of_masks_give_them_back(self):
    for mask in _random_masks(60):
      polygons = mask_truth.mask_polygons(mask)
      got = data.polygons_to_mask(polygons, mask.shape)
      np.testing.assert_array_equal(got, mask)

  def test_several_polygons_are_one_object(self):
    squares = [
      np.array([[a, 0], [a + 2, 0], [a + 2, 2], [a, 2]]) for a in (0, 1, 5)
    ]
    got = data.polygons_to_mask(squares, (3, 8))
    expected = np.zeros((3, 8), np.uint8)
    expected[:2, :3] = expected[:2, 5:7] = 1
    np.testing.assert_array_equal(got, expected)

  def test_what_lies_outside_is_cut_off(self):
    square = np.array([[-5.0, -5.0], [3.0, -5.0], [3.0, 99.0], [-5.0, 99.0]])
    got = data.polygons_to_mask([square], (4, 7))
    np.testing.assert_array_equal(got, np.arange(7) < np.full((4, 1), 3))

  def test_no_polygon(self):
    got = data.polygons_to_mask([], (4, 7))
    self.assertEqual((got.shape, got.sum(), got.dtype), ((4, 7), 0, np.uint8))

  @parameterized.parameters(
    (np.zeros((2, 2)), r"P at least 3, got shape \(2, 2\)"),
    # Four numbers would be taken for a box by pycocotools.
    (np.array([1.0, 2.0, 3.0, 4.0]), r"got shape \(4,\)"),
    (np.array([[0, 0], [1, np.nan], [1, 1]]), r"got \[1.0, nan\]"),
    (np.array([[0, 0], [1e9, 0], [1, 1]]), r"got \[1000000000.0, 0.0\]"),
  )
  def test_what_is_no_polygon(self, polygon, text):
    with self.assertRaisesRegex(ValueError, f"`polygons` must be .*{text}"):
      data.polygons_to_mask([polygon], (4, 7))


if __name__ == "__main__":
  absltest.main()
