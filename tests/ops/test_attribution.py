import chex
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import nn, ops


def _small_net(image, dtype=np.float32):
  """Two convolutions, ReLU and a pool, with fixed weights."""
  rng = np.random.default_rng(0)
  w0 = rng.normal(size=(3, 3, 3, 5)).astype(dtype)
  w1 = rng.normal(size=(3, 3, 5, 4)).astype(dtype)
  x = jax.nn.relu(nn.conv2d(image[None], jnp.asarray(w0), padding=1) - 0.1)
  first = ops.max_pool(x)
  return {"a": first[0], "b": jax.nn.relu(nn.conv2d(first, jnp.asarray(w1)))[0]}


class SaliencyTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_equals_gradient_of_half_the_squared_norm(self):
    image = np.random.default_rng(1).normal(size=(16, 20, 3))
    image = image.astype(np.float32)
    got = self.variant(lambda i: ops.saliency(_small_net, i))(image)
    for name in ("a", "b"):
      half = lambda i, n=name: 0.5 * (_small_net(i)[n] ** 2).sum()  # noqa: E731
      expected = np.abs(jax.grad(half)(image))
      self.assertGreater(expected.max(), 1.0)
      np.testing.assert_allclose(
        got[name], expected, atol=1e-5 * expected.max()
      )

  def test_equals_the_explicit_jacobian(self):
    with jax.enable_x64(True):
      image = np.random.default_rng(2).normal(size=(8, 8, 3))
      f = lambda i: _small_net(i, np.float64)["b"]  # noqa: E731
      jacobian = jax.jit(jax.jacfwd(f))(jnp.asarray(image))
      expected = np.abs(np.einsum("hwc,hwcijk->ijk", f(image), jacobian))
      got = jax.jit(lambda i: ops.saliency(f, i))(jnp.asarray(image))
      np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)

  def test_linear_layer_is_one_five_by_five_filter(self):
    rng = np.random.default_rng(3)
    w = rng.normal(size=(3, 3, 1, 6)).astype(np.float32)
    b = rng.normal(size=6).astype(np.float32)
    image = rng.normal(size=(14, 17, 1)).astype(np.float32)
    got = ops.saliency(
      lambda i: nn.conv2d(i[None], jnp.asarray(w), padding=1)[0]
      + b[None, None],
      image,
    )
    # S = |W^T W I + W^T b|: the sum of w_c star w_c, and a constant.
    k = np.zeros((5, 5))
    for c in range(6):
      for p in np.ndindex(3, 3):
        for q in np.ndindex(3, 3):
          k[q[0] - p[0] + 2, q[1] - p[1] + 2] += w[(*p, 0, c)] * w[(*q, 0, c)]
    const = (b * w.sum((0, 1, 2))).sum()
    expected = np.zeros((10, 13))
    for y in range(10):
      for x in range(13):
        expected[y, x] = abs((k * image[y : y + 5, x : x + 5, 0]).sum() + const)
    np.testing.assert_allclose(got[2:-2, 2:-2, 0], expected, rtol=1e-4)

  def test_vmap_equals_loop_and_batch(self):
    images = np.random.default_rng(4).normal(size=(3, 12, 14, 3))
    images = images.astype(np.float32)
    f = jax.jit(lambda i: ops.saliency(lambda v: _small_net(v)["b"], i))
    expected = np.stack([f(i) for i in images])
    np.testing.assert_allclose(
      jax.vmap(f)(images), expected, atol=1e-6 * expected.max()
    )

  def test_is_differentiable(self):
    image = np.random.default_rng(5).normal(size=(6, 6, 3)).astype(np.float32)
    loss = lambda i: ops.saliency(  # noqa: E731
      lambda v: _small_net(v)["a"], i
    ).sum()
    g = jax.jit(jax.grad(loss))(image)
    direction = np.random.default_rng(6).normal(size=image.shape)
    with jax.enable_x64(True):
      f = lambda i: ops.saliency(  # noqa: E731
        lambda v: _small_net(v, np.float64)["a"], i
      ).sum()
      up, down = (
        f(jnp.asarray(image + s * 1e-6 * direction)) for s in (1.0, -1.0)
      )
      expected = (up - down) / 2e-6
    np.testing.assert_allclose((g * direction).sum(), expected, rtol=1e-3)

  def test_integer_images_are_refused(self):
    with self.assertRaisesRegex(TypeError, "`image` must be floating point"):
      ops.saliency(lambda i: i, jnp.zeros((4, 4, 3), jnp.uint8))
