"""Tests of the way from options to key points."""

import numpy as np
from absl.testing import parameterized

from tests.cli import command_case
from vision_jax.cli import features, options, support
from vision_jax.systems import elf
from vision_jax.weights import Preprocess


class ElfConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ("vgg16", "pool2", ("pool4",)),
    ("vgg11_bn", "pool2", ("pool4",)),
    ("resnet101", "layer1", ("layer3",)),
    ("resnext50_32x4d", "layer1", ("layer3",)),
    ("wide_resnet50_2", "layer1", ("layer3",)),
    ("alexnet", "pool1", ("pool2",)),
  )
  def test_layers_by_family(self, model, saliency, descriptors):
    config = features.elf_config(
      options.FeatureOptions(model=model), Preprocess()
    )
    self.assertEqual(config.saliency_layer, saliency)
    self.assertEqual(config.descriptor_layers, descriptors)

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

  def test_preprocessing_is_that_of_the_weights(self):
    preprocess = Preprocess(
      mean=(104.0, 117.0, 124.0),
      std=(1.0, 2.0, 4.0),
      scale=255.0,
      channel_order="BGR",
    )
    config = features.elf_config(
      options.FeatureOptions(model="vgg16"), preprocess
    )
    image = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    expected = (255.0 * image[..., ::-1] - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(
      elf.preprocess(image, config), expected, rtol=1e-4, atol=1e-3
    )


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
