"""Batch normalisation against Flax's own, float64 and finite differences."""

import functools

import chex
import flax.linen as flax_nn
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import nn
from vision_jax.nn import normalization

SHAPES = ((3, 4, 5, 6), (8, 33, 31, 16), (16, 64, 64, 3))  # large: products


def _case(shape, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(0.3, 1.7, shape).astype(np.float32)
  params = {
    "scale": rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32),
    "bias": rng.normal(size=shape[-1]).astype(np.float32),
  }
  stats = {
    "mean": rng.normal(size=shape[-1]).astype(np.float32),
    "var": rng.uniform(0.5, 1.5, shape[-1]).astype(np.float32),
  }
  return x, {"params": params, "batch_stats": stats}, rng


class BatchNormTest(chex.TestCase):
  @parameterized.product(shape=SHAPES, train=(True, False))
  def test_values_and_gradients_are_those_of_flax(self, shape, train):
    x, variables, rng = _case(shape)
    weight = rng.normal(size=shape).astype(np.float32)
    settings = {"use_running_average": not train, "momentum": 0.7}

    def run(module):
      def loss(params, x):
        y, new = module.apply(
          {**variables, "params": params}, x, mutable=["batch_stats"]
        )
        return (y * weight).sum(), (y, new["batch_stats"])

      gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
      return jax.jit(gradient)(variables["params"], x)

    (_, (y, stats)), (dparams, dx) = run(nn.BatchNorm(**settings))
    reference = flax_nn.BatchNorm(use_fast_variance=False, **settings)
    (_, (y0, stats0)), (dparams0, dx0) = run(reference)
    np.testing.assert_allclose(y, y0, atol=2e-6, rtol=2e-6)
    np.testing.assert_allclose(dx, dx0, atol=5e-6, rtol=1e-5)
    chex.assert_trees_all_close(dict(stats), dict(stats0), rtol=1e-5, atol=1e-6)
    scale = np.sqrt(x.size / shape[-1])  # of a sum of so many random numbers
    chex.assert_trees_all_close(dparams, dparams0, rtol=1e-4, atol=1e-5 * scale)

  def test_jvp_and_second_order_in_float64(self):
    with jax.enable_x64(True):
      rng = np.random.default_rng(1)
      x, t = rng.normal(size=(2, 6, 2, 3))
      scale, bias = rng.normal(size=(2, 3))

      def f(x, scale, bias):
        y, m, v = normalization._normalize(x, scale, bias, 1e-3, None)
        return jnp.sin(y).sum() + 0.3 * (m * v).sum()

      jax.test_util.check_grads(f, (x, scale, bias), order=2, atol=1e-6)
      _, dy = jax.jvp(lambda x: f(x, scale, bias), (x,), (t,))
      step = 1e-6
      difference = f(x + step * t, scale, bias) - f(x - step * t, scale, bias)
      np.testing.assert_allclose(dy, difference / (2 * step), rtol=1e-6)

  def test_devices_together_have_the_statistics_of_the_whole_batch(self):
    x, variables, rng = _case((8, 5, 3, 4))
    weight = rng.normal(size=x.shape).astype(np.float32)

    def loss(params, x, weight, axis_name):
      norm = nn.BatchNorm(use_running_average=False, axis_name=axis_name)
      y, new = norm.apply(
        {**variables, "params": params}, x, mutable=["batch_stats"]
      )
      total = (y * weight).sum()
      if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
      return total, new["batch_stats"]

    run = jax.value_and_grad(loss, has_aux=True)
    (one, stats), dparams = run(variables["params"], x, weight, None)
    parts = (a.reshape(4, 2, *a.shape[1:]) for a in (x, weight))
    many = jax.vmap(run, (None, 0, 0, None), axis_name="batch")
    (total, stats4), dparams4 = many(variables["params"], *parts, "batch")
    np.testing.assert_allclose(total, np.full(4, one), rtol=1e-5)
    for leaf, expected in stats.items():
      for part in stats4[leaf]:
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)
    # The mean over the devices is the gradient, as `train.make_step` has it.
    chex.assert_trees_all_close(
      jax.tree.map(lambda a: a.mean(0), dparams4), dparams, rtol=1e-4, atol=1e-4
    )

  def test_large_means_are_exact(self):
    rng = np.random.default_rng(2)
    for count in (4096, 1 << 18):
      x = rng.normal(1000.0, 1.0, (count, 2)).astype(np.float32)
      _, mean, variance = jax.jit(
        normalization._normalize, static_argnums=(3, 4)
      )(x, np.ones(2, np.float32), np.zeros(2, np.float32), 1e-5, None)
      wide = np.float64(x)
      np.testing.assert_allclose(mean, wide.mean(0), rtol=1e-6)
      np.testing.assert_allclose(variance, wide.var(0), rtol=1e-3)

  def test_half_precision_keeps_statistics_in_float32(self):
    x, variables, _ = _case((4, 16, 8, 6))
    x = jnp.asarray(x, jnp.bfloat16)
    norm = nn.BatchNorm(use_running_average=False)
    y, new = norm.apply(variables, x, mutable=["batch_stats"])
    self.assertEqual(y.dtype, jnp.bfloat16)
    chex.assert_type(list(new["batch_stats"].values()), jnp.float32)
    mean = 0.9 * variables["batch_stats"]["mean"] + 0.1 * np.asarray(
      x, np.float64
    ).mean((0, 1, 2))
    np.testing.assert_allclose(new["batch_stats"]["mean"], mean, atol=1e-6)

  def test_sum_and_spread_are_transposes_on_large_maps(self):
    rng = np.random.default_rng(3)
    for shape in ((7, 31, 37, 16), (16, 64, 64, 3), (1, 1, 70001)):
      x = rng.normal(size=shape).astype(np.float32)
      v = rng.normal(size=shape[-1]).astype(np.float32)
      total = normalization._sum(x)
      expected = np.float64(x).reshape(-1, shape[-1]).sum(0)
      np.testing.assert_allclose(total, expected, atol=3e-3, rtol=1e-5)
      spread, transpose = jax.vjp(
        functools.partial(normalization._spread, x=x), v
      )
      np.testing.assert_array_equal(spread, np.broadcast_to(v, shape))
      np.testing.assert_allclose(transpose(x)[0], total, rtol=1e-4, atol=1e-3)


def test_frozen_normalisation_is_one_line():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
  stats = {
    name: rng.uniform(0.5, 1.5, 4).astype(np.float32)
    for name in ("mean", "var", "scale", "bias")
  }
  norm = nn.FrozenBatchNorm(epsilon=0.0)
  got = norm.apply({"batch_stats": stats}, x)
  expected = (x - stats["mean"]) / np.sqrt(stats["var"]) * stats["scale"]
  np.testing.assert_allclose(got, expected + stats["bias"], atol=1e-5)
