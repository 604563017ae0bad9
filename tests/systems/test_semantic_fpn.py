"""Semantic FPN: sizes, strides, names; values stand in tests/parity."""

import jax
import jax.numpy as jnp
from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.systems import semantic_fpn


class SemanticFPNTest(parameterized.TestCase):
  @parameterized.parameters((2, (16, 24)), (3, (8, 12)))
  def test_strides(self, lowest, size):
    module = semantic_fpn.semantic_fpn_resnet50(7, lowest=lowest)
    key = jax.eval_shape(lambda: jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    maps, variables = jax.eval_shape(
      lambda k, x: module.init_with_output(k, x, method="coarse"), key, images
    )
    self.assertEqual(maps.logits.shape, (2, *size, 7))
    self.assertEqual(maps.fine.shape, (2, 16, 24, 256))
    out = jax.eval_shape(module.apply, variables, images)["out"]
    self.assertEqual(out.shape, (2, 64, 96, 7))
    self.assertEqual(module.num_classes, 7)

  def test_norms_are_constants(self):
    module = semantic_fpn.semantic_fpn_resnet101(5)
    shapes = weights.torch_shapes(module)
    for name in (
      "backbone.body.layer3.22.conv3.weight",
      "backbone.body.bn1.running_var",
      "backbone.fpn.inner_blocks.3.0.bias",
      "backbone.fpn.layer_blocks.0.0.weight",
      "classifier.p5.4.1.weight",
      "classifier.predictor.weight",
    ):
      self.assertIn(name, shapes)
    tree = weights.convert.target_tree(module)
    self.assertNotIn("bn1", tree["params"]["backbone"]["body"])


if __name__ == "__main__":
  absltest.main()
