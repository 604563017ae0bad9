"""Tests of input pipelines: order, shards, resuming, workers, bad examples."""

import logging
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax import data

ROOT = pathlib.Path(__file__).parents[2]


class Numbers:
  """Examples that hold their index; some cannot be read, some kill."""

  name, split = "numbers", "train"

  def __init__(self, count, *, bad=(), deadly=()):
    self.count, self.bad, self.deadly = count, bad, deadly

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    if index in self.bad:
      raise data.DataError(f"record {index} of file a.array_record is damaged.")
    if index in self.deadly:
      os._exit(9)
    return {"x": np.float32(index), "pid": np.int64(os.getpid())}


def _draw(example, rng):
  return {**example, "draw": rng.integers(2**40)}


def _pipeline(source, **changes):
  settings = {
    "batch_size": 6,
    "seed": 4,
    "transforms": [_draw],
    "process_index": 0,
    "process_count": 1,
    "num_threads": 2,
  }
  return data.make_pipeline(source, **{**settings, **changes})


def _take(batches, count):
  """The next batches, with no trace of which process made them."""
  taken = [next(batches) for _ in range(count)]
  for batch in taken:
    batch.pop("pid", None)
  return taken


def _assert_equal(found, expected):
  assert len(found) == len(expected)
  for one, other in zip(found, expected, strict=True):
    assert set(one) == set(other)
    for name, value in one.items():
      np.testing.assert_array_equal(value, other[name], err_msg=name)


class OrderTest(parameterized.TestCase):
  @parameterized.parameters((24, 6), (25, 6), (5, 8), (7, 7))
  def test_every_example_once_an_epoch(self, count, batch_size):
    batches = iter(_pipeline(Numbers(count), batch_size=batch_size))
    total = 3 * count // batch_size + 1
    rows = np.concatenate([b["index"] for b in _take(batches, total)])
    batches.close()
    epochs = rows[: 3 * count].reshape(3, count)
    for epoch in epochs:
      np.testing.assert_array_equal(np.sort(epoch), np.arange(count))
    self.assertLen({tuple(epoch) for epoch in epochs}, 3)

  @parameterized.parameters(1, 2, 3, 6)
  def test_processes_share_each_global_batch_in_order(self, count):
    source = Numbers(25)
    whole = _take(iter(_pipeline(source, batch_size=6)), 12)
    parts = [
      _take(
        iter(
          _pipeline(
            source, batch_size=6, process_index=index, process_count=count
          )
        ),
        12,
      )
      for index in range(count)
    ]
    joined = [
      {name: np.concatenate([p[name] for p in rows]) for name in rows[0]}
      for rows in zip(*parts, strict=True)
    ]
    _assert_equal(joined, whole)

  def test_draws_do_not_depend_on_the_place_in_the_batch(self):
    found = []
    for batch_size, threads in ((6, 1), (4, 3), (8, 0)):
      batches = iter(
        _pipeline(Numbers(24), batch_size=batch_size, num_threads=threads)
      )
      taken = _take(batches, 48 // batch_size)
      rows = {n: np.concatenate([b[n] for b in taken]) for n in taken[0]}
      found.append(rows)
    _assert_equal(found[1:], found[:1] * 2)
    epochs = found[0]["draw"].reshape(2, 24)
    self.assertEmpty(set(epochs[0]) & set(epochs[1]))

  def test_the_end_is_filled_up(self):
    pipeline = _pipeline(Numbers(10), batch_size=4, epochs=2, shuffle=False)
    self.assertLen(pipeline, 5)
    for _ in range(2):  # it can be gone through again
      batches = list(pipeline)
      self.assertLen(batches, 5)
      rows = np.concatenate([b["index"][b["valid"]] for b in batches])
      np.testing.assert_array_equal(rows, [*range(10), *range(10)])
      self.assertTrue(batches[-1]["valid"].all())
    last = list(_pipeline(Numbers(10), batch_size=4, epochs=1))[-1]
    np.testing.assert_array_equal(last["valid"], [True, True, False, False])
    self.assertFalse(last["x"][2:].any())
    with self.assertRaisesRegex(TypeError, "`epochs` must be given"):
      len(_pipeline(Numbers(10)))

  def test_seeds_differ(self):
    first, second = (
      np.concatenate(
        [b["index"] for b in _take(iter(_pipeline(Numbers(60), seed=s)), 10)]
      )
      for s in (0, 1)
    )
    self.assertFalse(np.array_equal(first, second))

  def test_jax_tells_the_processes(self):
    pipeline = data.make_pipeline(Numbers(8), batch_size=4, seed=0)
    self.assertEqual(next(iter(pipeline))["x"].shape, (4,))


class StateTest(parameterized.TestCase):
  @parameterized.parameters(0, 1, 4, 7)
  def test_resume_is_exact(self, at):
    pipeline = _pipeline(Numbers(25))
    batches = iter(pipeline)
    expected = _take(batches, 9)
    again = iter(pipeline)
    _take(again, at)
    state = again.get_state()
    _take(again, 2)  # read on before the stop
    again.set_state(state)
    _assert_equal(_take(again, 9 - at), expected[at:])
    fresh = iter(_pipeline(Numbers(25), num_threads=1))
    fresh.set_state(state)
    _assert_equal(_take(fresh, 9 - at), expected[at:])

  def test_resume_with_other_processes(self):
    whole = iter(_pipeline(Numbers(25)))
    expected = _take(whole, 6)[3:]
    half = iter(_pipeline(Numbers(25), process_count=2))
    _take(half, 3)
    again = iter(_pipeline(Numbers(25)))
    again.set_state(half.get_state())
    _assert_equal(_take(again, 3), expected)

  def test_the_end_can_be_resumed(self):
    pipeline = _pipeline(Numbers(10), epochs=1)
    batches = iter(pipeline)
    list(batches)
    again = iter(pipeline)
    again.set_state(batches.get_state())
    self.assertEmpty(list(again))
    longer = iter(_pipeline(Numbers(10), epochs=3))
    longer.set_state(batches.get_state())
    self.assertLen(list(longer), 3)

  @parameterized.parameters(
    ({"batch_size": 12}, "batch_size 6 for 12"),
    ({"seed": 5}, "seed 4 for 5"),
    ({"shuffle": False}, "shuffle True for False"),
  )
  def test_changed_settings_are_refused(self, change, message):
    state = iter(_pipeline(Numbers(25))).get_state()
    batches = iter(_pipeline(Numbers(25), **change))
    with self.assertRaisesRegex(
      ValueError, f"must be of the same pipeline, got {message}; resume with"
    ):
      batches.set_state(state)

  def test_other_data_and_foreign_states_are_refused(self):
    state = iter(_pipeline(Numbers(24))).get_state()
    batches = iter(_pipeline(Numbers(25)))
    with self.assertRaisesRegex(ValueError, "examples 24 for 25"):
      batches.set_state(state)
    with self.assertRaisesRegex(ValueError, "examples None for 25"):
      batches.set_state({"next_index": 3})

  def test_training_resumes_through_a_checkpoint(self):
    """What `fit` saves and restores leads to the same batches."""
    from vision_jax import train  # not in the workers: it takes a second

    seen = []

    def step_fn(state, batch):
      seen.append(batch["index"].tolist())
      return state._replace(step=state.step + 1), {"loss": np.float32(0)}

    def run(num_steps, directory, ahead):
      state = train.TrainState(
        np.zeros((), np.int32), np.zeros(2), {}, {}, np.zeros(2)
      )
      batches = _pipeline(Numbers(25))
      if ahead:
        batches = data.prefetch_to_device(batches, lambda batch: batch)
      with train.Checkpoints(directory) as checkpoints:
        train.fit(
          step_fn,
          state,
          batches,
          num_steps=num_steps,
          checkpoints=checkpoints,
          progress=False,
        )

    expected = [
      b["index"].tolist() for b in _take(iter(_pipeline(Numbers(25))), 6)
    ]
    for ahead in (False, True):
      with tempfile.TemporaryDirectory() as directory:
        seen.clear()
        run(3, directory, ahead)
        run(6, directory, ahead)
      self.assertEqual(seen, expected)


class BadExamplesTest(absltest.TestCase):
  def test_stop_names_the_example_and_is_repeated(self):
    source = Numbers(12, bad=(7,))
    batches = iter(_pipeline(source, shuffle=False))
    next(batches)
    for _ in range(2):
      with self.assertRaisesRegex(
        data.DataError,
        "example 7 of 'numbers', split 'train' .*record 7 of file",
      ):
        next(batches)
    source.bad = ()
    np.testing.assert_array_equal(next(batches)["x"], range(6, 12))

  def test_skip_warns_once_for_each_example_and_counts(self):
    source = Numbers(12, bad=(3, 7))
    batches = iter(_pipeline(source, shuffle=False, on_error="skip", epochs=3))
    with self.assertLogs("vision_jax.data.pipelines", logging.WARNING) as logs:
      rows = list(batches)
    self.assertLen(logs.output, 2)
    self.assertIn(
      "skipping example 3 of 'numbers', split 'train'", logs.output[0]
    )
    self.assertIn("record 7 of file a.array_record", logs.output[1])
    self.assertIn("(2 skipped so far)", logs.output[1])
    self.assertEqual(set(batches.skipped), {3, 7})
    valid = np.concatenate([b["valid"] for b in rows]).reshape(3, 12)
    np.testing.assert_array_equal(
      valid.sum(0), np.isin(range(12), (3, 7), invert=True) * 3
    )

  def test_objects_left_out_are_counted(self):
    source = [{"boxes": np.ones((n, 4), np.float32)} for n in (1, 5, 2, 3)]
    pad = data.as_transform(data.pad_example, max_objects=2)
    batches = iter(
      data.make_eval_batches(
        source, batch_size=2, transforms=[pad], process_index=0, process_count=1
      )
    )
    with self.assertLogs("vision_jax.data.pipelines", logging.WARNING) as logs:
      list(batches)
    self.assertLen(logs.output, 1)
    self.assertEqual(batches.left_out, 4)

  def test_shapes_that_differ_name_the_entry(self):
    source = [{"image": np.zeros((4, 4 + i, 3), np.uint8)} for i in range(4)]
    with self.assertRaisesRegex(ValueError, "`image` must have one shape"):
      next(iter(_pipeline(source, batch_size=2)))


class SettingsTest(parameterized.TestCase):
  @parameterized.parameters(
    ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
    ({"epochs": 0}, "`epochs` must be at least 1"),
    ({"num_threads": -1}, "`num_threads` must be at least 0"),
    ({"num_workers": -2}, "`num_workers` must be at least 0"),
    ({"seed": -1}, "`seed` must be at least 0"),
    ({"process_count": 4}, "multiple of `process_count`.*got 6, 4, 0"),
    ({"process_index": 2, "process_count": 2}, "got 6, 2, 2"),
    ({"on_error": "warn"}, '`on_error` must be "stop" or "skip", got \'warn\''),
  )
  def test_errors(self, change, message):
    with self.assertRaisesRegex(
      ValueError, f"make_pipeline: {message}|{message}"
    ):
      _pipeline(Numbers(8), **change)

  def test_empty_source(self):
    with self.assertRaisesRegex(ValueError, "at least one example.*'numbers'"):
      _pipeline(Numbers(0))


class EvalBatchesTest(parameterized.TestCase):
  @parameterized.product(count=(1, 6, 13, 19), processes=(1, 2, 3))
  def test_everything_once_on_any_number_of_processes(self, count, processes):
    parts = [
      list(
        data.make_eval_batches(
          Numbers(count, bad=(2,)),
          batch_size=6,
          process_index=index,
          process_count=processes,
          on_error="skip",
        )
      )
      for index in range(processes)
    ]
    self.assertEqual({len(part) for part in parts}, {-(-count // 6)})
    rows = []
    for batches in zip(*parts, strict=True):
      for batch in batches:
        self.assertLen(batch["valid"], 6 // processes)
        rows += batch["index"][batch["valid"]].tolist()
    self.assertEqual(rows, [i for i in range(count) if i != 2])

  def test_fits_the_evaluation(self):
    """`train.evaluate` counts each example once, in every evaluation."""
    from vision_jax import train

    batches = data.make_eval_batches(
      Numbers(13, bad=(4,)),
      batch_size=4,
      on_error="skip",
      process_index=0,
      process_count=1,
    )

    def eval_step(state, batch):
      rows = batch["valid"]
      return {"mean": (batch["x"][rows].sum(), rows.sum())}

    state = train.TrainState(np.int32(0), {}, {}, {}, np.zeros(2))
    for _ in range(2):
      found = train.evaluate(eval_step, state, batches)
      self.assertAlmostEqual(found["mean"], (78 - 4) / 12)


class WorkersTest(absltest.TestCase):
  def test_workers_give_the_same_batches_and_states(self):
    expected = _take(iter(_pipeline(Numbers(25, bad=(3,)), on_error="skip")), 9)
    pipeline = _pipeline(Numbers(25, bad=(3,)), on_error="skip", num_workers=2)
    batches = iter(pipeline)
    first = next(batches)
    self.assertNotIn(os.getpid(), first.pop("pid"))
    self.assertEqual({type(v) for v in first.values()}, {np.ndarray})
    # A scheduler's request to end does not take the workers away at once.
    workers = multiprocessing.active_children()
    self.assertLen(workers, 2)
    for worker in workers:
      os.kill(worker.pid, signal.SIGTERM)
    _assert_equal([first, *_take(batches, 3)], expected[:4])
    state = batches.get_state()
    _take(batches, 2)
    batches.close()
    self.assertEmpty(multiprocessing.active_children())
    # The number of workers is not part of what the batches are.
    fewer = iter(
      _pipeline(Numbers(25, bad=(3,)), on_error="skip", num_workers=1)
    )
    fewer.set_state(state)
    _assert_equal(_take(fewer, 5), expected[4:])
    self.assertEqual(list(fewer.skipped), [3])
    fewer.close()

  def test_a_request_to_end_while_workers_start_is_kept_for_later(self):
    def ask():
      asked = set()
      while len(asked) < 2 and time.monotonic() < deadline:
        for worker in multiprocessing.active_children():
          if worker.pid not in asked:
            os.kill(worker.pid, signal.SIGTERM)
            asked.add(worker.pid)

    deadline = time.monotonic() + 60
    thread = threading.Thread(target=ask)
    thread.start()
    batches = iter(_pipeline(Numbers(25), num_workers=2))
    self.assertLen(_take(batches, 4), 4)
    thread.join()
    self.assertLess(time.monotonic(), deadline)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    self.assertNotIn(signal.SIGTERM, blocked)
    batches.close()

  def test_a_worker_that_dies_is_an_error_soon(self):
    source = Numbers(12, deadly=(7,))
    batches = iter(_pipeline(source, shuffle=False, num_workers=1))
    started = time.monotonic()
    with self.assertRaisesRegex(
      RuntimeError,
      "make_pipeline: worker processes must.*exit code 9.*Batch [01]",
    ):
      _take(batches, 2)
    self.assertLess(time.monotonic() - started, 30)

  def test_errors_in_a_worker_are_those_of_a_thread(self):
    batches = iter(
      _pipeline(Numbers(12, bad=(2,)), shuffle=False, num_workers=1)
    )
    with self.assertRaisesRegex(data.DataError, "example 2 of 'numbers'"):
      next(batches)

  @pytest.mark.slow
  def test_workers_do_not_outlive_a_killed_program(self):
    code = (
      "import multiprocessing, time\n"
      "from tests.data import test_pipelines as t\n"
      "if __name__ == '__main__':\n"
      "  batches = iter(t._pipeline(t.Numbers(25), num_workers=1))\n"
      "  next(batches)\n"
      "  print(multiprocessing.active_children()[0].pid, flush=True)\n"
      "  time.sleep(60)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
      script = os.path.join(folder, "script.py")
      with open(script, "w") as stream:
        stream.write(code)
      program = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
      )
      worker = int(program.stdout.readline())
      os.kill(worker, 0)  # it is there
      program.kill()
      program.wait()
      program.stdout.close()
      for _ in range(100):
        if not _is_alive(worker):
          return
        time.sleep(0.1)
      self.fail("the worker is still there")


def _is_alive(pid):
  try:
    with open(f"/proc/{pid}/stat") as stream:
      return stream.read().split()[2] != "Z"
  except OSError:
    return False


if __name__ == "__main__":
  absltest.main()
