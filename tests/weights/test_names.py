"""Tests of the renaming of old parameter names."""

from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.weights import names


class CurrentNameTest(parameterized.TestCase):
  @parameterized.parameters(
    # DenseNet.
    (
      "features.denseblock1.denselayer1.norm.1.weight",
      "features.denseblock1.denselayer1.norm1.weight",
    ),
    (
      "features.denseblock3.denselayer24.norm.2.running_var",
      "features.denseblock3.denselayer24.norm2.running_var",
    ),
    (
      "features.denseblock4.denselayer16.conv.2.weight",
      "features.denseblock4.denselayer16.conv2.weight",
    ),
    # Detection.
    ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
    ("rpn.head.conv.bias", "rpn.head.conv.0.0.bias"),
    (
      "backbone.fpn.inner_blocks.0.weight",
      "backbone.fpn.inner_blocks.0.0.weight",
    ),
    (
      "backbone.fpn.layer_blocks.3.bias",
      "backbone.fpn.layer_blocks.3.0.bias",
    ),
    (
      "roi_heads.mask_head.mask_fcn1.weight",
      "roi_heads.mask_head.0.0.weight",
    ),
    ("roi_heads.mask_head.mask_fcn4.bias", "roi_heads.mask_head.3.0.bias"),
    # Vision transformer.
    (
      "encoder.layers.encoder_layer_0.mlp.linear_1.weight",
      "encoder.layers.encoder_layer_0.mlp.0.weight",
    ),
    (
      "encoder.layers.encoder_layer_11.mlp.linear_2.bias",
      "encoder.layers.encoder_layer_11.mlp.3.bias",
    ),
    # DataParallel around the features.
    ("features.module.0.weight", "features.0.weight"),
  )
  def test_old_becomes_new_and_new_stays(self, old, new):
    self.assertEqual(weights.current_name(old), new)
    self.assertEqual(weights.current_name(new), new)

  @parameterized.parameters(
    "features.0.weight",
    "layer1.0.downsample.1.running_mean",
    "features.norm5.weight",
    "features.transition1.norm.weight",
    "rpn.head.conv.0.0.weight",
    "rpn.head.cls_logits.weight",
    "backbone.fpn.inner_blocks.0.1.weight",
    "roi_heads.mask_head.0.1.running_var",
    "mlp.linear_3.weight",
    "other_rpn.head.conv.weight.x",
    "module.fc.weight",
  )
  def test_others_stay(self, name):
    self.assertEqual(weights.current_name(name), name)

  def test_two_spellings_of_one_parameter(self):
    both = ["rpn.head.conv.weight", "rpn.head.conv.0.0.weight"]
    with self.assertRaisesRegex(weights.WeightsError, "both stand for"):
      names.current_names(both, where="test")


class StripWrappersTest(absltest.TestCase):
  def test_nested_wrappers(self):
    got = weights.strip_wrappers(
      ["module._orig_mod.a.b", "module._orig_mod.module.c"]
    )
    self.assertEqual(list(got.values()), ["a.b", "module.c"])

  def test_only_when_all_have_it(self):
    got = weights.strip_wrappers(["module.a", "b"])
    self.assertEqual(list(got.values()), ["module.a", "b"])
    self.assertEqual(weights.strip_wrappers([]), {})


if __name__ == "__main__":
  absltest.main()
