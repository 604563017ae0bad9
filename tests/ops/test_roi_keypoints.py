"""Key points of boxes against loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


def _keys(d):
  """Keys' kernel with a = -0.75."""
  a, d = -0.75, abs(d)
  if d <= 1:
    return (a + 2) * d**3 - (a + 3) * d**2 + 1
  return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _line(cells, pixels):
  """Matrix of a cubic resize, [pixels, cells]; borders repeat."""
  matrix = np.zeros((pixels, cells))
  for i in range(pixels):
    position = (i + 0.5) * cells / pixels - 0.5
    for k in range(math.floor(position) - 1, math.floor(position) + 3):
      matrix[i, min(max(k, 0), cells - 1)] += _keys(position - k)
  return matrix


def _decode(heatmap, box):
  x1, y1, x2, y2 = box.astype(np.float64)
  wide, tall = max(x2 - x1, 1), max(y2 - y1, 1)
  w, h = math.ceil(wide), math.ceil(tall)
  map_ = np.einsum(
    "ph,hwk,qw->pqk",
    _line(heatmap.shape[0], h),
    heatmap.astype(np.float64),
    _line(heatmap.shape[1], w),
  )
  points, values = [], []
  for k in range(heatmap.shape[2]):
    j, i = np.unravel_index(np.argmax(map_[..., k]), (h, w))
    points.append([(i + 0.5) * wide / w + x1, (j + 0.5) * tall / h + y1])
    values.append(map_[j, i, k])
  return points, values


class DecodeTest(parameterized.TestCase):
  def test_equals_the_resized_map(self):
    rng = np.random.default_rng(0)
    boxes = np.array(
      [
        [3.0, 4.0, 15.0, 13.0],
        [0.3, -2.1, 81.7, 45.2],  # several tiles
        [5.0, 5.0, 5.4, 5.2],  # below one pixel
        [10.0, 2.0, 12.5, 72.1],
        [9.0, 9.0, 4.0, 4.0],  # mirrored
      ],
      np.float32,
    )
    heatmaps = rng.normal(size=(5, 12, 14, 3)).astype(np.float32)
    heatmaps[1, 0, 0, 0] = heatmaps[1, 11, 13, 1] = 9  # at corners
    xy, logits = jax.jit(ops.decode_roi_keypoints)(heatmaps, boxes)
    for r in range(5):
      points, values = _decode(heatmaps[r], boxes[r])
      np.testing.assert_allclose(xy[r], points, atol=1e-4)
      np.testing.assert_allclose(logits[r], values, atol=1e-4)

  def test_constant_map_gives_the_first_pixel(self):
    xy, _ = ops.decode_roi_keypoints(
      jnp.zeros((1, 4, 4, 2)), jnp.array([[10.0, 20.0, 100.0, 90.0]])
    )
    np.testing.assert_allclose(xy[0], [[10.5, 20.5]] * 2, atol=1e-5)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, r"`heatmaps` must be \[R, h, w, K"):
      ops.decode_roi_keypoints(jnp.zeros((4, 4, 2)), jnp.zeros((4, 4)))


class EncodeTest(parameterized.TestCase):
  def test_equals_the_loop(self):
    rng = np.random.default_rng(1)
    boxes = np.array(
      [[0, 0, 8, 4], [2.5, 1.25, 10, 9], [3, 3, 3, 9], [-4, -4, 20, 20]],
      np.float32,
    )
    points = np.round(rng.uniform(-2, 12, (4, 9, 2)) * 2) / 2
    points[0, 0] = [8, 4]  # the far corner belongs to the last cell
    points = points.astype(np.float32)
    visible = rng.random((4, 9)) > 0.2
    visible[0, 0] = True
    index, valid = jax.jit(
      lambda p, b, v: ops.encode_roi_keypoints(p, b, (6, 10), visible=v)
    )(points, boxes, visible)
    for r in range(4):
      for k in range(9):
        (x, y), (x1, y1, x2, y2) = points[r, k], boxes[r]
        inside = x2 > x1 and x1 <= x <= x2 and y1 <= y <= y2
        inside = bool(inside and visible[r, k])
        self.assertEqual(bool(valid[r, k]), inside)
        cell = 0
        if inside:
          i = 9 if x == x2 else math.floor((x - x1) * 10 / (x2 - x1))
          j = 5 if y == y2 else math.floor((y - y1) * 6 / (y2 - y1))
          cell = j * 10 + i
        self.assertEqual(int(index[r, k]), cell)
    self.assertEqual(int(index[0, 0]), 59)
    self.assertGreater(int(valid.sum()), 10)
    self.assertFalse(valid[2].any())

  def test_cell_and_back(self):
    boxes = jnp.array([[10.0, 20.0, 66.0, 76.0]])
    points = jnp.array([[[30.25, 50.75]]])
    index, _ = ops.encode_roi_keypoints(points, boxes, (56, 56))
    heatmap = jnp.zeros(56 * 56).at[index[0, 0]].set(5.0)
    xy, _ = ops.decode_roi_keypoints(heatmap.reshape(1, 56, 56, 1), boxes)
    np.testing.assert_allclose(xy[0], [[30.5, 50.5]], atol=1e-4)

  def test_messages(self):
    with self.assertRaisesRegex(ValueError, r"`keypoints` must be \[\.\.\., R"):
      ops.encode_roi_keypoints(jnp.zeros((2, 3, 2)), jnp.zeros((3, 4)), (4, 4))


if __name__ == "__main__":
  absltest.main()
