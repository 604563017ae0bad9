"""Box operators against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


def random_boxes(rng, count, *, side=40.0, low=-10.0, high=60.0):
  corner = rng.uniform(low, high, (count, 2))
  return np.concatenate(
    [corner, corner + rng.uniform(0.5, side, (count, 2))], -1
  ).astype(np.float32)


def _terms(a, b):
  """IoU, GIoU, DIoU, CIoU of two boxes, by definition, float64."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  wa, ha, wb, hb = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
  w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
  h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
  union = wa * ha + wb * hb - w * h
  hull_w = max(a[2], b[2]) - min(a[0], b[0])
  hull_h = max(a[3], b[3]) - min(a[1], b[1])
  iou, hull = w * h / union, hull_w * hull_h
  apart = (a[0] + a[2] - b[0] - b[2]) ** 2 / 4
  apart += (a[1] + a[3] - b[1] - b[3]) ** 2 / 4
  diou = iou - apart / (hull_w**2 + hull_h**2)
  v = 4 / np.pi**2 * (np.arctan(wa / ha) - np.arctan(wb / hb)) ** 2
  return iou, iou - (hull - union) / hull, diou, diou - v**2 / (1 - iou + v)


PAIRWISE = (
  ops.box_iou,
  ops.generalized_box_iou,
  ops.distance_box_iou,
  ops.complete_box_iou,
)


class OverlapTest(parameterized.TestCase):
  def test_all_pairs_equal_the_definition(self):
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 7), random_boxes(rng, 5)
    expected = np.array([[_terms(p, q) for q in b] for p in a])
    self.assertGreater((expected[..., 0] > 0).sum(), 10)
    got = jax.jit(lambda a, b: [f(a, b) for f in PAIRWISE])(a, b)
    for k, value in enumerate(got):
      np.testing.assert_allclose(value, expected[..., k], atol=1e-6)
    np.testing.assert_allclose(
      ops.box_area(a), np.prod(a[:, 2:] - a[:, :2], -1), rtol=1e-6
    )

  def test_leading_axes_are_a_loop(self):
    rng = np.random.default_rng(1)
    a = random_boxes(rng, 6).reshape(2, 3, 4)
    b = random_boxes(rng, 8).reshape(2, 4, 4)
    got = ops.box_iou(a, b)
    self.assertEqual(got.shape, (2, 3, 4))
    for k in range(2):
      np.testing.assert_array_equal(got[k], ops.box_iou(a[k], b[k]))

  def test_degenerate_boxes_give_numbers_and_derivatives(self):
    boxes = jnp.array(
      [[0.0, 0, 4, 4], [2, 2, 2, 2], [2, 2, 2, 2], [3, 3, 1, 1], [9, 9, 9, 12]]
    )

    def total(boxes):
      return sum(f(boxes, boxes).sum() for f in PAIRWISE)

    value, slope = jax.jit(jax.value_and_grad(total))(boxes)
    self.assertTrue(np.isfinite(value))
    self.assertTrue(np.isfinite(slope).all())
    self.assertEqual(ops.box_iou(boxes[1:2], boxes[1:2])[0, 0], 0)
    nan = jnp.full((1, 4), jnp.nan)
    self.assertEqual(ops.box_iou(nan, boxes[:1])[0, 0], 0)

  def test_no_boxes(self):
    for f in PAIRWISE:
      self.assertEqual(f(jnp.zeros((0, 4)), jnp.zeros((3, 4))).shape, (0, 3))


class OffsetsTest(parameterized.TestCase):
  @parameterized.parameters(((1.0, 1, 1, 1),), ((10.0, 10, 5, 5),))
  def test_encode_equals_the_formula_and_decode_inverts(self, weights):
    rng = np.random.default_rng(2)
    boxes, anchors = random_boxes(rng, 9), random_boxes(rng, 9)
    b, a = boxes.astype(np.float64), anchors.astype(np.float64)
    sides_b, sides_a = b[:, 2:] - b[:, :2], a[:, 2:] - a[:, :2]
    shift = (b[:, 2:] + b[:, :2] - a[:, 2:] - a[:, :2]) / 2 / sides_a
    expected = np.concatenate([shift, np.log(sides_b / sides_a)], -1)
    deltas = ops.encode_boxes(boxes, anchors, weights=weights)
    np.testing.assert_allclose(
      deltas, expected * np.array(weights), rtol=2e-5, atol=2e-5
    )
    back = ops.decode_boxes(deltas, anchors, weights=weights)
    np.testing.assert_allclose(back, boxes, atol=2e-4)

  def test_large_sides_are_limited_from_above_only(self):
    anchor = jnp.array([[0.0, 0, 2, 4]])
    got = ops.decode_boxes(jnp.array([[0.0, 0, 50, -50]]), anchor)[0]
    self.assertAlmostEqual(float(got[2] - got[0]), 2 * 62.5, places=3)
    self.assertAlmostEqual(float(got[3] - got[1]), 0, places=6)

  def test_padding_has_no_nan_even_backwards(self):
    boxes = jnp.array([[0.0, 0, 0, 0], [1, 1, 3, 4], [4, 4, 2, 2]])
    anchors = jnp.array([[0.0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 4, 4]])
    pull = jax.grad(lambda b, a: ops.encode_boxes(b, a).sum(), (0, 1))
    for value in (ops.encode_boxes(boxes, anchors), *pull(boxes, anchors)):
      np.testing.assert_array_equal(value, jnp.zeros_like(value))

  def test_per_class_offsets_broadcast(self):
    rng = np.random.default_rng(3)
    deltas = rng.normal(size=(5, 3, 4)).astype(np.float32)
    anchors = random_boxes(rng, 5)
    got = ops.decode_boxes(deltas, anchors[:, None])
    for k in range(3):
      np.testing.assert_allclose(
        got[:, k], ops.decode_boxes(deltas[:, k], anchors), rtol=1e-6
      )

  def test_derivative(self):
    rng = np.random.default_rng(4)
    boxes, anchors = random_boxes(rng, 3), random_boxes(rng, 3)
    slope = jax.jacobian(
      lambda b: ops.decode_boxes(ops.encode_boxes(b, anchors), anchors)
    )(boxes)
    identity = np.eye(12).reshape(3, 4, 3, 4)
    np.testing.assert_allclose(slope, identity, atol=1e-4)


class FormsTest(parameterized.TestCase):
  def test_corners_and_centres(self):
    boxes = random_boxes(np.random.default_rng(5), 6)
    center = ops.box_corners_to_center(boxes)
    np.testing.assert_allclose(
      center[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
      ops.box_center_to_corners(center), boxes, rtol=1e-5, atol=1e-5
    )

  def test_clip_takes_height_then_width(self):
    boxes = random_boxes(np.random.default_rng(6), 20)
    got = ops.clip_boxes(boxes, (30, 50))
    expected = np.clip(boxes, 0, np.array([50, 30, 50, 30]))
    np.testing.assert_array_equal(got, expected)
    sizes = jnp.array([[30], [60]]), jnp.array([[50], [20]])
    got = ops.clip_boxes(jnp.stack([boxes, boxes]), sizes)
    np.testing.assert_array_equal(got[0], expected)
    np.testing.assert_array_equal(
      got[1], np.clip(boxes, 0, np.array([20, 60, 20, 60]))
    )

  def test_size_that_passes(self):
    boxes = jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, jnp.nan, 9]])
    np.testing.assert_array_equal(
      ops.has_min_size(boxes, min_size=2.0), [True, False, False]
    )

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, r"box_iou: `boxes0` and `boxes1`"):
      ops.box_iou(jnp.zeros((2, 4)), jnp.zeros((1, 2, 4)))
    with self.assertRaisesRegex(ValueError, r"box_area: `boxes` must be"):
      ops.box_area(jnp.zeros((2, 5)))
    with self.assertRaisesRegex(ValueError, r"`deltas` and `anchors`"):
      ops.decode_boxes(jnp.zeros((2, 3, 4)), jnp.zeros((2, 4)))
    with self.assertRaisesRegex(ValueError, r"`weights` must be four"):
      ops.encode_boxes(jnp.zeros((2, 4)), jnp.zeros((2, 4)), weights=(1, 1))


if __name__ == "__main__":
  absltest.main()
