"""Tests of `vision-jax prepare`."""

import dataclasses
from unittest import mock

import numpy as np

from tests.cli import command_case
from vision_jax import data
from vision_jax.cli import prepare
from vision_jax.data.generated import texture_classes


class PrepareTest(command_case.CommandCase):
  def _run(self, *arguments):
    return self.run_command(
      "prepare", *arguments, "--out", self.folder / "sets", "--workers", "0"
    )

  def test_the_set_can_be_read(self):
    result = self._run(
      "generated_textures", "--config", "32", "--examples", "train=5", "test=2"
    )
    self.assertEqual(result.code, 0, result)
    self.assertRegex(
      result.out, r"^prepared: .*generated_textures/32/1.0.0 \(\d+\.\d MB\)\n$"
    )
    self.assertIn("100%", result.err)  # the progress bar
    source = data.read_prepared(self.folder / "sets", "test")
    self.assertLen(source, 2)
    image, _ = data.textures(1, 1, size=32)
    np.testing.assert_array_equal(source[1]["image"], image)
    # Asking again costs nothing; asking for another size is a mistake.
    with mock.patch.object(
      texture_classes, "textures", side_effect=AssertionError
    ):
      result = self._run(
        "generated_textures",
        "--config",
        "32",
        "--examples",
        "train=5",
        "test=2",
      )
    self.assertEqual(result.code, 0, result)
    result = self._run("generated_textures", "--config", "32")
    self.assert_one_line(
      result, 2, "got test=5000 train=20000 validation=2000 where .* holds test"
    )

  def test_bad_input(self):
    for arguments, pattern in (
      (
        ("mnist",),
        "one of generated_digits generated_instances .* got 'mnist'",
      ),
      (("stick_pose", "--config", "64"), "one of single_64 .* got '64'"),
      (("stick_pose", "--examples", "train"), "SPLIT=NUMBER, .* got 'train'"),
      (("stick_pose", "--examples", "train=x"), "SPLIT=NUMBER, .*'train=x'"),
      (("stick_pose", "--examples", "=3"), "SPLIT=NUMBER, .* got '=3'"),
      (("stick_pose", "--examples", "val=3"), "validation test, got val"),
    ):
      result = self._run(*arguments)
      self.assert_one_line(
        result, 2, f"^vision-jax prepare: error: .*{pattern}"
      )
    self.assertFalse((self.folder / "sets" / "stick_pose").exists())

  def test_a_file_in_the_way(self):
    out = self.save_bytes("sets", b"")
    result = self.run_command(
      "prepare", "generated_textures", "--out", out, "--workers", "0"
    )
    self.assert_one_line(result, 2, "^vision-jax prepare: error: .*sets")

  def test_help_lists_every_option(self):
    result = self.run_command("prepare", "--help")
    self.assertEqual(result.code, 0)
    plain = " ".join(result.out.replace("│", " ").split())
    for field in dataclasses.fields(prepare.PrepareOptions):
      if field.name != "name":
        self.assertIn(f"--{field.name}", plain)
    self.assertRegex(plain, "NAME Name of the set")
