"""FCN, LR-ASPP and Semantic FPN heads: by hand, names, sizes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax import nn, weights


def _random(module, *inputs):
  shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  state = weights.random_state_dict(weights.convert.target_shapes(shapes))
  variables = weights.convert.to_variables(
    module, state, where="test", target=shapes
  )
  return variables, state


@pytest.mark.usefixtures("quick_compile")
class HeadsTest(parameterized.TestCase):
  def test_lite_reduced_aspp(self):
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, 1, 1, 6)).astype(np.float32)
    fine = rng.normal(size=(1, 3, 4, 5)).astype(np.float32)
    head = nn.LRASPPHead(2, features=4)
    variables, s = _random(head, coarse, fine)
    c = coarse[0, 0, 0].astype(float)
    x = s["cbr.0.weight"][:, :, 0, 0] @ c
    x = (x - s["cbr.1.running_mean"]) / np.sqrt(s["cbr.1.running_var"] + 1e-5)
    x = np.maximum(x * s["cbr.1.weight"] + s["cbr.1.bias"], 0)
    x = x / (1 + np.exp(-s["scale.1.weight"][:, :, 0, 0] @ c))
    high = s["high_classifier.weight"][:, :, 0, 0] @ x
    low = fine[0] @ s["low_classifier.weight"][:, :, 0, 0].T
    expected = low + high + s["high_classifier.bias"] + s["low_classifier.bias"]
    got = head.apply(variables, coarse, fine)[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)

  def test_fcn(self):
    x = jnp.ones((1, 4, 5, 8))
    head = nn.FCNHead(3)
    variables, state = _random(head, x)
    self.assertEqual(state["0.weight"].shape, (2, 8, 3, 3))
    self.assertEqual(state["4.weight"].shape, (3, 2, 1, 1))
    self.assertEqual(head.apply(variables, x).shape, (1, 4, 5, 3))

  @parameterized.parameters(
    ((4, 8, 16, 32), 4, (16, 24)), ((8, 16, 32), 8, (8, 12))
  )
  def test_semantic_fpn(self, strides, common, size):
    maps = [jnp.ones((1, 64 // s, 96 // s, 6)) for s in strides]
    head = nn.SemanticFPNHead(5, strides, common, features=8, num_groups=2)
    variables, state = _random(head, maps)
    self.assertEqual(head.apply(variables, maps).shape, (1, *size, 5))
    convs = [k[:2] for k in state if k.endswith(".0.weight")]
    counts = {level: convs.count(f"p{level}") for level in (2, 3, 4, 5)}
    expected = {2: 1, 3: 1, 4: 2, 5: 3}
    if common == 8:
      expected = {2: 0, 3: 1, 4: 1, 5: 2}
    self.assertEqual(counts, expected)
    if common == 4:
      self.assertIn("p5.4.1.bias", state)
      self.assertNotIn("p5.1.1.bias", state)

  def test_semantic_fpn_of_one_level(self):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
    head = nn.SemanticFPNHead(2, (4,), 4, features=4, num_groups=2)
    variables, s = _random(head, [x])
    padded = np.pad(x[0].astype(float), ((1, 1), (1, 1), (0, 0)))
    y = sum(
      padded[i : i + 3, j : j + 4] @ s["p2.0.0.weight"][:, :, i, j].T
      for i in range(3)
      for j in range(3)
    )
    groups = y.reshape(3, 4, 2, 2)
    centred = groups - groups.mean((0, 1, 3), keepdims=True)
    y = centred / np.sqrt((centred**2).mean((0, 1, 3), keepdims=True) + 1e-5)
    y = np.maximum(
      y.reshape(3, 4, 4) * s["p2.0.1.weight"] + s["p2.0.1.bias"], 0
    )
    expected = y @ s["predictor.weight"][:, :, 0, 0].T + s["predictor.bias"]
    np.testing.assert_allclose(
      head.apply(variables, [x])[0], expected, atol=1e-5
    )

  def test_error(self):
    head = nn.SemanticFPNHead(2)
    with self.assertRaisesRegex(ValueError, "`maps` must be one for each"):
      head.init(jax.random.key(0), [jnp.ones((1, 4, 4, 3))])


if __name__ == "__main__":
  absltest.main()
