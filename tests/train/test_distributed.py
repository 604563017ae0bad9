"""Tests of vision_jax.train.distributed, and of all that two processes do.

Two processes with four devices each run `process_checks` once; here their
numbers are compared with those of this process.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from tests.train import small_net as net
from vision_jax import train
from vision_jax.train import distributed, launch

ROOT = pathlib.Path(__file__).parents[2]
BACKENDS = ("pmap", "shard_map")


def save_as_one_process(folder):
  """Step 1 is good, step 2 of another model, step 3 damaged."""
  other = train.create_state(
    {"w": jnp.zeros(3)}, {}, optax.sgd(0.1), jax.random.key(0)
  )
  with train.Checkpoints(folder, keep=3) as checkpoints:
    extra = {"from": "one process"}
    checkpoints.save(1, net.make_state(seed=5), extra=extra)
    checkpoints.save(2, other)
    checkpoints.save(3, net.make_state(seed=6))
  (folder / "3" / "meta" / "metadata").write_text("{}")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
  """The folder in which two processes left what they found, and their words."""
  folder = tmp_path_factory.mktemp("together")
  save_as_one_process(folder / "single")
  # As a file it starts at once; as a module it is run in test_restart.
  command = [sys.executable, launch.__file__]
  command += ["--processes", "2", "--devices-per-process", "4"]
  command += ["--heartbeat-seconds", "20", "--", sys.executable]
  command += ["-m", "tests.train.process_checks", str(folder)]
  run = subprocess.run(
    command,
    cwd=ROOT,
    env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    capture_output=True,
    text=True,
    timeout=280,
  )
  return folder, run


def found(together, process=0):
  return json.loads((together[0] / f"found-{process}.json").read_text())


def test_the_failure_of_one_ends_both(together):
  folder, run = together
  # Process 1 fails at the very end, while process 0 waits for it.
  assert (folder / "found-0.json").exists(), run.stderr
  assert run.returncode == 1, run.stderr
  assert "[1] OSError: the disk went away" in run.stderr
  assert "[1] process 1 of 2 ends with an error" in run.stderr
  # Either may be gone first: process 0 ends as soon as it hears of the error.
  ended = "launch: process [01] ended with code 1; ending the others"
  assert len(re.findall(ended, run.stderr)) == 1, run.stderr
  # What all processes see is said once.
  assert run.stderr.count("/single/2 cannot be used and is passed over") == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_equal_those_of_one_device(dtype, together, quick_compile):
  del quick_compile
  stops = net.STOPS[dtype]
  with np.load(together[0] / "steps-0.npz") as file:
    first = dict(file)
  with np.load(together[0] / "steps-1.npz") as file:
    chex.assert_trees_all_equal(first, dict(file))
  with jax.enable_x64(dtype is np.float64):
    results = {}
    for backend, number in (("pmap", 1), ("pmap", 8), ("shard_map", 8)):
      step = train.make_step(
        net.loss_fn,
        net.make_tx(),
        backend=backend,
        devices=jax.devices()[:number],
      )
      results[f"1 x {number} {backend}"] = net.train_steps(
        step, net.make_state(dtype), dtype, stops
      )
    start = [
      np.asarray(x) for x in jax.tree.leaves(net.make_state(dtype).params)
    ]
  wanted = results.pop("1 x 1 pmap")
  for backend in BACKENDS:
    prefix = f"{backend}-{np.dtype(dtype)}"
    results[f"2 x 4 {backend}"] = {
      stop: [
        first[n] for n in sorted(first) if n.startswith(f"{prefix}-{stop}-")
      ]
      for stop in stops
    }
  for name, result in results.items():
    for stop in stops:
      error = net.distance(result[stop], wanted[stop])
      print(f"{np.dtype(dtype)} {name}: {error:.1e} after {stop} updates")
      most = 1e-10 if dtype is np.float64 else 1e-5
      assert error <= most, (name, stop, error)
  # The training moved: equality of standing still would prove nothing.
  assert net.distance(start, wanted[stops[0]][: len(start)]) > 0.1


def test_evaluation_counts_every_example_of_every_process(together):
  data = net.make_batch(3)
  data = {name: np.concatenate([a, a[:13]]) for name, a in data.items()}
  bias = np.asarray(net.make_state().params["fc"]["bias"], np.float64).sum()
  value = data["image"].astype(np.float64).mean((1, 2, 3)) * bias
  valid = data["valid"]
  wanted = {
    "value": value[valid].mean(),
    "found": value[valid].sum() / data["label"][valid].sum(),
  }
  for process in range(2):
    results = found(together, process)["evaluate"]
    for backend in BACKENDS:
      got = results[backend]
      text = results[f"uneven {backend}"]
      assert "none for number 2 in process 0" in text, text
      for name, number in wanted.items():
        np.testing.assert_allclose(
          got[name], number, rtol=1e-5, err_msg=backend
        )


def test_one_process_restores_what_two_have_saved(together):
  for backend in BACKENDS:
    with np.load(together[0] / f"{backend}.npz") as file:
      wanted = [file[name] for name in sorted(file, key=lambda n: int(n[4:]))]
    with train.Checkpoints(together[0] / backend, best="score") as checkpoints:
      assert checkpoints.all_steps() == [1, 2]
      restored = checkpoints.restore_best(net.make_state(seed=1))
    assert restored.step == 1
    for got, array in zip(net.numbers(restored.state), wanted, strict=True):
      np.testing.assert_array_equal(got, array)


def test_only_the_first_process_writes(together):
  folder, run = together
  text = (folder / "log.jsonl").read_text()
  assert text == '{"step": 1, "loss": 1.0}\n'
  assert not (folder / "tensorboard").exists()
  for backend in BACKENDS:
    lines = (folder / f"fit-{backend}.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == [2, 2, 4, 4]  # losses, evaluation
  assert "step/s" not in run.stderr
  result = json.loads((folder / "result-0.json").read_text())
  assert result["devices"]["count"] == 8
  assert result["devices"]["processes"] == 2
  assert not (folder / "result-1.json").exists()


def test_they_agree(together):
  failed = ["KeyError: 'no such file'", "RuntimeError: process 0 failed: Key"]
  for process in range(2):
    said = found(together, process)["agree"]
    assert said["lengths"] == [0, 3000]
    assert said["parts"] == [0, 1]
    assert said["flags"] == [True, True, False]
    assert said["first"] == [0, "first"]
    assert said["failed"].startswith(failed[process])


@pytest.mark.parametrize(
  ("mistake", "message"),
  [
    ("twice", "RuntimeError: start_processes: .* connected already"),
    ("vmap", "must be 'pmap' or 'shard_map' with several"),
    ("devices", r"equally many devices of every process, got \[3, 1\]"),
    ("indivisible", "each of 4 devices of this process, got 6 .*use 4 or 8"),
    ("sizes", r"same number of rows in every process, got \[8, 4\]"),
    ("states", "`state` must be the same in all processes.*one seed"),
    ("other folder", r"all processes share, got .*which processes \[1\] do"),
  ],
)
def test_mistakes_are_named(mistake, message, together):
  for process in range(2):
    error = found(together, process)["mistakes"][mistake]
    assert re.search(message, error), error


class StartProcessesTest(chex.TestCase):
  """What it makes of settings; connecting is tested with real processes."""

  def setUp(self):
    super().setUp()
    names = [n for n in os.environ if n.startswith(("SLURM", "OMPI"))]
    names += ["JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"]
    kept = {n: v for n, v in os.environ.items() if n not in names}
    self.enter_context(mock.patch.dict(os.environ, kept, clear=True))
    before = jax.config.jax_enable_preemption_service
    self.addCleanup(jax.config.update, "jax_enable_preemption_service", before)
    self.addCleanup(setattr, sys, "excepthook", sys.excepthook)

  def set(self, **variables):
    os.environ.update({n: str(v) for n, v in variables.items()})

  def test_one_process_needs_nothing(self):
    # Devices are in use here already; for one process that does not matter.
    self.assertFalse(train.start_processes())
    self.assertFalse(train.start_processes(num_processes=1))
    self.set(JAX_NUM_PROCESSES=1, JAX_COORDINATOR_ADDRESS="host:1")
    self.assertFalse(train.start_processes())
    os.environ.pop("JAX_NUM_PROCESSES")
    os.environ.pop("JAX_COORDINATOR_ADDRESS")
    self.set(SLURM_NTASKS=1)
    self.assertFalse(train.start_processes())

  def test_after_devices_were_used(self):
    with self.assertRaisesRegex(
      RuntimeError, "before JAX uses a device.*first"
    ):
      train.start_processes(
        coordinator=f"127.0.0.1:{launch.free_port()}",
        num_processes=2,
        process_id=0,
      )
    self.set(SLURM_NTASKS=2)
    with self.assertRaisesRegex(RuntimeError, "before JAX uses a device"):
      train.start_processes()

  @parameterized.parameters(True, False)
  def test_settings_reach_jax(self, by_environment):
    with socket.socket() as server:
      server.bind(("127.0.0.1", 0))
      server.listen()
      address = f"127.0.0.1:{server.getsockname()[1]}"
      with mock.patch.object(jax.distributed, "initialize") as initialize:
        if by_environment:
          self.set(JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES=3)
          self.set(JAX_PROCESS_ID=2, VISION_JAX_HEARTBEAT_SECONDS=7)
          train.start_processes()
        else:
          train.start_processes(
            coordinator=address,
            num_processes=3,
            process_id=2,
            heartbeat_seconds=7,
          )
    initialize.assert_called_once_with(
      address,
      3,
      2,
      None,
      initialization_timeout=300,
      heartbeat_timeout_seconds=7,
    )

  def test_schedulers_are_left_to_jax(self):
    self.set(SLURM_NTASKS=2, SLURM_PROCID=1)
    with mock.patch.object(jax.distributed, "initialize") as initialize:
      train.start_processes(local_devices=[0, 1])
    self.assertEqual(initialize.call_args.args, (None, None, None, [0, 1]))

  @parameterized.named_parameters(
    ("address", {"coordinator": "host"}, "must be 'host:port', got 'host'"),
    ("number", {"num_processes": 0}, "`num_processes` must be a count, got 0"),
    (
      "place",
      {"num_processes": 2, "process_id": 2},
      "must be 0 to 1 for 2 processes, got 2",
    ),
    (
      "missing",
      {"num_processes": 2},
      "`coordinator`, `num_processes` and `process_id` must all .*launch",
    ),
  )
  def test_bad_settings(self, settings, message):
    missing = ValueError("coordinator_address should be defined.")
    with (
      mock.patch.object(jax.distributed, "initialize", side_effect=missing),
      self.assertRaisesRegex(ValueError, message),
    ):
      train.start_processes(**settings)

  def test_bad_variable(self):
    self.set(JAX_NUM_PROCESSES="two")
    with self.assertRaisesRegex(ValueError, "'two' from .* JAX_NUM_PROCESSES"):
      train.start_processes()

  def test_nobody_answers(self):
    settings = {"num_processes": 2, "timeout_seconds": 0}
    with self.assertRaisesRegex(TimeoutError, "answer at 127.0.0.1:.* refused"):
      train.start_processes(
        coordinator=f"127.0.0.1:{launch.free_port()}", process_id=1, **settings
      )
    with socket.socket() as server:
      server.bind(("", 0))
      server.listen()
      port = server.getsockname()[1]
      with self.assertRaisesRegex(RuntimeError, f"a free port, got {port}"):
        train.start_processes(
          coordinator=f"127.0.0.1:{port}", process_id=0, **settings
        )


class OneProcessTest(chex.TestCase):
  def test_agreeing_with_oneself(self):
    self.assertEqual(distributed.exchange([1, "a"]), [[1, "a"]])
    self.assertEqual(distributed.on_first_process(lambda: 3), 3)
    with self.assertRaisesRegex(KeyError, "x"):
      distributed.on_first_process(lambda: {}["x"])
    for flag in (True, False):
      self.assertEqual(bool(distributed.any_process(flag)), flag)
