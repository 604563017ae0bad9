"""Top-down rules against torch, live, on random ResNet-50 and VGG-16.

Run with `make parity`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl.testing import absltest, parameterized

from tests.parity import torch_backbones, torch_excitation
from vision_jax import nn, weights
from vision_jax.nn import backbones

_SIZE = (160, 224)


@functools.cache
def _networks(name):
  draw = functools.partial(weights.random_state_dict, seed=3)
  theirs, _ = torch_backbones.random_model(name, draw)
  ours = backbones.MODELS[name]()
  return theirs, ours, weights.random_variables(ours, seed=3)


def _image():
  rng = np.random.default_rng(0)
  coarse = rng.normal(size=(10, 14, 3)).repeat(16, 0).repeat(16, 1)
  fine = rng.normal(size=(*_SIZE, 3))
  return (coarse + 0.3 * fine).astype(np.float32)


def _torch_resnet(network, layer, images):
  x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
  for k in range(1, int(layer[-1]) + 1):
    x = getattr(network, f"layer{k}")(x)
  return x


def _ours(module, variables, layer, cells, size, rule, **settings):
  seeds = np.zeros((len(cells), *size), np.float32)
  for p, (y, x) in enumerate(cells):
    seeds[p, y, x] = 1

  def run(variables, image):
    apply = lambda v: module.apply(variables, v[None])[1][layer][0]  # noqa: E731
    maps = nn.top_down(apply, image, jnp.asarray(seeds), rule=rule, **settings)
    return maps, apply(image)

  return jax.jit(run)(variables, _image())


class TopDownTest(parameterized.TestCase):
  def _compare(self, got, expected, bound):
    got, expected = np.asarray(got), expected.numpy()
    known = np.isfinite(expected)
    self.assertGreater(known.mean(), 0.9)
    scale = np.abs(expected[known]).max()
    self.assertGreater(expected[known].std() / scale, 1e-3)  # not constant
    error = np.abs(got - expected)[known].max() / scale
    print(f"{self.id()}: relative error {error:.1e}")
    self.assertLess(error, bound)

  @parameterized.parameters(("prm", 1e-5), ("ebp", 1e-4))
  def test_resnet50(self, rule, bound):
    theirs, module, variables = _networks("resnet50")
    layer = "layer4" if rule == "prm" else "layer3"
    network = torch_excitation.substitute(theirs, rule)
    cells = [(1, 2), (2, 5), (3, 3), (4, 6)]
    image = torch.from_numpy(_image()).permute(2, 0, 1)
    expected, features = torch_excitation.maps(
      functools.partial(_torch_resnet, network, layer), image, cells, rule
    )
    size = tuple(features.shape[-2:])
    got, ours = _ours(module, variables, layer, cells, size, rule)
    np.testing.assert_allclose(
      ours, features[0].permute(1, 2, 0), rtol=1e-3, atol=1e-4 * features.max()
    )
    self._compare(got, expected, bound)

  @parameterized.parameters(("prm", 1e-5), ("ebp", 1e-4))
  def test_vgg16(self, rule, bound):
    theirs, module, variables = _networks("vgg16")
    network = torch_excitation.substitute(theirs, rule).features[:30]
    cells = [(1, 2), (8, 5), (3, 12)]
    image = torch.from_numpy(_image()).permute(2, 0, 1)
    expected, features = torch_excitation.maps(network, image, cells, rule)
    size = tuple(features.shape[-2:])
    got, _ = _ours(module, variables, "relu5_3", cells, size, rule)
    self._compare(got, expected, bound)

  def test_folded_conserves_mass_on_resnet50(self):
    _, module, variables = _networks("resnet50")
    cells = [(0, 0), (1, 2), (2, 5), (3, 3), (4, 6)]
    maps, _ = _ours(module, variables, "layer4", cells, (5, 7), "ebp_folded")
    np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    self.assertGreaterEqual(float(maps.min()), 0)


if __name__ == "__main__":
  absltest.main()
