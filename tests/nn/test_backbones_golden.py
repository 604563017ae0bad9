"""Backbones against stored activations of torchvision and its counts.

The files are made by tests/golden/make_backbones.py; torch is not needed here.
"""

import math
import pathlib

import jax
import numpy as np
from absl.testing import absltest, parameterized

from tests.golden import make_backbones
from vision_jax import weights
from vision_jax.nn import backbones

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"

# Learned parameters, as torchvision publishes them (without statistics).
NUM_PARAMS = {
  "alexnet": 61_100_840,
  "densenet121": 7_978_856,
  "densenet161": 28_681_000,
  "densenet169": 14_149_480,
  "densenet201": 20_013_928,
  "mobilenet_v2": 3_504_872,
  "mobilenet_v3_large": 5_483_032,
  "mobilenet_v3_small": 2_542_856,
  "resnet18": 11_689_512,
  "resnet34": 21_797_672,
  "resnet50": 25_557_032,
  "resnet101": 44_549_160,
  "resnet152": 60_192_808,
  "resnext50_32x4d": 25_028_904,
  "resnext101_32x8d": 88_791_336,
  "resnext101_64x4d": 83_455_272,
  "squeezenet1_0": 1_248_424,
  "squeezenet1_1": 1_235_496,
  "vgg11": 132_863_336,
  "vgg11_bn": 132_868_840,
  "vgg13": 133_047_848,
  "vgg13_bn": 133_053_736,
  "vgg16": 138_357_544,
  "vgg16_bn": 138_365_992,
  "vgg19": 143_667_240,
  "vgg19_bn": 143_678_248,
  "wide_resnet50_2": 68_883_240,
  "wide_resnet101_2": 126_886_696,
}


class NumParamsTest(parameterized.TestCase):
  @parameterized.parameters(*NUM_PARAMS.items())
  def test_equals_the_published_number(self, name, expected):
    shapes = weights.torch_shapes(backbones.MODELS[name]())
    got = sum(
      math.prod(shape)
      for key, shape in shapes.items()
      if not key.endswith(("running_mean", "running_var"))
    )
    self.assertEqual(got, expected)

  def test_every_published_backbone_is_counted(self):
    published = set(weights.CATALOG) & set(backbones.MODELS)
    self.assertEqual(set(NUM_PARAMS), published)


class ActivationsTest(parameterized.TestCase):
  @parameterized.parameters(*make_backbones.NAMES)
  def test_equal_to_torch(self, name):
    golden = np.load(GOLDEN / f"backbone_{name}.npz")
    state = make_backbones.random_state(golden)
    tiny = make_backbones.tiny_modules().get(name)
    if tiny is not None:
      module, variables = tiny, weights.state_dict_to_variables(tiny, state)
    else:
      module, variables = weights.from_torchvision(name, state)
    logits, endpoints = jax.jit(module.apply)(
      variables, make_backbones.images()
    )
    got = {"logits": logits, **endpoints}
    expected = {key.rpartition(".")[0] for key in golden.files} - {""}
    self.assertEqual(set(got), expected)
    for key, value in got.items():
      value = np.asarray(value)
      self.assertEqual(value.shape, tuple(golden[f"{key}.shape"]), key)
      flat = value.reshape(-1)
      mean, largest = golden[f"{key}.moments"]
      self.assertGreater(largest, 0.1)
      sample = golden[f"{key}.sample"]
      self.assertGreater(np.count_nonzero(sample), 10, key)
      np.testing.assert_allclose(
        flat[make_backbones.sample_indices(flat.size)],
        sample,
        atol=1e-4 * largest,
        rtol=0,
        err_msg=key,
      )
      self.assertAlmostEqual(
        float(flat.mean(dtype=np.float64)), mean, delta=1e-5 * largest
      )


if __name__ == "__main__":
  absltest.main()
