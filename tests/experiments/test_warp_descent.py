"""Paths through costs, and registration of photographs."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.warp_descent import paths, register


def test_cost_of_a_straight_path():
  """Constant cost: cost times length, whatever the samples."""
  cost = jnp.full((32, 32), 3.0)
  line = paths.straight((0.1, 0.2), (0.7, 1.0), 5)
  for count in (2, 11, 300):
    np.testing.assert_allclose(
      paths.path_cost(cost, line, count), 3.0, rtol=1e-5
    )
  # A ramp, x of the unit square: the integral of x along the line.
  ramp = jnp.broadcast_to((jnp.arange(64) + 0.5) / 64, (64, 64))
  line = paths.straight((0.2, 0.5), (0.8, 0.5), 3)
  np.testing.assert_allclose(
    paths.path_cost(ramp, line, 50), 0.6 * 0.5, rtol=1e-4
  )


def test_samples_lie_on_the_polyline():
  corner = jnp.array([[0.0, 0], [1, 0], [1, 1]])
  points = paths.sample_path(corner, 5)
  np.testing.assert_allclose(
    points, [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1]], atol=1e-6
  )


@pytest.mark.slow
@pytest.mark.parametrize("costs", [(1.0, 2.0), (2.0, 1.6)])
def test_snells_law(costs):
  row = paths.refraction(*costs)
  assert abs(row["angle below"] - row["Snell"]) < 1
  assert abs(row["angle above"] - row["angle below"]) > 5  # it bends


@pytest.mark.slow
def test_few_samples_step_over_a_thin_wall():
  _, found, rows = paths.compare_samples()
  few, more, many = rows
  for row in (few, more):
    assert row["cost it saw"] < 0.7 * row["cost at 2001 samples"]
  np.testing.assert_allclose(
    many["cost it saw"], many["cost at 2001 samples"], rtol=0.02
  )
  dense = "cost at 2001 samples"
  assert many[dense] < 0.95 * min(few[dense], more[dense])
  for path in found.values():
    np.testing.assert_allclose(path[0], [0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(path[-1], [0.4, 0.95], atol=1e-6)


@pytest.mark.slow
def test_photographs_are_registered():
  args = register.Args(
    num_per_image=1, size=(96, 128), num_steps=60, progress=False
  )
  result = register.main(args)
  assert result["pairs"] == 7
  assert result["median before, pixels"] > 5
  assert result["median after, pixels"] < 0.2
  assert result["within 1 pixel"] > 0.5


def test_transfer_error():
  """Of a shift, its length, over what both pictures show."""
  shift = np.array([[1.0, 0, 3], [0, 1, -4], [0, 0, 1]])
  assert register.transfer_error(np.eye(3), shift, (40, 50)) == 5
  assert register.transfer_error(shift, shift, (40, 50)) == 0
