"""Tests of the settings of ELF."""

import dataclasses

import numpy as np
from absl.testing import parameterized

from vision_jax import weights
from vision_jax.systems import elf


class MakeConfigTest(parameterized.TestCase):
  @parameterized.parameters(
    ("vgg16", "pool2", ("pool4",)),
    ("vgg11_bn", "pool2", ("pool4",)),
    ("resnet101", "layer1", ("layer3",)),
    ("resnext50_32x4d", "layer1", ("layer3",)),
    ("wide_resnet50_2", "layer1", ("layer3",)),
    ("alexnet", "pool1", ("pool2",)),
  )
  def test_layers_by_family(self, model, saliency, descriptors):
    config = elf.make_config(model, weights.Preprocess())
    self.assertEqual(config.saliency_layer, saliency)
    self.assertEqual(config.descriptor_layers, descriptors)

  def test_preprocessing_is_that_of_the_weights(self):
    preprocess = weights.Preprocess(
      mean=(104.0, 117.0, 124.0),
      std=(1.0, 2.0, 4.0),
      scale=255.0,
      channel_order="BGR",
    )
    config = elf.make_config("vgg16", preprocess)
    image = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    expected = (255.0 * image[..., ::-1] - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(
      elf.preprocess(image, config), expected, rtol=1e-4, atol=1e-3
    )

  def test_changes(self):
    preprocess = weights.Preprocess(mean=(0.5, 0.5, 0.5))
    config = elf.make_config("alexnet", preprocess, radius=3)
    expected = dataclasses.replace(
      elf.SETTINGS["alexnet"], mean=(0.5, 0.5, 0.5), radius=3
    )
    self.assertEqual(config, expected)

  def test_unknown_setting(self):
    with self.assertRaisesRegex(TypeError, "make_config: .*radios.*radius"):
      elf.make_config("vgg16", weights.Preprocess(), radios=3)
