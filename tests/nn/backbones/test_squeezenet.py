import chex
import jax
import jax.numpy as jnp
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones


class SqueezeNetTest(chex.TestCase):
  @parameterized.parameters(
    # Rounded down, the first pool of 1.0 would give 54 x 56, of 1.1 55 x 57.
    (
      backbones.squeezenet1_0,
      {"conv1": (110, 113), "pool1": (55, 56), "pool4": (27, 28),
       "pool8": (13, 14), "fire9": (13, 14)},
    ),
    (
      backbones.squeezenet1_1,
      {"conv1": (112, 115), "pool1": (56, 57), "pool3": (28, 28),
       "pool5": (14, 14), "fire9": (14, 14)},
    ),
  )  # fmt: skip
  def test_pools_keep_a_partial_window(self, constructor, sides):
    net = constructor(num_classes=10)
    variables = weights.random_variables(net)
    logits, ends = jax.eval_shape(
      net.apply, variables, jnp.zeros((2, 225, 231, 3))
    )
    for name, expected in sides.items():
      self.assertEqual(ends[name].shape[1:3], expected, name)
    self.assertEqual(logits.shape, (2, 10))
    self.assertEqual(ends["conv10"].shape, (2, *sides["fire9"], 10))

  def test_only_the_classifier_drops_and_it_can_be_left_out(self):
    images = jnp.zeros((1, 40, 56, 3))
    net = backbones.squeezenet1_1(num_classes=5)
    features = backbones.squeezenet1_1(num_classes=None)
    variables = weights.random_variables(net)

    def run(net, **keys):
      return jax.eval_shape(
        lambda v: net.apply(v, images, train=True, **keys), variables
      )[0]

    with self.assertRaisesRegex(Exception, 'needs PRNG for "dropout"'):
      run(net)
    logits = run(net, rngs={"dropout": jax.random.key(0)})
    self.assertEqual(logits.shape, (1, 5))
    self.assertIsNone(run(features))

  def test_partial_windows_do_not_move_the_map(self):
    info = nn.endpoint_info(backbones.squeezenet1_1(), image_size=(225, 231))
    self.assertEqual(info["pool1"][:2], (4, 3.0))
    self.assertEqual(info["pool5"][:2], (16, 15.0))
