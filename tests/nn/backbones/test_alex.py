import chex
import jax
import jax.numpy as jnp

from vision_jax import nn
from vision_jax.nn import backbones


class AlexNetTest(chex.TestCase):
  def test_shapes_at_480_by_640(self):
    net = backbones.alexnet(num_classes=None)
    shapes = jax.eval_shape(
      lambda: net.init_with_output(
        jax.random.key(0), jnp.zeros((1, 480, 640, 3))
      )
    )[0][1]
    self.assertEqual(shapes["pool1"].shape, (1, 59, 79, 64))
    self.assertEqual(shapes["pool2"].shape, (1, 29, 39, 192))

  def test_parameters(self):
    rows = nn.layer_table(backbones.alexnet())
    self.assertEqual(sum(r.parameters for r in rows), 61_100_840)
