import flax.linen
import jax
import jax.numpy as jnp
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones


class MobileNetTest(parameterized.TestCase):
  def test_strides_and_channels_of_the_table(self):
    info = nn.endpoint_info(backbones.mobilenet_v3_large(num_classes=None))
    for endpoint, (stride, channels) in {
      "block1": (2, 16),
      "block3": (4, 24),
      "block6": (8, 40),
      "block12": (16, 112),
      "block15": (32, 160),
      "conv16": (32, 960),
    }.items():
      self.assertEqual(info[endpoint][:3], (stride, 0, channels), endpoint)

  def test_output_stride(self):
    net = backbones.mobilenet_v2(num_classes=None, output_stride=8)
    info = nn.endpoint_info(net)
    self.assertEqual(max(end.stride for end in info.values()), 8)
    # Dilation sees as far as the strides did.
    self.assertEqual(info["block17"].receptive_field, 491)

  def test_unknown_output_stride(self):
    net = backbones.mobilenet_v3_small(output_stride=4)
    with self.assertRaisesRegex(ValueError, "8, 16 or 32, got 4"):
      weights.torch_shapes(net)

  def test_every_layer_of_v3_can_be_replaced_and_has_its_constants(self):
    seen, constants = set(), set()

    def note(next_fun, args, kwargs, context):
      if context.method_name == "__call__":
        seen.add(type(context.module).__name__)
        if isinstance(context.module, nn.BatchNorm):
          constants.add((context.module.epsilon, context.module.momentum))
      return next_fun(*args, **kwargs)

    net = backbones.mobilenet_v3_small(num_classes=4)
    with flax.linen.intercept_methods(note):
      (logits, ends), _ = jax.eval_shape(
        net.init_with_output, jax.random.key(0), jnp.zeros((1, 64, 96, 3))
      )
    self.assertEqual(logits.shape, (1, 4))
    self.assertEqual(ends["hidden"].shape, (1, 1024))
    self.assertEqual(constants, {(1e-3, 0.99)})
    self.assertContainsSubset(
      {"Relu", "HardSwish", "HardSigmoid", "SqueezeExcitation", "Multiply",
       "Add", "Conv", "BatchNorm", "Dropout"},
      seen,
    )  # fmt: skip
