"""Tests of the command line as a whole."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from unittest import mock

from absl.testing import parameterized

import vision_jax
from tests.cli import command_case
from vision_jax import cli
from vision_jax.cli import convert, demo, info, keypoints, match, saliency, warp

_COMMANDS = (
  ("match", match.MatchOptions),
  ("keypoints", keypoints.KeypointsOptions),
  ("saliency", saliency.SaliencyOptions),
  ("warp", warp.WarpOptions),
  ("convert", convert.ConvertOptions),
  ("info", info.InfoOptions),
  ("demo", demo.DemoOptions),
)
_ENVIRONMENT = {
  **os.environ,
  "PYTHONPATH": str(pathlib.Path(vision_jax.__file__).parent.parent),
}
_POSITIONAL = ("image0", "image1", "images", "image", "name", "source")


class HelpTest(command_case.CommandCase):
  def test_lists_the_commands(self):
    result = self.run_command("--help")
    self.assertEqual(result.code, 0)
    for name, _ in _COMMANDS:
      self.assertIn(name, result.out)

  @parameterized.parameters(*_COMMANDS)
  def test_lists_and_explains_every_option(self, name, options):
    result = self.run_command(name, "--help")
    self.assertEqual(result.code, 0)
    plain = " ".join(result.out.replace("│", " ").split())
    for field in dataclasses.fields(options):
      if field.name in _POSITIONAL or (name, field.name) == ("info", "model"):
        continue
      option = "--" + field.name.replace("_", "-")
      self.assertRegex(plain, rf"{option}( [^ ]+)*? [A-Z\"][^-]")
    # Every attribute is documented: no option without a sentence.
    for base in options.__mro__[:-1]:
      for field in vars(base).get("__annotations__", {}):
        self.assertIn(f"    {field}: ", base.__doc__)

  def test_starts_without_heavy_libraries(self):
    program = (
      "import sys, time; start = time.perf_counter();"
      "from vision_jax import cli\n"
      "try: cli.main(['match', '--help'])\n"
      "except SystemExit: pass\n"
      "seconds = time.perf_counter() - start\n"
      "heavy = {'jax', 'flax', 'numpy', 'cv2', 'h5py', 'matplotlib'}\n"
      "print('LOADED', sorted(heavy & set(sys.modules)))\n"
      "print('SECONDS', seconds)"
    )
    done = subprocess.run(
      [sys.executable, "-c", program],
      env=_ENVIRONMENT,
      capture_output=True,
      text=True,
      check=True,
    )
    self.assertIn("LOADED []", done.stdout)
    self.assertLess(float(done.stdout.rpartition("SECONDS ")[2]), 5.0)


class MainTest(command_case.CommandCase):
  @parameterized.parameters(
    ((), "Missing subcommand"),
    (("matsch",), "matsch"),
    (("match", "a.png"), "Missing from"),
    (("match", "a.png", "b.png", "--rato", "2"), "--ratio"),
    (("match", "a.png", "b.png", "--method", "surf"), "surf"),
    (("match", "a.png", "b.png", "--ransac", "near"), "near"),
  )
  def test_misspelt_options(self, arguments, text):
    result = self.run_command(*arguments)
    self.assertEqual(result.code, 2)
    self.assertIn(text, result.err)
    self.assertNotIn("Traceback", result.err)

  def test_debug_shows_the_exception(self):
    with self.assertRaisesRegex(ValueError, "no such file"):
      cli.main(["match", "none.png", "none.png", "--debug"])

  def test_bugs_are_told_from_mistakes(self):
    with mock.patch.object(
      info.InfoOptions, "run", side_effect=ZeroDivisionError("by zero")
    ):
      result = self.run_command("info", "vgg16")
    self.assertEqual(result.code, 70)
    self.assertIn("info: error: internal error, ZeroDivisionError", result.err)
    self.assertIn("--debug", result.err)

  def test_interrupt(self):
    with mock.patch.object(
      info.InfoOptions, "run", side_effect=KeyboardInterrupt
    ):
      result = self.run_command("info", "vgg16")
    self.assertEqual(
      (result.code, result.err), (130, "vision-jax info: interrupted\n")
    )

  def test_as_a_process(self):
    start = time.perf_counter()
    done = subprocess.run(
      [sys.executable, "-m", "vision_jax.cli", "match", "x.png", "y.png"],
      capture_output=True,
      text=True,
      cwd=self.folder,
      env=_ENVIRONMENT,
      check=False,
    )
    self.assertEqual(done.returncode, 2, done.stderr)
    self.assertEqual(done.stdout, "")
    self.assertRegex(done.stderr, r"^vision-jax match: error: .*'x\.png'.*\n$")
    self.assertLess(time.perf_counter() - start, 60)

  def test_a_closed_pipe_is_no_error(self):
    done = subprocess.run(
      f"{sys.executable} -m vision_jax.cli info vgg16 | head -1",
      shell=True,
      env=_ENVIRONMENT,
      capture_output=True,
      text=True,
      check=False,
    )
    self.assertIn("vgg16", done.stdout)
    self.assertNotIn("Error", done.stderr)
