"""Where boxes, masks and skeletons are drawn, and what is left out."""

import numpy as np
from absl.testing import absltest

from vision_jax import viz


def _drawn(picture):
  """Pixels that are not black."""
  return set(zip(*np.nonzero(picture.any(-1)), strict=True))


class BoxesTest(absltest.TestCase):
  def test_an_outline_covers_the_outermost_pixels(self):
    out = viz.draw_boxes(np.zeros((12, 15, 3), np.uint8), [[2, 3, 9, 8]])
    inside = {(y, x) for y in range(3, 8) for x in range(2, 9)}
    middle = {(y, x) for y in range(4, 7) for x in range(3, 8)}
    self.assertEqual(_drawn(out), inside - middle)

  def test_what_is_padding_or_nothing_is_left_out(self):
    boxes = [[1, 1, 5, 5], [6, 6, 9, 9], [np.nan, 0, 3, 3]]
    valid = [False, True, True]
    out = viz.draw_boxes(np.zeros((10, 10)), boxes, valid=valid)
    self.assertEqual(min(_drawn(out)), (6, 6))
    empty = viz.draw_boxes(np.zeros((10, 10)), np.zeros((0, 4)))
    self.assertEmpty(_drawn(empty))

  def test_text_stays_in_the_picture_and_the_image_is_not_changed(self):
    image = np.zeros((60, 80, 3), np.uint8)
    out = viz.draw_boxes(image, [[70, 0, 79, 20]], texts=["triangle"])
    self.assertGreater(len(_drawn(out)), 100)
    self.assertFalse(image.any())

  def test_boxes_have_different_colours(self):
    boxes = [[i * 4, 0, i * 4 + 3, 3] for i in range(12)]
    out = viz.draw_boxes(np.zeros((4, 48, 3)), boxes)
    self.assertLen({tuple(out[0, i * 4]) for i in range(12)}, 12)

  def test_errors(self):
    image = np.zeros((5, 5))
    with self.assertRaisesRegex(ValueError, r"must be \[N, 4\], got \(1, 3\)"):
      viz.draw_boxes(image, [[1, 2, 3]])
    with self.assertRaisesRegex(ValueError, "2 entries, got 1"):
      viz.draw_boxes(image, [[0, 0, 1, 1]] * 2, texts=["a"])
    with self.assertRaisesRegex(ValueError, r"`valid` must be \[1\]"):
      viz.draw_boxes(image, [[0, 0, 1, 1]], valid=[True, False])


class MasksTest(absltest.TestCase):
  def test_tint_is_inside_and_the_rim_is_strongest(self):
    mask = np.zeros((1, 9, 11))
    mask[0, 2:7, 3:9] = 1
    out = viz.draw_masks(np.zeros((9, 11)), mask, opacity=0.4)
    self.assertEqual(_drawn(out), set(zip(*np.nonzero(mask[0]), strict=True)))
    self.assertGreater(out[2, 3].sum(), 1.5 * out[4, 5].sum())

  def test_padding_and_no_masks(self):
    masks = np.ones((2, 4, 4))
    out = viz.draw_masks(np.zeros((4, 4)), masks, valid=[False, False])
    self.assertFalse(out.any())
    self.assertFalse(viz.draw_masks(np.zeros((4, 4)), []).any())
    with self.assertRaisesRegex(ValueError, r"\[N, 4, 5\], got \(2, 4, 4\)"):
      viz.draw_masks(np.zeros((4, 5)), masks)


class SkeletonsTest(absltest.TestCase):
  def test_limbs_of_absent_joints_are_left_out(self):
    joints = np.array([[[5, 10, 2], [25, 10, 2], [25, 40, 0]]], float)
    out = viz.draw_skeletons(np.zeros((50, 50)), joints, [(0, 1), (1, 2)])
    self.assertTrue(out[10, 15].any())
    self.assertFalse(out[25, 25].any())
    self.assertFalse(out[40, 25].any())

  def test_hidden_joints_are_hollow(self):
    joints = np.array([[[10, 10, 1], [30, 10, 2]]], float)
    out = viz.draw_skeletons(np.zeros((20, 40)), joints, [], thickness=4)
    self.assertFalse(out[10, 10].any())
    self.assertTrue(out[10, 15].any())
    self.assertTrue(out[10, 30].all())

  def test_errors_and_nobody(self):
    image = np.zeros((5, 5))
    self.assertFalse(viz.draw_skeletons(image, np.zeros((0, 3, 3)), []).any())
    with self.assertRaisesRegex(ValueError, r"\[P, K, 3\], got \(2, 3\)"):
      viz.draw_skeletons(image, np.ones((2, 3)), [])
    with self.assertRaisesRegex(ValueError, "joints below 2"):
      viz.draw_skeletons(image, np.ones((1, 2, 3)), [(0, 2)])


if __name__ == "__main__":
  absltest.main()
