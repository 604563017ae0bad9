"""Bins, samples and weights of RoIAlign along one axis."""

import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.ops import roi_samples


def _bins(low, high, count, *, ratio=0, cap=8, aligned=True, extent=10.0):
  return roi_samples.axis_bins(
    jnp.array([low]),
    jnp.array([high]),
    jnp.array([extent]),
    count,
    sampling_ratio=ratio,
    max_samples=cap,
    aligned=aligned,
  )


def test_bins_by_hand():
  bins = _bins(2.0, 8.0, 2)
  np.testing.assert_allclose(bins.start, [1.5])  # half-pixel correct
  np.testing.assert_allclose(bins.width, [3])
  np.testing.assert_allclose(bins.samples, [3])  # one for each pixel
  np.testing.assert_allclose(_bins(2.0, 8.0, 2, cap=2).samples, [2])
  np.testing.assert_allclose(_bins(2.0, 8.0, 2, ratio=4).samples, [4])
  short = _bins(2.0, 2.5, 2, aligned=False)  # at least one pixel
  np.testing.assert_allclose((short.start, short.width), [[2], [0.5]])


def test_samples_lie_in_the_middle_of_their_parts():
  bins = _bins(2.0, 8.0, 2, ratio=2)
  places = [roi_samples.axis_samples(bins, i) for i in range(2)]
  found = np.stack([place[0][0] for place in places], -1)
  np.testing.assert_allclose(found, [[2.25, 3.75], [5.25, 6.75]])
  for _, weight in places:
    np.testing.assert_allclose(weight, [[0.5, 0.5]])


@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_matrix_reads_a_ramp(ratio):
  """Bins inside: the mean of a ramp is its value in the middle of the bin."""
  bins = _bins(1.0, 9.0, 4, ratio=ratio)
  matrix = roi_samples.axis_matrix(bins, 10, ratio or 8)
  assert matrix.shape == (1, 4, 10)
  np.testing.assert_allclose(matrix.sum(-1), np.ones((1, 4)), rtol=1e-6)
  middles = 0.5 + 2 * (np.arange(4) + 0.5)
  np.testing.assert_allclose(matrix[0] @ np.arange(10), middles, rtol=1e-5)
