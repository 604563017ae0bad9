"""Tests of flips, affine maps, letterboxes and resizing of whole examples."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data.resampling import axis_matrix


def _disc(size, centre, radius):
  """A picture of one disc with everything known of it; centre continuous."""
  factor = 8
  y, x = (np.mgrid[: size[0] * factor, : size[1] * factor] + 0.5) / factor
  fine = np.hypot(x - centre[0], y - centre[1]) <= radius
  share = fine.reshape(size[0], factor, size[1], factor).mean((1, 3))
  turns = np.arange(128) * (2 * np.pi / 128)
  outline = centre + radius * np.stack([np.cos(turns), np.sin(turns)], -1)
  mask = (share >= 0.5).astype(np.uint8)
  return {
    "image": np.rint(255 * share)[..., None].repeat(3, -1).astype(np.uint8),
    "boxes": np.array([[*(centre - radius), *(centre + radius)]], np.float32),
    "labels": np.array([3], np.int32),
    "masks": mask[None],
    "polygons": [[outline.astype(np.float32)]],
    "area": np.array([np.pi * radius**2], np.float32),
    "keypoints": np.array([[[*(centre - 0.5), 2]]], np.float32),
    "semantic": mask,
    "ignore": 1 - mask,
    "index": np.int64(7),
  }


def _centroid(weights):
  """Mean position of a picture's weights, continuous frame."""
  y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
  return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def _random_map(rng, size_in, size_out):
  """A map, OUTPUT to INPUT, that keeps a region near the middle in sight."""
  angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 2.2)
  cos, sin = np.cos(angle), np.sin(angle)
  linear = scale * np.array([[cos, -sin], [sin, cos]])
  linear = linear @ [[1, rng.uniform(-0.2, 0.2)], [0, rng.uniform(0.9, 1.1)]]
  if rng.random() < 0.5:
    linear[:, 0] *= -1
  matrix = np.eye(3)
  matrix[:2, :2] = linear
  middle_out = (np.array(size_out[::-1]) - 1) / 2 + rng.uniform(-2, 2, 2)
  matrix[:2, 2] = (np.array(size_in[::-1]) - 1) / 2 - linear @ middle_out
  return matrix


class AffineExampleTest(parameterized.TestCase):
  @parameterized.product(
    seed=(0, 1, 2, 3, 4, 5), without=("masks", "polygons", "labels")
  )
  def test_everything_about_a_disc_still_agrees(self, seed, without):
    rng = np.random.default_rng(seed)
    size_in, size_out = (70, 96), (80, 64)
    centre = np.array([48, 35]) + rng.uniform(-4, 4, 2)
    example = _disc(size_in, centre, rng.uniform(9, 12))
    del example[without]
    matrix = _random_map(rng, size_in, size_out)
    new = data.affine_example(example, matrix, size_out)
    self.assertEqual(new["image"].shape, (*size_out, 3))
    self.assertLen(new["boxes"], 1)
    box, coarse = new["boxes"][0], without == "polygons"
    truth = (np.linalg.inv(matrix) @ (*(centre - 0.5), 1))[:2] + 0.5
    found = {
      "keypoint": new["keypoints"][0, 0, :2] + 0.5,
      "image": _centroid(new["image"][..., 0].astype(np.float64)),
      "semantic": _centroid(new["semantic"] == 1),
      "ignore": _centroid(1.0 - new["ignore"]),
    }
    if "masks" in example:
      found["mask"] = _centroid(new["masks"][0])
      self.assertEqual(new["masks"].shape, (1, *size_out))
    if "polygons" in example:
      found["outline"] = new["polygons"][0][0].mean(0)
    for name, position in found.items():
      np.testing.assert_allclose(position, truth, atol=0.2, err_msg=name)
    # From a mask the box is made of whole pixels.
    np.testing.assert_allclose(
      (box[:2] + box[2:]) / 2, truth, atol=0.5 if coarse else 0.01
    )
    push = np.linalg.inv(matrix)[:2, :2]
    sides = np.ptp(example["boxes"][0][[0, 2]]) * np.hypot(*push.T)
    pixel = np.linalg.norm(push, 2)  # what one pixel of the mask becomes
    np.testing.assert_allclose(
      box[2:] - box[:2], sides, atol=1 + pixel if coarse else 0.02
    )
    area = example["area"] / np.linalg.det(matrix[:2, :2])
    np.testing.assert_allclose(new["area"], np.abs(area), rtol=1e-3)
    np.testing.assert_allclose(
      (new["semantic"] == 1).sum(), new["area"][0], rtol=0.06
    )

  def test_what_lies_outside(self):
    example = _disc((20, 30), np.array([15.0, 10.0]), 5)
    new = data.affine_example(
      example, axis_matrix((1, 1), (-4, -2)), (30, 40), fill=(9, 8, 7)
    )
    np.testing.assert_array_equal(new["image"][0, 0], [9, 8, 7])
    self.assertEqual(new["semantic"][0, 0], 255)
    self.assertEqual(new["ignore"][0, 0], 1)
    self.assertEqual(new["masks"][0, 0, 0], 0)
    self.assertEqual(new["index"], 7)
    np.testing.assert_array_equal(
      new["masks"][0, 2:22, 4:34], example["masks"][0]
    )

  def test_input_is_not_changed(self):
    example = _disc((20, 30), np.array([15.0, 10.0]), 5)
    copies = {k: np.array(v) for k, v in example.items()}
    data.affine_example(example, axis_matrix((1.3, 1.1), (5, 5)), (10, 12))
    data.flip_horizontal(example)
    for name, value in example.items():
      np.testing.assert_array_equal(np.array(value), copies[name])

  def test_picture_alone(self):
    image = np.random.default_rng(0).random((6, 9, 1)).astype(np.float32)
    new = data.affine_example({"image": image}, np.eye(3), (6, 9))
    self.assertEqual(list(new), ["image"])
    np.testing.assert_array_equal(new["image"], image)

  @parameterized.parameters(
    ({}, KeyError, "must have an 'image', got"),
    ({"image": np.zeros((4, 5))}, ValueError, r"`image` must be \[H, W, C\]"),
    ({"image": np.zeros((0, 5, 3))}, ValueError, "not empty"),
    ({"image": np.zeros((4, 5, 3), int)}, TypeError, "must be uint8, float32"),
    (
      {"image": np.zeros((4, 5, 3)), "masks": np.zeros((1, 5, 4))},
      ValueError,
      r"`masks` must have the size of the picture, \(4, 5\), got \(1, 5, 4\)",
    ),
    (
      {
        "image": np.zeros((4, 5, 3)),
        "boxes": np.zeros((2, 4)),
        "labels": np.zeros(3),
      },
      ValueError,
      r"one row for each object in all of \['boxes', 'labels'\], got \[2, 3\]",
    ),
  )
  def test_bad_examples(self, example, kind, message):
    with self.assertRaisesRegex(kind, message):
      data.affine_example(example, np.eye(3), (4, 4))
    with self.assertRaisesRegex(kind, message):
      data.flip_horizontal(example)

  @parameterized.parameters(
    ({"matrix": np.ones((2, 3))}, r"`matrix` must be \[3, 3\]"),
    ({"size": (0, 4)}, r"`size` must be \(height, width\), at least 1"),
    ({"min_visible": 1.5}, r"`min_visible` must be in \[0, 1\], got 1.5"),
  )
  def test_bad_settings(self, change, message):
    settings = {"matrix": np.eye(3), "size": (4, 4), **change}
    with self.assertRaisesRegex(ValueError, message):
      data.affine_example({"image": np.zeros((4, 4, 3))}, **settings)


class FlipHorizontalTest(absltest.TestCase):
  def _example(self):
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 64 * 30, (5, 2, 2)) / 64, axis=1)
    keypoints = np.concatenate(
      [rng.integers(0, 64 * 29, (5, 4, 2)) / 64, rng.integers(0, 3, (5, 4, 1))],
      -1,
    )
    keypoints[keypoints[..., 2] == 0] = 0
    return {
      "image": rng.integers(0, 256, (30, 41, 3), np.uint8),
      "boxes": corners.reshape(5, 4).astype(np.float32),
      "labels": np.arange(5, dtype=np.int32),
      "masks": rng.integers(0, 2, (5, 30, 41), np.uint8),
      "polygons": [[rng.integers(0, 640, (6, 2)).astype(np.float32) / 16]] * 5,
      "keypoints": keypoints.astype(np.float32),
      "semantic": rng.integers(0, 5, (30, 41), np.uint8),
      "ignore": rng.integers(0, 2, (30, 41), np.uint8),
    }

  def test_against_a_loop(self):
    example, swap = self._example(), (1, 0, 2, 3)
    new = data.flip_horizontal(example, swap=swap)
    for x in range(41):
      for name in ("masks", "semantic", "ignore"):
        np.testing.assert_array_equal(
          new[name][..., x], example[name][..., 40 - x]
        )
      np.testing.assert_array_equal(
        new["image"][:, x], example["image"][:, 40 - x]
      )
    for n, (x1, y1, x2, y2) in enumerate(example["boxes"]):
      np.testing.assert_array_equal(new["boxes"][n], [41 - x2, y1, 41 - x1, y2])
      for k in range(4):
        x, y, v = example["keypoints"][n, swap[k]]
        np.testing.assert_array_equal(
          new["keypoints"][n, k], [40 - x, y, v] if v else [0, 0, 0]
        )
    for (x, y), (u, v) in zip(
      example["polygons"][0][0], new["polygons"][0][0], strict=True
    ):
      self.assertEqual((41 - x, y), (u, v))
    np.testing.assert_array_equal(new["labels"], example["labels"])

  def test_twice_is_the_identity(self):
    """Bit for bit, coordinates on a grid of 1/64 pixel."""
    example, swap = self._example(), (1, 0, 3, 2)
    once = data.flip_horizontal(example, swap=swap)
    twice = data.flip_horizontal(once, swap=swap)
    self.assertEqual(set(twice), set(example))
    for name, value in example.items():
      self.assertFalse(np.array_equal(once[name], value) and name != "labels")
      np.testing.assert_array_equal(twice[name], value)
      if name != "polygons":
        self.assertEqual(twice[name].dtype, value.dtype, name)

  def test_is_the_affine_map(self):
    example = self._example()
    matrix = np.array([[-1.0, 0, 40], [0, 1, 0], [0, 0, 1]])
    moved = data.affine_example(example, matrix, (30, 41), min_visible=0)
    flipped = data.flip_horizontal(example)
    for name in ("image", "boxes", "masks", "keypoints", "semantic"):
      np.testing.assert_allclose(moved[name], flipped[name], err_msg=name)

  def test_no_objects(self):
    example = {
      "image": np.zeros((4, 6, 3), np.uint8),
      "boxes": np.zeros((0, 4), np.float32),
      "masks": np.zeros((0, 4, 6), np.uint8),
      "keypoints": np.zeros((0, 2, 3), np.float32),
    }
    new = data.flip_horizontal(example, swap=(1, 0))
    for name, value in example.items():
      self.assertEqual(new[name].shape, value.shape)

  def test_swap_must_be_a_permutation(self):
    for swap in ((0, 0, 1, 2), (0, 1, 2)):
      with self.assertRaisesRegex(
        ValueError, "`swap` must be a permutation of 4 keypoints, got"
      ):
        data.flip_horizontal(self._example(), swap=swap)


class LetterboxTest(parameterized.TestCase):
  @parameterized.parameters(
    ((100, 200), (64, 64), (32, 64), (16, 0)),
    ((200, 100), (64, 96), (64, 32), (0, 32)),
    ((30, 40), (60, 90), (60, 80), (0, 5)),
    ((427, 640), (416, 416), (278, 416), (69, 0)),
    ((1, 500), (32, 32), (1, 32), (15, 0)),
  )
  def test_the_picture_lies_where_it_should(self, old, canvas, inner, corner):
    example = {
      "image": np.full((*old, 3), 200, np.uint8),
      "boxes": np.array([[0, 0, old[1], old[0]]], np.float32),
    }
    new = data.letterbox(example, canvas, fill=50)
    expected = np.full((*canvas, 3), 50)
    (top, left), (height, width) = corner, inner
    expected[top : top + height, left : left + width] = 200
    np.testing.assert_array_equal(new["image"], expected)
    np.testing.assert_allclose(
      new["boxes"], [[left, top, left + width, top + height]], atol=1e-4
    )
    np.testing.assert_array_equal(new["original_size"], old)

  def test_boxes_come_back(self):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 300, (20, 2))
    boxes = np.hstack([low, low + rng.uniform(5, 100, (20, 2))])
    example = {
      "image": np.zeros((427, 640, 3), np.uint8),
      "boxes": boxes.astype(np.float32),
    }
    new = data.letterbox(example, (320, 320))
    matrix = data.letterbox_matrix(tuple(new["original_size"]), (320, 320))
    self.assertLess(new["boxes"].max(), 320)
    back = data.transform_boxes(new["boxes"], matrix)
    np.testing.assert_allclose(back, boxes, atol=1e-3)

  def test_a_disc_stays_together(self):
    example = _disc((60, 100), np.array([61.3, 28.4]), 15)
    new = data.letterbox(example, (90, 80))
    centre = new["keypoints"][0, 0, :2] + 0.5
    for position in (
      _centroid(new["image"][..., 0].astype(np.float64)),
      _centroid(new["masks"][0]),
      _centroid(new["semantic"] == 1),
      (new["boxes"][0, :2] + new["boxes"][0, 2:]) / 2,
    ):
      np.testing.assert_allclose(position, centre, atol=0.15)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "letterbox: `size` must be"):
      data.letterbox({"image": np.zeros((4, 4, 3))}, (0, 5))
    with self.assertRaisesRegex(ValueError, "`size_in` must be"):
      data.letterbox_matrix((0, 4), (4, 4))
    with self.assertRaisesRegex(ValueError, "`size_out` must be"):
      data.letterbox_matrix((4, 4), (4, 4, 3))


class ResizeShortestTest(parameterized.TestCase):
  @parameterized.parameters(
    ((100, 200), 50, None, (50, 100)),
    ((200, 100), 50, None, (100, 50)),
    ((100, 200), 50, 80, (40, 80)),
    ((480, 640), 800, 1333, (800, 1067)),
    ((427, 640), 800, 1000, (667, 1000)),
    ((7, 7), 3, None, (3, 3)),
  )
  def test_size(self, old, shortest, longest, expected):
    example = {
      "image": np.zeros((*old, 3), np.uint8),
      "boxes": np.array([[0, 0, old[1], old[0]]], np.float32),
      "semantic": np.zeros(old, np.uint8),
    }
    new = data.resize_shortest(example, shortest, longest=longest)
    self.assertEqual(new["image"].shape, (*expected, 3))
    self.assertEqual(new["semantic"].max(), 0)
    np.testing.assert_allclose(
      new["boxes"], [[0, 0, expected[1], expected[0]]], rtol=1e-6
    )
    np.testing.assert_array_equal(new["original_size"], old)

  def test_errors(self):
    example = {"image": np.zeros((4, 4, 3))}
    with self.assertRaisesRegex(ValueError, "`shortest` must be at least 1"):
      data.resize_shortest(example, 0)
    with self.assertRaisesRegex(ValueError, "`longest` must be at least 1"):
      data.resize_shortest(example, 4, longest=0)


if __name__ == "__main__":
  absltest.main()
