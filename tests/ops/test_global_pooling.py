"""Poolings against loops in NumPy, float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import ops


def _features(size=(5, 7), channels=6, seed=0):
  rng = np.random.default_rng(seed)
  x = np.maximum(rng.normal(size=(*size, channels)), 0)
  x[..., 2] = 0  # a channel that never fires
  return x.astype(np.float32)


def _published_rmac(x, levels=3):
  """The rule of cnnimageretrieval-pytorch, written anew; x [h, w, C]."""
  height, width = x.shape[:2]
  w = min(height, width)
  steps = np.array([2, 3, 4, 5, 6, 7], np.float64)
  b = (max(height, width) - w) / (steps - 1)
  index = int(np.argmin(np.abs((w**2 - w * b) / w**2 - 0.4)))
  extra_h = index + 1 if height > width else 0
  extra_w = index + 1 if width > height else 0
  found = []
  for level in range(1, levels + 1):
    side = int(np.floor(2 * w / (level + 1)))
    half = np.floor(side / 2 - 1)
    positions = []
    for length, extra in ((height, extra_h), (width, extra_w)):
      number = level + extra
      gap = 0 if number == 1 else (length - side) / (number - 1)
      positions.append(
        (np.floor(half + np.arange(number) * gap) - half).astype(int)
      )
    for top in positions[0]:
      for left in positions[1]:
        best = np.full(x.shape[-1], -np.inf)
        for r in range(top, top + side):
          for c in range(left, left + side):
            best = np.maximum(best, x[r, c])
        found.append(best)
  return np.array(found)


class PoolTest(parameterized.TestCase):
  def test_spoc_mac_gem(self):
    x = _features()
    cells = x.reshape(-1, 6).astype(np.float64)
    np.testing.assert_allclose(ops.spoc_pool(x), cells.mean(0), rtol=1e-5)
    np.testing.assert_array_equal(ops.mac_pool(x), cells.max(0))
    for power in (3.0, 4.6):
      expected = [
        np.mean([max(v, 1e-6) ** power for v in channel]) ** (1 / power)
        for channel in cells.T
      ]
      got = ops.gem_pool(jnp.asarray(x), power=power)
      np.testing.assert_allclose(got, expected, rtol=1e-4)

  @parameterized.parameters(
    ((16, 16), 14), ((24, 32), 20), ((32, 24), 20), ((11, 16), 20)
  )
  def test_rmac(self, size, number):
    x = _features(size, 3)
    got = ops.rmac_vectors(jnp.asarray(x))
    self.assertEqual(got.shape, (number, 3))
    np.testing.assert_array_equal(got, _published_rmac(x))
    regions = ops.rmac_regions(size)
    self.assertGreaterEqual(regions.min(), 0)
    self.assertTrue((regions[:, 2] <= size[1]).all())
    self.assertTrue((regions[:, 3] <= size[0]).all())

  @parameterized.parameters((1, 1), (1, 9), (2, 3))
  def test_rmac_of_small_maps(self, *size):
    self.assertTrue(np.isfinite(ops.rmac_vectors(jnp.ones((*size, 2)))).all())

  def test_crow(self):
    x = _features()
    cell, channel = ops.crow_weights(jnp.asarray(x))
    a = np.zeros((5, 7))
    for r in range(5):
      for c in range(7):
        a[r, c] = sum(float(v) for v in x[r, c])
    np.testing.assert_allclose(
      cell, np.sqrt(a / np.sqrt((a**2).sum())), rtol=1e-5
    )
    shares = [np.mean([v > 0 for v in x[..., c].ravel()]) for c in range(6)]
    expected = [np.log(sum(shares) / q) if q > 0 else 0 for q in shares]
    np.testing.assert_allclose(channel, expected, rtol=1e-5)
    for weights in ops.crow_weights(jnp.zeros((2, 3, 4))):
      self.assertFalse(np.asarray(weights).any())

  @parameterized.product(intra=(True, False), power=(0.5, 1.0))
  def test_vlad(self, intra, power):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    centres = rng.normal(size=(4, 3)).astype(np.float32)
    centres[3] = 100  # nothing is near
    valid = np.arange(20) % 5 != 0
    sums = np.zeros((4, 3))
    for row in x[valid].astype(np.float64):
      k = np.argmin([((row - c) ** 2).sum() for c in centres])
      sums[k] += row - centres[k]
    if intra:
      sums = [s / n if (n := np.linalg.norm(s)) else s for s in sums]
    flat = np.ravel(sums)
    flat = np.sign(flat) * np.abs(flat) ** power
    got = ops.vlad(
      jnp.asarray(x),
      jnp.asarray(centres),
      valid=jnp.asarray(valid),
      intra=intra,
      power=power,
    )
    np.testing.assert_allclose(
      got, flat / np.linalg.norm(flat), rtol=1e-3, atol=1e-5
    )
    none = ops.vlad(
      jnp.asarray(x), jnp.asarray(centres), valid=jnp.zeros(20, bool)
    )
    self.assertFalse(np.asarray(none).any())

  def test_errors(self):
    for function in (ops.spoc_pool, ops.mac_pool, ops.gem_pool):
      with pytest.raises(ValueError, match="`features` must be"):
        function(jnp.zeros((0, 3, 2)))
    with pytest.raises(ValueError, match="`size` and `levels`"):
      ops.rmac_regions((0, 4))
    with pytest.raises(ValueError, match="same D"):
      ops.vlad(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
