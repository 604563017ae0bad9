"""Tests of vision_jax.train.step: what goes in, what comes out, what it costs.

Devices and wrappers are compared in test_parallel_equality; micro-batches,
averages and frozen parts in test_step_options.
"""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from vision_jax import train

BACKENDS = ("pmap", "shard_map", "vmap")


def linear_loss(params, batch_stats, batch, key):
  error = batch["x"] @ params["w"] - batch["y"]
  return {"l2": ((error**2).sum(), error.shape[0])}, None


def linear_state(tx=None):
  params = {"w": jnp.zeros((3,))}
  return train.create_state(params, {}, tx or optax.sgd(0.1), jax.random.key(0))


def linear_batch(size=8):
  rng = np.random.default_rng(0)
  return {
    "x": rng.normal(size=(size, 3)).astype(np.float32),
    "y": rng.normal(size=(size,)).astype(np.float32),
  }


class StepTest(chex.TestCase):
  @parameterized.parameters(*BACKENDS)
  def test_compiles_once(self, backend):
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(linear_loss, 1)
    step = train.make_step(traced, optax.adam(0.1), backend=backend)
    state = linear_state(optax.adam(0.1))
    state, _ = step(state, linear_batch())
    with self.assertNoLogs("jax", logging.WARNING), jax.log_compiles():
      for _ in range(3):
        state, _ = step(state, linear_batch())
    self.assertEqual(int(state.step), 4)

  @parameterized.parameters(*BACKENDS)
  def test_arrays_on_one_device_are_accepted(self, backend):
    device = jax.devices()[3]
    batch = jax.device_put(linear_batch(), device)
    state = jax.device_put(linear_state(), device)
    step = train.make_step(linear_loss, optax.sgd(0.1), backend=backend)
    got, _ = step(state, batch)
    wanted, _ = step(linear_state(), linear_batch())
    chex.assert_trees_all_close(got.params, wanted.params, rtol=1e-6)

  @parameterized.parameters("pmap", "shard_map")
  def test_given_arrays_survive_and_returned_states_are_used_once(
    self, backend
  ):
    params = {"w": jnp.zeros((3,))}
    tx = optax.sgd(0.1)
    state = train.create_state(params, {}, tx, jax.random.key(0))
    step = train.make_step(
      linear_loss, tx, backend=backend, devices=jax.devices()[:1]
    )
    first, _ = step(state, linear_batch())
    second, _ = step(first, linear_batch())
    np.testing.assert_array_equal(params["w"], 0.0)
    again, _ = step(state, linear_batch())
    self.assertTrue(first.params["w"].is_deleted())
    with self.assertRaisesRegex(RuntimeError, "earlier call.*donate=False"):
      step(first, linear_batch())
    self.assertFalse(second.params["w"].is_deleted())
    self.assertGreater(float(jnp.abs(again.params["w"]).max()), 0)

  def test_without_donation_states_stay(self):
    step = train.make_step(linear_loss, optax.sgd(0.1), donate=False)
    first, _ = step(linear_state(), linear_batch())
    second, _ = step(first, linear_batch())
    again, _ = step(first, linear_batch())
    chex.assert_trees_all_equal(second.params, again.params)

  @parameterized.parameters("pmap", "shard_map")
  def test_views_of_a_donated_state_keep_their_numbers(self, backend):
    step = train.make_step(linear_loss, optax.sgd(0.1), backend=backend)
    state, _ = step(linear_state(), linear_batch())
    view = np.asarray(state.params["w"])
    copy = view.copy()
    for _ in range(3):
      state, _ = step(state, linear_batch())
    np.testing.assert_array_equal(view, copy)

  @parameterized.parameters(*BACKENDS)
  def test_indivisible_batch_names_both_numbers(self, backend):
    step = train.make_step(linear_loss, optax.sgd(0.1), backend=backend)
    with self.assertRaisesRegex(ValueError, "8 devices, got 30 .* 24 or 32"):
      step(linear_state(), linear_batch(30))
    with self.assertRaisesRegex(ValueError, "8 devices, got 3 .* use 8"):
      step(linear_state(), linear_batch(3))
    with self.assertRaisesRegex(ValueError, "8 devices, got 0 "):
      step(linear_state(), linear_batch(0))

  def test_bad_batches(self):
    step = train.make_step(linear_loss, optax.sgd(0.1))
    batch = linear_batch()
    with self.assertRaisesRegex(ValueError, "one batch size"):
      step(linear_state(), {**batch, "y": batch["y"][:4]})
    with self.assertRaisesRegex(ValueError, r"scalar at \['scale'\]"):
      step(linear_state(), {**batch, "scale": 1.0})
    with self.assertRaisesRegex(TypeError, r"<U1 at \['name'\]"):
      step(linear_state(), {**batch, "name": np.array(list("abcdefgh"))})
    with self.assertRaisesRegex(ValueError, "no leaves"):
      step(linear_state(), {})

  def test_bad_settings(self):
    with self.assertRaisesRegex(ValueError, "pmap, shard_map, vmap.*'jit'"):
      train.make_step(linear_loss, optax.sgd(0.1), backend="jit")
    with self.assertRaisesRegex(ValueError, "`devices` must not be empty"):
      train.make_step(linear_loss, optax.sgd(0.1), devices=[])

  @parameterized.named_parameters(
    ("mean", {"a": (jnp.ones(3), 1)}, None, "two scalars.*'a'"),
    ("name", {"loss": (1.0, 1)}, None, "must not be named 'loss'"),
    ("none", {}, None, "at least one term"),
    ("aux", {"a": (1.0, 1)}, {"stats": 1}, r"batch_stats.*got \['stats'\]"),
    ("stats", {"a": (1.0, 1)}, {"batch_stats": {"m": 0.0}}, "the tree of"),
    ("both", {"a": (1.0, 1)}, {"metrics": {"a": (1, 1)}}, r"\['a'\]"),
  )
  def test_bad_results_of_the_loss(self, terms, aux, message):
    step = train.make_step(lambda p, s, b, k: (terms, aux), optax.sgd(0.1))
    with self.assertRaisesRegex(ValueError, message):
      step(linear_state(), linear_batch())

  def test_empty_term_is_zero_without_gradient(self):
    def loss_fn(params, batch_stats, batch, key):
      valid = jnp.zeros(len(batch["x"]))
      losses = jnp.sqrt(jnp.abs(batch["x"] @ params["w"])) * valid
      return {"a": (losses.sum(), valid.sum()), "b": (params["w"].sum(), 1)}, {}

    params = {"w": jnp.ones((3,))}
    state = train.create_state(params, {}, optax.sgd(1.0), jax.random.key(0))
    state, metrics = train.make_step(loss_fn, optax.sgd(1.0))(
      state, linear_batch()
    )
    self.assertEqual(float(metrics["a"]), 0.0)
    np.testing.assert_allclose(state.params["w"], 0.0, atol=1e-6)

  def test_low_precision_sums_are_added_in_float32(self):
    def loss_fn(params, batch_stats, batch, key):
      total = jnp.asarray(257.0 * 0 + 256, jnp.bfloat16) + 0 * params["w"].sum()
      return {"a": (total.astype(jnp.bfloat16), 1)}, {
        "metrics": {"sum": (total.astype(jnp.bfloat16), 0.125)}
      }

    step = train.make_step(loss_fn, optax.sgd(0.1))
    _, metrics = step(linear_state(), linear_batch())
    self.assertEqual(metrics["a"].dtype, jnp.float32)
    self.assertEqual(float(metrics["sum"]), 2048.0)

  @parameterized.parameters(*BACKENDS)
  def test_statistics_are_averaged_and_kept_to_the_bit(self, backend):
    """The sum of N equal numbers by N is another number, where it rounds."""

    def loss_fn(params, batch_stats, batch, key):
      own = batch["y"].mean() + 0 * batch_stats["own"]
      stats = {"kept": batch_stats["kept"], "own": own}
      return {"a": (params["w"].sum(), 1)}, {"batch_stats": stats}

    kept = np.random.default_rng(1).normal(size=200).astype(np.float32)
    params, tx = {"w": jnp.zeros(3)}, optax.sgd(0.1)
    stats = {"kept": jnp.asarray(kept), "own": jnp.float32(3.0)}
    state = train.create_state(params, stats, tx, jax.random.key(0))
    batch = linear_batch()
    step = train.make_step(loss_fn, tx, backend=backend)
    for _ in range(3):
      state, _ = step(state, batch)
    np.testing.assert_array_equal(state.batch_stats["kept"], kept)
    np.testing.assert_allclose(
      state.batch_stats["own"], batch["y"].mean(), rtol=1e-5
    )

  def test_key_is_that_of_run_and_step(self):
    def loss_fn(params, batch_stats, batch, key):
      draw = jax.random.uniform(key)
      return {"a": (params["w"].sum(), 1)}, {"metrics": {"draw": (draw, 1)}}

    step = train.make_step(loss_fn, optax.sgd(0.1))
    state = linear_state()
    for number in range(2):
      key = jax.random.fold_in(jax.random.key(0), number)
      state, metrics = step(state, linear_batch())
      np.testing.assert_allclose(
        metrics["draw"], jax.random.uniform(key), rtol=1e-6
      )


class ExampleKeysTest(chex.TestCase):
  @parameterized.product(backend=BACKENDS, number=(2, 8))
  def test_draws_do_not_depend_on_the_devices(self, backend, number):
    def loss_fn(params, batch_stats, batch, key):
      keys = train.example_keys(key, batch["index"])
      noise = jax.vmap(jax.random.uniform)(keys)
      return {"a": ((noise * batch["y"]).sum() * params["w"].sum(), 1)}, None

    state = linear_state()._replace(params={"w": jnp.ones(3)})
    batch = {**linear_batch(), "index": 100 + np.arange(8)}
    step = train.make_step(
      loss_fn, optax.sgd(0.1), backend=backend, devices=jax.devices()[:number]
    )
    _, metrics = step(state, batch)
    key = jax.random.fold_in(state.key, 0)
    noise = [
      jax.random.uniform(jax.random.fold_in(key, 100 + i)) for i in range(8)
    ]
    wanted = 3 * np.dot(noise, batch["y"]) / number
    np.testing.assert_allclose(metrics["a"], wanted, rtol=1e-5)

  def test_equals_a_loop_and_ignores_the_place(self):
    key = jax.random.key(7)
    indices = np.array([5, 0, 123456789, 5])
    keys = train.example_keys(key, indices)
    for i, index in enumerate(indices):
      self.assertTrue(bool(keys[i] == jax.random.fold_in(key, int(index))))
    self.assertEqual(train.example_keys(key, np.zeros(0, int)).shape, (0,))

  def test_errors(self):
    with self.assertRaisesRegex(TypeError, "`indices` must be integers"):
      train.example_keys(jax.random.key(0), np.zeros(3))
    with self.assertRaisesRegex(ValueError, r"must be \[B\]"):
      train.example_keys(jax.random.key(0), np.zeros((3, 1), int))
