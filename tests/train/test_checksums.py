"""Tests of vision_jax.train.checksums: no damage passes."""

import chex
import pytest

from vision_jax.train import checksums


class ChecksumsTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder = tmp_path
    for number, name in enumerate(("a/data", "a/b/more", "c/empty")):
      path = tmp_path / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(bytes(range(100)) * number)
    (tmp_path / "stamp").write_text("12:00")
    checksums.write_checksums(str(tmp_path))

  def find(self):
    return checksums.find_damage(str(self.folder))

  def test_sound_folder(self):
    self.assertIsNone(self.find())

  def test_files_beside_the_subfolders_may_change(self):
    (self.folder / "stamp").write_text("13:00")
    (self.folder / "new").write_text("")
    self.assertIsNone(self.find())

  def test_every_damage_is_named(self):
    for name in ("a/data", "a/b/more", "c/empty"):
      path = self.folder / name
      data = path.read_bytes()
      damages = [data + b"x", data[:-1], data[:50] + b"!" + data[51:], None]
      for damage in damages:
        if damage == data:
          continue
        path.unlink()
        if damage is None:
          self.assertEqual(self.find(), f"file {name} is missing")
        else:
          path.write_bytes(damage)
          self.assertRegex(self.find(), f"file {name} is damaged: .*were")
      path.write_bytes(data)
      self.assertIsNone(self.find())

  def test_sums_missing_or_broken(self):
    sums = self.folder / "_CRC32.json"
    sums.write_text(sums.read_text()[:-3])
    self.assertRegex(self.find(), "_CRC32.json cannot be read")
    sums.unlink()
    self.assertRegex(self.find(), "_CRC32.json cannot be read")
