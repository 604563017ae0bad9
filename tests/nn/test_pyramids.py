"""The pyramid against its definition in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import nn


def _conv(x, kernel, bias):
  size = kernel.shape[0]
  pad = size // 2
  x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
  high, wide = x.shape[0] - 2 * pad, x.shape[1] - 2 * pad
  y = np.zeros((high, wide, kernel.shape[-1]))
  for i in range(size):
    for j in range(size):
      y += x[i : i + high, j : j + wide] @ kernel[i, j]
  return y + bias


def test_pyramid_matches_its_definition():
  rng = np.random.default_rng(0)
  maps = [rng.normal(size=(1, 6, 10, 3)), rng.normal(size=(1, 3, 5, 4))]
  maps32 = [jnp.asarray(m, jnp.float32) for m in maps]
  module = nn.FeaturePyramid(8)
  variables = module.init(jax.random.key(0), maps32)
  variables = jax.tree.map(
    lambda v: jnp.asarray(rng.normal(size=v.shape), jnp.float32), variables
  )
  got = module.apply(variables, maps32)
  params = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
  blocks = params["params"]

  def run(kind, k, x):
    block = blocks[f"{kind}_blocks"][str(k)]["0"]
    return _conv(x, block["kernel"], block["bias"])

  top = run("inner", 1, maps[1][0])
  low = run("inner", 0, maps[0][0]) + top.repeat(2, 0).repeat(2, 1)
  expected = [run("layer", 0, low), run("layer", 1, top)]
  expected.append(expected[1][::2, ::2])
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-3)


def test_normalised_blocks_have_no_bias():
  maps = [jnp.ones((1, 4, 4, 3)), jnp.ones((1, 2, 2, 4))]
  tree = jax.eval_shape(
    lambda: nn.FeaturePyramid(8, use_norm=True).init(jax.random.key(0), maps)
  )
  block = tree["params"]["inner_blocks"]["0"]
  assert set(block) == {"0", "1"}
  assert set(block["0"]) == {"kernel"}
