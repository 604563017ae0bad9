import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops
from vision_jax.ops import structures

FIELDS = {
  "Keypoints": ("xy", "scores", "valid", "descriptors", "scale", "angle"),
  "Matches": ("index0", "index1", "scores", "valid"),
  "Detections": (
    "boxes",
    "scores",
    "labels",
    "valid",
    "masks",
    "keypoints",
  ),
}


def _keypoints(scale=None):
  return ops.Keypoints(
    xy=jnp.arange(6.0).reshape(3, 2),
    scores=jnp.array([3.0, 2.0, 0.0]),
    valid=jnp.array([True, True, False]),
    descriptors=jnp.ones((3, 4)),
    scale=scale,
  )


class StructuresTest(chex.TestCase):
  def test_every_structure_is_listed(self):
    self.assertCountEqual(structures.__all__, FIELDS)

  @parameterized.parameters(*FIELDS)
  def test_fields_and_their_order(self, name):
    self.assertEqual(getattr(ops, name)._fields, FIELDS[name])

  @parameterized.parameters(*FIELDS)
  def test_table_of_the_module_names_every_field(self, name):
    row = structures.__doc__.split(f"\n``{name}``")[1]
    row = row.split("\n``")[0].split("\n====")[0]
    for field in FIELDS[name]:
      self.assertIn(f"``{field} [", row)

  def test_optional_fields_default_to_none(self):
    k = _keypoints()
    self.assertIsNone(k.scale)
    self.assertIsNone(k.angle)
    d = ops.Detections(*[jnp.zeros(0)] * 4)
    self.assertIsNone(d.masks)
    self.assertIsNone(d.keypoints)

  def test_none_is_no_leaf(self):
    self.assertLen(jax.tree.leaves(_keypoints()), 4)
    self.assertLen(jax.tree.leaves(_keypoints(jnp.ones(3))), 5)

  @chex.variants(with_jit=True, without_jit=True)
  def test_travels_through_jit_and_vmap(self):
    shift = self.variant(jax.vmap(lambda k: k._replace(xy=k.xy + 1)))
    batch = jax.tree.map(lambda *v: jnp.stack(v), _keypoints(), _keypoints())
    moved = shift(batch)
    self.assertIsInstance(moved, ops.Keypoints)
    np.testing.assert_array_equal(moved.xy[1], _keypoints().xy + 1)
    self.assertIsNone(moved.scale)
