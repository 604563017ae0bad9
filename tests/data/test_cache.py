"""A cached set is the set, read once, and no example can be changed."""

import pickle

import numpy as np
from absl.testing import absltest

from vision_jax import data


class Squares:
  name = "squares"

  def __init__(self):
    self.reads = 0

  def __len__(self):
    return 6

  def __getitem__(self, index):
    if not 0 <= index < 6:
      raise IndexError(index)
    self.reads += 1
    return {"x": np.full(4, index**2, np.int64), "label": np.int32(index)}


class CacheInMemoryTest(absltest.TestCase):
  def test_each_example_is_read_once(self):
    source = Squares()
    cached = data.cache_in_memory(source)
    self.assertLen(cached, 6)
    for _ in range(3):
      for index in range(6):
        example = cached[index]
        np.testing.assert_array_equal(example["x"], [index**2] * 4)
        self.assertEqual(example["label"], index)
    self.assertEqual(source.reads, 6)

  def test_what_does_not_fit_is_read_again(self):
    source = Squares()
    cached = data.cache_in_memory(source, max_bytes=3 * 32)
    for _ in range(2):
      for index in range(6):
        np.testing.assert_array_equal(cached[index]["x"], [index**2] * 4)
    self.assertEqual(source.reads, 6 + 3)

  def test_kept_examples_stay_as_they_are(self):
    cached = data.cache_in_memory(Squares())
    example = cached[2]
    with self.assertRaisesRegex(ValueError, "read-only"):
      example["x"] += 1
    example["x"] = None
    np.testing.assert_array_equal(cached[2]["x"], [4] * 4)

  def test_stands_for_its_source(self):
    cached = data.cache_in_memory(Squares())
    self.assertEqual(cached.name, "squares")
    with self.assertRaises(AttributeError):
      _ = cached.split
    with self.assertRaises(IndexError):
      _ = cached[6]
    _ = cached[3]
    small = pickle.dumps(cached)
    self.assertEmpty(pickle.loads(small)._kept)
    self.assertEqual(pickle.loads(small)[3]["x"][0], 9)
    self.assertEqual(pickle.loads(small).name, "squares")

  def test_batches_are_the_same(self):
    def batches(source):
      pipeline = data.make_pipeline(source, batch_size=4, seed=3, epochs=3)
      return list(pipeline)

    expected, found = (
      batches(Squares()),
      batches(data.cache_in_memory(Squares())),
    )
    self.assertLen(found, len(expected))
    for left, right in zip(expected, found, strict=True):
      for name in left:
        np.testing.assert_array_equal(left[name], right[name])

  def test_refuses_a_negative_limit(self):
    with self.assertRaisesRegex(ValueError, "max_bytes.*got -1"):
      data.cache_in_memory(Squares(), max_bytes=-1)


if __name__ == "__main__":
  absltest.main()
