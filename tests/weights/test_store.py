"""Tests of our own files of weights."""

import json
import os
import pathlib
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.weights import store

METADATA = weights.WeightsMetadata(
  model="vgg11",
  arguments={"num_classes": 3, "hidden": 5},
  source="https://example.org/ünïcode",
  class_names=("cat", "dog", "naïve"),
  preprocessing=weights.Preprocess(
    mean=(0.1, 0.2, 0.3), scale=255.0, channel_order="BGR", crop=None
  ),
  licence="Apache-2.0",
  card="Two\nlines.",
)


class _Base(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.path = pathlib.Path(folder.name) / "sub" / "net.safetensors"


def _variables():
  rng = np.random.default_rng(0)
  return {
    "params": {
      "conv": {"kernel": rng.random((3, 2, 4, 5)).astype(np.float32)},
      "norm": {"scale": np.full(5, 1e-3, np.float32)},
    },
    "batch_stats": {
      "norm": {
        "mean": np.full(5, 1e-7, np.float32),
        "var": np.full(5, 1e5, np.float32),
      }
    },
  }


class SaveLoadTest(_Base):
  def test_round_trip_with_a_flattened_layer(self):
    module = backbones.vgg11(**METADATA.arguments)
    variables = weights.random_variables(module)
    weights.save_weights(self.path, variables, metadata=METADATA)
    got, metadata = weights.load_weights(self.path)
    self.assertEqual(metadata, METADATA)
    self.assertEqual(jax.tree.structure(got), jax.tree.structure(variables))
    jax.tree.map(np.testing.assert_array_equal, got, variables)
    # The same reader, and torchvision's names and layout.
    state = weights.read_state_dict(self.path)
    expected = weights.variables_to_state_dict(module, variables)
    self.assertEqual(set(state), set(expected))
    for name in state:
      np.testing.assert_array_equal(state[name], expected[name])
    again, same = weights.from_torchvision("vgg11", self.path, hidden=5)
    self.assertEqual(again, module)
    jax.tree.map(np.testing.assert_array_equal, same, variables)

  def test_half_precision_keeps_vectors(self):
    variables = _variables()
    metadata = weights.WeightsMetadata("other")
    weights.save_weights(
      self.path, variables, metadata=metadata, dtype=np.float16
    )
    state = weights.read_state_dict(self.path)
    self.assertEqual(state["conv.weight"].dtype, np.float16)
    self.assertEqual(state["norm.running_var"].dtype, np.float32)
    got, _ = weights.load_weights(self.path)
    self.assertTrue(all(a.dtype == jnp.float32 for a in jax.tree.leaves(got)))
    np.testing.assert_allclose(
      got["params"]["conv"]["kernel"],
      variables["params"]["conv"]["kernel"],
      rtol=2**-11,
    )
    jax.tree.map(
      np.testing.assert_array_equal,
      got["batch_stats"],
      variables["batch_stats"],
    )

  @parameterized.parameters(
    (np.nan, np.float32), (np.inf, np.float32), (1e5, np.float16)
  )
  def test_values_that_would_not_survive(self, value, dtype):
    variables = _variables()
    variables["params"]["conv"]["kernel"][0, 0, 0, 0] = value
    with self.assertRaisesRegex(weights.WeightsError, "'conv.weight' holds"):
      weights.save_weights(
        self.path,
        variables,
        metadata=METADATA._replace(model="m"),
        dtype=dtype,
      )
    self.assertFalse(self.path.exists())

  def test_wrong_arguments(self):
    metadata = weights.WeightsMetadata("m")
    with self.assertRaisesRegex(TypeError, "float32 or float16"):
      weights.save_weights(
        self.path, _variables(), metadata=metadata, dtype=np.int8
      )
    with self.assertRaisesRegex(weights.WeightsError, "'cache'"):
      weights.save_weights(
        self.path, {"cache": {}, "params": {}}, metadata=metadata
      )
    with self.assertRaises(weights.WeightsMismatchError):
      weights.save_weights(self.path, _variables(), metadata=METADATA)
    self.path.parent.write_text("a file, not a folder")
    with self.assertRaisesRegex(weights.WeightsError, "cannot be written"):
      weights.save_weights(self.path, _variables(), metadata=metadata)

  def test_a_crash_while_writing_leaves_the_old_file(self):
    metadata = weights.WeightsMetadata("m")
    weights.save_weights(self.path, _variables(), metadata=metadata)
    before = self.path.read_bytes()
    with mock.patch.object(
      safetensors.numpy, "save_file", side_effect=OSError("disk is full")
    ):
      with self.assertRaisesRegex(weights.WeightsError, "disk is full"):
        weights.save_weights(
          self.path, _variables(), metadata=metadata._replace(card="new")
        )
    with mock.patch.object(store.os, "replace", side_effect=KeyboardInterrupt):
      with self.assertRaises(KeyboardInterrupt):
        weights.save_weights(
          self.path, _variables(), metadata=metadata._replace(card="new")
        )
    self.assertEqual(self.path.read_bytes(), before)
    self.assertEqual(os.listdir(self.path.parent), [self.path.name])


class MetadataTest(_Base):
  def write(self, **changes):
    texts = store.to_texts(METADATA) | changes
    texts = {k: v for k, v in texts.items() if v is not None}
    self.path.parent.mkdir(exist_ok=True)
    safetensors.numpy.save_file(
      {"fc.weight": np.zeros((2, 3), np.float32)}, self.path, metadata=texts
    )

  def test_values_are_flat_texts(self):
    texts = store.to_texts(METADATA)
    self.assertTrue(all(isinstance(v, str) for v in texts.values()))
    self.assertEqual(json.loads(texts["arguments"])["hidden"], 5)
    self.assertEqual(store.from_texts(texts, "x"), METADATA)

  @parameterized.parameters(
    ({"model": None}, "no metadata of vision_jax"),
    ({"format_version": None}, "no metadata of vision_jax"),
    ({"format_version": "99"}, "format version '99'"),
    ({"preprocessing": "{"}, "damaged"),
    ({"preprocessing": '{"mean": [1], "std": [1], "x": 1}'}, "damaged"),
    ({"arguments": "[1]"}, "damaged"),
    ({"class_names": None}, "damaged"),
  )
  def test_damaged_metadata(self, changes, message):
    self.write(**changes)
    with self.assertRaisesRegex(weights.WeightsError, message) as context:
      weights.load_weights(self.path)
    self.assertIn(str(self.path), str(context.exception))

  @parameterized.parameters(
    ({"model": "vgg99"}, "unknown model 'vgg99'"),
    ({"arguments": '{"depth": 3}'}, "arguments of vgg11 are wrong"),
    ({}, "missing"),
  )
  def test_models_that_cannot_be_built(self, changes, message):
    self.write(**changes)
    with self.assertRaisesRegex(weights.WeightsError, message):
      weights.load_model(self.path)


if __name__ == "__main__":
  absltest.main()
