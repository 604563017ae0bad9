import chex
import jax
import jax.numpy as jnp
from absl.testing import parameterized

from vision_jax import nn
from vision_jax.nn import backbones


class ResNetTest(chex.TestCase):
  @parameterized.parameters(
    ("resnet18", 11_689_512),
    ("resnet34", 21_797_672),
    ("resnet50", 25_557_032),
    ("resnet101", 44_549_160),
    ("resnet152", 60_192_808),
    ("resnext50_32x4d", 25_028_904),
    ("wide_resnet50_2", 68_883_240),
  )
  def test_published_parameter_counts(self, name, count):
    rows = nn.layer_table(backbones.MODELS[name](), image_size=(64, 64))
    self.assertEqual(sum(r.parameters for r in rows), count)

  @parameterized.parameters((32, (2, 3)), (16, (4, 6)), (8, (8, 12)))
  def test_output_stride(self, output_stride, size):
    net = backbones.resnet50(output_stride=output_stride, num_classes=None)
    shapes = jax.eval_shape(
      lambda: net.init_with_output(jax.random.key(0), jnp.zeros((1, 64, 96, 3)))
    )[0][1]
    self.assertEqual(shapes["layer4"].shape, (1, *size, 2048))

  def test_bad_output_stride(self):
    net = backbones.resnet18(output_stride=4)
    with self.assertRaisesRegex(ValueError, "must be 8, 16 or 32"):
      jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))

  def test_bfloat16_compute_keeps_float32_parameters(self):
    net = backbones.resnet_small(dtype=jnp.bfloat16)
    (logits, _), variables = jax.eval_shape(
      lambda: net.init_with_output(jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    )
    self.assertEqual(logits.dtype, jnp.bfloat16)
    kinds = {x.dtype for x in jax.tree.leaves(variables)}
    self.assertEqual(kinds, {jnp.dtype(jnp.float32)})
