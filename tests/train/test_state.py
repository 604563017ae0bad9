"""Tests of vision_jax.train.state."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

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
