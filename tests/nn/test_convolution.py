import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import nn

CASES = (
  # channels, outputs, kernel, stride, padding, dilation, groups
  (3, 5, 3, 1, 1, 1, 1),
  (3, 4, 7, 2, 3, 1, 1),
  (1, 6, 3, 1, 0, 2, 1),
  (6, 4, 3, 2, 1, 1, 2),
  (5, 3, 3, 1, 2, 2, 1),
  (4, 4, 1, 2, 0, 1, 1),
  (8, 8, 3, 1, 1, 1, 8),
)


def _loop(x, kernel, stride, padding, dilation, groups):
  """Direct sum in float64."""
  x = np.pad(np.float64(x), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
  size, _, share, outputs = kernel.shape
  reach = dilation * (size - 1) + 1
  rows = (x.shape[1] - reach) // stride + 1
  cols = (x.shape[2] - reach) // stride + 1
  y = np.zeros((x.shape[0], rows, cols, outputs))
  for o in range(outputs):
    g = o // (outputs // groups)
    for i in range(rows):
      for j in range(cols):
        cut = x[
          :,
          i * stride : i * stride + reach : dilation,
          j * stride : j * stride + reach : dilation,
          g * share : (g + 1) * share,
        ]
        y[:, i, j, o] = (cut * kernel[..., o]).sum((1, 2, 3))
  return y


class Conv2dTest(chex.TestCase):
  @parameterized.parameters(*CASES)
  def test_value_and_gradients_match_a_loop(
    self, channels, outputs, size, stride, padding, dilation, groups
  ):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 11, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels // groups, outputs))
    kernel = kernel.astype(np.float32)
    settings = (stride, padding, dilation, groups)
    names = ("stride", "padding", "dilation", "groups")
    run = jax.jit(
      lambda a, k: nn.conv2d(a, k, **dict(zip(names, settings, strict=True)))
    )
    expected = _loop(x, kernel, *settings)
    np.testing.assert_allclose(run(x, kernel), expected, atol=2e-4)
    # Bilinear: <y(x, k), c> has the gradients <x, dx> = <k, dk> = <y, c>.
    c = rng.normal(size=expected.shape).astype(np.float32)
    dx, dk = jax.vjp(run, x, kernel)[1](c)
    whole = (expected * c).sum()
    np.testing.assert_allclose((dx * x).sum(), whole, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose((dk * kernel).sum(), whole, rtol=1e-3, atol=1e-2)
    t = rng.normal(size=x.shape).astype(np.float32)
    moved = _loop(t, kernel, *settings)
    np.testing.assert_allclose(
      jax.jvp(lambda v: run(v, kernel), (x,), (t,))[1], moved, atol=2e-4
    )
    np.testing.assert_allclose(
      (dx * t).sum(), (moved * c).sum(), rtol=1e-3, atol=1e-2
    )

  def test_vmap_equals_batch(self):
    x = np.random.default_rng(1).normal(size=(3, 6, 7, 3)).astype(np.float32)
    k = np.ones((3, 3, 3, 2), np.float32)
    one = jax.vmap(lambda v: nn.conv2d(v[None], k)[0])(x)
    np.testing.assert_allclose(one, nn.conv2d(jnp.asarray(x), k), rtol=1e-5)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "C = 3 channels"):
      nn.conv2d(jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 3, 2)))
    with self.assertRaisesRegex(ValueError, "at least 7 pixels"):
      nn.conv2d(jnp.ones((1, 6, 8, 3)), jnp.ones((7, 7, 3, 2)))
