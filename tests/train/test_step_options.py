"""Tests of vision_jax.train.step: micro-batches, averages, frozen parts."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized
from jax.sharding import Mesh, PartitionSpec

from tests import compilation
from vision_jax import train
from vision_jax.train import step as step_lib


def l2_loss(params, batch_stats, batch, key):
  error = batch["x"] @ params["w"] - batch["y"]
  return {"l2": ((error**2).sum(), error.shape[0])}, None


def l2_state(ema=False):
  params = {"w": jnp.zeros((3,))}
  return train.create_state(
    params, {}, optax.sgd(0.1), jax.random.key(0), ema=ema
  )


def l2_batch(size=8):
  rng = np.random.default_rng(0)
  return {
    "x": rng.normal(size=(size, 3)).astype(np.float32),
    "y": rng.normal(size=(size,)).astype(np.float32),
  }


def conv_params():
  rng = np.random.default_rng(3)
  return {
    "conv": rng.normal(size=(3, 3, 2, 4)) / 4,
    "head": {"kernel": rng.normal(size=(4, 3)) / 2, "bias": np.zeros(3)},
  }


def conv_batch(size=32):
  rng = np.random.default_rng(4)
  return {
    "image": rng.normal(size=(size, 6, 5, 2)),
    "label": rng.integers(0, 3, size),
    # Some micro-batches hold none, some hold all.
    "valid": (np.arange(size) % 5 < np.arange(size) // 4).astype(np.float64),
    "few": (np.arange(size) == 9).astype(np.float64),
  }


def single(tree):
  """The tree with 4-byte numbers."""
  short = {"f": np.float32, "i": np.int32}
  return jax.tree.map(lambda a: a.astype(short[a.dtype.kind]), tree)


def conv_logits(params, batch):
  x = jax.lax.conv_general_dilated(
    batch["image"],
    params["conv"],
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  x = jax.nn.relu(x).mean((1, 2)) @ params["head"]["kernel"]
  return x + params["head"]["bias"].reshape(1, -1)


def conv_loss(params, batch_stats, batch, key):
  """Terms whose counts differ between examples; one depends on the network."""
  logits = conv_logits(params, batch)
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits, batch["label"]
  )
  noise = jax.vmap(jax.random.normal)(train.example_keys(key, batch["label"]))
  found = (logits > 0).astype(logits.dtype)
  right = (logits.argmax(-1) == batch["label"]) * batch["valid"]
  return {
    "ce": ((losses * batch["valid"]).sum(), batch["valid"].sum()),
    "few": ((losses * noise * batch["few"]).sum(), batch["few"].sum()),
    "found": ((logits**2 * found).sum(), found.sum()),
  }, {"metrics": {"accuracy": (right.sum(), batch["valid"].sum())}}


def plain_loss(params, batch_stats, batch, key):
  """As `conv_loss`, counts from the batch alone."""
  terms, aux = conv_loss(params, batch_stats, batch, key)
  return {"ce": terms["ce"], "few": terms["few"]}, aux


def lowered(loss_fn, tx=None, batch=None, **settings):
  """The program of one update in float32 on two devices, not yet compiled."""
  tx = optax.sgd(0.1) if tx is None else tx
  params = single(conv_params())
  state = train.create_state(params, {}, tx, jax.random.key(0))
  batch = single(conv_batch() if batch is None else batch)
  axis = PartitionSpec("batch")
  update = jax.shard_map(
    step_lib._make_update(loss_fn, tx, "batch", **settings),
    mesh=Mesh(np.array(jax.devices()[:2]), ("batch",)),
    in_specs=(PartitionSpec(), axis),
    out_specs=PartitionSpec(),
    check_vma=False,
  )
  return jax.jit(update).lower(state, batch)


class AccumulateTest(chex.TestCase):
  def train64(self, backend, number, accumulate):
    tx = optax.sgd(0.5, momentum=0.9)
    step = train.make_step(
      conv_loss,
      tx,
      backend=backend,
      devices=jax.devices()[:number],
      accumulate=accumulate,
    )
    state = train.create_state(conv_params(), {}, tx, jax.random.key(0))
    for _ in range(3):
      state, metrics = step(state, conv_batch())
    return jax.device_get((state, metrics))

  def test_equals_the_whole_batch_in_float64(self):
    self.enterContext(compilation.quick_compile())
    with jax.enable_x64(True):
      wanted, metrics = self.train64("vmap", 1, 1)
      self.assertEqual(wanted.params["conv"].dtype, np.float64)
      moved = np.abs(wanted.params["conv"] - conv_params()["conv"]).max()
      self.assertGreater(moved, 0.1)
      for backend, number, accumulate in (
        ("pmap", 1, 4),
        ("pmap", 8, 2),
        ("shard_map", 2, 16),
        ("vmap", 4, 4),
      ):
        got, numbers = self.train64(backend, number, accumulate)
        chex.assert_trees_all_close(got.params, wanted.params, atol=1e-12)
        chex.assert_trees_all_close(got.opt_state, wanted.opt_state, atol=1e-12)
        chex.assert_trees_all_close(numbers, metrics, rtol=1e-12)

  def test_a_mean_of_means_would_be_another_gradient(self):
    # So that the test above is one of the counts.
    batch = conv_batch()
    losses = np.asarray(batch["image"].mean((1, 2, 3)))
    parts = [
      (x * v).sum() / max(v.sum(), 1.0)
      for x, v in zip(
        np.split(losses, 4), np.split(batch["valid"], 4), strict=True
      )
    ]
    whole = (losses * batch["valid"]).sum() / batch["valid"].sum()
    self.assertGreater(abs(np.mean(parts) / whole - 1), 0.1)

  def test_counting_costs_nothing_and_memory_falls(self):
    batch = conv_batch(64)
    batch["image"] = np.repeat(batch["image"], 5, axis=1)
    programs = {
      k: lowered(plain_loss, batch=batch, accumulate=k) for k in (1, 8)
    }
    convolutions = {
      k: p.as_text().count("stablehlo.convolution") for k, p in programs.items()
    }
    self.assertEqual(convolutions, {1: 2, 8: 2})
    # A count that the network decides needs its forward pass.
    text = lowered(conv_loss, accumulate=8).as_text()
    self.assertEqual(text.count("stablehlo.convolution"), 3)
    memory = {
      k: p.compile().memory_analysis().temp_size_in_bytes
      for k, p in programs.items()
    }
    self.assertLess(memory[8], memory[1] / 3)

  def test_running_statistics_are_updated_in_turn(self):
    def loss_fn(params, batch_stats, batch, key):
      mean = jax.lax.pmean(batch["x"].mean(), "batch")
      new = {"mean": 0.9 * batch_stats["mean"] + 0.1 * mean}
      return {"a": (params.sum(), 1)}, {"batch_stats": new}

    x = np.arange(24, dtype=np.float32) ** 2
    tx = optax.sgd(0.1)
    state = train.create_state(
      jnp.ones(2), {"mean": jnp.ones(())}, tx, jax.random.key(0)
    )
    step = train.make_step(loss_fn, tx, devices=jax.devices()[:2], accumulate=3)
    state, _ = step(state, {"x": x})
    mean = 1.0
    for part in range(3):  # examples 0-3 and 12-15, then 4-7 and 16-19, ...
      rows = x.reshape(2, 3, 4)[:, part]
      mean = 0.9 * mean + 0.1 * rows.mean()
    np.testing.assert_allclose(state.batch_stats["mean"], mean, rtol=1e-6)

  def test_compiles_once(self):
    step = train.make_step(l2_loss, optax.sgd(0.1), accumulate=2)
    state, _ = step(l2_state(), l2_batch(16))
    with self.assertNoLogs("jax", logging.WARNING), jax.log_compiles():
      for _ in range(3):
        state, _ = step(state, l2_batch(16))

  def test_errors(self):
    step = train.make_step(l2_loss, optax.sgd(0.1), accumulate=3)
    with self.assertRaisesRegex(
      ValueError,
      "multiple of 24 examples, 3 micro-batches for each of 8 devices, got 32 "
      "examples; use 24 or 48",
    ):
      step(l2_state(), l2_batch(32))
    with self.assertRaisesRegex(ValueError, "got 16 examples; use 24"):
      step(l2_state(), l2_batch(16))
    with self.assertRaisesRegex(ValueError, "`accumulate` must be .* got 0"):
      train.make_step(l2_loss, optax.sgd(0.1), accumulate=0)
    bad = train.make_step(
      lambda p, s, b, k: ({"a": (b["x"].sum((1,)), 1)}, None),
      optax.sgd(0.1),
      accumulate=2,
    )
    with self.assertRaisesRegex(ValueError, "two scalars.*'a'"):
      bad(l2_state(), l2_batch(16))


class AverageTest(chex.TestCase):
  def loss_fn(self, params, batch_stats, batch, key):
    new = {"m": 0.5 * batch_stats["m"] + 1.0, "n": batch_stats["n"] + 1}
    terms, _ = l2_loss(params, batch_stats, batch, key)
    return terms, {"batch_stats": new}

  @parameterized.product(backend=("pmap", "shard_map"), warmup=(True, False))
  def test_equals_a_loop(self, backend, warmup):
    tx = optax.sgd(0.3)
    stats = {"m": jnp.zeros(()), "n": jnp.zeros((), jnp.int32)}
    state = train.create_state(
      {"w": jnp.zeros((3,))}, stats, tx, jax.random.key(0), ema=True
    )
    step = train.make_step(
      self.loss_fn,
      tx,
      backend=backend,
      devices=jax.devices()[:1],
      ema_decay=0.25,
      ema_warmup=warmup,
    )
    w, m = np.zeros(3), 0.0
    for t in range(5):
      state, _ = step(state, l2_batch())
      decay = min(0.25, (1 + t) / (10 + t)) if warmup else 0.25
      w = decay * w + (1 - decay) * np.asarray(state.params["w"], np.float64)
      m = decay * m + (1 - decay) * float(state.batch_stats["m"])
      np.testing.assert_allclose(state.ema["params"]["w"], w, rtol=1e-5)
      np.testing.assert_allclose(state.ema["batch_stats"]["m"], m, rtol=1e-5)
    self.assertEqual(int(state.ema["batch_stats"]["n"]), 5)
    self.assertGreater(np.abs(w - np.asarray(state.params["w"])).max(), 1e-3)
    plain = train.make_step(self.loss_fn, tx, devices=jax.devices()[:1])
    alone, _ = plain(state._replace(ema=None), l2_batch())
    self.assertIsNone(alone.ema)

  def test_errors(self):
    tx = optax.sgd(0.1)
    for decay in (0.0, 1.0, -1.0):
      with self.assertRaisesRegex(ValueError, r"`ema_decay` must be in \(0, 1"):
        train.make_step(l2_loss, tx, ema_decay=decay)
    step = train.make_step(l2_loss, tx, ema_decay=0.9)
    with self.assertRaisesRegex(ValueError, r"create_state\(..., ema=True\)"):
      step(l2_state(), l2_batch())
    with self.assertRaisesRegex(ValueError, "leave behind"):
      train.make_step(l2_loss, tx)(l2_state(ema=True), l2_batch())


class FrozenTest(chex.TestCase):
  @parameterized.parameters(1, 2)
  def test_equals_training_the_rest_alone(self, accumulate):
    self.enterContext(compilation.quick_compile())
    batch = single(conv_batch())
    params = single(conv_params())
    settings = {"weight_decay": 0.1, "clip_norm": 0.01}
    tx = train.make_optimizer("sgd", 0.5, **settings, factors={"conv": 0.0})
    state = train.create_state(params, {}, tx, jax.random.key(0))
    step = train.make_step(plain_loss, tx, accumulate=accumulate)

    def head_loss(head, batch_stats, batch, key):
      conv = {"conv": params["conv"], "head": head["head"]}
      return plain_loss(conv, batch_stats, batch, key)

    alone = train.make_optimizer("sgd", 0.5, **settings)
    wanted = train.create_state(
      {"head": params["head"]}, {}, alone, jax.random.key(0)
    )
    other = train.make_step(head_loss, alone)
    for _ in range(3):
      state, metrics = step(state, batch)
      wanted, numbers = other(wanted, batch)
    np.testing.assert_array_equal(state.params["conv"], params["conv"])
    chex.assert_trees_all_close(
      state.params["head"], wanted.params["head"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
      metrics["grad_norm"], numbers["grad_norm"], rtol=1e-5
    )
    self.assertLen(
      jax.tree.leaves(state.opt_state), len(jax.tree.leaves(wanted.opt_state))
    )

  def test_cost_is_removed(self):
    def cost(factors):
      tx = train.scale_by_path(optax.sgd(0.1, momentum=0.9), factors)
      program = lowered(plain_loss, tx)
      convolutions = program.as_text().count("stablehlo.convolution")
      return convolutions, program.cost_analysis()["flops"]

    whole, head = cost({"conv": 0.5}), cost({"conv": 0.0})
    self.assertEqual((whole[0], head[0]), (2, 1))
    self.assertLess(head[1], 0.6 * whole[1])

  def test_unknown_path_names_the_nearest(self):
    tx = train.scale_by_path(optax.sgd(0.1), {"heat": 0.0})
    with self.assertRaisesRegex(KeyError, "'heat'.*nearest are head"):
      train.create_state(conv_params(), {}, tx, jax.random.key(0))
