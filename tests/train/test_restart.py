"""Runs that are killed go on as if nothing had been: bit for bit on the CPU.

`VISION_JAX_KILLS=20` runs the long form, with as many kills.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import compilation
from tests.train import restart_program as program
from vision_jax import train
from vision_jax.train import launch

KILLS = int(os.environ.get("VISION_JAX_KILLS", "3"))
TIMEOUT = 60
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def step():
  """One compilation of the program's step, as the programs compile it."""
  with compilation.quick_compile():
    function = program.make_step()
    function(program.make_state(), next(program.Batches()))
    yield function


@pytest.fixture(scope="module")
def straight(step):
  """The numbers of a run that nobody interrupted."""
  state = train.fit(
    step,
    program.make_state(),
    program.Batches(),
    num_steps=program.NUM_STEPS,
    progress=False,
  )
  return numbers(state)


def numbers(state):
  tree = state._replace(key=jax.random.key_data(state.key))
  return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


def start(folder, number=0, *words, **variables):
  """The program as a process of its own."""
  errors = open(folder / f"errors-{number}.txt", "ab")
  program = [sys.executable, "-m", "tests.train.restart_program", str(folder)]
  return subprocess.Popen(
    [*program, *words],
    stdout=subprocess.PIPE,
    stderr=errors,
    text=True,
    env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **variables},
    cwd=ROOT,
  )


def wait_for(process, name, least):
  """Reads lines until `name` has a number of at least `least`."""
  for line in process.stdout:
    word, _, number = line.partition(" ")
    if word == name and int(number) >= least:
      return int(number)
  raise AssertionError(f"the program ended before {name} {least}")


def newest(folder):
  """The newest finished checkpoint, and whether one was being written."""
  names = os.listdir(folder / "checkpoints")
  steps = [int(name) for name in names if name.isdecimal()]
  return max(steps, default=0), any("tmp" in name for name in names)


def read_steps(folder):
  """Steps in the log of a run, in the order of the lines."""
  lines = (folder / "log.jsonl").read_text().splitlines()
  return [json.loads(line)["step"] for line in lines]


def test_kills_at_random_moments_change_nothing(tmp_path, step, straight):
  rng = np.random.default_rng(0)
  # Moments are drawn over the run: the update, and the part of the time of one
  # update. Every fourth kill comes while the program starts and restores.
  moments = np.sort(rng.uniform(1, program.NUM_STEPS - 2, KILLS))
  inside, kept, pace, startup = 0, 0, 0.05, 1.0
  for number, moment in enumerate(moments):
    process = start(tmp_path)
    wait_for(process, "process", 0)
    began = time.monotonic()
    if number % 4 == 3:
      time.sleep(rng.uniform(0, startup))
    else:
      first = wait_for(process, "update", 0)
      # Nothing that was finished is lost, and nothing is made up.
      assert first == kept, (first, kept)
      startup = time.monotonic() - began
      if moment > first:
        began = time.monotonic()
        last = wait_for(process, "update", int(moment))
        pace = (time.monotonic() - began) / max(last - first, 1)
      time.sleep(moment % 1 * pace)
    process.kill()
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGKILL
    before = kept
    kept, writing = newest(tmp_path)
    inside += writing
    assert kept >= before
  print(f"{KILLS} kills, {inside} of them while a checkpoint was written")
  if KILLS >= 20:
    assert inside >= 3
  state = program.run(tmp_path, step, program.Batches())
  for got, wanted in zip(numbers(state), straight, strict=True):
    np.testing.assert_array_equal(got, wanted)
  assert read_steps(tmp_path) == list(range(1, program.NUM_STEPS + 1))
  left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
  assert left == {str(program.NUM_STEPS - 2), str(program.NUM_STEPS)}


def test_kills_inside_a_save_and_inside_restoring(tmp_path, step, straight):
  every = program.SAVE_EVERY
  for word in ("save", "restore"):
    process = start(tmp_path, 0, word)
    words, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGKILL
    assert "finished" not in words
    kept, writing = newest(tmp_path)
    # The third save has no name, the second one has.
    assert kept == 2 * every
    if word == "save":
      assert writing
      assert f"update {3 * every - 1}\n" in words
    else:
      assert "update" not in words
  state = program.run(tmp_path, step, program.Batches())
  for got, wanted in zip(numbers(state), straight, strict=True):
    np.testing.assert_array_equal(got, wanted)
  assert read_steps(tmp_path) == list(range(1, program.NUM_STEPS + 1))
  assert newest(tmp_path) == (program.NUM_STEPS, False)


def test_two_processes_stop_die_and_go_on(tmp_path, step, straight):
  # A signal to one of them: both save the same step and end with code 143.
  done = stop_one_of_two(tmp_path)
  assert 6 <= done < program.NUM_STEPS
  assert newest(tmp_path) == (done, False)
  assert read_steps(tmp_path) == list(range(1, done + 1))
  # A death: the other one ends, soon and by itself, and says so.
  kill_one_of_two(tmp_path, after=done)
  kept, _ = newest(tmp_path)
  assert kept > done
  # The rest in one process, with as many devices.
  state = program.run(tmp_path, step, program.Batches())
  assert read_steps(tmp_path) == list(range(1, program.NUM_STEPS + 1))
  for got, wanted in zip(numbers(state), straight, strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


def stop_one_of_two(folder):
  """SIGTERM to process 1 under the launcher; the step that was saved."""
  command = [sys.executable, "-m", "vision_jax.train.launch"]
  command += ["--processes", "2", "--devices-per-process", "1"]
  command += ["--heartbeat-seconds", "10", "--", sys.executable]
  command += ["-m", "tests.train.restart_program", str(folder)]
  launcher = subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    cwd=ROOT,
  )
  pid = None
  for line in launcher.stdout:
    words = line.split()
    if words[:2] == ["[1]", "process"]:
      pid = int(words[2])
    if words[:2] == ["[1]", "update"] and int(words[2]) >= 5:
      break
  os.kill(pid, signal.SIGTERM)
  _, errors = launcher.communicate(timeout=TIMEOUT)
  assert launcher.returncode == 143, errors
  assert "Traceback" not in errors, errors
  saved = re.findall(r"^\[(\d)\].*SIGTERM: saved step (\d+)", errors, re.M)
  assert sorted(number for number, _ in saved) == ["0", "1"], errors
  (done,) = {int(number) for _, number in saved}
  return done


def kill_one_of_two(folder, after):
  """SIGKILL to process 1 of two that nobody watches, started as by SLURM."""
  shared = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "JAX_COORDINATOR_PORT": str(launch.free_port()),
    "JAX_NUM_CPU_DEVICES": "1",
    "VISION_JAX_HEARTBEAT_SECONDS": "5",
  }
  processes = [
    start(folder, n, **shared, SLURM_PROCID=str(n), SLURM_LOCALID=str(n))
    for n in range(2)
  ]
  try:
    first = wait_for(processes[1], "update", 0)
    assert first == after
    wait_for(processes[1], "update", after + 6)
    processes[1].kill()
    began = time.monotonic()
    processes[0].communicate(timeout=TIMEOUT)
    assert time.monotonic() - began < 30
  finally:
    for process in processes:
      process.kill()
      process.communicate(timeout=TIMEOUT)
  assert processes[0].returncode not in (0, 143)
  errors = (folder / "errors-0.txt").read_text()
  assert re.search("another one has died|another task died", errors), errors
