"""Tests of vision_jax.train.placement in one process.

What it does for several is seen in test_distributed.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax.train import placement


class PlacementTest(chex.TestCase):
  def test_signature_names_every_leaf(self):
    tree = {"w": jnp.zeros((2, 3), jnp.bfloat16), "n": [1, np.ones(4)]}
    tree["key"] = jax.random.key(0)
    self.assertEqual(
      placement.signature(tree),
      {
        "['w']": ["bfloat16", [2, 3]],
        "['n'][0]": ["int64", []],
        "['n'][1]": ["float64", [4]],
        "['key']": ["key<fry>", []],
      },
    )

  def test_differences(self):
    find = placement.find_differences
    saved = {"a": ["float32", [2]], "b": ["int32", []]}
    self.assertIsNone(find(saved, dict(saved)))
    text = find(saved, {"a": ["float32", [3]], "c": ["int32", []]})
    self.assertIn("(3 differences)", text)
    self.assertIn("a is ['float32', [2]] in the checkpoint", text)
    self.assertIn("['float32', [3]] wanted", text)
    self.assertIn("b is in the checkpoint only", text)
    self.assertIn("c is not in the checkpoint", text)
    # Parameters come first, and not all of many.
    many = {f".opt_state[{i}]": 0 for i in range(9)} | {".params": 0}
    text = find(many, {})
    self.assertIn("(10 differences): .params is", text)
    self.assertEqual(text.count(";"), 3)

  def test_target_keeps_the_placement(self):
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    sharding = NamedSharding(mesh, PartitionSpec("d"))
    tree = {
      "a": jax.device_put(np.zeros((4, 3)), sharding),
      "b": jax.ShapeDtypeStruct((2,), jnp.int8),
      "c": 7,
    }
    got = placement.target(tree)
    self.assertEqual(got["a"].sharding, sharding)
    self.assertEqual(got["b"].sharding.device_set, {jax.devices()[0]})
    self.assertEqual((got["b"].shape, got["b"].dtype), ((2,), jnp.int8))
    self.assertEqual(got["c"], 7)

  def test_one_process_copies_nothing(self):
    tree = {"a": jnp.ones(3)}
    self.assertIs(placement.to_global(tree), tree)
    self.assertIs(placement.place_like(tree, tree), tree)
