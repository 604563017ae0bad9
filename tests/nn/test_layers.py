import math

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import layers


class ConvTest(chex.TestCase):
  @parameterized.parameters(
    (3, 1, None, 1, (6, 9)), (3, 2, None, 1, (3, 5)), (5, 2, 0, 1, (1, 3)),
    (3, 1, None, 2, (6, 9)), (1, 2, None, 1, (3, 5)),
  )  # fmt: skip
  def test_sizes_follow_torch(self, kernel, stride, padding, dilation, size):
    conv = nn.Conv(4, kernel, stride, padding, dilation)
    x = jnp.ones((2, 6, 9, 3))
    y, variables = conv.init_with_output(jax.random.key(0), x)
    self.assertEqual(y.shape, (2, *size, 4))
    self.assertEqual(set(variables["params"]), {"kernel", "bias"})

  def test_bias_and_compute_type(self):
    conv = nn.Conv(2, 1, use_bias=False, dtype=jnp.bfloat16)
    x = jnp.ones((1, 3, 4, 5))
    y, variables = conv.init_with_output(jax.random.key(0), x)
    self.assertEqual(y.dtype, jnp.bfloat16)
    self.assertEqual(variables["params"]["kernel"].dtype, jnp.float32)
    self.assertEqual(set(variables["params"]), {"kernel"})


class BatchNormTest(chex.TestCase):
  def test_variance_is_exact_for_large_means(self):
    x = 1000 + np.random.default_rng(0).normal(size=(8, 5, 6, 3))
    norm = nn.BatchNorm(use_running_average=False, momentum=0.0)
    x32 = jnp.asarray(x, jnp.float32)
    _, variables = norm.init_with_output(jax.random.key(0), x32)
    _, updates = norm.apply(variables, x32, mutable=["batch_stats"])
    np.testing.assert_allclose(
      updates["batch_stats"]["var"],
      np.asarray(x32, np.float64).var((0, 1, 2)),
      rtol=1e-3,
    )


class PoolTest(chex.TestCase):
  @parameterized.parameters((7, 9, (3, 4)), (14, 11, (7, 7)), (5, 6, (1, 1)))
  def test_adaptive_average_matches_its_definition(self, height, width, size):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3))
    expected = np.zeros((2, *size, 3))
    for i in range(size[0]):
      for j in range(size[1]):
        rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
        cols = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
        expected[:, i, j] = x[:, rows, cols].mean((1, 2))
    got = nn.AdaptiveAvgPool(size).apply({}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, expected, atol=1e-5)

  def test_average_counts_its_padding(self):
    got = nn.AvgPool(3, 2, 1).apply({}, jnp.ones((1, 4, 5, 1)))
    np.testing.assert_allclose(got[0, 0, 0, 0], 4 / 9, rtol=1e-6)

  @parameterized.parameters((7, 10, 3, 2), (8, 9, 3, 2), (9, 11, 4, 3))
  def test_same_padding_is_that_of_keras(self, height, width, window, stride):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3))
    x = np.float32(x - 10)  # zeros in the padding would win
    size = -(-height // stride), -(-width // stride)
    expected = np.zeros((2, *size, 3), np.float32)
    for i in range(size[0]):
      for j in range(size[1]):
        # Keras' rule: total padding, the smaller half above and to the left.
        starts = [
          k * stride - max((n - 1) * stride + window - side, 0) // 2
          for k, n, side in ((i, size[0], height), (j, size[1], width))
        ]
        rows, cols = (slice(max(s, 0), s + window) for s in starts)
        expected[:, i, j] = x[:, rows, cols].max((1, 2))
    got = nn.MaxPool(window, stride, "SAME").apply({}, x)
    np.testing.assert_array_equal(got, expected)

  def test_unknown_padding(self):
    for pool in (nn.MaxPool(3, 2, "VALID"), nn.MaxPool(2, 3, "SAME")):
      with self.assertRaisesRegex(ValueError, "`padding` must be a number"):
        pool.apply({}, jnp.ones((1, 6, 7, 1)))


class ActivationTest(chex.TestCase):
  @parameterized.parameters(
    # Value and derivative; at a kink torch's derivative is that of the left.
    (nn.Relu(), lambda x: max(x, 0), lambda x: x > 0),
    (nn.Relu6(), lambda x: min(max(x, 0), 6), lambda x: 0 < x < 6),
    (nn.LeakyRelu(0.1), lambda x: x if x > 0 else x / 10,
     lambda x: 1 if x > 0 else 0.1),
    (nn.HardSigmoid(), lambda x: min(max(x + 3, 0), 6) / 6,
     lambda x: (-3 < x < 3) / 6),
    (nn.HardSwish(), lambda x: x * min(max(x + 3, 0), 6) / 6,
     lambda x: 0 if x <= -3 else 1 if x >= 3 else x / 3 + 0.5),
    (nn.Sigmoid(), lambda x: 1 / (1 + math.exp(-x)),
     lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2),
  )  # fmt: skip
  def test_values_and_derivatives(self, module, value, derivative):
    points = [-7.0, -3.5, -1.25, -0.5, 0.0, 0.5, 1.0, 2.5, 5.5, 6.0, 7.5]
    x = jnp.asarray(points, jnp.float32)
    got, slope = jax.jvp(
      lambda v: module.apply({}, v), (x,), (jnp.ones_like(x),)
    )
    np.testing.assert_allclose(got, [value(v) for v in points], atol=1e-6)
    np.testing.assert_allclose(
      slope, [float(derivative(v)) for v in points], atol=1e-6
    )
    lost = module.apply({}, jnp.asarray([jnp.nan], jnp.bfloat16))
    self.assertTrue(bool(jnp.isnan(lost[0])))
    self.assertEqual(lost.dtype, jnp.bfloat16)

  def test_squeeze_and_excitation(self):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
    module = nn.SqueezeExcitation(3, nn.HardSigmoid)
    got, variables = module.init_with_output(jax.random.key(0), x)
    params = variables["params"]
    hidden = x.mean((1, 2)) @ params["fc1"]["kernel"][0, 0]
    hidden = np.maximum(hidden + params["fc1"]["bias"][None], 0)
    gates = hidden @ params["fc2"]["kernel"][0, 0] + params["fc2"]["bias"][None]
    gates = np.clip(gates / 6 + 0.5, 0, 1)
    self.assertGreater(float(np.ptp(gates)), 1e-2)
    np.testing.assert_allclose(got, x * gates[:, None, None], atol=1e-5)


class InterceptionTest(chex.TestCase):
  def test_every_kind_of_layer_is_a_call_that_can_be_replaced(self):
    seen = set()

    def note(next_fun, args, kwargs, context):
      if context.method_name == "__call__":
        seen.add(type(context.module).__name__)
      return next_fun(*args, **kwargs)

    net = nn.backbones.resnet50(num_classes=10)
    with flax.linen.intercept_methods(note):
      jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    self.assertContainsSubset(
      {"Conv", "BatchNorm", "Relu", "MaxPool", "Add", "Dense",
       "AdaptiveAvgPool"},
      seen,
    )  # fmt: skip

  def test_relu_can_be_replaced_without_touching_the_network(self):
    net = nn.backbones.vgg_small()
    x = jax.random.normal(jax.random.key(0), (1, 32, 48, 3))
    variables = weights.random_variables(net)

    def linear(next_fun, args, kwargs, context):
      if isinstance(context.module, layers.Relu):
        return args[0]
      return next_fun(*args, **kwargs)

    def run():  # a function of its own for each call: nothing is reused
      return jax.jit(lambda v: net.apply(v, x)[1]["relu1_1"])(variables)

    plain = run()
    with flax.linen.intercept_methods(linear):
      replaced = run()
    np.testing.assert_allclose(plain, np.maximum(replaced, 0), atol=1e-6)
    self.assertLess(float(replaced.min()), 0)

  def test_concat_joins_channels(self):
    parts = [jnp.ones((1, 2, 3, c)) for c in (1, 4)]
    self.assertEqual(nn.Concat().apply({}, parts).shape, (1, 2, 3, 5))


class ConvTransposeTest(chex.TestCase):
  @parameterized.parameters((2, 2, 0), (4, 2, 1), (3, 1, 1), (3, 2, 0))
  def test_matches_its_definition(self, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 5, 4))
    kernel = rng.normal(size=(size, size, 6, 4))
    full = np.zeros((2, 2 * stride + size, 4 * stride + size, 6))
    for i in range(3):
      for j in range(5):
        rows = slice(i * stride, i * stride + size)
        cols = slice(j * stride, j * stride + size)
        full[:, rows, cols] += np.einsum("bc,ijfc->bijf", x[:, i, j], kernel)
    high, wide = full.shape[1:3]
    expected = full[:, padding : high - padding, padding : wide - padding] + 0.5
    layer = nn.ConvTranspose(6, size, stride, padding)
    params = {"kernel": kernel, "bias": np.full(6, 0.5)}
    params = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), params)
    got = layer.apply({"params": params}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
