"""Tests of vision_jax.train.loop: exact restarts, and clean ends."""

import json
import os
import pathlib
import signal
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from flax import linen as nn

from vision_jax import train


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(6, name="hidden")(x)
    x = nn.BatchNorm(
      use_running_average=False,
      axis_name="batch",
      use_fast_variance=False,
      name="norm",
    )(x)
    return nn.Dense(1, name="out")(jnp.tanh(x))[:, 0]


def loss_fn(params, batch_stats, batch, key):
  noise = jax.random.uniform(key, (3,))[None]
  y, updates = Net().apply(
    {"params": params, "batch_stats": batch_stats},
    batch["x"] + 0.1 * noise,
    mutable=["batch_stats"],
  )
  return {"l2": (((y - batch["y"]) ** 2).sum(), y.size)}, updates


TX = optax.adam(0.01)
STEP = train.make_step(loss_fn, TX)  # one compilation for the whole file


def make_state():
  rng = np.random.default_rng(0)
  dense = lambda m, n: {  # noqa: E731
    "kernel": rng.normal(size=(m, n)).astype(np.float32),
    "bias": np.zeros(n, np.float32),
  }
  params = {
    "hidden": dense(3, 6),
    "norm": {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)},
    "out": dense(6, 1),
  }
  stats = {"norm": {"mean": jnp.zeros(6), "var": jnp.ones(6)}}
  return train.create_state(params, stats, TX, jax.random.key(0))


def batches(step):
  rng = np.random.default_rng(step)
  x = rng.normal(size=(16, 3)).astype(np.float32)
  return {"x": x, "y": np.sin(x).sum(-1)}


class Positions:
  """Iterator with a position, as Grain's."""

  def __init__(self):
    self.next = 0

  def __iter__(self):
    return self

  def __next__(self):
    self.next += 1
    return batches(self.next - 1)

  def get_state(self):
    return {"next_index": self.next}

  def set_state(self, state):
    self.next = state["next_index"]


def assert_same(got, wanted):
  as_numbers = lambda s: s._replace(key=jax.random.key_data(s.key))  # noqa: E731
  chex.assert_trees_all_equal(
    jax.tree.map(np.asarray, as_numbers(got)),
    jax.tree.map(np.asarray, as_numbers(wanted)),
  )


def fit(state, batches, **settings):
  return train.fit(STEP, state, batches, progress=False, **settings)


class RestartTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder: pathlib.Path = tmp_path

  @parameterized.named_parameters(
    ("function", lambda: batches),
    ("iterable", lambda: (batches(i) for i in range(100))),
    ("positions", Positions),
  )
  def test_half_and_half_equals_straight(self, source):
    straight = fit(make_state(), source(), num_steps=12)
    self.assertEqual(int(straight.step), 12)
    for num_steps in (6, 12):
      with train.Checkpoints(self.folder / "c") as checkpoints:
        state = fit(
          make_state(),
          source(),
          num_steps=num_steps,
          checkpoints=checkpoints,
          checkpoint_every=5,
          max_in_flight=num_steps // 4,
        )
    assert_same(state, straight)
    with train.Checkpoints(self.folder / "c") as checkpoints:
      self.assertEqual(checkpoints.all_steps(), [10, 12])
      # A finished run is returned as it is.
      again = fit(make_state(), source(), num_steps=12, checkpoints=checkpoints)
      assert_same(again, straight)

  def test_continuing_a_state_needs_no_checkpoint(self):
    straight = fit(make_state(), batches, num_steps=6)
    iterator = Positions()
    half = fit(make_state(), iterator, num_steps=3)
    assert_same(fit(half, iterator, num_steps=6), straight)

  def test_killed_run_leaves_one_log(self):
    path = self.folder / "log.jsonl"

    def broken(step):
      if step == 8:
        raise OSError("the disk went away")
      return batches(step)

    settings = {
      "num_steps": 12,
      "checkpoint_every": 5,
      "log_every": 2,
      "logger": train.JsonLinesLogger(path),
    }
    with (
      self.assertRaisesRegex(OSError, "went away"),
      train.Checkpoints(self.folder / "c") as checkpoints,
    ):
      fit(make_state(), broken, checkpoints=checkpoints, **settings)
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    self.assertEqual([x["step"] for x in lines], [2, 4, 6, 8])
    with train.Checkpoints(self.folder / "c") as checkpoints:
      state = fit(make_state(), batches, checkpoints=checkpoints, **settings)
    lines = [json.loads(x) for x in path.read_text().splitlines()]
    self.assertEqual([x["step"] for x in lines], [2, 4, 6, 8, 10, 12])
    assert_same(state, fit(make_state(), batches, num_steps=12))

  def test_sigterm_saves_and_ends(self):
    before = signal.getsignal(signal.SIGTERM)

    def stopping(step):
      if step == 7:
        os.kill(os.getpid(), signal.SIGTERM)
      return batches(step)

    with train.Checkpoints(self.folder / "c") as checkpoints:
      with self.assertRaises(train.Preempted) as caught:
        fit(make_state(), stopping, num_steps=12, checkpoints=checkpoints)
      self.assertEqual(caught.exception.code, 143)
      self.assertEqual(caught.exception.step, 8)
      self.assertEqual(checkpoints.all_steps(), [8])
    self.assertIs(signal.getsignal(signal.SIGTERM), before)
    with train.Checkpoints(self.folder / "c") as checkpoints:
      state = fit(make_state(), batches, num_steps=12, checkpoints=checkpoints)
    self.assertIs(signal.getsignal(signal.SIGTERM), before)
    assert_same(state, fit(make_state(), batches, num_steps=12))


class GuardTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder: pathlib.Path = tmp_path

  @parameterized.parameters((2, "13 to 14"), (100, "11 to 15"))
  def test_names_update_interval_and_term(self, log_every, interval):
    def poisoned(step):
      batch = batches(step)
      if step == 12:
        batch["y"] = batch["y"] / 0
      return batch

    with train.Checkpoints(self.folder) as checkpoints:
      with (
        np.errstate(all="ignore"),
        self.assertRaisesRegex(
          train.NonFiniteError,
          rf"l2 = inf at update 13 \(updates {interval} .* step 10\).*batch 12",
        ) as caught,
      ):
        fit(
          make_state(),
          poisoned,
          num_steps=30,
          checkpoints=checkpoints,
          checkpoint_every=5,
          log_every=log_every,
        )
      self.assertEqual(caught.exception.step, 13)
      self.assertEqual(caught.exception.names, ("l2",))
      # Nothing after the bad update was saved.
      self.assertEqual(checkpoints.all_steps(), [5, 10])

  def test_gradient_alone(self):
    metrics = {"loss": 1.0, "l2": 1.0, "grad_norm": float("nan")}
    with self.assertRaisesRegex(
      train.NonFiniteError, "grad_norm = nan at update 1 .*no checkpoint"
    ):
      train.fit(
        lambda state, batch: (state, metrics),
        make_state(),
        batches,
        num_steps=3,
        progress=False,
      )

  def test_a_metric_of_the_user_may_be_infinite(self):
    metrics = {"loss": 1.0, "l2": 1.0, "psnr": float("inf")}
    train.fit(
      lambda state, batch: (state, metrics),
      make_state(),
      batches,
      num_steps=3,
      progress=False,
    )

  def test_batches_that_end(self):
    with self.assertRaisesRegex(ValueError, "end before update 3; repeat"):
      fit(make_state(), [batches(0), batches(1)], num_steps=3)

  def test_bad_intervals(self):
    for name in ("checkpoint_every", "eval_every", "log_every"):
      with self.assertRaisesRegex(ValueError, f"`{name}` must be at least 1"):
        fit(make_state(), batches, num_steps=3, **{name: 0})


class RecordTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, capsys):
    self.folder: pathlib.Path = tmp_path
    self.screen = capsys

  def test_logs_evaluations_and_the_best(self):
    scores = {4: 0.5, 8: 0.9, 12: 0.1, 14: 0.2}
    seen = []

    def eval_fn(state):
      seen.append(int(state.step))
      return {"score": scores[int(state.step)]}

    logs = [train.JsonLinesLogger(self.folder / f"{i}.jsonl") for i in range(2)]
    timing = train.Timing()
    with train.Checkpoints(self.folder / "c", keep=1, best="score") as saved:
      train.fit(
        STEP,
        make_state(),
        batches,
        num_steps=14,
        checkpoints=saved,
        checkpoint_every=4,
        eval_fn=eval_fn,
        logger=logs,
        log_every=7,
        timing=timing,
      )
      self.assertEqual(saved.all_steps(), [8, 14])
      self.assertEqual(saved.best_step(), 8)
    self.assertEqual(seen, [4, 8, 12, 14])
    texts = [(self.folder / f"{i}.jsonl").read_text() for i in range(2)]
    self.assertEqual(texts[0], texts[1])
    lines = [json.loads(line) for line in texts[0].splitlines()]
    self.assertEqual([x["step"] for x in lines], [4, 7, 8, 12, 14, 14])
    self.assertEqual(lines[0], {"step": 4, "eval/score": 0.5})
    self.assertEqual(
      set(lines[1]),
      {
        "step",
        "loss",
        "l2",
        "grad_norm",
        "steps_per_second",
        "images_per_second",
      },
    )
    self.assertEqual(timing.images, 13 * 16)
    self.assertGreater(timing.images_per_second, 0)
    self.assertGreater(timing.seconds_to_first_step, 0)
    bar = self.screen.readouterr().err
    self.assertIn("14/14", bar)
    self.assertIn("loss=", bar)

  def test_batches_on_the_devices_give_the_same_run(self):
    timing = train.Timing()
    placed = (STEP.put(batches(step)) for step in range(4))
    got = train.fit(
      STEP, make_state(), placed, num_steps=4, timing=timing, progress=False
    )
    assert_same(got, fit(make_state(), batches, num_steps=4))
    self.assertEqual(timing.images, 3 * 16)

  def test_logged_numbers_are_means_of_the_interval(self):
    path = self.folder / "log.jsonl"
    losses = iter([1.0, 2.0, 6.0, 5.0])
    train.fit(
      lambda state, batch: (state, {"loss": next(losses)}),
      make_state(),
      batches,
      num_steps=4,
      log_every=3,
      logger=train.JsonLinesLogger(path),
      progress=False,
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    self.assertEqual([x["loss"] for x in lines], [3.0, 5.0])
    self.assertEqual(self.screen.readouterr().err, "")

  def test_works_outside_the_main_thread(self):
    states = []

    def work():
      with train.Checkpoints(self.folder / "c") as checkpoints:
        states.append(
          fit(make_state(), batches, num_steps=2, checkpoints=checkpoints)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    self.assertEqual(int(states[0].step), 2)
