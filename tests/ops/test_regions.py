"""Seeds, thresholds and moments against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import ops


def _loop_seeds(response, seeds, border):
  height, width = response.shape
  found = []
  for y in range(border, height - border):
    for x in range(border, width - border):
      window = response[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
      value = response[y, x]
      if (
        value > 0
        and ("peaks" not in seeds or value == window.max())
        and ("mean" not in seeds or value >= response.mean())
      ):
        found.append((-value, y * width + x, x, y))
  return [(x, y) for _, _, x, y in sorted(found)]


class SeedTest(parameterized.TestCase):
  @parameterized.product(
    seeds=("peaks_mean", "peaks_all", "cells_above_mean", "cells_all"),
    border=(0, 1),
  )
  def test_equals_the_loop(self, seeds, border):
    rng = np.random.default_rng(0)
    response = rng.normal(size=(7, 9)).round(1).astype(np.float32)  # ties
    cells, values, valid = ops.seed_cells(
      response, seeds=seeds, max_seeds=40, border=border
    )
    expected = _loop_seeds(response, seeds, border)[:40]
    self.assertGreater(len(expected), 3)
    self.assertEqual([tuple(c) for c in np.asarray(cells)[valid]], expected)
    found = [response[y, x] for x, y in expected]
    np.testing.assert_array_equal(np.asarray(values)[valid], found)
    self.assertFalse(np.asarray(cells)[~valid].any())

  def test_flat_and_small_maps(self):
    for response in (np.zeros((4, 6)), np.ones((2, 2)), -np.ones((3, 4))):
      cells, values, valid = ops.seed_cells(jnp.asarray(response, jnp.float32))
      self.assertEqual(cells.shape, (32, 2))
      self.assertFalse(np.asarray(valid).any())
      self.assertFalse(np.asarray(values).any())

  def test_errors(self):
    with pytest.raises(ValueError, match="`response` must be"):
      ops.seed_cells(jnp.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="`seeds` must be one of"):
      ops.seed_cells(jnp.zeros((3, 4)), seeds="all")


class ThresholdTest(parameterized.TestCase):
  @parameterized.parameters(95.0, 50.0, 0.0, 100.0, 97.3)
  def test_percentile_is_numpys(self, percentile):
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    maps[0, 0] = maps[0, 0].round(1)  # ties
    maps[1, 2, :8] = 0
    got = ops.brightest_pixels(maps, percentile=percentile)
    positive = np.maximum(maps, 0)
    limit = np.percentile(
      positive.astype(np.float64), percentile, axis=(-2, -1), keepdims=True
    )
    near = np.abs(positive - limit) < 1e-6 * limit
    expected = (positive >= limit) & (positive > 0)
    self.assertTrue(((np.asarray(got) == expected) | near).all())
    self.assertGreater(expected.sum(), 0)

  @parameterized.parameters(0.9, 0.5, 1.0)
  def test_mass_is_the_sorted_sum(self, share):
    rng = np.random.default_rng(2)
    maps = (rng.gamma(0.3, size=(3, 9, 14)) - 0.1).astype(np.float32)
    got = np.asarray(ops.mass_pixels(maps, share=share))
    for kept, one in zip(got, maps, strict=True):
      values = np.sort(one[one > 0].astype(np.float64))[::-1]
      number = np.searchsorted(
        values.cumsum(), share * values.sum() * (1 - 1e-6)
      )
      self.assertAlmostEqual(kept.sum(), number + 1, delta=1 + (share == 1))
      self.assertGreaterEqual(
        one[kept].min(), one[~kept & (one > 0)].max(initial=0)
      )

  def test_empty_maps_keep_nothing(self):
    for maps in (jnp.zeros((2, 3)), -jnp.ones((4, 3, 2))):
      self.assertFalse(np.asarray(ops.brightest_pixels(maps)).any())
      self.assertFalse(np.asarray(ops.mass_pixels(maps)).any())

  def test_errors(self):
    with pytest.raises(ValueError, match="`percentile` must be"):
      ops.brightest_pixels(jnp.zeros((2, 2)), percentile=101.0)
    with pytest.raises(ValueError, match="`share` must be"):
      ops.mass_pixels(jnp.zeros((2, 2)), share=0.0)
    with pytest.raises(ValueError, match="`maps` must be"):
      ops.mass_pixels(jnp.zeros((0, 2)))


def _eigen_box(weights, k):
  """Extent of the ellipse of the eigen-decomposition, float64."""
  y, x = np.nonzero(weights)
  w = weights[y, x].astype(np.float64)
  points = np.stack([x + 0.5, y + 0.5], -1)
  mean = (points * w[:, None]).sum(0) / w.sum()
  offset = points - mean
  covariance = (offset * w[:, None]).T @ offset / w.sum()
  values, vectors = np.linalg.eigh(covariance)
  axes = k * np.sqrt(np.maximum(values, 0))
  half = np.sqrt(((vectors * axes) ** 2).sum(1))
  return np.concatenate([mean - half, mean + half]), axes[::-1], vectors


class MomentTest(parameterized.TestCase):
  @parameterized.product(k=(2.0, 3**0.5), weighted=(False, True))
  def test_box_is_that_of_the_eigenvectors(self, k, weighted):
    rng = np.random.default_rng(3)
    maps = np.zeros((40, 61, 83), np.float32)
    for one in maps:
      number = int(rng.integers(3, 60))
      turn = rng.normal(size=(2, 2)) * 6
      points = rng.normal(size=(number, 2)) @ turn + [41, 30]
      x, y = np.clip(points, 0, [82, 60]).astype(int).T
      one[y, x] = rng.uniform(0.1, 1, number) if weighted else 1
    weights = jnp.asarray(maps if weighted else maps > 0)
    mean, covariance = ops.region_moments(weights)
    boxes = np.asarray(ops.moment_box(mean, covariance, num_deviations=k))
    axes, angle = ops.moment_ellipse(covariance, num_deviations=k)
    for p, one in enumerate(maps):
      expected, semi, vectors = _eigen_box(one, k)
      np.testing.assert_allclose(boxes[p] / 83, expected / 83, atol=1e-6)
      np.testing.assert_allclose(axes[p], semi, rtol=1e-4, atol=1e-2)
      if semi[0] > 1.2 * semi[1]:
        cos = abs(
          np.cos(angle[p]) * vectors[0, 1] + np.sin(angle[p]) * vectors[1, 1]
        )
        self.assertGreater(cos, 1 - 1e-4)

  def test_filled_shapes(self):
    """K = 2 is an ellipse's own box, the root of 3 a rectangle's."""
    y, x = np.mgrid[:90, :120] + 0.5
    ellipse = ((x - 60) / 40) ** 2 + ((y - 40) / 25) ** 2 <= 1
    rectangle = (abs(x - 60) < 40) & (abs(y - 40) < 25)
    expected = np.array([20, 15, 100, 65])
    for shape, k in ((ellipse, 2.0), (rectangle, 3**0.5)):
      box = ops.moment_box(
        *ops.region_moments(jnp.asarray(shape)), num_deviations=k
      )
      np.testing.assert_allclose(box, expected, atol=0.5)
    box = ops.moment_box(*ops.region_moments(jnp.asarray(rectangle)))
    np.testing.assert_allclose((box[2] - box[0]) / 80, 2 / 3**0.5, atol=0.02)

  def test_no_mass_and_one_pixel(self):
    mean, covariance = ops.region_moments(jnp.zeros((2, 4, 5)))
    self.assertFalse(np.asarray(mean).any() or np.asarray(covariance).any())
    spot = jnp.zeros((4, 5)).at[1, 3].set(2.0)
    mean, covariance = ops.region_moments(spot)
    np.testing.assert_allclose(mean, [3.5, 1.5])
    np.testing.assert_allclose(covariance, 0, atol=1e-6)
    axes, _ = ops.moment_ellipse(covariance)
    self.assertTrue(np.isfinite(axes).all())

  def test_boxes_have_a_derivative(self):
    rng = np.random.default_rng(4)
    weights = jnp.asarray(rng.uniform(0.1, 1, (5, 7)), jnp.float32)
    box = lambda w: ops.moment_box(*ops.region_moments(w))  # noqa: E731
    direction = jnp.asarray(rng.normal(size=(5, 7)), jnp.float32)
    _, slope = jax.jvp(box, (weights,), (direction,))
    step = 1e-2
    change = box(weights + step * direction) - box(weights - step * direction)
    np.testing.assert_allclose(slope, change / (2 * step), rtol=2e-2, atol=1e-3)
