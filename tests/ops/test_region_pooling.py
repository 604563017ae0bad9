"""Weights of boxes and masks, and pooling, against loops in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import ops


def _loop_box(box, size, stride):
  weights = np.zeros(size)
  x1, y1, x2, y2 = box
  if x2 <= x1 or y2 <= y1:
    return weights
  for r in range(size[0]):
    for c in range(size[1]):
      if np.floor(y1 / stride) <= r < np.ceil(y2 / stride):
        if np.floor(x1 / stride) <= c < np.ceil(x2 / stride):
          weights[r, c] = 1
  return weights / max(weights.sum(), 1)


class WeightsTest(parameterized.TestCase):
  def test_boxes_equal_the_loop(self):
    rng = np.random.default_rng(0)
    corners = rng.uniform(-20, 150, (30, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], -1)
    boxes = np.concatenate(
      [boxes, [[0, 0, 32, 16], [5, 5, 5, 9], [9, 9, 3, 3]]]
    ).astype(np.float32)
    got = np.asarray(ops.box_weights(jnp.asarray(boxes), (5, 7), stride=16))
    for weights, box in zip(got, boxes, strict=True):
      np.testing.assert_allclose(weights, _loop_box(box, (5, 7), 16), atol=1e-6)
    self.assertGreater((got.sum((1, 2)) > 0).sum(), 15)
    only = ops.box_weights(
      jnp.asarray(boxes), (5, 7), stride=16, valid=jnp.arange(33) == 30
    )
    self.assertEqual(int((np.asarray(only).sum((1, 2)) > 0).sum()), 1)

  def test_masks_equal_the_loop(self):
    rng = np.random.default_rng(1)
    masks = rng.uniform(size=(3, 30, 41)) > 0.7
    masks[1] = False
    got = ops.mask_weights(jnp.asarray(masks), (4, 5), stride=8)
    for weights, mask in zip(np.asarray(got), masks, strict=True):
      expected = np.array(
        [
          [mask[8 * r : 8 * r + 8, 8 * c : 8 * c + 8].sum() for c in range(5)]
          for r in range(4)
        ]
      )
      np.testing.assert_allclose(
        weights, expected / max(expected.sum(), 1), atol=1e-6
      )

  @parameterized.parameters(1.0, 3.0)
  def test_pooling_equals_the_loop(self, power):
    rng = np.random.default_rng(2)
    features = np.maximum(rng.normal(size=(4, 6, 5)), 0).astype(np.float32)
    weights = rng.dirichlet(np.ones(24), 3).reshape(3, 4, 6)
    weights[2] = 0
    got = ops.pool_regions(
      jnp.asarray(features), jnp.asarray(weights, jnp.float32), power=power
    )
    base = np.maximum(features, 1e-6 if power > 1 else 0).astype(np.float64)
    for p in range(3):
      total = np.zeros(5)
      for y in range(4):
        for x in range(6):
          total += weights[p, y, x] * base[y, x] ** power
      np.testing.assert_allclose(got[p], total ** (1 / power), rtol=1e-4)

  def test_unit_rows(self):
    x = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(ops.unit_rows(x), [[0, 1], [0, 0]])

  def test_errors(self):
    with pytest.raises(ValueError, match="`boxes` must be"):
      ops.box_weights(jnp.zeros((2, 3)), (2, 2), stride=4)
    with pytest.raises(ValueError, match="`masks` must be"):
      ops.mask_weights(jnp.zeros(3), (2, 2), stride=4)
    with pytest.raises(ValueError, match="`weights` must be"):
      ops.pool_regions(jnp.zeros((2, 3, 4)), jnp.zeros((1, 3, 2)))
