"""Tests of `vision-jax segment`."""

import json

import numpy as np
import PIL.Image
import pytest
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax import data


@pytest.mark.usefixtures("quick_compile")
class SegmentTest(command_case.CommandCase):
  def test_a_folder_with_a_broken_file(self):
    folder = self.folder / "in"
    folder.mkdir()
    self.save("in/a.png", command_case.photograph(40, 60))
    self.save_bytes("in/b.png", b"no picture")
    out = self.folder / "out"
    result = self.run_command(
      "segment", folder, "--model", "lraspp_mobilenet_v3_large",
      "--weights", "random", "--short-side", "48", "--out", out,
    )  # fmt: skip
    self.assertEqual(result.code, 1, result)
    self.assertRegex(result.err, "error: .*b.png")
    self.assertRegex(result.out, "1 of 2 written")
    labels = np.asarray(PIL.Image.open(out / "a_labels.png"))
    self.assertEqual((labels.shape, labels.dtype), ((40, 60), np.uint8))
    self.assertEqual(PIL.Image.open(out / "a_overlay.png").size, (60, 40))
    record = json.loads((out / "segments.json").read_text())
    self.assertEqual(record["categories"][15]["name"], "person")
    self.assertEqual(record["info"]["failed"], 1)
    total = np.zeros((40, 60), int)
    for annotation in record["annotations"]:
      mask = data.rle_to_mask(annotation["segmentation"])
      np.testing.assert_array_equal(mask, labels == annotation["category_id"])
      self.assertEqual(annotation["area"], mask.sum())
      x, y, width, height = annotation["bbox"]
      inside = mask[y : y + height, x : x + width]
      self.assertEqual(inside.sum(), mask.sum())
      self.assertTrue(inside[0].any() and inside[:, -1].any())
      total += mask
    np.testing.assert_array_equal(total, 1)

  def test_bundled_by_default(self):
    """Background keeps its pixels; objects, and no others, are tinted."""
    image = data.shapes(1, 0, size=128)["image"]
    path = self.save("a.png", image)
    out = self.folder / "out"
    self.assertEqual(self.run_command("segment", path, "--out", out).code, 0)
    labels = np.asarray(PIL.Image.open(out / "a_labels.png"))
    overlay = np.asarray(PIL.Image.open(out / "a_overlay.png"))
    record = json.loads((out / "segments.json").read_text())
    names = [c["name"] for c in record["categories"]]
    self.assertEqual(names, ["background", *data.SHAPE_NAMES])
    changed = (overlay != image).any(-1)
    self.assertFalse(changed[labels == 0].any())
    self.assertGreater(changed[labels > 0].mean(), 0.9)
    self.assertBetween((labels > 0).mean(), 0.02, 0.9)

  @parameterized.parameters(
    (("--model", "vgg16"), "unknown model 'vgg16'; known: .*deeplabv3"),
    (("--short-side", "-2"), "--short-side must be at least -1"),
  )
  def test_bad_settings(self, arguments, pattern):
    path = self.save("a.png", command_case.photograph(32, 40))
    result = self.run_command(
      "segment", path, "--weights", "random", *arguments,
      "--out", self.folder / "out",
    )  # fmt: skip
    self.assert_one_line(result, 2, pattern)

  def test_out_is_a_file(self):
    path = self.save("a.png", command_case.photograph(32, 40))
    result = self.run_command("segment", path, "--out", path)
    self.assert_one_line(result, 2, "--out must be a folder")
