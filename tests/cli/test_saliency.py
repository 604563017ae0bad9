"""Tests of `vision-jax saliency`."""

import numpy as np
import PIL.Image
from absl.testing import parameterized

from tests.cli import command_case


class SaliencyTest(command_case.CommandCase):
  def test_one_layer(self):
    path = self.save("a.png", command_case.photograph(60, 90))
    out = self.folder / "s.png"
    result = self.run_command(
      "saliency", path, "--weights", "random", "--layer", "pool1",
      "--out", out,
    )  # fmt: skip
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertEqual(PIL.Image.open(out).size, (90, 60))
    arrays = np.load(out.with_suffix(".npz"))
    self.assertEqual(list(arrays), ["pool1"])
    self.assertEqual(arrays["pool1"].shape, (60, 90))
    self.assertGreater(arrays["pool1"].std(), 0)
    self.assertGreaterEqual(arrays["pool1"].min(), 0)

  def test_several_layers_and_a_large_image(self):
    path = self.save("a.png", command_case.photograph(60, 90))
    out = self.folder / "s.jpg"
    result = self.run_command(
      "saliency", path, "--weights", "random", "--out", out,
      "--layer", "pool1", "pool3", "--max-side", 45,
    )  # fmt: skip
    self.assertEqual((result.code, result.err), (0, ""), result)
    arrays = np.load(out.with_suffix(".npz"))
    self.assertEqual(arrays["pool3"].shape, (30, 45))
    size = PIL.Image.open(out).size
    self.assertGreater(size[0], 180)
    self.assertGreater(size[1], 60)

  @parameterized.parameters(
    (("--layer", "pool9"), "known: .*pool2"),
    (("--blur", "-1"), r"--blur must be in \[0, 1000\]"),
    (("--layer",), "--layer needs at least one name"),
    (("--layer", "pool1", "--colormap", "jetty"), "'jetty'"),
  )
  def test_bad_settings(self, arguments, pattern):
    path = self.save("a.png", command_case.photograph(32, 40))
    result = self.run_command(
      "saliency", path, "--weights", "random", *arguments,
      "--out", self.folder / "s.png",
    )  # fmt: skip
    self.assert_one_line(result, 2, pattern)
