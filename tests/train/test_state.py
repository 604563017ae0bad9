"""Tests of vision_jax.train.state: what a restart and an average need."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax import train


class CreateStateTest(chex.TestCase):
  def test_holds_what_it_is_given(self):
    tx = optax.sgd(0.1, momentum=0.9)
    params = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    state = train.create_state(params, None, tx, jax.random.key(3))
    self.assertEqual(state.step.dtype, jnp.int32)
    self.assertEqual(int(state.step), 0)
    self.assertIsInstance(state.params["w"], jax.Array)
    np.testing.assert_array_equal(state.params["w"], params["w"])
    self.assertEqual(state.batch_stats, {})
    chex.assert_trees_all_equal(state.opt_state, tx.init(state.params))
    self.assertTrue(bool(state.key == jax.random.key(3)))

  def test_is_a_pytree(self):
    state = train.create_state(
      jnp.ones(3), {"m": jnp.ones(2)}, optax.adam(0.1), jax.random.key(0)
    )
    again = jax.jit(lambda s: s._replace(step=s.step + 1))(state)
    self.assertIsInstance(again, train.TrainState)
    self.assertEqual(int(again.step), 1)

  def test_old_keys_are_refused(self):
    for key in (jax.random.PRNGKey(0), 0, jax.random.split(jax.random.key(0))):
      with self.assertRaisesRegex(TypeError, r"`key` must be .*random\.key\("):
        train.create_state({}, {}, optax.sgd(0.1), key)


class AveragesTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder = tmp_path / "checkpoints"

  def make_state(self):
    params = {
      "w": jnp.full((3, 2), 1.5, jnp.bfloat16),
      "frozen": jnp.arange(4.0),
    }
    stats = {"mean": jnp.ones(2), "count": jnp.zeros((), jnp.int32)}
    tx = train.scale_by_path(optax.adam(0.1), {"frozen": 0.0})
    return train.create_state(params, stats, tx, jax.random.key(0), ema=True)

  def test_begin_as_copies_in_float32(self):
    state = self.make_state()
    values = {"params": state.params, "batch_stats": state.batch_stats}
    chex.assert_trees_all_equal_structs(state.ema, values)
    chex.assert_trees_all_close(state.ema, values)
    self.assertEqual(state.ema["params"]["w"].dtype, jnp.float32)
    self.assertEqual(state.ema["batch_stats"]["count"].dtype, jnp.int32)
    for mean, leaf in zip(
      jax.tree.leaves(state.ema), jax.tree.leaves(values), strict=True
    ):
      self.assertNotEqual(
        mean.unsafe_buffer_pointer(), leaf.unsafe_buffer_pointer()
      )

  def test_ema_state_puts_them_in_place(self):
    state = self.make_state()
    ema = jax.tree.map(lambda a: a + 1, state.ema)
    got = train.ema_state(state._replace(ema=ema))
    chex.assert_trees_all_equal_shapes_and_dtypes(got.params, state.params)
    np.testing.assert_array_equal(
      got.params["w"].astype(np.float32), np.full((3, 2), 2.5)
    )
    np.testing.assert_array_equal(got.batch_stats["mean"], [2.0, 2.0])
    chex.assert_trees_all_equal(got.opt_state, state.opt_state)

  def test_without_averages(self):
    state = train.create_state({}, {}, optax.sgd(0.1), jax.random.key(0))
    self.assertIsNone(state.ema)
    self.assertLen(jax.tree.leaves(state), 2)  # step and key
    with self.assertRaisesRegex(ValueError, r"got None; .*ema=True"):
      train.ema_state(state)

  def test_checkpoints_hold_averages_and_frozen_parts(self):
    state = self.make_state()
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(1, state)
    fresh = jax.tree.map(
      lambda a: a if a.dtype == state.key.dtype else jnp.zeros_like(a), state
    )
    with train.Checkpoints(self.folder) as checkpoints:
      got = checkpoints.restore_latest(fresh).state
    chex.assert_trees_all_equal_shapes_and_dtypes(got, state)
    chex.assert_trees_all_equal(
      got._replace(key=None), state._replace(key=None)
    )
