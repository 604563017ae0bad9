"""Names, parameter counts and weights of the detectors."""

import math

import jax
import numpy as np
import pytest

from vision_jax import weights
from vision_jax.systems import rcnn
from vision_jax.weights import convert

# Trained values as torchvision 0.28 publishes them (`num_params`; constants of
# frozen normalisation are not counted).
PUBLISHED = {
  "fasterrcnn_mobilenet_v3_large_320_fpn": 19386354,
  "fasterrcnn_mobilenet_v3_large_fpn": 19386354,
  "fasterrcnn_resnet50_fpn": 41755286,
  "fasterrcnn_resnet50_fpn_v2": 43712278,
  "keypointrcnn_resnet50_fpn": 59137258,
  "maskrcnn_resnet50_fpn": 44401393,
  "maskrcnn_resnet50_fpn_v2": 46359409,
}


def _count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
  tree = convert.target_tree(rcnn.MODELS[name]())
  assert _count(tree["params"]) == PUBLISHED[name]
  shapes = convert.target_shapes(tree)
  for part in (
    "backbone.fpn.inner_blocks.0.0.weight",
    "backbone.fpn.layer_blocks.1.0.weight",
    "rpn.head.conv.0.0.weight",
    "rpn.head.cls_logits.bias",
    "roi_heads.box_predictor.bbox_pred.weight",
  ):
    assert part in shapes


def test_published_names_have_entries():
  assert set(PUBLISHED) < set(weights.CATALOG)
  for name in PUBLISHED:
    entry = weights.find_entry(name)
    zero = name.endswith("resnet50_fpn")
    assert entry.arguments == ({"norm_epsilon": 0.0} if zero else {})
  legacy = weights.find_entry("keypointrcnn_resnet50_fpn", enum="COCO_LEGACY")
  assert legacy.arguments == {}


def test_number_of_classes_is_found_in_the_weights():
  module = rcnn.rcnn_small(num_classes=5, mask_layers=(8,))
  state = weights.random_state_dict(weights.torch_shapes(module))
  got, variables = weights.from_torchvision(
    "rcnn_small", state, mask_layers=(8,)
  )
  assert got == module
  head = variables["params"]["roi_heads"]
  assert head["box_predictor"]["bbox_pred"]["bias"].shape == (20,)
  assert head["mask_predictor"]["mask_fcn_logits"]["bias"].shape == (5,)


def test_old_names_of_the_published_files():
  module = rcnn.rcnn_small(mask_layers=(8, 8))
  state = weights.random_state_dict(weights.torch_shapes(module))
  old = {}
  for name, array in state.items():
    name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    for k in range(3):
      for kind in ("inner", "layer"):
        start = f"backbone.fpn.{kind}_blocks.{k}."
        name = name.replace(f"{start}0.", start)
      name = name.replace(f"mask_head.{k}.0.", f"mask_head.mask_fcn{k + 1}.")
    old[name] = array
  assert len(set(old) - set(state)) == 18
  _, new = weights.from_torchvision("rcnn_small", state, mask_layers=(8, 8))
  _, got = weights.from_torchvision("rcnn_small", old, mask_layers=(8, 8))
  jax.tree.map(np.testing.assert_array_equal, got, new)


def test_frozen_normalisation_is_no_parameter():
  tree = convert.target_tree(rcnn.fasterrcnn_resnet50_fpn(num_classes=3))
  norm = tree["batch_stats"]["backbone"]["body"]["bn1"]
  assert set(norm) == {"scale", "bias", "mean", "var"}
  assert "bn1" not in tree["params"]["backbone"]["body"]


def test_arguments_of_files_are_lists():
  module = rcnn.rcnn_small(anchor_sizes=[[8], [16], [32], [64]], mean=[0, 0, 0])
  assert module.anchor_sizes == ((8,), (16,), (32,), (64,))
  hash(module)
  with pytest.raises(TypeError, match="no_such"):
    rcnn.rcnn_small(no_such=1)
