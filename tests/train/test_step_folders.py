"""Tests of vision_jax.train.step_folders."""

import pathlib

import chex
import pytest

from vision_jax.train import step_folders


class StepFoldersTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, caplog):
    self.folder: pathlib.Path = tmp_path
    self.log = caplog
    for name in ("5", "12", "12.orbax-checkpoint-tmp", "trash/3", "notes"):
      (tmp_path / name).mkdir(parents=True)

  def names(self):
    return {p.name for p in self.folder.iterdir()}

  def test_numbers_and_unfinished_ones(self):
    self.assertEqual(step_folders.step_numbers(self.folder), [5, 12])
    self.assertEqual(step_folders.step_numbers(self.folder / "no"), [])
    found = step_folders.unfinished(str(self.folder), 12)
    self.assertEqual(
      {pathlib.Path(f).name for f in found}, {"12", "12.orbax-checkpoint-tmp"}
    )

  def test_leftovers(self):
    step_folders.remove_leftovers(str(self.folder))
    self.assertEqual(self.names(), {"5", "12", "notes"})
    step_folders.remove_leftovers(str(self.folder))

  def test_set_aside_overwrites_nothing(self):
    for text in ("first", "second", "third"):
      (self.folder / "5").mkdir(exist_ok=True)
      (self.folder / "5" / "data").write_text(text)
      step_folders.set_aside(str(self.folder), [5, 77])
    self.assertNotIn("5", self.names())
    texts = {
      p.name: (p / "data").read_text()
      for p in (self.folder / "damaged").iterdir()
    }
    self.assertEqual(texts, {"5": "first", "5-1": "second", "5-2": "third"})
    self.assertIn("checkpoint 5 cannot be read", self.log.text)

  def test_metrics(self):
    read = lambda: step_folders.metrics_readable(self.folder, 5)  # noqa: E731
    self.assertTrue(read())  # none
    path = self.folder / "5" / "metrics" / "metrics"
    path.parent.mkdir()
    for text, sound in (
      ('{"ap": 0.5}', True),
      ('{"ap": 0.', False),
      ("3", False),
    ):
      path.write_text(text)
      self.assertEqual(read(), sound, text)
