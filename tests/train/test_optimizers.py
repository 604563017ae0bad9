"""Tests of vision_jax.train.optimizers: each name equals its NumPy loop."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from vision_jax import train
from vision_jax.train import optimizers


class MakeScheduleTest(chex.TestCase):
  @parameterized.product(
    name=("constant", "cosine", "linear", "poly", "step"), warmup=(0, 7)
  )
  def test_equals_the_formulas(self, name, warmup):
    total, end, power = 50, 0.2, 1.7
    settings = {"step": {"milestones": [20, 30], "gamma": 0.5}}
    schedule = train.make_schedule(
      name,
      0.3,
      total,
      warmup_steps=warmup,
      warmup_factor=0.1,
      end_factor=end,
      power=power,
      **settings.get(name, {}),
    )

    def wanted(t):
      if t < warmup:
        return 0.1 + 0.9 * t / warmup
      u = min((t - warmup) / (total - warmup), 1.0)
      return {
        "constant": 1.0,
        "cosine": end + (1 - end) * (1 + math.cos(math.pi * u)) / 2,
        "linear": end + (1 - end) * (1 - u),
        "poly": end + (1 - end) * (1 - u) ** power,
        "step": 0.5 ** sum(t >= mark for mark in (20, 30)),
      }[name]

    times = np.array([0, 1, 6, 7, 8, 19, 20, 29, 30, 31, 49, 50, 60])
    got = jax.jit(jax.vmap(schedule))(times)
    np.testing.assert_allclose(
      got, [0.3 * wanted(t) for t in times], rtol=1e-5, atol=1e-7
    )

  def test_errors(self):
    with self.assertRaisesRegex(
      KeyError, "constant, cosine, linear, poly, step, got 'cos'"
    ):
      train.make_schedule("cos", 0.1, 10)
    for settings, message in (
      ({"warmup_steps": 10}, r"`warmup_steps` must be in .* got 10 of 10"),
      ({"end_factor": 1.5}, r"`end_factor` must be in \[0, 1\], got 1.5"),
      ({"warmup_factor": -1}, "`warmup_factor`"),
      ({"milestones": [3]}, "for 'step' only"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        train.make_schedule("cosine", 0.1, 10, **settings)
    for marks in ((), (5, 3), (3, 3), (1, 5), (5, 10)):
      with self.assertRaisesRegex(ValueError, r"increasing .*\[2, 10\)"):
        train.make_schedule("step", 0.1, 10, milestones=marks, warmup_steps=2)
    with self.assertRaisesRegex(ValueError, "`learning_rate` must be finite"):
      train.make_schedule("poly", math.inf, 10)
    with self.assertRaisesRegex(ValueError, "`num_steps` must be .* got 0"):
      train.make_schedule("poly", 0.1, 0)
    with self.assertRaisesRegex(ValueError, "`gamma`"):
      train.make_schedule("step", 0.1, 10, milestones=[5], gamma=0.0)


def make_params(seed=0):
  rng = np.random.default_rng(seed)
  return {
    "kernel": rng.normal(size=(2, 2, 3)).astype(np.float32),
    "bias": rng.normal(size=(3,)).astype(np.float32),
  }


def orthogonal(matrix):
  """Five steps of Muon's quintic iteration (Jordan et al. 2024), float64."""
  x = matrix / np.linalg.norm(matrix)
  for _ in range(5):
    gram = x @ x.T
    x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
  return x


def reference(name, params, grads, rate, *, mu, nesterov, wd, all_, clip, b2):
  """The optimizers in float64, one parameter at a time, from their papers."""
  params = {k: p.astype(np.float64) for k, p in params.items()}
  first = {k: 0.0 for k in params}
  second = {k: 0.0 for k in params}
  for t, now in enumerate(grads, 1):
    now = {k: g.astype(np.float64) for k, g in now.items()}
    norm = math.sqrt(sum((g**2).sum() for g in now.values()))
    for k, p in params.items():
      g = now[k] * min(1.0, clip / norm)
      decay = wd if all_ or k == "kernel" else 0.0
      if name in ("sgd", "adam", "lars"):
        g = g + decay * p
      if name == "lars" and (all_ or k == "kernel"):
        g = g * 0.001 * np.linalg.norm(p) / np.linalg.norm(g)
      if name in ("sgd", "lars"):
        first[k] = mu * first[k] + g
        update = g + mu * first[k] if nesterov else first[k]
      else:
        first[k] = mu * first[k] + (1 - mu) * g
        second[k] = b2 * second[k] + (1 - b2) * g**2
        mean = first[k] / (1 - mu**t)
        if nesterov:  # Dozat (2016): the average of one step later
          mean = mu * first[k] / (1 - mu ** (t + 1)) + (1 - mu) * g / (
            1 - mu**t
          )
        if name == "muon" and k == "kernel":
          rows = mean.reshape(-1, mean.shape[-1])
          update = 0.2 * math.sqrt(max(rows.shape)) * orthogonal(rows)
          update = update.reshape(mean.shape)
        else:
          eps = 1e-6 if name == "lamb" else 1e-8
          update = mean / (np.sqrt(second[k] / (1 - b2**t)) + eps)
        if name in ("adamw", "lamb", "muon"):
          update = update + decay * p
        if name == "lamb":
          update = update * np.linalg.norm(p) / np.linalg.norm(update)
      params[k] = p - rate * update
  return params


class MakeOptimizerTest(chex.TestCase):
  @parameterized.parameters(
    ("sgd", {}),
    ("sgd", {"nesterov": True, "decay_all": True}),
    ("adam", {}),
    ("adamw", {"decay_all": True, "nesterov": True}),
    ("lamb", {}),
    ("lars", {"nesterov": True}),
    ("lars", {"decay_all": True}),
    ("muon", {}),
    ("muon", {"nesterov": True}),
  )
  def test_equals_a_loop(self, name, settings):
    rate, mu, wd, b2, clip = 0.05, 0.8, 0.3, 0.9, 2.5
    tx = train.make_optimizer(
      name,
      rate,
      momentum=mu,
      b2=b2,
      weight_decay=wd,
      clip_norm=clip,
      **settings,
    )
    grads = [make_params(seed) for seed in range(1, 6)]
    norms = [float(optax.global_norm(g)) for g in grads]
    self.assertTrue(min(norms) < clip < max(norms), norms)

    @jax.jit
    def run(params):
      state = tx.init(params)
      for g in grads:
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
      return params

    wanted = reference(
      name,
      make_params(),
      grads,
      rate,
      mu=mu,
      nesterov=settings.get("nesterov", False),
      wd=wd,
      all_=settings.get("decay_all", False),
      clip=clip,
      b2=b2,
    )
    got = run(make_params())
    for k in wanted:
      np.testing.assert_allclose(got[k], wanted[k], rtol=2e-5, atol=1e-6)

  def test_schedules_are_read_at_each_update(self):
    schedule = train.make_schedule("step", 1.0, 9, milestones=[2], gamma=0.5)
    tx = train.make_optimizer("sgd", schedule, momentum=0.0)
    one = {"w": jnp.ones(())}
    state, seen = tx.init(one), []
    for _ in range(3):
      updates, state = tx.update(one, state, one)
      seen.append(float(updates["w"]))
    self.assertEqual(seen, [-1.0, -1.0, -0.5])

  def test_errors(self):
    with self.assertRaisesRegex(
      KeyError, "adam, adamw, lamb, lars, muon, sgd, got 'rmsprop'"
    ):
      train.make_optimizer("rmsprop", 0.1)
    for settings, message in (
      ({"momentum": 1.0}, r"`momentum` and `b2` must be in \[0, 1\), got 1.0"),
      ({"weight_decay": -1.0}, "`weight_decay` must be at least 0, got -1"),
      ({"clip_norm": 0.0}, "`clip_norm` must be .* above 0, got 0"),
      ({"nesterov": True}, "must be False for 'lamb'"),
    ):
      with self.assertRaisesRegex(ValueError, message):
        train.make_optimizer("lamb", 0.1, **settings)
    with self.assertRaisesRegex(ValueError, "`learning_rate` must be"):
      train.make_optimizer("sgd", -0.1)


class DecayMaskTest(chex.TestCase):
  def test_by_name_and_by_rank(self):
    one, two = jnp.ones(3), jnp.ones((3, 2))
    params = {
      "conv": {"kernel": two, "bias": one},
      "norm": {"scale": two, "bias": two},
      "slopes": one,
      "table": [two, jnp.ones(())],
    }
    wanted = {
      "conv": {"kernel": True, "bias": False},
      "norm": {"scale": False, "bias": False},
      "slopes": False,
      "table": [True, False],
    }
    self.assertEqual(train.decay_mask(params), wanted)


def make_tree():
  rng = np.random.default_rng(0)

  def leaf():
    return rng.normal(size=(2, 3)).astype(np.float32)

  return {
    "backbone": {
      "layer1": {"0": {"kernel": leaf()}, "1": {"kernel": leaf()}},
      "layer10": {"kernel": leaf()},
    },
    "fc": {"kernel": leaf(), "bias": leaf()},
  }


class ScaleByPathTest(chex.TestCase):
  @parameterized.parameters(
    ({"backbone.layer1": 0.0, "backbone": 0.1}, (0, 0, 0.1, 1, 1)),
    ({"backbone": 0.0, "backbone.layer1.1": 2.0}, (0, 2, 0, 1, 1)),
    ({"": 0.0, "fc.bias": 1.0}, (0, 0, 0, 0, 1)),
    ({"": 0.5, "backbone": 0.25, "fc.kernel": 0}, (0.25,) * 3 + (0, 0.5)),
    ({"backbone.layer1.0.kernel": 3.0}, (3, 1, 1, 1, 1)),
    ({}, (1, 1, 1, 1, 1)),
  )
  def test_longest_path_decides(self, factors, wanted):
    for order in (1, -1):  # in any order of the entries
      given = dict(list(factors.items())[::order])
      tx = train.scale_by_path(optax.sgd(1.0), given)
      params = make_tree()
      updates, _ = tx.update(params, tx.init(params), params)
      wanted_tree = {
        "backbone": {
          "layer1": {
            "0": {"kernel": wanted[0]},
            "1": {"kernel": wanted[1]},
          },
          "layer10": {"kernel": wanted[2]},
        },
        "fc": {"kernel": wanted[3], "bias": wanted[4]},
      }
      chex.assert_trees_all_close(
        updates,
        jax.tree.map(lambda f, p: -f * p, wanted_tree, params),
        rtol=1e-6,
      )

  def test_is_the_learning_rate_of_a_group(self):
    # Each part trained alone by its own AdamW, as torch's parameter groups.
    def train_alone(params, rate, steps=3):
      tx = optax.adamw(rate, weight_decay=0.1)
      state = tx.init(params)
      for _ in range(steps):
        grads = jax.tree.map(jnp.sin, params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
      return params

    tx = train.scale_by_path(
      optax.adamw(0.1, weight_decay=0.1), {"backbone": 0.5}
    )
    params = make_tree()

    def run(params):
      state = tx.init(params)
      for _ in range(3):
        grads = jax.tree.map(jnp.sin, params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
      return params

    def apart(params):
      return {
        "backbone": train_alone(params["backbone"], 0.05),
        "fc": train_alone(params["fc"], 0.1),
      }

    chex.assert_trees_all_close(
      jax.jit(run)(params), jax.jit(apart)(params), rtol=1e-5
    )

  def test_frozen_parts_do_not_exist_for_the_optimizer(self):
    params = make_tree()
    grads = jax.tree.map(np.ones_like, params)
    grads["backbone"] = jax.tree.map(
      lambda g: g * np.float32(1e20), grads["backbone"]
    )
    tx = train.make_optimizer(
      "adamw",
      0.1,
      weight_decay=0.5,
      clip_norm=1.0,
      factors={"backbone": 0.0},
    )
    alone = train.make_optimizer("adamw", 0.1, weight_decay=0.5, clip_norm=1.0)
    state, wanted_state = tx.init(params), alone.init({"fc": params["fc"]})
    chex.assert_trees_all_equal(
      jax.tree.leaves(state), jax.tree.leaves(wanted_state)
    )
    updates, state = tx.update(grads, state, params)
    wanted, wanted_state = alone.update(
      {"fc": grads["fc"]}, wanted_state, {"fc": params["fc"]}
    )
    chex.assert_trees_all_equal(updates["fc"], wanted["fc"])
    chex.assert_trees_all_equal(
      jax.tree.leaves(state), jax.tree.leaves(wanted_state)
    )
    for leaf in jax.tree.leaves(updates["backbone"]):
      np.testing.assert_array_equal(leaf, 0.0)

  def test_dtypes_stay(self):
    params = {"a": jnp.ones((2, 2), jnp.bfloat16), "b": jnp.ones((2, 2))}
    tx = train.scale_by_path(optax.sgd(1.0), {"a": 0.3})
    updates, _ = tx.update(params, tx.init(params), params)
    chex.assert_trees_all_equal_dtypes(updates, params)

  @parameterized.parameters("backbone.layr1", "layer1", "fc.kern", "fc.bias.x")
  def test_paths_that_lead_nowhere(self, path):
    tx = train.scale_by_path(optax.sgd(1.0), {"fc": 1.0, path: 0.0})
    near = {"layer1": "backbone.layer1", "backbone.layr1": "backbone.layer1"}
    with self.assertRaisesRegex(
      KeyError, f"'{path}'.* 5 begins with.*{near.get(path, 'fc.')}"
    ):
      tx.init(make_tree())

  def test_errors(self):
    for factor in (-0.1, math.nan, math.inf):
      with self.assertRaisesRegex(ValueError, "at least 0, got .* 'fc'"):
        train.scale_by_path(optax.sgd(1.0), {"fc": factor})
    with self.assertRaisesRegex(ValueError, "something to train"):
      train.scale_by_path(optax.sgd(1.0), {"": 0.0}).init(make_tree())
    tx = train.scale_by_path(optax.sgd(1.0), {"fc": 0.0})
    with self.assertRaisesRegex(ValueError, "must be given the parameters"):
      tx.update(make_tree(), tx.init(make_tree()))


class PartsTest(chex.TestCase):
  def test_select_and_merge_are_inverse(self):
    params = make_tree()
    tx = train.scale_by_path(optax.sgd(1.0), {"backbone.layer1": 0.0})
    mask = optimizers.trained_mask(tx, params)
    chosen = optimizers.select(mask, params)
    self.assertLen(jax.tree.leaves(chosen), 3)
    other = jax.tree.map(np.negative, params)
    merged = optimizers.merge(mask, chosen, other)
    chex.assert_trees_all_equal(
      merged["backbone"]["layer1"], other["backbone"]["layer1"]
    )
    chex.assert_trees_all_equal(merged["fc"], params["fc"])
    self.assertTrue(
      all(jax.tree.leaves(optimizers.trained_mask(optax.sgd(1.0), params)))
    )
