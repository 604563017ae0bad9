"""Atrous pyramids: branches against sums by hand, windows, decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax import nn, weights
from vision_jax.nn import aspp as aspp_lib


def _dilated(x, kernel, rate):
  """Sum over the taps of one image, float64."""
  h, w, _ = x.shape
  out = np.zeros((h, w, kernel.shape[-1]))
  for y in range(h):
    for c in range(w):
      for i in range(3):
        for j in range(3):
          yy, xx = y + (i - 1) * rate, c + (j - 1) * rate
          if 0 <= yy < h and 0 <= xx < w:
            out[y, c] += x[yy, xx] @ kernel[i, j]
  return out


def _norm(y, name, state):
  leaves = ("weight", "bias", "running_mean", "running_var")
  g = {k: state[f"{name}.{k}"].astype(float) for k in leaves}
  y = (y - g["running_mean"]) / np.sqrt(g["running_var"] + 1e-5)
  return np.maximum(y * g["weight"] + g["bias"], 0)


def _random(module, *inputs):
  """Random variables and their torch names."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  state = weights.random_state_dict(weights.convert.target_shapes(shapes))
  variables = weights.convert.to_variables(
    module, state, where="test", target=shapes
  )
  return variables, state


@pytest.mark.usefixtures("quick_compile")
class ASPPTest(parameterized.TestCase):
  @parameterized.parameters((True, None), (False, None), (False, (3, 5)))
  def test_equals_the_branches(self, pool_norm, window):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 7, 9, 4)).astype(np.float32)
    module = nn.ASPP(
      6, rates=(2, 7, 12), pool_norm=pool_norm, pool_window=window
    )
    variables, state = _random(module, x)
    x64, branches = x[0].astype(float), []
    for k, rate in enumerate((0, 2, 7, 12)):
      kernel = state[f"convs.{k}.0.weight"].astype(float).transpose(2, 3, 1, 0)
      y = x64 @ kernel[0, 0] if k == 0 else _dilated(x64, kernel, rate)
      branches.append(_norm(y, f"convs.{k}.1", state))
    kernel = state["convs.4.1.weight"].astype(float)[:, :, 0, 0].T
    if window is None:
      y = np.broadcast_to(x64.mean((0, 1)) @ kernel, (7, 9, 6))
      if not pool_norm:
        y = np.maximum(y + state["convs.4.1.bias"], 0)
      else:
        y = _norm(y, "convs.4.2", state)
      branches.append(y)
      kernel = state["project.0.weight"].astype(float)[:, :, 0, 0].T
      expected = _norm(
        np.concatenate(branches, -1) @ kernel, "project.1", state
      )
      got = module.apply(variables, x)[0]
      np.testing.assert_allclose(got, expected, atol=2e-5 * expected.max())
    else:
      means = np.array(
        [
          [x64[i : i + 3, j : j + 5].mean((0, 1)) for j in range(5)]
          for i in range(5)
        ]
      )
      got = aspp_lib._WindowMean(window).apply({}, x)
      np.testing.assert_allclose(got[0], means, atol=1e-6)
      self.assertEqual(module.apply(variables, x).shape, (1, 7, 9, 6))

  def test_a_window_of_the_map_is_the_mean(self):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    for window in ((5, 6), (100, 100)):
      got = aspp_lib._WindowMean(window).apply({}, x)
      np.testing.assert_allclose(got, x.mean((1, 2), keepdims=True), atol=1e-6)

  def test_training_drops_and_updates(self):
    x = jax.random.normal(jax.random.key(1), (2, 4, 5, 3))
    module = nn.ASPP(4, rates=(1,))
    variables, _ = _random(module, x)
    run = jax.jit(
      lambda key: module.apply(
        variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
      )
    )
    (a, updates), (b, _) = run(jax.random.key(0)), run(jax.random.key(1))
    self.assertGreater(float(jnp.abs(a - b).max()), 0)
    changed = jax.tree.map(
      lambda p, q: float(jnp.abs(p - q).max()),
      updates["batch_stats"],
      variables["batch_stats"],
    )
    self.assertGreater(min(jax.tree.leaves(changed)), 0)


@pytest.mark.usefixtures("quick_compile")
class HeadTest(parameterized.TestCase):
  def test_names_of_detectron2(self):
    coarse, fine = jnp.ones((1, 3, 4, 6)), jnp.ones((1, 6, 8, 5))
    head = nn.DeepLabPlusHead(3, rates=(1, 2, 3), features=8, reduced=2)
    shapes = weights.convert.target_shapes(
      jax.eval_shape(head.init, jax.random.key(0), coarse, fine)
    )
    for name, shape in (
      ("decoder.res5.project_conv.convs.4.1.bias", (8,)),
      ("decoder.res5.project_conv.project.0.weight", (8, 40, 1, 1)),
      ("decoder.res2.project_conv.0.weight", (2, 5, 1, 1)),
      ("decoder.res2.fuse_conv.0.0.weight", (8, 10, 3, 3)),
      ("decoder.res2.fuse_conv.1.1.running_var", (8,)),
      ("predictor.bias", (3,)),
    ):
      self.assertEqual(shapes[name], shape)
    self.assertNotIn("decoder.res5.project_conv.convs.4.2.weight", shapes)

  def test_window_head(self):
    x = jax.random.normal(jax.random.key(2), (1, 4, 6, 5))
    head = nn.DeepLabWindowHead(3, (1, 2), (2, 3), 4)
    variables, state = _random(head, x)
    self.assertIn("aspp.convs.0.1.weight", state)
    aspp = nn.ASPP(4, (1, 2), 0.1, (2, 3), pool_norm=False)
    inner = {k: v["aspp"] for k, v in variables.items()}
    features = aspp.apply(inner, x)
    kernel = state["predictor.weight"][:, :, 0, 0].T
    np.testing.assert_allclose(
      head.apply(variables, x),
      features @ kernel + state["predictor.bias"].reshape(1, 1, 1, -1),
      atol=1e-5,
    )


if __name__ == "__main__":
  absltest.main()
