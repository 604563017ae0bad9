import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from jax import lax

from vision_jax import ops

CASES = (
  # window, stride, padding, ceil_mode
  (2, None, 0, False),
  (2, None, 0, True),
  (3, 2, 0, False),
  (3, 2, 0, True),
  (3, 2, 1, False),
  (3, 1, 1, False),
  ((2, 3), (2, 3), 0, False),
  ((3, 2), (1, 2), (1, 0), True),
)


def _reference(x, window, stride, padding, ceil_mode, cotangent=None):
  """Loop over windows in float64; also the derivative, first maximum wins."""
  pair = lambda v: (v, v) if isinstance(v, int) else v  # noqa: E731
  (kh, kw), (ph, pw) = pair(window), pair(padding)
  sh, sw = pair(window if stride is None else stride)
  height, width, channels = x.shape

  def length(n, k, s, p):
    out = (n + 2 * p - k) / s
    out = int(np.ceil(out) if ceil_mode else np.floor(out)) + 1
    return out - 1 if ceil_mode and (out - 1) * s >= n + p else out

  rows, cols = length(height, kh, sh, ph), length(width, kw, sw, pw)
  y = np.zeros((rows, cols, channels))
  dx = np.zeros(x.shape)
  for i in range(rows):
    for j in range(cols):
      for c in range(channels):
        best, where = -np.inf, None
        for a in range(i * sh - ph, i * sh - ph + kh):
          for b in range(j * sw - pw, j * sw - pw + kw):
            inside = 0 <= a < height and 0 <= b < width
            if inside and (x[a, b, c] > best or where is None):
              best, where = x[a, b, c], (a, b)
        y[i, j, c] = best
        if cotangent is not None:
          dx[(*where, c)] += cotangent[i, j, c]
  return y, dx


class MaxPoolTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(*CASES)
  def test_value_and_derivative_match_loop_with_ties(
    self, window, stride, padding, ceil_mode
  ):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=(7, 10, 2)).astype(np.float32)  # many ties
    pool = lambda v: ops.max_pool(  # noqa: E731
      v, window=window, stride=stride, padding=padding, ceil_mode=ceil_mode
    )
    y = self.variant(pool)(x)
    cotangent = rng.normal(size=y.shape).astype(np.float32)
    expected, dx = _reference(x, window, stride, padding, ceil_mode, cotangent)
    np.testing.assert_array_equal(y, expected)
    (got,) = self.variant(lambda v, c: jax.vjp(pool, v)[1](c))(x, cotangent)
    np.testing.assert_allclose(got, dx, atol=1e-6)

  @parameterized.parameters(*CASES)
  def test_jvp_is_the_transpose_of_vjp(
    self, window, stride, padding, ceil_mode
  ):
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(2, 9, 8, 3)).astype(np.float32)
    pool = lambda v: ops.max_pool(  # noqa: E731
      v, window=window, stride=stride, padding=padding, ceil_mode=ceil_mode
    )
    y, dy = jax.jvp(pool, (x,), (t,))
    (g,) = jax.vjp(pool, x)[1](y)
    np.testing.assert_allclose(
      np.sum(dy * y), np.sum(g * t), rtol=1e-4, atol=1e-4
    )

  def test_equals_xla_rule_without_ties(self):
    x = np.random.default_rng(2).normal(size=(2, 12, 18, 4)).astype(np.float32)

    def xla(v):
      return lax.reduce_window(
        v, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID"
      )

    ours = lambda v: ops.max_pool(v, window=3, stride=2)  # noqa: E731
    for power in (1, 3):
      np.testing.assert_allclose(
        jax.grad(lambda v, p=power: (ours(v) ** p).sum())(x),
        jax.grad(lambda v, p=power: (xla(v) ** p).sum())(x),
        rtol=1e-5,
      )

  def test_second_derivative(self):
    x = np.random.default_rng(3).normal(size=(4, 6, 2)).astype(np.float32)
    f = lambda v: (ops.max_pool(v) ** 3).sum()  # noqa: E731
    hvp = jax.jvp(jax.grad(f), (x,), (np.ones_like(x),))[1]
    y, dx = _reference(x, 2, None, 0, False, np.ones((2, 3, 2)))
    expected = 6 * np.repeat(np.repeat(y, 2, 0), 2, 1) * dx
    np.testing.assert_allclose(hvp, expected, rtol=1e-4)

  def test_vmap_equals_loop(self):
    x = np.random.default_rng(4).normal(size=(3, 5, 7, 2)).astype(np.float32)
    g = jax.grad(lambda v: ops.max_pool(v, window=3, stride=2).sum())
    np.testing.assert_array_equal(jax.vmap(g)(x), np.stack([g(v) for v in x]))

  def test_no_batch(self):
    self.assertEqual(ops.max_pool(jnp.zeros((0, 4, 6, 3))).shape, (0, 2, 3, 3))

  def test_errors_name_the_argument(self):
    with self.assertRaisesRegex(ValueError, "`features` must be"):
      ops.max_pool(jnp.zeros((4, 4)))
    with self.assertRaisesRegex(ValueError, "at least as large as the window"):
      ops.max_pool(jnp.zeros((1, 4, 3)))
    with self.assertRaisesRegex(ValueError, "`padding` must be"):
      ops.max_pool(jnp.zeros((4, 4, 3)), padding=2)
    with self.assertRaisesRegex(TypeError, "floating point"):
      ops.max_pool(jnp.zeros((4, 4, 3), jnp.int32))
