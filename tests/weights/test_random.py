"""Tests of the random weights."""

import jax
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.nn import backbones


class RandomArrayTest(parameterized.TestCase):
  def test_frozen_numbers(self):
    # The golden files depend on them: they must not change.
    np.testing.assert_array_equal(
      weights.random_array("fc.bias", (3,), seed=0),
      np.float32([-0.178130790591, 0.0776128619909, -0.0132669210434]),
    )
    np.testing.assert_array_equal(
      weights.random_array("fc.weight", (1, 3), seed=5),
      np.float32([[-0.866558909416, 0.809187054634, -0.988831996917]]),
    )

  def test_depends_on_seed_name_and_shape_alone(self):
    draw = weights.random_array
    a = draw("a.weight", (4, 3, 2, 2), seed=1)
    np.testing.assert_array_equal(a, draw("a.weight", (4, 3, 2, 2), seed=1))
    for other in (
      draw("b.weight", (4, 3, 2, 2), seed=1),
      draw("a.weight", (4, 3, 2, 2), seed=2),
      draw("a.weight", (3, 4, 2, 2), seed=1).transpose(1, 0, 2, 3),
    ):
      self.assertGreater(np.abs(a - other).max(), 0.1)

  def test_distributions(self):
    kernel = weights.random_array("conv1.weight", (64, 32, 3, 3))
    self.assertAlmostEqual(kernel.std(), (2 / (32 * 9)) ** 0.5, delta=1e-3)
    self.assertAlmostEqual(kernel.mean(), 0, delta=2e-3)
    self.assertAlmostEqual(kernel.max(), (6 / (32 * 9)) ** 0.5, delta=1e-3)
    n = (10_001,)
    var = weights.random_array("bn1.running_var", n)
    self.assertAlmostEqual(var.min(), 0.5, delta=1e-3)
    self.assertAlmostEqual(var.max(), 1.5, delta=1e-3)
    scale = weights.random_array("bn1.weight", n)
    self.assertAlmostEqual(scale.min(), 0.7, delta=1e-3)
    self.assertAlmostEqual(scale.max(), 1.3, delta=1e-3)
    last = weights.random_array("layer3.11.bn3.weight", n)
    self.assertAlmostEqual(last.max(), 0.39, delta=1e-3)
    for name in ("bn1.bias", "bn1.running_mean"):
      self.assertAlmostEqual(
        weights.random_array(name, n).std(), 0.2 / 3**0.5, delta=2e-3
      )
    counter = weights.random_array("bn1.num_batches_tracked", ())
    self.assertEqual(counter.dtype, np.int64)


class RandomVariablesTest(parameterized.TestCase):
  def test_agrees_with_the_state_dict(self):
    module = backbones.resnet18(num_classes=7)
    variables = weights.random_variables(module, seed=4)
    kernel = variables["params"]["layer2"]["0"]["downsample"]["0"]["kernel"]
    expected = weights.random_array(
      "layer2.0.downsample.0.weight", (128, 64, 1, 1), seed=4
    )
    np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))
    self.assertTrue(
      all(a.dtype == np.float32 for a in jax.tree.leaves(variables))
    )

  def test_activations_stay_in_range(self):
    # The deep networks are run beside torch, in tests/parity.
    module = backbones.vgg_small()
    variables = weights.random_variables(module)
    images = np.random.default_rng(0).normal(size=(1, 64, 48, 3))
    _, endpoints = jax.jit(module.apply)(variables, images.astype(np.float32))
    for key, value in endpoints.items():
      rms = float(np.sqrt(np.mean(np.square(value))))
      self.assertBetween(rms, 0.05, 50, key)


if __name__ == "__main__":
  absltest.main()
