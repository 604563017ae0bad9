"""A training run that may be killed at any moment; run by test_restart.

Run: python -m tests.train.restart_program FOLDER [save | restore]

With a second word it kills itself: inside its third save, when the files have
no final name yet and one of them is half written; or inside restoring, when a
checkpoint was chosen and is about to be read.
"""

import contextlib
import os
import pathlib
import signal
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from vision_jax import train
from vision_jax.train import checkpoint

DEVICES = 2  # in all
NUM_STEPS = 30
SAVE_EVERY = 2
ROWS = 8


class Net(nn.Module):
  """Dense layers around a synchronised batch norm."""

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(6, use_bias=False, name="hidden")(x)
    x = nn.BatchNorm(
      use_running_average=False,
      axis_name="batch",
      use_fast_variance=False,
      name="norm",
    )(x)
    return nn.Dense(1, name="out")(jnp.tanh(x))[:, 0]


def loss_fn(params, batch_stats, batch, key):
  """Squares, with a draw from the key of the run and the update."""
  y, updates = Net().apply(
    {"params": params, "batch_stats": batch_stats},
    batch["x"] + 0.1 * jax.random.uniform(key, (3,))[None],
    mutable=["batch_stats"],
  )
  return {"l2": (((y - batch["y"]) ** 2).sum(), y.size)}, updates


class Batches:
  """The rows of this process, in an order that only a generator knows.

  Its state is the position, as in Grain; nothing follows from the number of the
  update, so that a restart without the position would see other batches.
  """

  def __init__(self, *, report=False):
    self._generator = np.random.default_rng(3)
    self._number = 0
    self._report = report

  def __iter__(self):
    return self

  def __next__(self):
    if self._report:
      print("update", self._number, flush=True)
    self._number += 1
    x = self._generator.normal(size=(ROWS, 3)).astype(np.float32)
    share = ROWS // jax.process_count()
    rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
    return {"x": x[rows], "y": np.sin(x[rows]).sum(-1)}

  def get_state(self):
    return {"number": self._number, **self._generator.bit_generator.state}

  def set_state(self, state):
    self._number = state["number"]
    self._generator.bit_generator.state = {
      name: value for name, value in state.items() if name != "number"
    }


def make_tx():
  return optax.sgd(0.05, momentum=0.9)


def make_step():
  return train.make_step(loss_fn, make_tx(), devices=jax.devices()[:DEVICES])


def make_state():
  rng = np.random.default_rng(0)
  params = {
    "hidden": {"kernel": rng.normal(size=(3, 6)).astype(np.float32)},
    "norm": {"scale": np.ones(6, np.float32), "bias": np.zeros(6, np.float32)},
    "out": {
      "kernel": rng.normal(size=(6, 1)).astype(np.float32),
      "bias": np.zeros(1, np.float32),
    },
  }
  stats = {
    "norm": {"mean": np.zeros(6, np.float32), "var": np.ones(6, np.float32)}
  }
  return train.create_state(params, stats, make_tx(), jax.random.key(0))


def run(folder, step, batches):
  """Trains to the end, from wherever the folder says."""
  with train.Checkpoints(folder / "checkpoints") as checkpoints:
    return train.fit(
      step,
      make_state(),
      batches,
      num_steps=NUM_STEPS,
      checkpoints=checkpoints,
      checkpoint_every=SAVE_EVERY,
      logger=train.JsonLinesLogger(folder / "log.jsonl"),
      log_every=1,
      progress=False,
    )


def die_in_save(calls):
  """In place of `write_checksums`; dies the third time."""
  write = checkpoint.write_checksums

  def die(folder):
    calls.append(folder)
    if len(calls) < 3:
      return write(folder)
    files = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)

  return mock.patch.object(checkpoint, "write_checksums", die)


def die_in_restore():
  """In place of reading a checkpoint."""

  def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

  return mock.patch.object(train.Checkpoints, "_read", die)


def main():
  print("process", os.getpid(), flush=True)
  train.start_processes()
  folder = pathlib.Path(sys.argv[1])
  deaths = {
    (): contextlib.nullcontext,
    ("save",): lambda: die_in_save([]),
    ("restore",): die_in_restore,
  }
  with deaths[tuple(sys.argv[2:])]():
    state = run(folder, make_step(), Batches(report=True))
  print("finished", int(state.step), flush=True)


if __name__ == "__main__":
  main()
