"""The floating type that results are computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import ops


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    (jnp.float16, jnp.float32),
    (jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.float32),
    (jnp.int32, jnp.float32),
  ],
)
def test_widens_and_keeps_values(given, expected):
  x = jnp.arange(-3, 4).astype(given)
  result = ops.at_least_float32(x)
  assert result.dtype == expected
  np.testing.assert_array_equal(result, np.arange(-3, 4))


def test_float64_stays():
  with jax.enable_x64(True):
    x = jnp.full(3, 1 / 3, jnp.float64)
    assert ops.at_least_float32(x).dtype == jnp.float64
