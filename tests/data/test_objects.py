"""Tests of the objects of an example under affine maps."""

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data.objects import PER_OBJECT, affine_matrix, move_objects
from vision_jax.data.resampling import axis_matrix


def _covered(points, size, factor=16):
  """Area of an outline inside the picture, counted on a fine raster."""
  canvas = np.zeros((size[0] * factor, size[1] * factor), np.uint8)
  fine = np.rint((points * factor - 0.5) * 256).astype(np.int32)
  cv2.fillPoly(canvas, [fine], 1, shift=8)
  return canvas.sum() / factor**2


class TransformBoxesTest(parameterized.TestCase):
  def test_against_a_loop(self):
    rng = np.random.default_rng(0)
    low = rng.uniform(-5, 20, (2, 6, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 9, low.shape)], -1)
    matrix = np.array([[0.8, -0.5, 3.2], [0.3, 1.4, -2.0], [0, 0, 1]])
    expected = np.empty_like(boxes)
    for place in np.ndindex(2, 6):
      x1, y1, x2, y2 = boxes[place]
      moved = [
        # Continuous to index frame and back.
        (matrix @ (x - 0.5, y - 0.5, 1) + 0.5)[:2]
        for x in (x1, x2)
        for y in (y1, y2)
      ]
      xs, ys = zip(*moved, strict=True)
      expected[place] = min(xs), min(ys), max(xs), max(ys)
    np.testing.assert_allclose(data.transform_boxes(boxes, matrix), expected)

  def test_there_and_back(self):
    boxes = np.array([[1.5, 2.25, 7.0, 9.5]], np.float32)
    matrix = axis_matrix((1.7, 0.3), (-4, 6))
    back = data.transform_boxes(
      data.transform_boxes(boxes, matrix), np.linalg.inv(matrix)
    )
    self.assertEqual(back.dtype, np.float32)
    np.testing.assert_allclose(back, boxes, atol=1e-5)

  def test_no_boxes_and_integers(self):
    empty = data.transform_boxes(np.zeros((0, 4), np.float32), np.eye(3))
    self.assertEqual(empty.shape, (0, 4))
    whole = data.transform_boxes(np.array([1, 2, 3, 4]), np.eye(3))
    np.testing.assert_array_equal(whole, [1, 2, 3, 4])

  @parameterized.parameters(
    (np.zeros((2, 5)), np.eye(3), r"`boxes` must be \[..., 4\], got \(2, 5\)"),
    (np.zeros(4), np.eye(2), r"`matrix` must be \[3, 3\].*\(2, 2\)"),
    (np.zeros(4), np.diag([1, 1, 2.0]), "last row 0, 0, 1"),
    (np.zeros(4), np.diag([0, 1, 1.0]), "not singular"),
    (np.zeros(4), np.diag([np.nan, 1, 1.0]), "finite"),
  )
  def test_errors(self, boxes, matrix, message):
    with self.assertRaisesRegex(ValueError, message):
      data.transform_boxes(boxes, matrix)


class MoveObjectsTest(parameterized.TestCase):
  def test_all_entries_follow_the_objects_that_stay(self):
    masks = np.zeros((3, 10, 20), np.uint8)
    for mask, x in zip(masks, (0, 8, 15), strict=True):
      mask[2:6, x : x + 4] = 1
    example = {
      "boxes": np.array([[x, 2, x + 4, 6] for x in (0, 8, 15)], np.float32),
      "labels": np.array([5, 6, 7], np.int32),
      "masks": masks,
      "polygons": [
        [np.array([[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], np.float32)]
        for x in (0, 8, 15)
      ],
      "crowd": np.array([False, True, False]),
      "area": np.full(3, 16, np.float32),
      "keypoints": np.array(
        [[[x, 3, 2], [x + 3, 5, 1]] for x in (0, 8, 15)], np.float32
      ),
    }
    self.assertEqual(set(example), set(PER_OBJECT))
    # Columns 9 to 17: nothing of the first object, 3/4 and 1/2 of the others.
    moved = move_objects(example, axis_matrix((1, 1), (9, 0)), (10, 8), 0.6)
    np.testing.assert_array_equal(moved["labels"], [6])
    np.testing.assert_array_equal(moved["boxes"], [[0, 2, 3, 6]])
    np.testing.assert_array_equal(moved["crowd"], [True])
    np.testing.assert_array_equal(moved["area"], [12])
    np.testing.assert_array_equal(moved["keypoints"], [[[0, 0, 0], [2, 5, 1]]])
    expected = np.zeros((1, 10, 8), np.uint8)
    expected[0, 2:6, :3] = 1
    np.testing.assert_array_equal(moved["masks"], expected)
    self.assertLen(moved["polygons"], 1)
    np.testing.assert_array_equal(
      np.unique(moved["polygons"][0][0], axis=0),
      [[0, 2], [0, 6], [3, 2], [3, 6]],
    )
    for name, value in moved.items():
      if name != "polygons":
        self.assertEqual(value.dtype, example[name].dtype, name)
    both = move_objects(example, axis_matrix((1, 1), (9, 0)), (10, 8), 0.5)
    np.testing.assert_array_equal(both["labels"], [6, 7])

  @parameterized.parameters("masks", "polygons", "boxes", "keypoints")
  def test_each_entry_alone_tells_what_is_visible(self, name):
    one = {
      "masks": np.pad(np.ones((1, 4, 4), np.uint8), ((0, 0), (2, 4), (0, 6))),
      "polygons": [[np.array([[0, 2], [4, 2], [4, 6], [0, 6.0]])]],
      "boxes": np.array([[0, 2, 4, 6.0]]),
      "keypoints": np.array([[[1, 3, 2.0]]]),
    }[name]
    example = {name: one, "labels": np.array([1])}
    for shift, kept in ((-1, 1), (0, 1), (1, 1), (4, 0), (9, 0)):
      moved = move_objects(
        example, axis_matrix((1, 1), (shift, 0)), (10, 8), 0.1
      )
      self.assertLen(moved["labels"], kept, (name, shift))
      self.assertLen(moved[name], kept)

  def test_only_labels_stay(self):
    moved = move_objects({"labels": np.array([1, 2])}, np.eye(3), (4, 4), 0.1)
    np.testing.assert_array_equal(moved["labels"], [1, 2])

  def test_no_objects(self):
    example = {
      "boxes": np.zeros((0, 4), np.float32),
      "masks": np.zeros((0, 6, 9), np.uint8),
      "polygons": [],
      "keypoints": np.zeros((0, 17, 3), np.float32),
      "area": np.zeros(0, np.float32),
    }
    matrix = np.array([[0.9, 0.3, 0], [-0.3, 0.9, 1], [0, 0, 1]])
    moved = move_objects(example, matrix, (4, 5), 0.1)
    self.assertEqual(moved["masks"].shape, (0, 4, 5))
    self.assertEqual(moved["boxes"].shape, (0, 4))
    self.assertEqual(moved["keypoints"].shape, (0, 17, 3))
    self.assertEqual(moved["polygons"], [])

  def test_outlines_are_clipped_to_the_picture(self):
    rng = np.random.default_rng(0)
    size = (20, 30)
    kept = 0
    for _ in range(40):
      angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
      star = rng.uniform(3, 18, (9, 1)) * np.stack(
        [np.cos(angles), np.sin(angles)], -1
      )
      star += rng.uniform(-5, 35, 2)
      moved = move_objects({"polygons": [[star]]}, np.eye(3), size, 0.0)
      inside = _covered(star, size)
      if not moved["polygons"]:
        self.assertLess(inside, 0.1)
        continue
      kept += 10 < inside < _covered(star + 60, (160, 160)) - 10
      clipped = moved["polygons"][0][0]
      self.assertGreaterEqual(clipped.min(), 0)
      self.assertTrue((clipped.max(0) <= size[::-1]).all())
      x, y = clipped.astype(np.float64).T
      area = 0.5 * abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
      # The raster counts every cell that the border touches.
      np.testing.assert_allclose(area, inside, rtol=0.02, atol=3)
    self.assertGreater(kept, 10)

  def test_cut_boxes_shrink_to_what_is_left(self):
    """An L whose foot is cut off is thinner than its clipped box."""
    mask = np.zeros((1, 12, 12), np.uint8)
    mask[0, 1:10, 1:4] = 1
    mask[0, 7:10, 1:11] = 1
    outline = np.array(
      [[1, 1], [4, 1], [4, 7], [11, 7], [11, 10], [1, 10.0]], np.float32
    )
    box = np.array([[1, 1, 11, 10]], np.float32)
    top = ((6, 12), 0.1)  # the upper six rows
    for extra in ({"masks": mask}, {"polygons": [[outline]]}):
      moved = move_objects({"boxes": box, **extra}, np.eye(3), *top)
      np.testing.assert_array_equal(moved["boxes"], [[1, 1, 4, 6]])
    moved = move_objects({"boxes": box}, np.eye(3), *top)
    np.testing.assert_array_equal(moved["boxes"], [[1, 1, 11, 6]])

  def test_uncut_boxes_keep_their_fractions(self):
    """A box between pixels is moved, not made anew from the mask."""
    mask = np.zeros((1, 12, 12), np.uint8)
    mask[0, 2:6, 3:7] = 1
    box = np.array([[3.25, 2.25, 6.75, 5.5]], np.float32)
    matrix = axis_matrix((0.5, 0.25), (0, 0))
    moved = move_objects({"boxes": box, "masks": mask}, matrix, (48, 24), 0.1)
    np.testing.assert_array_equal(moved["boxes"], box * (2, 4, 2, 4))

  def test_what_is_left_of_a_thin_mask(self):
    """Thin lines that a smaller picture cannot show are dropped."""
    mask = np.zeros((2, 12, 12), np.uint8)
    mask[0, :, 5] = 1
    mask[1, :8, :8] = 1
    example = {
      "masks": mask,
      "boxes": np.array([[5, 0, 6, 12], [0, 0, 8, 8.0]]),
    }
    moved = move_objects(example, axis_matrix((4, 4), (0, 0)), (3, 3), 0.1)
    np.testing.assert_array_equal(moved["boxes"], [[0, 0, 2, 2]])

  def test_an_object_without_a_mask_keeps_its_box(self):
    example = {
      "masks": np.zeros((1, 8, 8), np.uint8),
      "boxes": np.array([[1, 1, 3, 3.0]]),
    }
    moved = move_objects(example, axis_matrix((1, 1), (2, 0)), (8, 8), 0.1)
    np.testing.assert_array_equal(moved["boxes"], [[0, 1, 1, 3]])

  def test_affine_matrix_is_checked_by_name(self):
    with self.assertRaisesRegex(ValueError, "me: `matrix` must be"):
      affine_matrix(np.zeros((3, 3)), "me")


if __name__ == "__main__":
  absltest.main()
