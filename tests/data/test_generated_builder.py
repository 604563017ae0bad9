"""What the builders share: numbers of examples, files, workers, order."""

import filecmp
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data import builders


class GeneratedBuilderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())

  def _prepare(self, folder="a", **arguments):
    return data.prepare_generated(
      "generated_textures",
      f"{self.folder}/{folder}",
      progress=False,
      **arguments,
    )

  @parameterized.parameters(
    (
      "stick_pose",
      {"train": 50_001},
      "of train must be in 1..50000, got 50001",
    ),
    ("generated_instances", {"query": 41}, "of query must be in 1..40, got 41"),
    ("generated_shapes", {"test": 0}, "of test must be at least 1, got 0"),
    ("generated_shapes", {"val": 3}, "out of train validation test, got val"),
    ("generated_shapes", {}, "out of train validation test, got none"),
  )
  def test_numbers_that_cannot_be(self, name, counts, text):
    with self.assertRaisesRegex(ValueError, text):
      data.prepare_generated(name, self.folder, num_examples=counts)

  def test_a_number_of_workers_that_cannot_be(self):
    with self.assertRaisesRegex(
      ValueError, "generated_textures: `num_workers` must be at least 0, got -1"
    ):
      self._prepare(num_workers=-1)

  def test_several_files_make_one_split_in_order(self):
    with mock.patch(
      "vision_jax.data.generated_builder._SHARD_BYTES", 4 * 64 * 64 * 3
    ):
      path = self._prepare(num_examples={"train": 10})
    self.assertLen(list(path.glob("*array_record*")), 3)
    labels = [int(e["label"]) for e in data.read_prepared(path, "train")]
    self.assertEqual(labels, [data.texture_label(0, i) for i in range(10)])

  def test_workers_write_the_same_files(self):
    counts = {"train": 30, "test": 3}
    alone = self._prepare("alone", num_examples=counts)
    shared = self._prepare("shared", num_examples=counts, num_workers=2)
    names = sorted(file.name for file in alone.iterdir())
    self.assertEqual(names, sorted(file.name for file in shared.iterdir()))
    same, *others = filecmp.cmpfiles(alone, shared, names, shallow=False)
    self.assertEqual((len(same), others), (len(names), [[], []]))

  def test_it_is_a_builder_like_any_other(self):
    builder = builders.GeneratedTextures(
      data_dir=self.folder, config="32", num_examples={"test": 2}
    )
    builder.download_and_prepare()
    self.assertEqual(builder.info.splits["test"].num_examples, 2)
    example = builder.as_data_source("test")[1]
    image, label = data.textures(1, 1, size=32)
    np.testing.assert_array_equal(example["image"], image)
    self.assertEqual(example["label"], label)


if __name__ == "__main__":
  absltest.main()
