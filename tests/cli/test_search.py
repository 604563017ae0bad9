"""Tests of `vision-jax search`."""

import json

import numpy as np
import pytest

from tests.cli import command_case
from vision_jax import data
from vision_jax.systems import retrieval


def _picture(record):
  return data.draw_instance_image(record)


@pytest.mark.usefixtures("quick_compile")
class SearchTest(command_case.CommandCase):
  def setUp(self):
    super().setUp()
    self.index, self.page = self.folder / "index", self.folder / "page.html"
    records = data.instance_set(
      num_instances=2, sides=(64,), num_per_side=1, num_distractors=1, size=96
    )
    for number, record in enumerate(records[:3]):
      image = _picture(record)["image"] / 255.0
      self.save(f"set/{number % 2}/{number}.png", image)

  def build(self, *arguments):
    return self.run_command(
      "search", "build", self.folder / "set", "--out", self.index,
      "--max-regions", 4, "--max-side", 96, *arguments,
    )  # fmt: skip

  def query(self, *arguments):
    return self.run_command(
      "search", "query", self.index, self.folder / "set/0/0.png", "--out",
      self.page, *arguments,
    )  # fmt: skip

  def test_build_add_and_query(self):
    result = self.build()
    self.assertEqual(result.code, 0, result)
    self.assertIn("3 images: 3 described", result.out)
    index = retrieval.read_index(self.index)
    self.assertEqual(index.names, ("0/0.png", "0/2.png", "1/1.png"))
    self.assertEqual(index.recipe["model"], "resnet_small")
    first = np.asarray(index.boxes)[np.searchsorted(index.image_ids, [0, 1, 2])]
    np.testing.assert_allclose(first, [[0, 0, 96, 96]] * 3)  # the whole picture
    # Asked for a region of a picture, the picture is first, with that region.
    region = np.asarray(index.boxes)[1]
    box = ",".join(f"{v:.3f}" for v in region)
    result = self.query("--box", box, "--top", 2)
    self.assertEqual((result.code, result.err), (0, ""), result)
    record = json.loads(self.page.with_suffix(".json").read_text())
    self.assertEqual(len(record["results"]), 2)
    best = record["results"][0]
    self.assertEqual(best["image"], "0/0.png")
    self.assertGreater(best["similarity"], 0.999)
    text = self.page.read_text()
    self.assertIn("1. 0/0.png", text)
    self.assertEqual(text.count("<img"), 3)
    self.assertEqual(self.query("--box", box, "--expand", 2).code, 0)
    # A new picture is added; one that is damaged is reported.
    self.save("set/new.png", command_case.photograph(96, 96))
    self.save_bytes("set/bad.png", b"no picture")
    result = self.build()
    self.assert_one_line(result, 1, r"error: .*bad\.png")
    self.assertIn("1 described", result.out)
    self.assertIn("3 in the index before", result.out)
    self.assertEqual(len(retrieval.read_index(self.index).names), 4)
    # Another recipe is refused, and a damaged file named.
    result = self.build("--max-regions", 5)
    self.assert_one_line(result, 2, "was built another way .*max_regions")
    for text, pattern in (
      ("1,2,3", "must be x1,y1,x2,y2"),
      ("9,9,3,3", "which is empty"),
      ("200,200,300,300", "must lie in the picture of 96 x 96"),
    ):
      self.assert_one_line(self.query("--box", text), 2, pattern)
    path = next(self.index.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-8])
    self.assert_one_line(self.query(), 2, f"{path.name}' is damaged")

  def test_bad_options(self):
    for arguments, pattern in (
      (("--top", 0), "--top must be at least 1"),
      (("--expand", -1), "--expand must be at least 0"),
    ):
      self.assert_one_line(self.query(*arguments), 2, pattern)
    self.assert_one_line(self.query(), 2, "is no index")
    self.assert_one_line(self.build("--max-regions", 0), 2, "--max-regions")
    self.assert_one_line(self.build("--weights", "x.pth"), 2, r"x\.pth")
    self.assert_one_line(
      self.run_command(
        "search", "build", self.folder / "none", "--out", self.index
      ),
      2,
      "DIR must be a folder",
    )
