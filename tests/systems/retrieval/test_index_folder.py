"""An index that grows, is killed, damaged, or written by two."""

import json
import multiprocessing
import os
import pathlib
import signal
import tempfile
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax.systems import retrieval
from vision_jax.systems.retrieval import index_folder

_RECIPE = {"model": "m", "layer": "layer4", "scales": (1.0, 0.5)}


def _rows(name, count):
  rng = np.random.default_rng(sum(map(ord, name)))
  return (
    rng.normal(size=(count, 3)),
    rng.uniform(size=(count, 4)),
    np.ones(count),
  )


def _fill(folder, names, **settings):
  with retrieval.IndexWriter(folder, _RECIPE, dims=3, **settings) as writer:
    for place, name in enumerate(names):
      if name not in writer:
        writer.add(name, *_rows(name, place % 3))
  return writer


def _killed(folder):
  """Writes one part, then dies in the middle of the second."""
  writer = retrieval.IndexWriter(folder, _RECIPE, dims=3, images_per_part=2)
  for name in "abc":
    writer.add(name, *_rows(name, 2))
  real = os.replace

  def dies(source, target):
    if str(target).endswith("boxes-00001.npy"):
      os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

  with mock.patch.object(index_folder.os, "replace", dies):
    writer.flush()


class IndexTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder) / "index"

  @parameterized.parameters(1, 2, 100)
  def test_what_is_written_is_read(self, images_per_part):
    names = ["a.jpg", "b/c.jpg", "d e.jpg", "ü.png", "f\n.jpg"]
    _fill(self.folder, names, images_per_part=images_per_part)
    index = retrieval.read_index(self.folder, recipe=_RECIPE)
    self.assertEqual(index.names, tuple(names))
    self.assertEqual(index.image_ids.tolist(), [1, 2, 2, 4])
    expected = [_rows(n, p % 3) for p, n in enumerate(names)]
    for field, part in zip(
      ("vectors", "boxes", "scores"), range(3), strict=True
    ):
      wanted = np.concatenate([e[part] for e in expected]).astype(np.float32)
      np.testing.assert_array_equal(getattr(index, field), wanted)

  def test_it_grows(self):
    _fill(self.folder, ["a", "b", "c"])
    writer = _fill(self.folder, ["a", "b", "c", "d", "e", "f"])
    self.assertEqual(len(writer), 6)
    self.assertIn("f", writer)
    index = retrieval.read_index(self.folder)
    self.assertEqual(index.names, tuple("abcdef"))

  def test_a_kill_loses_nothing_that_was_written(self):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_killed, args=(self.folder,))
    process.start()
    process.join()
    self.assertEqual(process.exitcode, -signal.SIGKILL)
    self.assertTrue(list(self.folder.glob("*.partial")))
    self.assertEqual(retrieval.read_index(self.folder).names, ("a", "b"))
    _fill(self.folder, ["a", "b", "c"])
    self.assertFalse(list(self.folder.glob("*.partial")))
    self.assertEqual(retrieval.read_index(self.folder).names, ("a", "b", "c"))

  def test_an_error_keeps_the_work(self):
    def build():
      with retrieval.IndexWriter(self.folder, _RECIPE, dims=3) as writer:
        writer.add("a", *_rows("a", 1))
        raise RuntimeError

    with pytest.raises(RuntimeError):
      build()
    self.assertEqual(retrieval.read_index(self.folder).names, ("a",))

  def test_one_writer_at_a_time(self):
    with retrieval.IndexWriter(self.folder, _RECIPE, dims=3) as writer:
      writer.add("a", *_rows("a", 1))
      with pytest.raises(retrieval.SearchIndexError, match="another process"):
        retrieval.IndexWriter(self.folder, _RECIPE, dims=3)
    _fill(self.folder, ["b"])

  @parameterized.parameters("vectors", "boxes", "offsets", "names")
  def test_damaged_files(self, kind):
    _fill(self.folder, ["a", "b", "c"])
    path = next(self.folder.glob(f"{kind}-*"))
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(retrieval.SearchIndexError, match=path.name):
      retrieval.read_index(self.folder)
    path.unlink()
    with pytest.raises(retrieval.SearchIndexError, match="missing"):
      retrieval.read_index(self.folder, verify=False)

  def test_damaged_meta(self):
    _fill(self.folder, ["a", "b"])
    path = self.folder / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | {"version": 9}))
    for call in (
      lambda: retrieval.read_index(self.folder),
      lambda: _fill(self.folder, ["c"]),
    ):
      with pytest.raises(retrieval.SearchIndexError, match="version 9"):
        call()
    path.write_text("{")
    with pytest.raises(retrieval.SearchIndexError, match="is damaged"):
      retrieval.read_index(self.folder)
    path.unlink()
    with pytest.raises(retrieval.SearchIndexError, match="no meta"):
      retrieval.read_index(self.folder)

  def test_another_recipe_is_refused(self):
    _fill(self.folder, ["a", "b"])
    other = _RECIPE | {"model": "n"}
    for call in (
      lambda: retrieval.read_index(self.folder, recipe=other),
      lambda: retrieval.IndexWriter(self.folder, other, dims=3),
    ):
      with pytest.raises(
        retrieval.SearchIndexError, match="model: 'm', here 'n'"
      ):
        call()
    with pytest.raises(retrieval.SearchIndexError, match="built another way"):
      retrieval.IndexWriter(self.folder, _RECIPE, dims=4)
    _fill(self.folder, ["c"])  # the lock was given back

  def test_bad_rows(self):
    with retrieval.IndexWriter(self.folder, _RECIPE, dims=3) as writer:
      writer.add("a", *_rows("a", 1))
      for name, rows, pattern in (
        ("a", _rows("a", 1), "must be new"),
        ("b", (np.ones((2, 3)), np.ones((1, 4)), np.ones(2)), "as many"),
        ("b", (np.full((1, 3), np.nan), np.ones((1, 4)), [1]), "finite"),
      ):
        with pytest.raises(retrieval.SearchIndexError, match=pattern):
          writer.add(name, *rows)
    with pytest.raises(ValueError, match="`dtype` must be"):
      retrieval.IndexWriter(self.folder, _RECIPE, dims=3, dtype="int8")

  def test_an_empty_index(self):
    _fill(self.folder, [])
    with pytest.raises(retrieval.SearchIndexError, match="holds no image"):
      retrieval.read_index(self.folder)


if __name__ == "__main__":
  absltest.main()
