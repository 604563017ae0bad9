"""Tests of the conversion by name; the reference layout is written out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.weights import convert


class _Net(nn.Module):
  """Groups, oblong kernels, a flattened map and an unknown leaf."""

  num_classes: int = 5

  def flatten_shapes(self):
    return {"head.fc1": (2, 3, 6)}

  @nn.compact
  def __call__(self, images, *, train=False):
    x = nn.Conv(6, (3, 2), name="stem")(images)
    x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
    x = x + self.param("offset", nn.initializers.zeros, (1, 1, 1, 6))
    x = jax.image.resize(x, (x.shape[0], 2, 3, 6), "nearest")
    x = x.reshape(x.shape[0], -1)
    x = _Head(self.num_classes, name="head")(x)
    return x, {}


class _Head(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(7, name="fc1")(x)
    return nn.Dense(self.num_classes, name="fc2")(x)


def _state(seed=0):
  shapes = weights.torch_shapes(_Net())
  rng = np.random.default_rng(seed)
  return {
    name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
    for name, shape in shapes.items()
  }


class LayoutTest(absltest.TestCase):
  def test_names_and_shapes(self):
    self.assertEqual(
      weights.torch_shapes(_Net()),
      {
        "norm.running_mean": (6,),
        "norm.running_var": (6,),
        "norm.weight": (6,),
        "norm.bias": (6,),
        "stem.weight": (6, 3, 3, 2),
        "stem.bias": (6,),
        "offset": (1, 1, 1, 6),
        "head.fc1.weight": (7, 36),
        "head.fc1.bias": (7,),
        "head.fc2.weight": (5, 7),
        "head.fc2.bias": (5,),
      },
    )

  def test_every_element_arrives(self):
    state = _state()
    got = weights.state_dict_to_variables(_Net(), state)
    params, stats = got["params"], got["batch_stats"]
    for out in range(6):
      for channel in range(3):
        np.testing.assert_array_equal(
          params["stem"]["kernel"][:, :, channel, out],
          state["stem.weight"][out, channel],
        )
    kernel = np.asarray(params["head"]["fc1"]["kernel"])
    for h in range(2):
      for w in range(3):
        for c in range(6):
          np.testing.assert_array_equal(
            kernel[(h * 3 + w) * 6 + c],
            state["head.fc1.weight"][:, (c * 2 + h) * 3 + w],
          )
    np.testing.assert_array_equal(
      params["head"]["fc2"]["kernel"], state["head.fc2.weight"].T
    )
    np.testing.assert_array_equal(params["norm"]["scale"], state["norm.weight"])
    for leaf in ("mean", "var"):
      np.testing.assert_array_equal(
        stats["norm"][leaf], state[f"norm.running_{leaf}"]
      )
    np.testing.assert_array_equal(params["offset"], state["offset"])

  def test_trees_are_those_of_init(self):
    got = weights.state_dict_to_variables(_Net(), _state())
    images = jnp.zeros((1, 9, 8, 3))
    expected = jax.eval_shape(_Net().init, jax.random.key(0), images)
    self.assertEqual(jax.tree.structure(got), jax.tree.structure(expected))
    jax.tree.map(
      lambda a, b: self.assertEqual((a.shape, a.dtype), (b.shape, b.dtype)),
      got,
      expected,
    )

  def test_there_and_back(self):
    state = _state()
    variables = weights.state_dict_to_variables(_Net(), state)
    back = weights.variables_to_state_dict(_Net(), variables)
    self.assertEqual(set(back), set(state))
    for name in state:
      np.testing.assert_array_equal(back[name], state[name])
      self.assertTrue(back[name].flags.c_contiguous, name)

  def test_tree_from_the_names_alone(self):
    state = _state()
    got = convert.to_tree(state, _Net().flatten_shapes())
    expected = weights.state_dict_to_variables(_Net(), state)
    self.assertEqual(jax.tree.structure(got), jax.tree.structure(expected))
    jax.tree.map(np.testing.assert_array_equal, got, expected)

  def test_grouped_one_and_three_dimensional_kernels(self):
    for shape, torch_shape in (
      ((2, 3, 1, 4), (4, 1, 2, 3)),
      ((5, 3, 4), (4, 3, 5)),
      ((2, 3, 4, 5, 6), (6, 5, 2, 3, 4)),
    ):
      array = np.arange(np.prod(shape)).reshape(torch_shape)
      got = convert.to_tree({"a.weight": array}, {})["params"]["a"]["kernel"]
      self.assertEqual(got.shape, shape)
      np.testing.assert_array_equal(got[..., 0, 1], array[1, 0])

  def test_types(self):
    state = _state()
    state = {k: v.astype(ml_dtypes.bfloat16) for k, v in state.items()}
    got = weights.state_dict_to_variables(_Net(), state)
    self.assertEqual(got["params"]["stem"]["kernel"].dtype, jnp.float32)
    np.testing.assert_array_equal(got["params"]["offset"], state["offset"])
    got = weights.state_dict_to_variables(_Net(), state, dtype=jnp.bfloat16)
    self.assertEqual(got["params"]["stem"]["kernel"].dtype, jnp.bfloat16)
    self.assertEqual(got["batch_stats"]["norm"]["var"].dtype, jnp.float32)


class FitTest(parameterized.TestCase):
  def test_counters_are_ignored_and_old_names_understood(self):
    state = _state()
    state["norm.num_batches_tracked"] = np.asarray(9)
    weights.state_dict_to_variables(_Net(), state)
    module = backbones.vgg11(num_classes=None)
    state = weights.random_state_dict(weights.torch_shapes(module))
    old = {
      name.replace("features.", "features.module."): array
      for name, array in state.items()
    }
    new = weights.state_dict_to_variables(module, state)
    jax.tree.map(
      np.testing.assert_array_equal,
      new,
      weights.state_dict_to_variables(module, old),
    )

  def test_missing_left_over_and_shapes_are_all_listed(self):
    state = _state()
    state["head.fc2.weights"] = state.pop("head.fc2.weight")
    state["head.fc1.bias"] = np.zeros(9, np.float32)
    with self.assertRaises(weights.WeightsMismatchError) as context:
      weights.state_dict_to_variables(_Net(), state)
    error = context.exception
    self.assertEqual(error.missing, ("head.fc2.weight",))
    self.assertEqual(error.unused, ("head.fc2.weights",))
    self.assertEqual(dict(error.shapes), {"head.fc1.bias": ((9,), (7,))})
    self.assertIn("nearest 'head.fc2.weights'", str(error))
    self.assertIn("got [9], expected [7]", str(error))

  @parameterized.parameters(np.nan, np.inf, -np.inf)
  def test_values_that_are_not_finite(self, value):
    state = _state()
    state["stem.weight"][3, 1, 2, 0] = value
    message = "'stem.weight' holds 1 values that are NaN or infinite, of 108"
    with self.assertRaisesRegex(weights.WeightsError, message):
      weights.state_dict_to_variables(_Net(), state)

  def test_values_that_are_not_real(self):
    state = _state()
    state["norm.bias"] = state["norm.bias"].astype(np.complex64)
    with self.assertRaisesRegex(weights.WeightsError, "real numbers"):
      weights.state_dict_to_variables(_Net(), state)


class FlattenTest(parameterized.TestCase):
  @parameterized.parameters(
    ("vgg11", "classifier.0"), ("alexnet", "classifier.1")
  )
  def test_backbones_name_their_flattened_layers(self, name, layer):
    module = backbones.MODELS[name](num_classes=3)
    shape = module.flatten_shapes()[layer]
    self.assertEqual(
      weights.torch_shapes(module)[f"{layer}.weight"],
      (4096, int(np.prod(shape))),
    )


if __name__ == "__main__":
  absltest.main()
