"""Tests of `vision-jax match`."""

import json
import os
import pickle

import numpy as np
import PIL.Image
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax import data, viz, weights
from vision_jax.nn import backbones


class _Evil:
  """Creates a folder when it is unpickled."""

  def __init__(self, folder):
    self.path = str(folder / "opened")

  def __reduce__(self):
    return (os.mkdir, (self.path,))


def _errors(points0, points1):
  """Distance of each second point from where the first is seen."""
  ones = np.ones((len(points0), 1))
  seen = np.concatenate([points0, ones], 1) @ command_case.HOMOGRAPHY.T
  return np.linalg.norm(seen[:, :2] / seen[:, 2:] - points1, axis=1)


class MatchTest(command_case.CommandCase):
  @parameterized.parameters("sift", "orb", "akaze")
  def test_finds_the_homography(self, method):
    a, b = self.save_pair()
    out = self.folder / "new" / "m.png"
    result = self.run_command("match", a, b, "--method", method, "--out", out)
    self.assertEqual((result.code, result.err), (0, ""), result)
    arrays = np.load(out.with_suffix(".npz"))
    points0 = arrays["keypoints0"][arrays["matches"][:, 0]]
    points1 = arrays["keypoints1"][arrays["matches"][:, 1]]
    inliers = arrays["inliers"]
    self.assertGreater(inliers.sum(), 30)
    self.assertLess(np.median(_errors(points0[inliers], points1[inliers])), 1.0)
    corners = np.array([[0.0, 0.0], [239.0, 0.0], [239.0, 179.0], [0.0, 179.0]])
    seen = np.c_[corners, np.ones(4)] @ arrays["homography_0to1"].T
    np.testing.assert_array_less(
      _errors(corners, seen[:, :2] / seen[:, 2:]), 3.0
    )
    for name, count in (
      ("keypoints", len(arrays["keypoints0"])),
      ("matches", len(points0)),
      ("inliers", int(inliers.sum())),
    ):
      self.assertRegex(result.out, rf"{count} .*{name[:3]}")
    self.assertIn("m.npz, m.json", result.out)

  def test_elf_with_random_weights(self):
    a, b = self.save_pair()
    out = self.folder / "m.png"
    result = self.run_command(
      "match", a, b, "--weights", "random", "--out", out,
      "--max-keypoints", 80, "--max-side", 160,
    )  # fmt: skip
    self.assertEqual((result.code, result.err), (0, ""), result)
    arrays = np.load(out.with_suffix(".npz"))
    self.assertLessEqual(len(arrays["keypoints0"]), 80)
    self.assertGreater(len(arrays["keypoints0"]), 10)
    # Points are in pixels of the files, which were shrunk to 2/3: positions
    # are whole pixels there.
    small = (arrays["keypoints0"] + 0.5) / 1.5 - 0.5
    np.testing.assert_allclose(small, np.round(small), atol=1e-4)
    self.assertGreater(arrays["keypoints0"][:, 0].max(), 160)
    record = json.loads(out.with_suffix(".json").read_text())
    self.assertEqual(record["config"]["saliency_layer"], "pool2")
    self.assertEqual(record["options"]["weights"], "random")

  def test_picture_and_records_agree(self):
    a, b = self.save_pair()
    out = self.folder / "m.png"
    self.run_command("match", a, b, "--method", "sift", "--out", out)
    arrays = np.load(out.with_suffix(".npz"))
    record = json.loads(out.with_suffix(".json").read_text())
    self.assertEqual(record["matches"], len(arrays["matches"]))
    self.assertEqual(record["inliers"], arrays["inliers"].sum())
    np.testing.assert_allclose(
      record["homography_0to1"], arrays["homography_0to1"]
    )
    self.assertEqual(record["images"][0]["width"], 240)
    self.assertEqual(
      record["images"][1]["keypoints"], len(arrays["keypoints1"])
    )
    self.assertEqual(record["environment"]["numpy"], np.__version__)
    self.assertEqual(record["options"]["ransac"], 3.0)
    self.assertEqual(json.loads(str(arrays["record"])), record)
    self.assertEqual(arrays["scores0"].shape, arrays["keypoints0"].shape[:1])
    self.assertEqual(arrays["match_scores"].shape, arrays["inliers"].shape)
    picture = np.array(PIL.Image.open(out))
    expected = viz.draw_matches(
      data.read_image(a),
      data.read_image(b),
      arrays["keypoints0"][arrays["matches"][:, 0]],
      arrays["keypoints1"][arrays["matches"][:, 1]],
      inliers=arrays["inliers"],
    )
    np.testing.assert_array_equal(picture, expected)

  def test_the_same_image_twice(self):
    a, _ = self.save_pair()
    out = self.folder / "m.png"
    result = self.run_command("match", a, a, "--method", "sift", "--out", out)
    self.assertEqual(result.code, 0)
    matrix = np.load(out.with_suffix(".npz"))["homography_0to1"]
    np.testing.assert_allclose(matrix / matrix[2, 2], np.eye(3), atol=1e-3)

  def test_ratio_removes_matches(self):
    a, b = self.save_pair()
    counts = []
    for ratio in ("None", "0.8"):
      out = self.folder / "m.png"
      self.run_command(
        "match", a, b, "--method", "orb", "--ratio", ratio, "--out", out
      )
      counts.append(len(np.load(out.with_suffix(".npz"))["matches"]))
    self.assertLess(counts[1], counts[0])

  def test_no_key_points_is_said_and_outputs_are_written(self):
    grey = self.save("grey.png", np.full((64, 80, 3), 0.5))
    a, _ = self.save_pair()
    out = self.folder / "m.png"
    result = self.run_command(
      "match", a, grey, "--method", "sift", "--out", out
    )
    self.assert_one_line(result, 1, r"no key points found in .*grey\.png")
    self.assertIn("at least 4 matches", result.out)
    self.assertTrue(out.exists())
    arrays = np.load(out.with_suffix(".npz"))
    self.assertEqual(arrays["keypoints1"].shape, (0, 2))
    self.assertEqual(arrays["matches"].shape, (0, 2))
    self.assertTrue(np.isnan(arrays["homography_0to1"]).all())
    record = json.loads(out.with_suffix(".json").read_text())
    self.assertIsNone(record["homography_0to1"])

  def test_too_few_matches_give_no_homography(self):
    a, b = self.save_pair()
    out = self.folder / "m.png"
    result = self.run_command(
      "match", a, b, "--method", "sift", "--max-keypoints", 2, "--out", out
    )
    self.assertEqual(result.code, 0)
    self.assertIn("no homography: it needs at least 4 matches", result.out)


class BadInputTest(command_case.CommandCase):
  def _match(self, *arguments):
    return self.run_command("match", *arguments, "--out", self.folder / "m.png")

  def test_images(self):
    a, _ = self.save_pair()
    cut = self.save_bytes("cut.png", a.read_bytes()[:3000])
    text = self.save_bytes("text.png", b"not an image")
    empty = self.save_bytes("empty.png", b"")
    for bad in (cut, text, empty, self.folder / "none.png", self.folder):
      result = self._match(a, bad, "--method", "sift")
      self.assert_one_line(result, 2, rf"^vision-jax match: error: .*{bad}")
      self.assertFalse((self.folder / "m.png").exists())

  def test_small_images(self):
    small = self.save("small.png", command_case.photograph(12, 200))
    result = self._match(small, small, "--weights", "random")
    self.assert_one_line(result, 2, "at least 21 pixels")

  @parameterized.parameters(
    (("--ratio", "1.5"), r"--ratio must be in \(0, 1\], got 1.5"),
    (("--ransac", "0"), "--ransac must be positive"),
    (("--ransac", "nan"), "--ransac must be positive"),
    (("--max-lines", "-1"), "--max-lines must be at least 0"),
    (("--max-keypoints", "0"), "--max-keypoints must be at least 1"),
    (("--max-side", "-3"), "--max-side must be at least 0"),
    (("--model", "vgg99"), "'vgg99'"),
    (("--weights", "no/such.pth"), "no/such.pth"),
    (("--model", "vgg11"), "no bundled weights"),
    (("--weights", "random", "--saliency-layer", "pool9"), "known: .*pool2"),
    (("--weights", "random", "--descriptor-layers", "x"), "known: .*pool2"),
  )
  def test_settings(self, arguments, pattern):
    a = self.save("a.png", command_case.photograph(64, 80))
    self.assert_one_line(self._match(a, a, *arguments), 2, pattern)

  def test_files_of_weights(self):
    a = self.save("a.png", command_case.photograph(64, 80))
    module = backbones.vgg_small()
    good = self.folder / "good.safetensors"
    weights.save_weights(
      good,
      weights.random_variables(module),
      metadata=weights.WeightsMetadata("vgg_small"),
    )
    cut = self.save_bytes("cut.safetensors", good.read_bytes()[:-999])
    evil = self.save_bytes("evil.pth", pickle.dumps(_Evil(self.folder)))
    for path, model in (
      (cut, "vgg_small"), (evil, "vgg_small"), (good, "resnet_small"),
    ):  # fmt: skip
      result = self._match(a, a, "--weights", path, "--model", model)
      self.assert_one_line(result, 2, f"match: error: .*{path.name}")
    self.assertFalse((self.folder / "opened").exists())

  def test_outputs(self):
    a, b = self.save_pair()
    before = a.read_bytes()
    blocked = self.save_bytes("file", b"") / "m.png"
    for out, pattern in (
      (self.folder / "m.gif", "--out must end in .png"),
      (self.folder / "m", "--out must end in .png"),
      (a, "--out must not be an input file"),
      (blocked, "--out: cannot create the folder"),
    ):
      result = self.run_command("match", a, b, "--out", out)
      self.assert_one_line(result, 2, pattern)
    (self.folder / "folder.png").mkdir()
    result = self.run_command(
      "match", a, b, "--out", self.folder / "folder.png"
    )
    self.assert_one_line(result, 2, "--out must be a file")
    self.assertEqual(a.read_bytes(), before)
