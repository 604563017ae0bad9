"""What two processes do together; run by test_distributed, which judges it.

Run: python -m vision_jax.train.launch --processes 2 --devices-per-process 4 --
       python -m tests.train.process_checks FOLDER
"""

import json
import pathlib
import sys

import jax
import numpy as np

from tests.train import small_net as net
from vision_jax import train
from vision_jax.train import distributed

BACKENDS = ("pmap", "shard_map")


def error_of(function, *arguments, **settings):
  """The error of a call as text; "" if there is none."""
  try:
    function(*arguments, **settings)
  except Exception as error:
    return f"{type(error).__name__}: {error}"
  return ""


def compare_steps(folder, steps):
  """Numbers after some updates, for every backend and precision."""
  part, parts = jax.process_index(), jax.process_count()
  found = {}
  for backend, step in steps.items():
    for dtype, stops in net.STOPS.items():
      with jax.enable_x64(dtype is np.float64):
        results = net.train_steps(
          step, net.make_state(dtype), dtype, stops, part=part, parts=parts
        )
      for number, arrays in results.items():
        for i, array in enumerate(arrays):
          name = f"{backend}-{np.dtype(dtype)}-{number}-{i:02d}"
          found[name] = array
  np.savez(folder / f"steps-{part}.npz", **found)


def evaluate():
  """Means over 29 examples, of which one process has more than the other."""
  part, parts = jax.process_index(), jax.process_count()
  data = net.make_batch(3)
  data = {name: np.concatenate([a, a[:13]]) for name, a in data.items()}
  own = {name: a[part::parts] for name, a in data.items()}
  batches = [{name: a[i : i + 8] for name, a in own.items()} for i in (0, 8)]
  results = {}
  for backend in BACKENDS:
    eval_step = train.make_eval_step(net.metric_fn, backend=backend)
    results[backend] = train.evaluate(eval_step, net.make_state(), batches)
    uneven = batches[: 1 + part]
    results[f"uneven {backend}"] = error_of(
      train.evaluate, eval_step, net.make_state(), uneven
    )
  return results


def mistakes():
  """What bad input gives when there are several processes."""
  part, parts = jax.process_index(), jax.process_count()
  make = lambda **settings: train.make_step(  # noqa: E731
    net.loss_fn, net.make_tx(), **settings
  )
  batch = net.make_batch(0, part=part, parts=parts)
  return {
    "twice": error_of(train.start_processes),
    "vmap": error_of(make, backend="vmap"),
    "devices": error_of(make, devices=jax.devices()[1:5]),
    "indivisible": error_of(
      make(), net.make_state(), {name: a[:6] for name, a in batch.items()}
    ),
    "sizes": error_of(
      make(), net.make_state(), net.make_batch(0, part=0, parts=2 ** (part + 1))
    ),
    "states": error_of(make(), net.make_state(seed=part), batch),
    "other folder": error_of(
      train.Checkpoints, pathlib.Path(sys.argv[1]) / f"folder-{part}"
    ),
  }


def save_and_restore(folder, steps):
  """Saves in both placements and restores what one process has saved."""
  part, parts = jax.process_index(), jax.process_count()
  wanted = [np.array(a) for a in net.numbers(net.make_state(seed=5))]
  for backend, step in steps.items():
    state, _ = step(net.make_state(), net.make_batch(0, part=part, parts=parts))
    saved = [np.array(a) for a in net.numbers(state)]
    with train.Checkpoints(folder / backend, best="score") as checkpoints:
      checkpoints.save(1, state, metrics={"score": 1.0})
      target = state
      for number in range(1, 6):  # gives up the buffers while files are written
        target, _ = step(target, net.make_batch(number, part=part, parts=parts))
      restored = checkpoints.restore_latest(target)
      assert restored.step == 1
      assert_equal(restored.state, saved)
      same = jax.tree.map(lambda a, b: a.sharding == b.sharding, state, target)
      assert all(jax.tree.leaves(same))
      step(restored.state, net.make_batch(1, part=part, parts=parts))
      checkpoints.save(2, target, metrics={"score": 0.5})
      assert checkpoints.best_step() == 1
    if part == 0:
      np.savez(folder / f"{backend}.npz", *saved)
    # What one process has saved: step 3 is damaged, step 2 of another model.
    for like in (target, net.make_state()) if backend == "pmap" else (target,):
      with train.Checkpoints(folder / "single") as checkpoints:
        restored = checkpoints.restore_latest(like)
      assert restored.step == 1, restored.step
      assert restored.extra == {"from": "one process"}
      assert_equal(restored.state, wanted)


def fit(folder, steps):
  """The loop with either placement: logs, evaluation, saving, resuming."""
  part, parts = jax.process_index(), jax.process_count()
  batches = lambda number: net.make_batch(number, part=part, parts=parts)  # noqa: E731
  for backend, step in steps.items():
    wanted = net.make_state()
    for number in range(4):
      wanted, _ = step(wanted, batches(number))
    log = folder / f"fit-{backend}.jsonl"
    for num_steps in (2, 4):
      timing = train.Timing()
      with train.Checkpoints(folder / f"fit-{backend}") as checkpoints:
        state = train.fit(
          step,
          net.make_state(),
          batches,
          num_steps=num_steps,
          checkpoints=checkpoints,
          eval_fn=lambda state: {"step": int(state.step)},
          logger=train.JsonLinesLogger(log),
          timing=timing,
          progress=part > 0,  # which must show nothing there
        )
    assert timing.images == net.ROWS
    assert_equal(state, [np.array(a) for a in net.numbers(wanted)])


def assert_equal(state, wanted):
  for a, b in zip(net.numbers(state), wanted, strict=True):
    np.testing.assert_array_equal(a, b)


def write_logs(folder):
  """Loggers and the result; only process 0 may write."""
  loggers = [train.JsonLinesLogger(folder / "log.jsonl")]
  if jax.process_index() > 0:  # importing tensorboardX takes a second
    loggers += [train.TensorBoardLogger(folder / "tensorboard")]
  for logger in loggers:
    logger.rewind(0)
    logger.write(1, {"loss": 1.0 + jax.process_index()})
    logger.close()
  train.write_result(
    folder / f"result-{jax.process_index()}.json", metrics={}, steps=1
  )


def agree():
  """Messages of different lengths, flags, and errors of process 0."""
  part = jax.process_index()
  said = distributed.exchange({"text": "äb" * 1500 * part, "part": part})
  flags = [bool(distributed.any_process(part == i)) for i in range(3)]

  def fail():
    raise KeyError("no such file")

  return {
    "lengths": [len(s["text"]) for s in said],
    "parts": [s["part"] for s in said],
    "flags": flags,
    "first": distributed.on_first_process(lambda: [part, "first"]),
    "failed": error_of(distributed.on_first_process, fail),
  }


def main():
  folder = pathlib.Path(sys.argv[1])
  assert train.start_processes()
  assert jax.process_count() == 2
  assert jax.local_device_count() == 4
  found = {"agree": agree(), "mistakes": mistakes(), "evaluate": evaluate()}
  steps = {
    backend: train.make_step(net.loss_fn, net.make_tx(), backend=backend)
    for backend in BACKENDS
  }
  compare_steps(folder, steps)
  save_and_restore(folder, steps)
  fit(folder, steps)
  write_logs(folder)
  path = folder / f"found-{jax.process_index()}.json"
  path.write_text(json.dumps(found))
  if jax.process_index() == 1:
    raise OSError("the disk went away")
  distributed.exchange("waiting for process 1")


if __name__ == "__main__":
  main()
