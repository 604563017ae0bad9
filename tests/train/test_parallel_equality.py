"""Any number of devices and any wrapper train as one device does.

Three things at once make this easy to get wrong: statistics synchronised over
the devices, losses over varying numbers of valid items, and gradients that some
wrappers sum by themselves.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from vision_jax import train
from vision_jax.train import step as step_lib

BATCH = 32
STEPS = {"float32": 5, "float64": 50}
BACKENDS = ("pmap", "shard_map", "vmap")


class Net(nn.Module):
  """Convolution, synchronised batch norm, dense."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, images, train=False):
    x = nn.Conv(8, (3, 3), use_bias=False, name="conv")(images)
    x = nn.BatchNorm(
      use_running_average=not train,
      axis_name=self.axis_name if train else None,
      use_fast_variance=False,
      name="bn",
    )(x)
    return nn.Dense(5, name="fc")(nn.relu(x).mean((1, 2)))


def make_batch(dtype="float32"):
  rng = np.random.default_rng(0)
  return {
    "image": rng.normal(size=(BATCH, 6, 5, 3)).astype(dtype),
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
    valid = batch["valid"].astype(logits.dtype)
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


def make_state(dtype="float32"):
  variables = jax.tree.map(lambda a: np.asarray(a, dtype), make_variables())
  return train.create_state(
    variables["params"], variables["batch_stats"], make_tx(), jax.random.key(1)
  )


def make_update(loss_fn, tx):
  """One update with the whole batch, written without train/."""

  @jax.jit
  def update(params, stats, opt_state, batch):
    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      params, stats, batch, None
    )
    updates, opt_state = tx.update(grads, opt_state, params)
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(grads)))
    return optax.apply_updates(params, updates), stats, opt_state, loss, norm

  return update


@functools.cache
def reference(dtype="float32"):
  """Results after each update with the whole batch on one device."""
  with jax.enable_x64(dtype == "float64"):
    state, batch = make_state(dtype), make_batch(dtype)
    update = make_update(make_loss(None, mean=True), make_tx())
    values = state.params, state.batch_stats, state.opt_state
    results = []
    for _ in range(50):
      values = update(*values[:3], batch)
      results.append(jax.tree.map(np.asarray, values))
  return results


def distance(a, b, *, relative=False):
  """Largest absolute difference between two trees, or its share of a leaf."""

  def compare(x, y):
    largest = np.abs(x).max() if relative else 1.0
    return np.max(np.abs(x - np.asarray(y))) / largest

  return max(jax.tree.leaves(jax.tree.map(compare, a, b)))


def train_on(backend, number, dtype, steps):
  """States and metrics after each update."""
  with jax.enable_x64(dtype == "float64"):
    step = train.make_step(
      make_loss("batch"),
      make_tx(),
      backend=backend,
      devices=jax.devices()[:number],
    )
    state, batch = make_state(dtype), make_batch(dtype)
    results = []
    for _ in range(steps):
      state, metrics = step(state, batch)
      results.append(jax.device_get((state, metrics)))
  return results


@pytest.mark.usefixtures("quick_compile")
class ParallelTest(chex.TestCase):
  @parameterized.product(backend=BACKENDS, number=(1, 2, 4, 8))
  def test_equals_the_whole_batch_in_float32(self, backend, number):
    runs = train_on(backend, number, "float32", STEPS["float32"])
    for k, (state, metrics) in enumerate(runs):
      params, stats, opt_state, loss, norm = reference()[k]
      got = state.params, state.batch_stats, state.opt_state
      wanted = params, stats, opt_state
      self.assertLessEqual(distance(wanted, got), 1e-6 if k < 3 else 1e-5)
      self.assertLessEqual(distance(wanted, got, relative=True), 1e-5)
      np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
      np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
      np.testing.assert_allclose(
        metrics["ce"] + metrics["size"], loss, rtol=1e-5
      )
    self.assertEqual(int(state.step), STEPS["float32"])
    self.assertEqual(
      set(metrics), {"ce", "size", "loss", "accuracy", "grad_norm"}
    )
    chex.assert_tree_all_finite(metrics)
    # The training moved: equality of standing still would prove nothing.
    self.assertGreater(distance(make_state().params, state.params), 0.1)

  @parameterized.parameters(
    ("pmap", 1), ("pmap", 8), ("shard_map", 8), ("vmap", 8)
  )
  def test_equals_the_whole_batch_in_float64(self, backend, number):
    runs = train_on(backend, number, "float64", STEPS["float64"])
    for k, (state, _) in enumerate(runs):
      wanted = reference("float64")[k][:3]
      got = state.params, state.batch_stats, state.opt_state
      self.assertLessEqual(distance(wanted, got, relative=True), 1e-10)
    self.assertEqual(state.params["fc"]["kernel"].dtype, np.float64)

  def test_rounding_in_float32_grows_slowly(self):
    # Printed by `pytest -s`: largest where momenta are smallest.
    drift = []
    for k, (state, _) in enumerate(train_on("pmap", 8, "float32", 50)):
      wanted = reference()[k][:3]
      got = state.params, state.batch_stats, state.opt_state
      drift.append(distance(wanted, got, relative=True))
    parameters = distance(wanted[0], got[0], relative=True)
    print(
      f"float32, 1 device and 8: {drift[4]:.0e} after 5 updates, "
      f"{drift[-1]:.0e} after 50; parameters {parameters:.0e}"
    )
    self.assertLess(max(drift), 1e-4)
    self.assertLess(parameters, 1e-5)

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
    error = distance(reference()[2][0], state.params)
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
