"""Tests of `vision-jax bench`."""

import json

from tests.cli import command_case


class BenchTest(command_case.CommandCase):
  def test_rows_are_timed_and_written(self):
    out = self.folder / "b.json"
    result = self.run_command(
      *("bench", "vgg_small", "--image-size", 48, 64, "--batch", 2),
      *("--rounds", 2, "--out", out),
    )
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertIn("vgg_small, 2 x 48 x 64 x 3", result.out)
    self.assertRegex(result.out, r"forward +[0-9.]+ ms +\d+ % +[0-9.]+ +\d+ %")
    record = json.loads(out.read_text())
    rows = {row["name"]: row for row in record["rows"]}
    self.assertEqual(
      set(rows), {"forward", "saliency of pool2", "ELF key points"}
    )
    for name, row in rows.items():
      self.assertLen(row["seconds"][name], 2)
      self.assertGreater(min(row["seconds"][name]), 0.0)
    # The first convolution alone: 2 images, 3 x 3 x 3 taps, 16 channels.
    first = 2 * 2 * 48 * 64 * 27 * 16
    self.assertGreater(rows["forward"]["flops"], first)
    self.assertLess(rows["forward"]["flops"], 20 * first)
    self.assertEqual(record["options"]["batch"], 2)

  def test_bad_input(self):
    result = self.run_command("bench", "vgg99")
    self.assert_one_line(result, 2, "unknown model 'vgg99'; known: .*vgg16")
    result = self.run_command("bench", "vgg16", "--image-size", 0, 3)
    self.assert_one_line(result, 2, "--image-size must be positive")
    result = self.run_command("bench", "vgg16", "--rounds", 0)
    self.assert_one_line(result, 2, "--rounds must be positive")
    result = self.run_command("bench", "vgg16", "--out", "x.txt")
    self.assert_one_line(result, 2, "--out must end in .json")
    result = self.run_command("bench", "resnet18", "--image-size", 9, 9)
    self.assert_one_line(result, 2, "must be at least 21 pixels")
