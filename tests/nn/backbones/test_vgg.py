import chex
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import weights
from vision_jax.nn import backbones


class VGGTest(chex.TestCase):
  def test_endpoints_and_unused_layers_cost_nothing(self):
    net = backbones.vgg_small()
    x = jnp.ones((1, 48, 64, 3))
    variables = weights.random_variables(net)
    logits, endpoints = jax.jit(net.apply)(variables, x)
    self.assertIsNone(logits)
    self.assertEqual(endpoints["pool4"].shape, (1, 3, 4, 128))

    def convs(layer):
      run = jax.jit(lambda v, i: net.apply(v, i)[1][layer])
      return run.lower(variables, x).compile().as_text().count("128]{")

    self.assertEqual(convs("pool1"), 0)
    self.assertGreater(convs("pool4"), 0)

  def test_folding_keeps_the_features(self):
    net = backbones.vgg_small(batch_norm=True)
    variables = weights.random_variables(net, seed=3)
    folded, folded_variables = backbones.fold_batch_norm(net, variables)
    x = jax.random.uniform(jax.random.key(0), (2, 32, 48, 3))
    expected = jax.jit(net.apply)(variables, x)[1]["pool4"]
    got = jax.jit(folded.apply)(folded_variables, x)[1]["pool4"]
    self.assertFalse(folded.batch_norm)
    self.assertGreater(float(expected.std()), 1e-3)
    np.testing.assert_allclose(
      got, expected, atol=1e-5 * float(jnp.abs(expected).max())
    )
    with self.assertRaisesRegex(ValueError, "batch_norm=True"):
      backbones.fold_batch_norm(folded, folded_variables)

  def test_train_mode_updates_statistics_and_drops_units(self):
    net = backbones.VGG(((4,), (8,)), True, num_classes=3, hidden=16)
    x = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    variables = jax.jit(net.init)(jax.random.key(1), x)
    run = jax.jit(
      lambda k: net.apply(
        variables, x, train=True, mutable=["batch_stats"], rngs={"dropout": k}
      )
    )
    (a, _), updates = run(jax.random.key(2))
    (b, _), _ = run(jax.random.key(3))
    self.assertGreater(float(jnp.abs(a - b).max()), 0)
    self.assertEqual(a.shape, (2, 3))
    moved = jax.tree.map(
      lambda new, old: float(jnp.abs(new - old).max()),
      updates["batch_stats"],
      variables["batch_stats"],
    )
    self.assertGreater(min(jax.tree.leaves(moved)), 0)
