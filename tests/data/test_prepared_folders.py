"""Folders of prepared sets: found from above, or refused with the remedy."""

import json
import pathlib
import shutil

import tensorflow_datasets as tfds
from absl.testing import absltest

from tests.data import tfds_layouts
from vision_jax import data


class RefusalsTest(tfds_layouts.LayoutCase):
  def test_parquet_ignores_slices(self):
    path = self.write(tfds_layouts.Cifar10, "parquet")
    # The reason: a part of it is all of it.
    part = tfds.builder_from_directory(path).as_data_source("train[:33%]")
    self.assertLen(part, 3)
    with self.assertRaisesRegex(
      data.DataError, r"in ArrayRecord, got parquet \(TFDS ignores slices of it"
    ):
      data.read_prepared(path, "train[:33%]")

  def test_tfrecord_needs_tensorflow(self):
    path = self.write(tfds_layouts.Cifar10)
    info = path / "dataset_info.json"
    content = json.loads(info.read_text())
    for value in ("tfrecord", "riegeli", None):
      content["fileFormat"] = value
      if value is None:  # as old versions of TFDS wrote it
        del content["fileFormat"]
      info.write_text(json.dumps(content))
      expected = f"got {value or 'tfrecord'} in .* write it as ArrayRecord .*"
      with self.assertRaisesRegex(data.DataError, expected + "convert_format"):
        data.read_prepared(path, "train")

  def test_unknown_splits_list_the_known(self):
    path = self.write(tfds_layouts.Cifar10)
    for split in ("valid", "train[:50", "train[:200%]", "", "train+valid"):
      with self.assertRaisesRegex(
        data.DataError, "`split` must be one of train, or a part such as"
      ):
        data.read_prepared(path, split)

  def test_the_folder_is_found_from_above(self):
    path = self.write(tfds_layouts.Cifar10)
    for folder in (path, path.parent, path.parent.parent, str(path)):
      self.assertEqual(data.find_prepared(folder), path)
    self.write(tfds_layouts.Mnist)
    with self.assertRaisesRegex(
      data.DataError, r"got 2 in .* \(cifar10/3.0.1 mnist/3.0.1\); name one"
    ):
      data.find_prepared(self.folder)

  def test_no_set(self):
    with self.assertRaisesRegex(
      data.DataError, "must be a folder, got 'no/such'; prepare the set first"
    ):
      data.read_prepared("no/such", "train")
    with self.assertRaisesRegex(data.DataError, "without dataset_info.json"):
      data.read_prepared(self.folder, "train")
    pathlib.Path(self.folder, "mnist", "incomplete.A1B2C3_3.0.1").mkdir(
      parents=True
    )
    with self.assertRaisesRegex(
      data.DataError, "the half prepared '.*incomplete.A1B2C3_3.0.1'; remove it"
    ):
      data.read_prepared(self.folder, "train")

  def test_a_file_that_is_missing(self):
    path = self.write(tfds_layouts.Cifar10)
    next(path.glob("*array_record*")).unlink()
    with self.assertRaisesRegex(
      data.DataError, r"1 files of cifar10, got .* without 1 of them \(cifar10-"
    ):
      data.read_prepared(path, "train")

  def test_the_info_is_damaged(self):
    path = self.write(tfds_layouts.Cifar10)
    for name, text, expected in (
      (
        "dataset_info.json",
        "{",
        "with a damaged dataset_info.json .*; prepare",
      ),
      ("dataset_info.json", "[1]", "with a damaged dataset_info.json"),
      (
        "dataset_info.json",
        json.dumps({"fileFormat": "array_record", "splits": 3}),
        "which TFDS cannot open",
      ),
      ("features.json", "{", "which TFDS cannot open"),
      ("features.json", None, "without features.json; prepare or copy it"),
    ):
      copy = pathlib.Path(self.folder, "copy")
      shutil.copytree(path, copy)
      if text is None:
        (copy / name).unlink()
      else:
        (copy / name).write_text(text)
      with self.assertRaisesRegex(data.DataError, expected):
        data.read_prepared(copy, "train")
      shutil.rmtree(copy)


if __name__ == "__main__":
  absltest.main()
