"""What the tests of the commands share."""

import contextlib
import io
import pathlib
import tempfile
from typing import NamedTuple

import cv2
import numpy as np
import skimage.data
from absl.testing import parameterized

from vision_jax import cli, data

# First image to second image, index frame.
HOMOGRAPHY = np.array([[0.98, -0.05, 9.0], [0.04, 1.02, -6.0], [1e-5, 0, 1]])


class Result(NamedTuple):
  """What a command left behind."""

  code: int
  out: str
  err: str


def photograph(height=180, width=240):
  """A crop with texture, float32 [H, W, 3]."""
  image = skimage.data.astronaut()[40 : 40 + height, 130 : 130 + width]
  return image.astype(np.float32) / 255.0


def warped(image):
  """The image as seen through `HOMOGRAPHY`."""
  size = image.shape[1::-1]
  return cv2.warpPerspective(
    image, HOMOGRAPHY, size, borderMode=cv2.BORDER_REFLECT
  )


class CommandCase(parameterized.TestCase):
  """A temporary folder, and the command run in this process."""

  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.folder = pathlib.Path(folder)

  def run_command(self, *arguments):
    """Runs the command line; also catches the exit of the parser."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        code = cli.main([str(argument) for argument in arguments])
      except SystemExit as leave:
        code = leave.code
    return Result(code, out.getvalue(), err.getvalue())

  def assert_one_line(self, result, code, pattern):
    """The command failed with exactly one line on standard error."""
    self.assertEqual(result.code, code, result)
    self.assertRegex(result.err, pattern)
    self.assertEqual(result.err.count("\n"), 1, result.err)
    self.assertNotIn("Traceback", result.err)
    self.assertNotIn("internal error", result.err)

  def save(self, name, image):
    """Writes an image into the folder and returns its path."""
    path = self.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_image(path, image)
    return path

  def save_bytes(self, name, content):
    """Writes bytes into the folder and returns the path."""
    path = self.folder / name
    path.write_bytes(content)
    return path

  def save_pair(self):
    """Two views of a photograph."""
    first = photograph()
    return self.save("a.png", first), self.save("b.png", warped(first))
