"""Points of maps: reading, uncertainty, drawing; against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops


def _read(features, points, padding):
  """Bilinear reading, one point after the other."""
  height, width, channels = features.shape
  out = np.zeros((len(points), channels))
  for n, (px, py) in enumerate(np.asarray(points, np.float64)):
    u, v = px * width - 0.5, py * height - 0.5
    for y in (int(np.floor(v)), int(np.floor(v)) + 1):
      for x in (int(np.floor(u)), int(np.floor(u)) + 1):
        weight = (1 - abs(u - x)) * (1 - abs(v - y))
        if padding == "edge":
          value = features[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        elif 0 <= x < width and 0 <= y < height:
          value = features[y, x]
        else:
          continue
        out[n] += weight * value
  return out


def _special_points(rng):
  points = rng.uniform(0, 1, (400, 2))
  points[:80] = rng.uniform(0, 0.08, (80, 2))  # the outer half cell
  points[80:84] = [[0, 0], [1, 1], [0, 1], [1, 0.5]]
  return points.astype(np.float32)


class PointSampleTest(parameterized.TestCase):
  @parameterized.parameters("zeros", "edge")
  def test_equals_the_loop(self, padding):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(7, 9, 4)).astype(np.float32)
    points = _special_points(rng)
    got = ops.point_sample(features, points, padding=padding)
    expected = _read(features.astype(np.float64), points, padding)
    np.testing.assert_allclose(got, expected, atol=2e-6)

  def test_ramp_is_exact_inside(self):
    x = (np.arange(8) + 0.5) / 8
    ramp = np.broadcast_to(x, (5, 8))[..., None].astype(np.float32)
    points = np.random.default_rng(1).uniform(0.1, 0.9, (50, 2))
    got = ops.point_sample(ramp, points.astype(np.float32))
    np.testing.assert_allclose(got[:, 0], points[:, 0], atol=1e-6)

  def test_zeros_pull_the_border_down(self):
    area = float(
      (ops.point_sample(
        jnp.full((7, 7, 1), 5.0),
        jax.random.uniform(jax.random.key(0), (20000, 2)),
      ) < 5 - 1e-4).mean()
    )  # fmt: skip
    self.assertAlmostEqual(area, 1 - (6 / 7) ** 2, delta=0.01)

  def test_gradient_goes_to_the_map(self):
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    points = jnp.asarray(_special_points(rng)[70:100])
    weight = jnp.asarray(rng.normal(size=(30, 2)), jnp.float32)
    slope = jax.grad(lambda f: (weight * ops.point_sample(f, points)).sum())(
      features
    )
    # Linear in the map: the derivative is the value at unit maps.
    for place in ((0, 0, 0), (2, 3, 1), (1, 2, 0)):
      unit = np.zeros((3, 4, 2))
      unit[place] = 1
      expected = (_read(unit, points, "zeros") * weight).sum()
      self.assertAlmostEqual(float(slope[place]), float(expected), places=5)

  def test_labels_are_those_of_the_pixel(self):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 256, (5, 6)).astype(np.uint8)
    points = rng.uniform(0, 1, (200, 2)).astype(np.float32)
    points[:2] = [[0, 0], [1, 1]]
    cell = np.minimum(np.floor(points * [6, 5]).astype(int), [5, 4])
    got = ops.sample_labels(labels, points)
    self.assertEqual(got.dtype, jnp.uint8)
    np.testing.assert_array_equal(got, labels[cell[:, 1], cell[:, 0]])

  def test_boxes(self):
    points = np.random.default_rng(4).uniform(size=(3, 6, 2))
    boxes = jnp.array([[0.0, 0, 1, 1], [2, 3, 2, 3], [-4, 1, 8, 3]])
    got = ops.points_in_boxes(points.astype(np.float32), boxes)
    np.testing.assert_allclose(got[0], points[0], atol=1e-7)
    np.testing.assert_allclose(got[1], np.tile([2, 3], (6, 1)))
    np.testing.assert_allclose(got[2], points[2] * [12, 2] + [-4, 1], atol=1e-5)
    slope = jax.grad(lambda b: ops.points_in_boxes(points, b).sum())(boxes)
    np.testing.assert_array_equal(slope, 0)


class UncertaintyTest(parameterized.TestCase):
  def test_values(self):
    logits = np.random.default_rng(0).normal(0, 3, (4, 5, 6)).astype(np.float32)
    ordered = np.sort(logits.astype(np.float64), -1)
    np.testing.assert_allclose(
      ops.margin_uncertainty(logits), ordered[..., -2] - ordered[..., -1],
      atol=1e-6,
    )  # fmt: skip
    p = np.exp(ordered)
    p /= p.sum(-1, keepdims=True)
    np.testing.assert_allclose(
      ops.probability_uncertainty(logits), p[..., -2] - p[..., -1], atol=1e-6
    )
    np.testing.assert_array_equal(
      ops.binary_uncertainty(logits[..., :1]), -np.abs(logits[..., 0])
    )

  def test_equal_scores_and_half_precision(self):
    got = ops.margin_uncertainty(jnp.array([2.0, 2.0, 1.0], jnp.bfloat16))
    self.assertEqual((float(got), got.dtype), (0.0, jnp.float32))

  def test_the_two_margins_are_not_the_same_order(self):
    logits = np.random.default_rng(1).normal(0, 3, (20000, 19))
    logits = logits.astype(np.float32)
    top = [
      set(np.argsort(-np.asarray(f(logits)))[:800].tolist())
      for f in (ops.margin_uncertainty, ops.probability_uncertainty)
    ]
    self.assertAlmostEqual(len(top[0] & top[1]) / 800, 0.89, delta=0.03)


class GridTest(parameterized.TestCase):
  def test_regular_grid(self):
    got = ops.grid_points((2, 3))
    expected = [
      [(j + 0.5) / 3, (i + 0.5) / 2] for i in range(2) for j in range(3)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-7)

  def test_the_most_uncertain_cells(self):
    u = np.random.default_rng(0).permutation(35).reshape(5, 7)
    cells, points = ops.uncertain_grid_points(jnp.asarray(u, jnp.float32), 9)
    np.testing.assert_array_equal(cells, np.argsort(-u.ravel())[:9])
    y, x = np.unravel_index(np.asarray(cells), (5, 7))
    np.testing.assert_allclose(points[:, 0], (x + 0.5) / 7, atol=1e-7)
    np.testing.assert_allclose(points[:, 1], (y + 0.5) / 5, atol=1e-7)

  def test_ties_and_more_points_than_cells(self):
    cells, points = ops.uncertain_grid_points(jnp.zeros((2, 3)), 100)
    np.testing.assert_array_equal(cells, np.arange(6))
    self.assertEqual(points.shape, (6, 2))
    self.assertEqual(
      ops.uncertain_grid_points(jnp.zeros((2, 3)), 0)[1].shape, (0, 2)
    )

  def test_approximate_is_exact_on_a_cpu(self):
    u = jax.random.normal(jax.random.key(1), (9, 11))
    exact, _ = ops.uncertain_grid_points(u, 20)
    near, _ = ops.uncertain_grid_points(u, 20, approximate=True)
    self.assertEqual(set(exact.tolist()), set(near.tolist()))


class SamplerTest(parameterized.TestCase):
  def test_uniform(self):
    points = ops.sample_uncertain_points(
      jax.random.key(0),
      jnp.zeros((3, 3, 1)),
      200_000,
      uncertainty=ops.binary_uncertainty,
      **ops.POINT_SAMPLING["uniform"]._asdict(),
    )
    counts = np.histogram2d(*np.asarray(points).T, bins=8, range=[[0, 1]] * 2)
    expected = 200_000 / 64
    chi = ((counts[0] - expected) ** 2 / expected).sum()
    self.assertBetween(chi, 30, 104)  # 63 degrees of freedom, 99.9 %

  def test_uncertain_points_gather_at_the_middle(self):
    logits = jnp.array([[[-1.0], [1.0]]])
    points = ops.sample_uncertain_points(
      jax.random.key(1),
      logits,
      400,
      uncertainty=ops.binary_uncertainty,
      padding="edge",
    )
    near = np.abs(np.asarray(points)[:, 0] - 0.5)
    # 1200 candidates, 300 of them kept: a quarter of the area.
    self.assertLess(near[:300].max(), 0.15)
    self.assertGreater(near[300:].max(), 0.4)

  @parameterized.parameters(*ops.POINT_SAMPLING)
  def test_counts_are_exact(self, name):
    k, beta = ops.POINT_SAMPLING[name]
    logits = jax.random.normal(jax.random.key(2), (4, 6, 3))
    points = ops.sample_uncertain_points(
      jax.random.key(3), logits, 25, oversample=k, importance=beta
    )
    self.assertEqual(points.shape, (25, 2))
    key, _ = jax.random.split(jax.random.key(3))
    candidates = np.asarray(jax.random.uniform(key, (int(k * 25), 2)))
    kept = (points[:, None] == candidates[None]).all(-1).any(1)
    self.assertEqual(int(kept.sum()), int(beta * 25))
    if beta:
      seen = np.sort(_read(np.asarray(logits, float), candidates, "zeros"), -1)
      order = np.argsort(seen[:, -1] - seen[:, -2])[: int(beta * 25)]
      np.testing.assert_allclose(points[: len(order)], candidates[order])

  def test_vmap_is_the_loop(self):
    keys = jax.random.split(jax.random.key(4), 3)
    logits = jax.random.normal(jax.random.key(5), (3, 4, 6, 2))

    def draw(key, logits):
      return ops.sample_uncertain_points(key, logits, 10)

    got = jax.vmap(draw)(keys, logits)
    for k in range(3):
      np.testing.assert_array_equal(got[k], draw(keys[k], logits[k]))


class ErrorTest(absltest.TestCase):
  def test_messages(self):
    key = jax.random.key(0)
    for call, text in (
      (lambda: ops.point_sample(jnp.zeros((3, 3)), jnp.zeros(2)), "`features`"),
      (lambda: ops.binary_uncertainty(jnp.zeros((3, 2))), "one class first"),
      (lambda: ops.margin_uncertainty(jnp.zeros((3, 1))), "binary_uncertainty"),
      (lambda: ops.grid_points((0, 3)), "at least 1"),
      (lambda: ops.uncertain_grid_points(jnp.zeros(3), 1), r"\[H, W\]"),
      (
        lambda: ops.points_in_boxes(jnp.zeros((2, 2)), jnp.zeros(3)),
        "`boxes` must",
      ),
      (
        lambda: ops.sample_uncertain_points(
          key, jnp.zeros((2, 2, 2)), 4, importance=1.5
        ),
        "`importance`",
      ),
    ):
      with self.assertRaisesRegex(ValueError, text):
        call()


if __name__ == "__main__":
  absltest.main()
