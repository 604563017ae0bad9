"""Tests of padding and stacking."""

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data


def _example(count=3, size=(5, 7)):
  rng = np.random.default_rng(count)
  return {
    "image": rng.integers(1, 256, (*size, 3), np.uint8),
    "boxes": rng.uniform(1, 5, (count, 4)).astype(np.float32),
    "labels": rng.integers(1, 9, count, np.int32),
    "masks": np.ones((count, *size), np.uint8),
    "polygons": [[np.ones((3, 2), np.float32)]] * count,
    "crowd": np.ones(count, bool),
    "area": np.arange(1, count + 1, dtype=np.float32),
    "keypoints": np.ones((count, 4, 3), np.float32),
    "semantic": np.zeros(size, np.uint8),
    "ignore": np.zeros(size, np.uint8),
    "label": np.int32(4),
    "index": np.int64(9),
  }


class PadExampleTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 3, 4)
  def test_objects(self, count):
    example = _example(count)
    new = data.pad_example(example, max_objects=4)
    self.assertNotIn("polygons", new)
    self.assertNotIn("image_size", new)
    np.testing.assert_array_equal(new["objects_valid"], np.arange(4) < count)
    self.assertEqual(new["objects_left_out"], 0)
    for name in ("boxes", "labels", "masks", "crowd", "area", "keypoints"):
      self.assertEqual(new[name].dtype, example[name].dtype, name)
      self.assertEqual(new[name].shape, (4, *example[name].shape[1:]), name)
      np.testing.assert_array_equal(new[name][:count], example[name])
      self.assertFalse(new[name][count:].any(), name)
    for name in ("image", "semantic", "label", "index"):
      np.testing.assert_array_equal(new[name], example[name])

  def test_pictures(self):
    example = _example(2)
    new = data.pad_example(example, image_size=(8, 9))
    np.testing.assert_array_equal(new["image_size"], [5, 7])
    for name, outside in (("image", 0), ("semantic", 255), ("ignore", 1)):
      self.assertEqual(new[name].shape[:2], (8, 9))
      np.testing.assert_array_equal(new[name][:5, :7], example[name])
      self.assertTrue((new[name][5:] == outside).all(), name)
      self.assertTrue((new[name][:, 7:] == outside).all(), name)
    self.assertEqual(new["masks"].shape, (2, 8, 9))
    self.assertEqual(new["masks"].sum(), 2 * 35)
    self.assertTrue(new["masks"][:, :5, :7].all())
    np.testing.assert_array_equal(new["boxes"], example["boxes"])

  def test_the_largest_are_kept_in_their_order(self):
    example = _example(5)
    example["area"] = np.array([3, 9, 1, 9, 4], np.float32)
    new = data.pad_example(example, max_objects=3)
    for name in ("boxes", "labels", "keypoints"):
      np.testing.assert_array_equal(new[name], example[name][[1, 3, 4]])
    self.assertEqual(new["objects_left_out"], 2)
    self.assertTrue(new["objects_valid"].all())
    del example["area"]
    example["boxes"] = np.array(
      [[0, 0, s, 1] for s in (2, 5, 1, 8, 7)], np.float32
    )
    new = data.pad_example(example, max_objects=2)
    np.testing.assert_array_equal(new["boxes"][:, 2], [8, 7])

  def test_errors(self):
    with self.assertRaisesRegex(
      ValueError,
      r"`image_size` must be at least the picture's \(5, 7\), got \(8, 6\)",
    ):
      data.pad_example(_example(), image_size=(8, 6))
    with self.assertRaisesRegex(ValueError, "`max_objects` must be at least 1"):
      data.pad_example(_example(), max_objects=0)


class CollateTest(parameterized.TestCase):
  def test_rows(self):
    examples = [
      data.pad_example(
        _example(n, (5, 4 + n)), max_objects=3, image_size=(6, 8)
      )
      for n in (0, 1, 3, 4)
    ]
    batch = data.collate(examples)
    self.assertEqual(set(batch), {*examples[0], "valid"})
    np.testing.assert_array_equal(batch["valid"], [True] * 4)
    self.assertEqual(batch["image"].shape, (4, 6, 8, 3))
    for row, example in enumerate(examples):
      for name, value in example.items():
        np.testing.assert_array_equal(batch[name][row], value)
        self.assertEqual(batch[name].dtype, value.dtype)

  @parameterized.parameters(
    ([], ValueError, "at least one, got 0"),
    (
      [{"x": np.zeros(3)}, {"x": np.zeros(4)}],
      ValueError,
      r"`x` must have one shape.*got float64 \[3\] and float64 \[4\]; resize",
    ),
    (
      [{"x": np.zeros(3)}, {"x": np.zeros(3, int)}],
      ValueError,
      "float64.*int64",
    ),
    (
      [{"x": np.zeros(3)}, {"y": np.zeros(3)}],
      ValueError,
      r"same entries, got \['x'\] and \['y'\]",
    ),
    ([{"polygons": [[]]}], TypeError, "`polygons`.*numbers, got list; drop"),
    ([{"name": "a"}], TypeError, "`name` must be an array.*got str"),
    ([{"name": np.array("a")}], TypeError, "got dtype <U1"),
  )
  def test_errors(self, examples, kind, message):
    with self.assertRaisesRegex(kind, message):
      data.collate(examples)


if __name__ == "__main__":
  absltest.main()
