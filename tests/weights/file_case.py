"""A test case that writes files and reads them back."""

import pathlib
import tempfile

from absl.testing import parameterized

from vision_jax import weights


class FileCase(parameterized.TestCase):
  def folder(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    return pathlib.Path(folder.name)

  def write(self, raw, name="weights.pth"):
    path = self.folder() / name
    path.write_bytes(raw)
    return path

  def fails(self, raw, message, name="weights.pth"):
    path = self.write(raw, name)
    with self.assertRaisesRegex(weights.WeightsError, message) as context:
      weights.read_state_dict(path)
    text = str(context.exception)
    self.assertIn(str(path), text)
    self.assertNotIn("\n", text)
    return text
