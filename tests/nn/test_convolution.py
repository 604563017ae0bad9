import chex
import jax
import jax.numpy as jnp
import jax.test_util
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
  # Depthwise; the last one has two outputs for each channel.
  (8, 8, 3, 1, 1, 1, 8),
  (6, 6, 5, 2, 2, 1, 6),
  (4, 4, 3, 1, 2, 2, 4),
  (4, 8, 3, 2, 0, 1, 4),
  (6, 4, 3, 5, 0, 1, 1),  # 2 x 2 cells
  (5, 3, 3, 1, 0, 4, 1),  # 1 x 3 cells
  # Kernels from 5 x 5 on: many cells, 5 x 3 cells, one channel.
  (3, 4, 5, 1, 1, 1, 1),
  (3, 4, 7, 1, 0, 1, 1),
  (1, 4, 5, 1, 1, 1, 1),
  # Wide dilation: taps that reach beyond the map, some altogether.
  (3, 4, 3, 1, 6, 6, 1),
  (5, 4, 3, 1, 10, 10, 1),
  (3, 4, 5, 1, 12, 6, 1),
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

  @parameterized.parameters((50, 51, 1), (52, 53, 0))
  def test_many_channels_match_float64(self, high, wide, padding):
    """Winograd's form, its derivatives and a batch, beside XLA's in float64."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1, high, wide, 256))
    kernel = rng.normal(size=(3, 3, 256, 260)) / 48

    def theirs(x, k):
      return jax.lax.conv_general_dilated(
        x,
        k,
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )

    def ours(x, k):
      return nn.conv2d(x, k, padding=padding)

    with jax.enable_x64(True):
      expected, pull = jax.vjp(theirs, jnp.asarray(x), jnp.asarray(kernel))
      c = rng.normal(size=expected.shape)
      truths = [np.asarray(v) for v in (expected, *pull(jnp.asarray(c)))]
    x, kernel, c = (np.float32(v) for v in (x, kernel, c))
    value, pull = jax.vjp(jax.jit(ours), x, kernel)
    for mine, truth in zip((value, *pull(c)), truths, strict=True):
      self.assertEqual(mine.shape, truth.shape)
      scale = np.abs(truth).max()
      np.testing.assert_allclose(mine, truth, atol=5e-6 * scale)
    # It is another formulation that ran: the rounding differs.
    plain = np.asarray(jax.jit(theirs)(x, kernel))
    self.assertTrue((np.asarray(value) != plain).any())
    alone = jax.vmap(lambda v: ours(v, kernel))(np.stack([x, 2 * x]))
    np.testing.assert_allclose(alone[1], 2 * value, atol=1e-5)

  def test_depthwise_in_half_precision_keeps_its_digits(self):
    rng = np.random.default_rng(4)
    x = jnp.asarray(1 + rng.random((1, 9, 8, 16)), jnp.bfloat16)
    kernel = jnp.asarray(1 + rng.random((5, 5, 1, 16)), jnp.bfloat16)
    got = nn.conv2d(x, kernel, padding=2, groups=16)
    self.assertEqual(got.dtype, jnp.bfloat16)
    wide = np.float64(x), np.float64(kernel)
    expected = _loop(*wide, 1, 2, 1, 16)
    # One rounding at the end, not one for each of the 25 taps.
    np.testing.assert_allclose(np.float64(got), expected, rtol=2**-8)

  def test_first_layer_of_a_vgg_keeps_xla_values_and_exact_derivatives(self):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 12, 13, 3)).astype(np.float32)
    k = rng.normal(size=(3, 3, 3, 8)).astype(np.float32)
    f = lambda a, b: nn.conv2d(a, b, padding=1)  # noqa: E731
    jax.test_util.check_grads(f, (x, k), 2, atol=0.05, rtol=0.05)

  def test_vmap_equals_batch(self):
    x = np.random.default_rng(1).normal(size=(3, 6, 7, 3)).astype(np.float32)
    k = np.ones((3, 3, 3, 2), np.float32)
    one = jax.vmap(lambda v: nn.conv2d(v[None], k)[0])(x)
    np.testing.assert_allclose(one, nn.conv2d(jnp.asarray(x), k), rtol=1e-5)
    kernels = np.random.default_rng(2).normal(size=(4, 3, 3, 1, 3))
    kernels = jnp.asarray(kernels, jnp.float32)
    run = lambda k: nn.conv2d(x, k, groups=3)  # noqa: E731
    many = jax.vmap(run)(kernels)
    for got, kernel in zip(many, kernels, strict=True):
      np.testing.assert_allclose(got, run(kernel), rtol=1e-5, atol=1e-5)

  def test_second_derivative_of_a_depthwise_convolution(self):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1, 5, 6, 3)).astype(np.float32)
    k = rng.normal(size=(3, 3, 1, 3)).astype(np.float32)
    f = jax.jit(lambda a, b: nn.conv2d(a, b, stride=2, padding=1, groups=3))
    jax.test_util.check_grads(f, (x, k), 2, ["rev"], atol=0.05, rtol=0.05)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "C = 3 channels"):
      nn.conv2d(jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 3, 2)))
    with self.assertRaisesRegex(ValueError, "at least 7 pixels"):
      nn.conv2d(jnp.ones((1, 6, 8, 3)), jnp.ones((7, 7, 3, 2)))
