import chex
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import nn, weights
from vision_jax.nn import backbones


class DenseNetTest(chex.TestCase):
  def test_geometry_of_the_blocks(self):
    net = backbones.DenseNet(4, (1, 2, 1, 1), 8, num_classes=None)
    info = nn.endpoint_info(net)
    channels = (12, 14, 11, 9)  # (8 + 4), (6 + 8), (7 + 4), (5 + 4)
    for k, expected in enumerate(channels, 1):
      self.assertEqual(info[f"denseblock{k}"].channels, expected)
      self.assertEqual(info[f"denseblock{k}"].stride, 2 ** (k + 1))
    for k, expected in enumerate(channels[:3], 1):
      self.assertEqual(info[f"transition{k}"].channels, expected // 2)
    # The mean over 2 x 2 cells lies between them.
    self.assertEqual(info["transition1"].offset, 2.0)

  def test_odd_sides_are_cut_by_the_transitions(self):
    net = backbones.DenseNet(4, (1, 1, 1, 1), 8, num_classes=None)
    variables = weights.random_variables(net)
    images = jnp.zeros((1, 231, 225, 3))
    logits, ends = jax.eval_shape(net.apply, variables, images)
    self.assertIsNone(logits)
    sides = {name: end.shape[1:3] for name, end in ends.items()}
    self.assertEqual(sides["conv0"], (116, 113))
    self.assertEqual(sides["denseblock1"], (58, 57))
    self.assertEqual(sides["transition1"], (29, 28))
    self.assertEqual(sides["transition2"], (14, 14))
    self.assertEqual(sides["relu5"], (7, 7))
    self.assertEqual(ends["pooled"].shape, (1, ends["relu5"].shape[-1]))

  def test_a_layer_keeps_its_input_and_adds_to_it(self):
    net = backbones.DenseNet(4, (2, 1), 8, num_classes=3)
    variables = weights.random_variables(net)
    images = np.random.default_rng(0).normal(size=(2, 32, 48, 3))
    images = jnp.asarray(images, jnp.float32)

    def run(variables):
      (logits, ends), updates = net.apply(
        variables, images, train=True, mutable=["batch_stats"]
      )
      return logits, ends, updates

    logits, ends, updates = jax.jit(run)(variables)
    self.assertEqual(logits.shape, (2, 3))
    block, before = ends["denseblock1"], ends["pool0"]
    self.assertEqual(block.shape[-1], 8 + 2 * 4)
    np.testing.assert_array_equal(block[..., :8], before)
    moved = jax.tree.map(
      lambda new, old: float(jnp.abs(new - old).max()),
      updates["batch_stats"],
      variables["batch_stats"],
    )
    self.assertGreater(min(jax.tree.leaves(moved)), 0)
