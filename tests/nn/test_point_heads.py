"""Heads of PointRend: by hand, one class alone, counts of the papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax import nn, weights


def _count(module, *inputs):
  shapes = jax.eval_shape(
    module.init,
    jax.random.key(0),
    *[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs],
  )
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.usefixtures("quick_compile")
class PointHeadTest(parameterized.TestCase):
  @parameterized.parameters(True, False)
  def test_equals_the_layers(self, each):
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(2, 5, 6)).astype(np.float32)
    coarse = rng.normal(size=(2, 5, 3)).astype(np.float32)
    head = nn.PointHead(4, width=7, coarse_each_layer=each)
    variables = head.init(jax.random.key(0), fine, coarse)
    params = jax.tree.map(
      lambda p: rng.normal(size=p.shape).astype(np.float32),
      variables["params"],
    )
    x = np.concatenate([fine, coarse], -1).astype(float)
    for k in (1, 2, 3):
      x = x @ params[f"fc{k}"]["kernel"] + params[f"fc{k}"]["bias"]
      x = np.maximum(x, 0)
      if each:
        x = np.concatenate([x, coarse], -1)
    expected = x @ params["predictor"]["kernel"] + params["predictor"]["bias"]
    got = head.apply({"params": params}, fine, coarse)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
    labels = jnp.array([3, 1])
    alone = head.apply({"params": params}, fine, coarse, labels)
    for r in range(2):
      np.testing.assert_allclose(
        alone[r, :, 0], got[r, :, labels[r]], rtol=1e-5, atol=1e-4
      )

  def test_counts_of_the_released_heads(self):
    instance = nn.PointHead(80)
    self.assertEqual(_count(instance, (1, 9, 256), (1, 9, 80)), 285_776)
    semantic = nn.PointHead(19, coarse_each_layer=False)
    self.assertEqual(_count(semantic, (1, 9, 256), (1, 9, 19)), 207_123)

  def test_start(self):
    fine, coarse = jnp.ones((1, 9, 256)), jnp.ones((1, 9, 80))
    params = nn.PointHead(80).init(jax.random.key(0), fine, coarse)["params"]
    self.assertAlmostEqual(
      float(params["fc1"]["kernel"].std()), math.sqrt(2 / 256), delta=2e-3
    )
    self.assertAlmostEqual(
      float(params["predictor"]["kernel"].std()), 1e-3, delta=1e-4
    )


@pytest.mark.usefixtures("quick_compile")
class MaskHeadTest(parameterized.TestCase):
  def test_coarse_head_and_its_torch_layout(self):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 14, 14, 5)).astype(np.float32)
    head = nn.CoarseMaskHead(3, width=4, hidden=6)
    shapes = jax.eval_shape(head.init, jax.random.key(0), x)
    s = weights.random_state_dict(weights.convert.target_shapes(shapes))
    variables = weights.convert.to_variables(
      head, s, where="test", target=shapes
    )
    got = head.apply(variables, x)
    y = np.maximum(
      x @ s["reduce_channel_dim_conv.weight"][:, :, 0, 0].T
      + s["reduce_channel_dim_conv.bias"],
      0,
    )
    y = y.reshape(2, 7, 2, 7, 2, 4)
    y = np.einsum("rhiwjc,ocij->rohw", y, s["reduce_spatial_dim_conv.weight"])
    y = np.maximum(y + s["reduce_spatial_dim_conv.bias"][:, None, None], 0)
    y = y.reshape(2, -1)  # torch: channels, rows, columns
    for k in (1, 2):
      y = np.maximum(y @ s[f"fc{k}.weight"].T + s[f"fc{k}.bias"], 0)
    y = y @ s["prediction.weight"].T + s["prediction.bias"]
    expected = y.reshape(2, 3, 7, 7).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, expected, atol=1e-4)

  def test_counts(self):
    self.assertEqual(_count(nn.ConvMaskHead(80), (1, 14, 14, 256)), 2_643_280)
    coarse = _count(nn.CoarseMaskHead(80), (1, 14, 14, 256))
    self.assertAlmostEqual(coarse / 1e6, 18.2, delta=0.05)


if __name__ == "__main__":
  absltest.main()
