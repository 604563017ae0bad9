"""Tests of vision_jax.train.step: one gradient on any number of devices."""

import functools
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from vision_jax import train
from vision_jax.train import step as step_lib

BATCH = 32
BACKENDS = ("pmap", "shard_map", "vmap")


class Net(nn.Module):
  """Convolution, synchronised batch norm, dense."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, train=False):
    x = nn.Conv(8, (3, 3), name="conv")(images)
    x = nn.BatchNorm(
      use_running_average=not train,
      axis_name=self.axis_name if train else None,
      use_fast_variance=False,
      name="bn",
    )(x)
    return nn.Dense(5, name="fc")(nn.relu(x).mean((1, 2)))


def make_batch():
  rng = np.random.default_rng(0)
  return {
    "image": rng.normal(size=(BATCH, 6, 5, 3)).astype(np.float32),
    "label": rng.integers(0, 5, BATCH),
    # The parts of the devices hold different numbers of valid examples.
    "valid": np.arange(BATCH) % 7 < np.arange(BATCH) // 5,
  }


def make_loss(axis_name, *, mean=False):
  """Loss with a mask, statistics and a metric."""

  def loss_fn(params, batch_stats, batch, key):
    logits, updates = Net(axis_name).apply(
      {"params": params, "batch_stats": batch_stats},
      batch["image"],
      train=True,
      mutable=["batch_stats"],
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
    )
    valid = batch["valid"].astype(jnp.float32)
    terms = {
      "ce": ((losses * valid).sum(), valid.sum()),
      "size": (0.01 * (logits**2).sum(), logits.size),
    }
    if mean:
      return sum(s / c for s, c in terms.values()), updates["batch_stats"]
    right = (logits.argmax(-1) == batch["label"]).sum()
    return terms, {
      "batch_stats": updates["batch_stats"],
      "metrics": {"accuracy": (right, logits.shape[0])},
    }

  return loss_fn


def make_tx():
  return optax.sgd(0.5, momentum=0.9)


@functools.cache
def make_variables():
  return jax.jit(Net().init)(jax.random.key(0), make_batch()["image"])


def make_state():
  variables = make_variables()
  return train.create_state(
    variables["params"], variables["batch_stats"], make_tx(), jax.random.key(1)
  )


@functools.cache
def reference():
  """Three updates with the whole batch, written without train/."""
  state, batch, tx = make_state(), make_batch(), make_tx()
  loss_fn = make_loss(None, mean=True)

  @jax.jit
  def update(params, stats, opt_state, step):
    key = jax.random.fold_in(jax.random.key(1), step)
    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params, stats, batch, key
    )
    updates, opt_state = tx.update(grads, opt_state, params)
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
    return optax.apply_updates(params, updates), stats, opt_state, loss, norm

  params, stats, opt_state = state.params, state.batch_stats, state.opt_state
  for step in range(3):
    params, stats, opt_state, loss, norm = update(
      params, stats, opt_state, step
    )
  return jax.tree.map(np.asarray, (params, stats, opt_state, loss, norm))


def distance(a, b):
  """Largest absolute difference between two trees."""
  difference = jax.tree.map(
    lambda x, y: np.max(np.abs(x - np.asarray(y))), a, b
  )
  return max(jax.tree.leaves(difference))


class ParallelTest(chex.TestCase):
  def setUp(self):
    super().setUp()
    # Compilation is nearly all of the time here, and how well it optimises does
    # not matter to what is tested.
    name = "jax_disable_most_optimizations"
    self.addCleanup(jax.config.update, name, jax.config.read(name))
    jax.config.update(name, True)

  @parameterized.product(backend=BACKENDS, number=(1, 2, 4, 8))
  def test_three_updates_equal_the_whole_batch(self, backend, number):
    step = train.make_step(
      make_loss("batch"),
      make_tx(),
      backend=backend,
      devices=jax.devices()[:number],
    )
    state = make_state()
    for _ in range(3):
      state, metrics = step(state, make_batch())
    params, stats, opt_state, loss, norm = reference()
    self.assertLessEqual(distance(params, state.params), 1e-6)
    self.assertLessEqual(distance(stats, state.batch_stats), 1e-6)
    self.assertLessEqual(distance(opt_state, state.opt_state), 1e-6)
    self.assertEqual(int(state.step), 3)
    self.assertEqual(
      set(metrics), {"ce", "size", "loss", "accuracy", "grad_norm"}
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["ce"] + metrics["size"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    chex.assert_tree_all_finite(metrics)
    # The training moved: equality of standing still would prove nothing.
    self.assertGreater(distance(make_state().params, state.params), 0.1)

  @parameterized.parameters(True, False)
  def test_rule_under_check_vma_and_the_naive_one(self, ours):
    tx, axis = make_tx(), PartitionSpec("batch")
    loss_fn = make_loss("batch")

    def naive(state, batch):
      # The mean over devices of these local losses is the loss, and the mean of
      # their gradients the gradient, except where gradients are summed already.
      key = jax.random.fold_in(state.key, state.step)

      def local(params):
        terms, aux = loss_fn(params, state.batch_stats, batch, key)
        counts = jax.lax.pmean([c for _, c in terms.values()], "batch")
        sums = [s for s, _ in terms.values()]
        loss = sum(s / c for s, c in zip(sums, counts, strict=True))
        return loss, aux["batch_stats"]

      grads, stats = jax.grad(local, has_aux=True)(state.params)
      grads, stats = jax.lax.pmean((grads, stats), "batch")
      updates, opt_state = tx.update(grads, state.opt_state, state.params)
      return state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=stats,
        opt_state=opt_state,
      ), {}

    update = step_lib._make_update(loss_fn, tx, "batch") if ours else naive
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    step = jax.jit(
      jax.shard_map(
        update,
        mesh=mesh,
        in_specs=(PartitionSpec(), axis),
        out_specs=PartitionSpec(),
        check_vma=True,
      )
    )
    state = make_state()
    for _ in range(3):
      state, _ = step(state, make_batch())
    error = distance(reference()[0], state.params)
    if ours:
      self.assertLessEqual(error, 1e-6)
    else:
      self.assertGreater(error, 0.1)

  @parameterized.parameters(
    ("pmap", 1), ("pmap", 2), ("pmap", 8), ("shard_map", 8), ("vmap", 2)
  )
  def test_contrast_over_the_gathered_batch(self, backend, number):
    rng = np.random.default_rng(1)
    batch = {
      "a": rng.normal(size=(16, 7)).astype(np.float32),
      "b": rng.normal(size=(16, 7)).astype(np.float32),
    }
    params = {"w": rng.normal(size=(7, 4)).astype(np.float32)}

    def describe(params, x):
      y = x @ params["w"]
      return y / jnp.linalg.norm(y, axis=-1, keepdims=True)

    def loss_fn(params, batch_stats, batch, key):
      a, b = describe(params, batch["a"]), describe(params, batch["b"])
      everything = jax.lax.all_gather(b, "batch", tiled=True)
      logits = a @ everything.T / 0.1
      labels = jax.lax.axis_index("batch") * len(a) + jnp.arange(len(a))
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return {"contrast": (losses.sum(), losses.size)}, None

    def whole(params):
      a, b = describe(params, batch["a"]), describe(params, batch["b"])
      return -jnp.diag(jax.nn.log_softmax(a @ b.T / 0.1)).mean()

    tx = optax.sgd(1.0)
    state = train.create_state(params, {}, tx, jax.random.key(0))
    step = train.make_step(
      loss_fn, tx, backend=backend, devices=jax.devices()[:number]
    )
    new, metrics = step(state, batch)
    loss, grads = jax.jit(jax.value_and_grad(whole))(params)
    np.testing.assert_allclose(metrics["contrast"], loss, rtol=1e-5)
    self.assertGreater(float(jnp.abs(grads["w"]).max()), 0.1)
    np.testing.assert_allclose(
      params["w"] - new.params["w"], grads["w"], rtol=1e-4, atol=1e-6
    )

  @parameterized.parameters("pmap", "shard_map")
  def test_batch_norm_of_large_means(self, backend):
    x = 1000 + np.random.default_rng(2).normal(size=(64, 4, 3, 5))
    norm = nn.BatchNorm(
      use_running_average=False,
      axis_name="batch",
      use_fast_variance=False,
      momentum=0.0,
    )
    plain = nn.BatchNorm(use_running_average=True)
    variables = plain.init(jax.random.key(0), x[:1].astype(np.float32))

    def loss_fn(params, batch_stats, batch, key):
      y, updates = norm.apply(
        {"params": params, "batch_stats": batch_stats},
        batch,
        mutable=["batch_stats"],
      )
      return {"l2": ((y**2).sum(), y.size)}, updates

    tx = optax.sgd(0.0)
    state = train.create_state(
      variables["params"], variables["batch_stats"], tx, jax.random.key(0)
    )
    step = train.make_step(loss_fn, tx, backend=backend)
    state, _ = step(state, x.astype(np.float32))
    np.testing.assert_allclose(
      state.batch_stats["var"], x.var((0, 1, 2)), atol=1e-3
    )
    np.testing.assert_allclose(
      state.batch_stats["mean"], x.mean((0, 1, 2)), rtol=1e-6
    )


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
