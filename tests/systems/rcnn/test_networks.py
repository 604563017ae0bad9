"""The networks: shapes of what the heads give."""

import jax
import jax.numpy as jnp
import pytest

from vision_jax.systems import rcnn


def _shapes(tree):
  return jax.tree.map(lambda x: x.shape, tree)


def test_maps_and_anchors_of_the_small_network():
  module = rcnn.rcnn_small()
  images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
  (maps, found), variables = jax.eval_shape(
    lambda x: module.init_with_output(jax.random.key(0), x), images
  )
  sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
  assert _shapes(maps) == [(2, *size, 32) for size in sizes]
  assert _shapes(found) == [((2, *size, 6), (2, *size, 6, 4)) for size in sizes]
  assert set(variables["params"]) == {"backbone", "rpn", "roi_heads"}


def test_heads_double_what_they_see():
  module = rcnn.rcnn_small(
    num_classes=3, mask_layers=(8,), keypoint_layers=(8, 8), num_keypoints=5
  )

  def heads(x):
    variables = module.init(jax.random.key(0), x)
    net = module.bind(variables)
    return (
      net.classify(jnp.zeros((1, 4, 7, 7, 32))),
      net.mask_logits(jnp.zeros((1, 4, 14, 14, 32))),
      net.keypoint_logits(jnp.zeros((1, 4, 14, 14, 32))),
    )

  images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  boxes, masks, keypoints = jax.eval_shape(heads, images)
  assert _shapes(boxes) == ((1, 4, 3), (1, 4, 3, 4))
  assert masks.shape == (1, 4, 28, 28, 3)
  assert keypoints.shape == (1, 4, 56, 56, 5)


def test_anchors_and_maps_must_agree():
  module = rcnn.rcnn_small(anchor_sizes=((8.0,),))
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  with pytest.raises(ValueError, match="each of the 4 maps"):
    jax.eval_shape(lambda x: module.init(jax.random.key(0), x), images)


def test_given_proposals_need_no_proposal_head():
  tree = jax.eval_shape(
    lambda: rcnn.fastrcnn_vgg16().init(
      jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
  )
  assert set(tree["params"]) == {"backbone", "roi_heads"}
  shape = tree["params"]["roi_heads"]["box_head"]["fc6"]["kernel"].shape
  assert shape == (7 * 7 * 512, 4096)
