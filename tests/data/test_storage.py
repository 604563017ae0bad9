"""What is stored of an example, and back."""

import io

import numpy as np
import PIL.Image
import pycocotools.mask
from absl.testing import absltest

from vision_jax import data
from vision_jax.data import storage


class StorageTest(absltest.TestCase):
  def test_pictures_and_maps_are_png(self):
    rng = np.random.default_rng(0)
    example = {
      "image": rng.integers(0, 256, (5, 8, 3), np.uint8),
      "semantic": rng.integers(0, 9, (5, 8), np.uint8),
      "area": np.ones(3, np.float32),
    }
    stored = storage.wrap_pictures(storage.encode_example(example))
    for name in ("image", "semantic"):
      np.testing.assert_array_equal(
        np.asarray(PIL.Image.open(stored[name])), example[name]
      )
    self.assertIs(stored["area"], example["area"])

  def test_frames_lie_below_each_other(self):
    clip = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 3), np.uint8)
    ignore = clip[..., 0]
    stored = storage.encode_example({"image": clip, "ignore": ignore})
    tall = np.asarray(PIL.Image.open(io.BytesIO(stored["image"])))
    np.testing.assert_array_equal(tall, np.concatenate(list(clip)))
    tall = np.asarray(PIL.Image.open(io.BytesIO(stored["ignore"])))
    np.testing.assert_array_equal(tall, np.concatenate(list(ignore)))

  def test_masks_are_lines_of_run_lengths(self):
    masks = (np.random.default_rng(0).random((3, 5, 8)) < 0.4).astype(np.uint8)
    text = storage.encode_example({"masks": masks})["masks"]
    for line, mask in zip(text.split("\n"), masks, strict=True):
      rle = {"size": [5, 8], "counts": line}
      np.testing.assert_array_equal(pycocotools.mask.decode(rle), mask)
    got = storage.decode_masks(text.encode(), (5, 8))
    np.testing.assert_array_equal(got, masks)
    self.assertEqual(got.dtype, np.uint8)

  def test_masks_may_overlap_and_be_empty(self):
    masks = np.zeros((3, 5, 8), np.uint8)
    masks[:2, 1:3] = 1
    stored = storage.encode_example({"masks": masks})["masks"].encode()
    np.testing.assert_array_equal(storage.decode_masks(stored, (5, 8)), masks)
    stored = storage.encode_example({"masks": masks[:0]})["masks"].encode()
    self.assertEqual(storage.decode_masks(stored, (5, 8)).shape, (0, 5, 8))

  def test_polygons_of_any_number(self):
    rng = np.random.default_rng(0)
    for counts in ((), (0,), (2, 0, 1), (0, 0), (1, 3, 0)):
      polygons = [
        [
          rng.random((3 + int(rng.integers(5)), 2), np.float32)
          for _ in range(count)
        ]
        for count in counts
      ]
      stored = storage.encode_example({"polygons": polygons})["polygons"]
      self.assertEqual(stored["points"].shape[1:], (2,))
      self.assertEqual(stored["points"].dtype, np.float32)
      got = storage.decode_polygons(stored)
      self.assertEqual([len(rings) for rings in got], list(counts))
      for rings, others in zip(got, polygons, strict=True):
        for ring, other in zip(rings, others, strict=True):
          np.testing.assert_array_equal(ring, other)

  def test_an_example_is_not_changed(self):
    example = data.shapes(0, 0, size=32)
    image = example["image"].copy()
    storage.encode_example(example)
    np.testing.assert_array_equal(example["image"], image)


if __name__ == "__main__":
  absltest.main()
