"""Tests of `vision-jax detect`."""

import json
from unittest import mock

import numpy as np
from pycocotools.coco import COCO

from tests.cli import command_case
from vision_jax import data, weights
from vision_jax.cli import detect, detectors
from vision_jax.systems import yolo

ARGUMENTS = {
  "num_classes": 3,
  "anchors": [[[40, 40]], [[12, 18]]],
  "num_blocks": [0, 1, 1],
  "width": 4,
  "image_size": [32, 48],
}
NAMES = ("cat", "dog", "owl")


class DetectTest(command_case.CommandCase):
  def setUp(self):
    super().setUp()
    self.weights = self.folder / "net.safetensors"
    self.module = yolo.yolov3(**ARGUMENTS)
    self.variables = weights.random_variables(self.module)
    weights.save_weights(
      self.weights,
      self.variables,
      metadata=weights.WeightsMetadata("yolov3", ARGUMENTS, class_names=NAMES),
    )

  def _run(self, *arguments):
    self.out = self.folder / "out"
    return self.run_command(
      "detect", *arguments, "--out", self.out, "--model", "yolov3",
      "--weights", self.weights, "--score", "0.3",
    )  # fmt: skip

  def _content(self):
    return json.loads((self.out / "detections.json").read_text())

  def test_pictures_and_the_file(self):
    first = self.save("set/b/one.png", command_case.photograph(96, 128))
    self.save("set/two.jpg", command_case.photograph(128, 96))
    result = self._run(self.folder / "set")
    self.assertEqual((result.code, result.err), (0, ""), result)
    content = self._content()
    self.assertEqual([i["file_name"] for i in content["images"]],
                     ["b/one.png", "two.jpg"])  # fmt: skip
    self.assertEqual([c["name"] for c in content["categories"]], list(NAMES))
    self.assertIn(f"{len(content['annotations'])} objects", result.out)
    expected = yolo.predict(
      self.module,
      self.variables,
      [data.read_image(first)],
      score_threshold=0.3,
    )[0]
    rows = [a for a in content["annotations"] if a["image_id"] == 1]
    self.assertGreater(len(rows), 5)
    boxes = np.array([r["bbox"] for r in rows])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(boxes, expected["boxes"], atol=1e-3)
    np.testing.assert_array_equal(
      [r["category_id"] - 1 for r in rows], expected["labels"]
    )
    np.testing.assert_allclose(
      [r["score"] for r in rows], expected["scores"], rtol=1e-6
    )
    drawn = data.read_image(self.out / "b" / "one.png")
    self.assertEqual(drawn.shape, (96, 128, 3))
    self.assertGreater(np.abs(drawn - data.read_image(first)).max(), 0.2)
    coco = COCO(self.out / "detections.json")
    self.assertLen(coco.getAnnIds(), len(content["annotations"]))
    self.assertEqual(content["info"]["options"]["score"], 0.3)

  def test_bad_files_are_reported_and_the_rest_is_finished(self):
    good = self.save("good.png", command_case.photograph(64, 96))
    bad = self.save_bytes("bad.png", b"no image")
    result = self._run(self.folder / "none.png", bad, good, "--no-draw")
    self.assertEqual(result.code, 1, result)
    self.assertEqual(result.err.count("\n"), 2, result.err)
    self.assertIn("none.png", result.err)
    self.assertIn("bad.png", result.err)
    self.assertIn("2 failed", result.out)
    self.assertLen(self._content()["images"], 1)
    self.assertEqual([p.name for p in self.out.iterdir()], ["detections.json"])

  def test_masks_and_keypoints(self):
    found = {
      "boxes": np.array([[2.0, 3, 10, 9]], np.float32),
      "labels": np.array([1]),
      "scores": np.array([0.5], np.float32),
      "masks": np.zeros((1, 20, 30), bool),
      "keypoints": np.full((1, 17, 3), 5.0, np.float32),
    }
    found["masks"][0, 3:9, 2:8] = True
    detector = detectors.Detector(lambda images: [found], NAMES, (3, 5, 9))
    with mock.patch.object(detect, "load_detector", return_value=detector):
      picture = self.save("a.png", np.full((20, 30, 3), 0.5))
      self.assertEqual(self._run(picture).code, 0)
    (entry,) = self._content()["annotations"]
    self.assertEqual((entry["category_id"], entry["area"]), (5, 36.0))
    np.testing.assert_array_equal(
      data.rle_to_mask(entry["segmentation"]), found["masks"][0]
    )
    self.assertLen(entry["keypoints"], 51)
    drawn = data.read_image(self.out / "a.png")
    self.assertGreater(np.abs(drawn - 0.5).max(), 0.1)

  def test_names_of_classes(self):
    good = self.save("good.png", command_case.photograph(64, 96))
    names = self.folder / "names.txt"
    names.write_text("a\nb\nc\n")
    self.assertEqual(self._run(good, "--class-names", names).code, 0)
    self.assertEqual([c["name"] for c in self._content()["categories"]],
                     ["a", "b", "c"])  # fmt: skip
    names.write_text("a\nb\n")
    result = self._run(good, "--class-names", names)
    self.assert_one_line(result, 2, "must name the 3 classes .* got 2")

  def test_mistakes(self):
    good = self.save("good.png", command_case.photograph(64, 96))
    for arguments, pattern in (
      ((good, "--model", "resnet18"), "unknown detector 'resnet18'; known"),
      ((good, "--score", "1.5"), r"--score must be in \[0, 1\], got 1.5"),
      ((good, "--max-detections", "0"), "--max-detections must be at least"),
      ((), "no pictures given"),
    ):
      self.assert_one_line(self.run_command("detect", *arguments), 2, pattern)
