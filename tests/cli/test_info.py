"""Tests of `vision-jax info`."""

import json

from tests.cli import command_case


class InfoTest(command_case.CommandCase):
  def test_table(self):
    out = self.folder / "i.json"
    result = self.run_command("info", "vgg16", "--out", out)
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertIn("138,357,544 parameters", result.out)
    self.assertRegex(result.out, r"pool4 +512 +16 +7\.5 +100")
    self.assertRegex(result.out, r"features\.0 +Conv +224 x 224 x 64 +1,792")
    record = json.loads(out.read_text())
    self.assertEqual(
      sum(layer["parameters"] for layer in record["layers"]), 138357544
    )
    self.assertEqual(record["endpoints"]["pool2"]["stride"], 4)

  def test_image_size(self):
    result = self.run_command("info", "resnet18", "--image-size", 64, 96)
    self.assertIn("input 64 x 96 x 3", result.out)
    self.assertIn("32 x 48 x 64", result.out)
    self.assertIn("11,689,512 parameters", result.out)

  def test_weights_are_listed_and_described(self):
    result = self.run_command("info", "vgg16")
    self.assertIn("IMAGENET1K_V1 (71.59 % top-1, ImageNet)", result.out)
    result = self.run_command("info", "vgg_small", "--weights", "bundled")
    self.assertIn("card: Data: 20 synthetic dead-leaves canvases", result.out)
    self.assertIn("licence: Apache-2.0", result.out)
    result = self.run_command("info", "rcnn_small", "--weights", "masks")
    self.assertRegex(result.out, "card: Data: generated_shapes.* mask_AP50 0")
    for model, text in (
      ("maskrcnn_resnet50_fpn", r"COCO_V1 \(37.90 % box AP, COCO\)"),
      ("pointrend_rcnn_r50_fpn", r"\w+\.pkl \(38.30 % mask AP, COCO\)"),
    ):
      result = self.run_command("info", model)
      self.assertEqual(result.code, 0)
      self.assertRegex(result.out, f"^weights: {text}$")
    result = self.run_command("info", "vgg16", "--weights", "none.safetensors")
    self.assertEqual(result.code, 2)

  def test_all_networks(self):
    result = self.run_command("info", "--all")
    self.assertEqual((result.code, result.err), (0, ""), result)
    for row in (
      r"resnet50 +IMAGENET1K_V2 +resnet50-11ad3fa6\.pth +80\.86",
      r"vgg16 +IMAGENET1K_FEATURES +vgg16_features-amdegroot-\w+\.pth$",
      r"darknet53 +from_darknet +darknet53\.weights +77\.20",
      r"xception +from_keras +xception_weights_tf_\w+\.h5 +79\.00",
      r"vgg_small +bundled +vgg_small\.safetensors$",
      # Whole networks, with the numbers of their publishers.
      r"fasterrcnn_resnet50_fpn +COCO_V1 +faster\S+\.pth +37\.00 box AP, COCO$",
      r"keypointrcnn_resnet50_fpn +COCO_LEGACY +key\S+\.pth +50\.60 box AP",
      r"deeplabv3_resnet101 +COCO_WITH_VOC_\w+ +\S+\.pth +67\.40 mean IoU",
      r"deeplabv3_plus_r103 +from_detectron2 +\S+\.pkl +80\.00 .*Cityscapes$",
      r"pointrend_rcnn_x101_fpn +from_detectron2 +\S+\.pkl +41\.10 mask AP",
    ):
      self.assertRegex(result.out, "(?m)^" + row)
    # A head, a line, and as many rows as there are weights.
    self.assertLen(result.out.strip().splitlines(), 2 + 52 + 8 + 9)

  def test_bad_input(self):
    result = self.run_command("info")
    self.assert_one_line(result, 2, "expected the name of a network, or --all")
    result = self.run_command("info", "vgg16", "--all")
    self.assert_one_line(result, 2, "leave out 'vgg16'")
    result = self.run_command("info", "vgg99")
    self.assert_one_line(result, 2, "unknown model 'vgg99'; known: .*vgg16")
    result = self.run_command("info", "vgg16", "--image-size", 0, 3)
    self.assert_one_line(result, 2, "--image-size must be positive")
    result = self.run_command("info", "vgg16", "--out", "x.txt")
    self.assert_one_line(result, 2, "--out must end in .json")
