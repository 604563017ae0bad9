"""Tests of the way from options to key points."""

import numpy as np
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax.cli import features, options, support
from vision_jax.systems import elf
from vision_jax.weights import Preprocess


class ElfConfigTest(parameterized.TestCase):
  def test_options_override(self):
    config = features.elf_config(
      options.FeatureOptions(
        model="vgg16",
        max_keypoints=9,
        saliency_layer="pool1",
        descriptor_layers=("pool2", "pool3"),
        quantize=True,
      ),
      Preprocess(),
    )
    self.assertEqual(config.max_keypoints, 9)
    self.assertEqual(config.saliency_layer, "pool1")
    self.assertEqual(config.descriptor_layers, ("pool2", "pool3"))
    self.assertTrue(config.quantize)
    self.assertEqual(config.radius, elf.SETTINGS["vgg16"].radius)


class LoadExtractorTest(parameterized.TestCase):
  def test_points_are_in_pixels_of_the_file(self):
    extractor = features.load_extractor(
      options.FeatureOptions(method="sift", max_keypoints=30)
    )
    image = command_case.photograph(90, 120)
    large = np.repeat(np.repeat(image, 2, 0), 2, 1)  # exact half-pixel centres
    plain = extractor.features(image, 0)
    shrunk = extractor.features(large, 120)
    self.assertEqual(plain.image_size, (120, 90))
    self.assertEqual(shrunk.image_size, (240, 180))
    self.assertEqual(shrunk.scaling, 2.0)
    self.assertEqual(plain.num_keypoints, shrunk.num_keypoints)
    count = plain.num_keypoints
    np.testing.assert_allclose(
      shrunk.keypoints.xy[:count],
      2.0 * plain.keypoints.xy[:count] + 0.5,
      atol=1e-3,
    )
    np.testing.assert_allclose(
      shrunk.keypoints.scale, 2.0 * plain.keypoints.scale, rtol=1e-5
    )
    np.testing.assert_array_equal(shrunk.keypoints.xy[count:], 0.0)

  def test_bad_settings(self):
    with self.assertRaisesRegex(support.UserError, "--max-keypoints"):
      features.load_extractor(options.FeatureOptions(max_keypoints=0))
