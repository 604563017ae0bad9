"""Tests of the table of published weights."""

import math
import re

from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.systems import deeplab, rcnn
from vision_jax.weights import catalog


class CatalogTest(parameterized.TestCase):
  def test_every_model_exists_and_every_file_has_a_hash(self):
    files = []
    for model, entries in weights.CATALOG.items():
      self.assertIn(model, {*backbones.MODELS, *rcnn.MODELS, *deeplab.MODELS})
      for enum, entry in entries.items():
        names = (
          r"^(IMAGENET1K_(V1|V2|FEATURES)|COCO_(V1|LEGACY)"
          r"|COCO_WITH_VOC_LABELS_V1)$"
        )
        self.assertRegex(enum, names)
        self.assertStartsWith(entry.file, model.split("_")[0])
        self.assertRegex(entry.file, r"-[0-9a-f]{8}\.pth$")
        self.assertTrue(math.isnan(entry.accuracy) or 22 < entry.accuracy < 85)
        files.append(entry.file)
    self.assertLen(set(files), len(files))
    self.assertLen(files, 52)

  def test_every_published_backbone_is_listed(self):
    small = {"vgg_small", "resnet_small", "resnet14_small"}
    listed = {*weights.CATALOG, *weights.FOREIGN}
    self.assertLessEqual(set(backbones.MODELS) - small, listed)
    self.assertEmpty(set(weights.CATALOG) & set(weights.FOREIGN))

  def test_foreign_entries_name_a_reader(self):
    for entry in weights.FOREIGN.values():
      self.assertIn(entry.reader, weights.__all__)
    self.assertEqual(weights.FOREIGN["darknet53"].accuracy, 77.2)
    self.assertEqual(weights.FOREIGN["xception"].accuracy, 79.0)
    self.assertEqual(weights.FOREIGN["deeplabv3_plus_r103"].accuracy, 80.0)

  def test_segmentation(self):
    entry = weights.find_entry("deeplabv3_resnet101")
    self.assertEqual((entry.accuracy, entry.pixel_accuracy), (67.4, 92.4))
    self.assertLen(entry.class_names, 21)
    self.assertEqual(entry.class_names, weights.VOC_CLASSES)
    preprocess = weights.preprocessing("pointrend_semantic_fpn_resnet101")
    self.assertEqual(preprocess.channel_order, "BGR")
    self.assertEqual(preprocess.scale, 255)

  @parameterized.parameters(
    ("vgg16", "DEFAULT", "vgg16-397923af.pth", 71.592),
    ("resnet50", "DEFAULT", "resnet50-11ad3fa6.pth", 80.858),
    ("resnet50", "IMAGENET1K_V1", "resnet50-0676ba61.pth", 76.130),
    ("resnext101_64x4d", "DEFAULT", "resnext101_64x4d-173b62eb.pth", 83.246),
    ("alexnet", "IMAGENET1K_V1", "alexnet-owt-7be5be79.pth", 56.522),
    ("mobilenet_v2", "DEFAULT", "mobilenet_v2-7ebf99e0.pth", 72.154),
    ("densenet161", "DEFAULT", "densenet161-8d451a50.pth", 77.138),
    (
      "keypointrcnn_resnet50_fpn",
      "DEFAULT",
      "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
      54.6,
    ),
  )
  def test_entries(self, model, enum, file, accuracy):
    entry = weights.find_entry(model, enum=enum)
    self.assertEqual((entry.file, entry.accuracy), (file, accuracy))
    self.assertEqual(entry.url, f"https://download.pytorch.org/models/{file}")
    self.assertIs(catalog.find_file(file), entry)

  def test_unknown(self):
    with self.assertRaisesRegex(weights.WeightsError, "got 'vgg17'"):
      weights.find_entry("vgg17")
    message = re.escape("one of ['DEFAULT', 'IMAGENET1K_V1'] for vgg19")
    with self.assertRaisesRegex(weights.WeightsError, message):
      weights.find_entry("vgg19", enum="IMAGENET1K_V2")
    self.assertIsNone(catalog.find_file("vgg16.pth"))


if __name__ == "__main__":
  absltest.main()
