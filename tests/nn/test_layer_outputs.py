import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones


class LayerOutputsTest(parameterized.TestCase):
  def test_paths_and_endpoints_agree(self):
    net = backbones.resnet_small()
    variables = weights.random_variables(net)
    images = np.random.default_rng(0).normal(size=(2, 32, 48, 3))
    images = jnp.asarray(images, jnp.float32)
    found = nn.read_layers(
      net, variables, images, ["layer4", "layer4.0", "logits", "layer3.0.bn2"]
    )
    logits, endpoints = net.apply(variables, images)
    np.testing.assert_array_equal(found["layer4"], endpoints["layer4"])
    np.testing.assert_array_equal(found["layer4.0"], endpoints["layer4"])
    np.testing.assert_array_equal(found["logits"], logits)
    self.assertEqual(found["layer3.0.bn2"].shape, (2, 4, 6, 64))
    self.assertLess(float(found["layer3.0.bn2"].min()), 0)

  @parameterized.parameters(
    ("resnet50", "layer4.0", 32),
    ("resnet50", "layer3", 16),
    ("vgg16", "relu5_3", 16),
    ("vgg16", "features.29", 16),
  )
  def test_strides(self, name, layer, stride):
    self.assertEqual(nn.layer_stride(backbones.MODELS[name](), layer), stride)

  def test_unknown_layers(self):
    net = backbones.resnet_small()
    variables = weights.random_variables(net)
    with pytest.raises(
      ValueError, match=r"`layers` must be endpoints .*layer4"
    ):
      nn.read_layers(net, variables, jnp.zeros((1, 16, 16, 3)), ["layer9"])
    for layer in ("layer9", "fc"):
      with pytest.raises(ValueError, match="`layer` must be an endpoint"):
        nn.layer_stride(net, layer)
