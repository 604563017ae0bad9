"""Decoders against loops over the reference rules, and on true Gaussians."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


def _maps(points, size, sigma):
  return np.asarray(
    ops.gaussian_heatmaps(jnp.asarray(points), size, sigma=sigma)
  )


def _dark(heatmap, kernel_size):
  """The published procedure on one map: blur, rescale, log, Newton step."""
  height, width = heatmap.shape
  row, column = np.unravel_index(np.argmax(heatmap), heatmap.shape)
  border = (kernel_size - 1) // 2
  padded = np.zeros((height + 2 * border, width + 2 * border))
  padded[border:-border, border:-border] = heatmap
  blurred = cv2.GaussianBlur(padded, (kernel_size, kernel_size), 0)
  blurred = blurred[border:-border, border:-border]
  blurred *= heatmap.max() / blurred.max()
  h = np.log(np.maximum(blurred, 1e-10))
  x, y = column, row
  if not (1 < x < width - 2 and 1 < y < height - 2):
    return np.array([x, y], float)
  dx = 0.5 * (h[y, x + 1] - h[y, x - 1])
  dy = 0.5 * (h[y + 1, x] - h[y - 1, x])
  dxx = 0.25 * (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2])
  dyy = 0.25 * (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x])
  dxy = 0.25 * (
    h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1]
  )
  hessian = np.array([[dxx, dxy], [dxy, dyy]])
  return np.array([x, y]) - np.linalg.inv(hessian) @ [dx, dy]


class DecodersTest(parameterized.TestCase):
  def test_argmax_takes_the_first_of_equals(self):
    maps = np.zeros((2, 4, 6, 1), np.float32)
    maps[0, 2, 3] = maps[0, 3, 1] = 2
    points, scores = ops.decode_argmax(maps)
    np.testing.assert_array_equal(points, [[[3, 2]], [[0, 0]]])
    np.testing.assert_array_equal(scores, [[2], [0]])

  def test_quarter_equals_the_reference_rule(self):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(40, 6, 7, 2)).astype(np.float32)
    points, scores = ops.decode_quarter(maps)
    for b in range(40):
      for j in range(2):
        h = maps[b, ..., j]
        y, x = np.unravel_index(np.argmax(h), h.shape)
        expected = np.array([x, y], float)
        if 1 < x < 7 - 1 and 1 < y < 6 - 1:
          expected += 0.25 * np.sign(
            [h[y, x + 1] - h[y, x - 1], h[y + 1, x] - h[y - 1, x]]
          )
        np.testing.assert_allclose(points[b, j], expected)
        self.assertEqual(float(scores[b, j]), h[y, x])

  @parameterized.parameters(9, 11)
  def test_dark_equals_the_published_procedure(self, kernel_size):
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 40, (12, 1, 2)).astype(np.float32)
    maps = _maps(points, (41, 45), 2.0)
    maps = maps + 0.02 * rng.random(maps.shape).astype(np.float32)
    got, _ = ops.decode_dark(maps, kernel_size=kernel_size)
    for b in range(12):
      np.testing.assert_allclose(
        got[b, 0], _dark(maps[b, ..., 0], kernel_size), atol=2e-3
      )

  def test_errors_on_gaussians_fall_with_every_refinement(self):
    rng = np.random.default_rng(2)
    points = rng.uniform(10, 30, (200, 1, 2)).astype(np.float32)
    maps = _maps(points, (40, 40), 2.0)
    errors = [
      float(
        np.linalg.norm(np.asarray(decode(maps)[0]) - points, axis=-1).mean()
      )
      for decode in (ops.decode_argmax, ops.decode_quarter, ops.decode_dark)
    ]
    self.assertGreater(errors[0], 1.5 * errors[1])
    self.assertGreater(errors[1], 20 * errors[2])

  def test_taylor_is_exact_for_a_gaussian_softmax(self):
    rng = np.random.default_rng(3)
    points = rng.uniform(5, 20, (50, 2, 2)).astype(np.float32)
    y, x = np.mgrid[:25, :25]
    square = (x[..., None] - points[:, None, None, :, 0]) ** 2 + (
      y[..., None] - points[:, None, None, :, 1]
    ) ** 2
    logits = (-square / 2 + 7).astype(np.float32)
    got, scores = jax.jit(ops.decode_taylor)(logits)
    np.testing.assert_allclose(got, points, atol=1e-3)
    p = jax.nn.softmax(logits.reshape(50, -1, 2), axis=1)
    np.testing.assert_allclose(scores, p.max(1), rtol=1e-5)

  def test_borders_and_flat_maps_stay(self):
    flat = jnp.zeros((6, 6, 1))
    for decode in (
      ops.decode_argmax,
      ops.decode_quarter,
      ops.decode_dark,
      ops.decode_taylor,
    ):
      np.testing.assert_array_equal(decode(flat)[0], [[0, 0]])
      corner = flat.at[5, 5].set(1.0)
      np.testing.assert_array_equal(decode(corner)[0], [[5, 5]])
    with self.assertRaisesRegex(ValueError, "`kernel_size` must be odd"):
      ops.decode_dark(flat, kernel_size=4)
    with self.assertRaisesRegex(ValueError, "decode_taylor: `scores` must be"):
      ops.decode_taylor(jnp.zeros((3, 3)))


if __name__ == "__main__":
  absltest.main()
