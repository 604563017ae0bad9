"""Tests of vision_jax.train.checkpoint: nothing lost, no silent damage."""

import asyncio
import errno
import gc
import json
import os
import pathlib
import resource
import shutil
import subprocess
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from absl.testing import parameterized
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vision_jax import train


def make_state(seed=0):
  rng = np.random.default_rng(seed)
  params = {
    "conv": {"kernel": rng.normal(size=(40, 30)).astype(np.float32)},
    "bias": jnp.asarray(rng.normal(size=5), jnp.bfloat16),
  }
  stats = {"mean": rng.normal(size=7).astype(np.float32)}
  tx = optax.adam(0.1)
  state = train.create_state(params, stats, tx, jax.random.key(seed))
  grads = jax.tree.map(jnp.ones_like, state.params)
  return state._replace(
    step=jnp.int32(seed), opt_state=tx.update(grads, state.opt_state)[1]
  )


def on_devices(state, number):
  mesh = Mesh(np.array(jax.devices()[:number]), ("batch",))
  return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def assert_same(got, wanted):
  chex.assert_trees_all_equal_shapes_and_dtypes(got, wanted)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class CheckpointsTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, caplog):
    self.folder: pathlib.Path = tmp_path / "checkpoints"
    self.log = caplog

  def fill(self, steps, **settings):
    with train.Checkpoints(self.folder, **settings) as checkpoints:
      for step in steps:
        checkpoints.save(step, make_state(step), extra={"at": step})

  @parameterized.parameters((8, 1), (8, 2), (8, 4), (1, 8))
  def test_restores_onto_other_devices(self, before, after):
    state = on_devices(make_state(3), before)
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(3, state, extra={"data": {"next": [1, 2]}})
    with train.Checkpoints(self.folder) as checkpoints:
      target = on_devices(make_state(0), after)
      restored = checkpoints.restore_latest(target)
    self.assertEqual(restored.step, 3)
    self.assertEqual(restored.extra, {"data": {"next": [1, 2]}})
    self.assertIsInstance(restored.state, train.TrainState)
    assert_same(restored.state, make_state(3))
    for leaf in jax.tree.leaves(restored.state):
      self.assertLen(leaf.sharding.device_set, after)

  def test_targets_without_arrays(self):
    self.fill([3])
    with train.Checkpoints(self.folder) as checkpoints:
      target = jax.eval_shape(make_state)
      assert_same(checkpoints.restore_latest(target).state, make_state(3))

  def test_empty_folder_holds_nothing(self):
    with train.Checkpoints(self.folder) as checkpoints:
      self.assertIsNone(checkpoints.restore_latest(make_state()))
      self.assertIsNone(checkpoints.latest_step())
      self.assertEqual(checkpoints.all_steps(), [])

  @parameterized.parameters(
    ("max", (0.1, 0.9, 0.5, 0.2, 0.3), [2, 4, 5]),
    ("max", (0.1, 0.9, 0.5, 0.2, 0.95), [4, 5]),
    ("min", (0.4, 0.1, 0.5, 0.2, 0.3), [2, 4, 5]),
    ("max", (0.1, 0.5, float("nan"), 0.2, None), [2, 4, 5]),
  )
  def test_keeps_the_latest_and_the_best(self, mode, scores, kept):
    # A second opening in between: the best is remembered by the files.
    for part in (slice(0, 3), slice(3, 5)):
      with train.Checkpoints(self.folder, best="ap", mode=mode) as checkpoints:
        for step in range(1, 6)[part]:
          score = scores[step - 1]
          checkpoints.save(
            step,
            make_state(step),
            metrics=None if score is None else {"ap": score, "other": 1},
          )
    with train.Checkpoints(self.folder, best="ap", mode=mode) as checkpoints:
      self.assertEqual(checkpoints.all_steps(), kept)
      pick = np.nanargmax if mode == "max" else np.nanargmin
      best = 1 + int(pick(np.array(scores, float)))
      self.assertEqual(checkpoints.best_step(), best)
      self.assertEqual(checkpoints.latest_step(), 5)
      restored = checkpoints.restore_best(make_state())
      self.assertEqual(restored.step, best)
      assert_same(restored.state, make_state(best))
    names = {p.name for p in self.folder.iterdir()}
    self.assertEqual(names, {str(step) for step in kept})

  def test_keep_without_best(self):
    self.fill([1, 2, 3, 4], keep=3)
    with train.Checkpoints(self.folder, keep=3) as checkpoints:
      self.assertEqual(checkpoints.all_steps(), [2, 3, 4])
      self.assertIsNone(checkpoints.best_step())
      with self.assertRaisesRegex(train.CheckpointError, "no checkpoint in"):
        checkpoints.restore_best(make_state())

  def test_planted_empty_step_is_passed_over(self):
    self.fill([1, 2])
    (self.folder / "999").mkdir()
    with train.Checkpoints(self.folder) as checkpoints:
      restored = checkpoints.restore_latest(make_state())
      self.assertEqual(restored.step, 2)
      assert_same(restored.state, make_state(2))
      self.assertIn("999 cannot be used", self.log.text)
      # Training goes on below the broken number and keeps both new steps.
      checkpoints.save(3, make_state(3))
      checkpoints.save(4, make_state(4))
    with train.Checkpoints(self.folder) as checkpoints:
      self.assertEqual(checkpoints.all_steps(), [3, 4])
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 4)
    self.assertTrue((self.folder / "damaged" / "999").is_dir())

  def test_only_an_empty_step(self):
    (self.folder / "7").mkdir(parents=True)
    with train.Checkpoints(self.folder) as checkpoints:
      self.assertIsNone(checkpoints.restore_latest(make_state()))
      checkpoints.save(1, make_state(1))
    with train.Checkpoints(self.folder) as checkpoints:
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 1)

  def test_damage_of_any_part_is_noticed(self):
    # Every file: tests of checksums. Here what reads them.
    self.fill([1, 2])
    kept = self.folder.with_name("kept")
    shutil.copytree(self.folder, kept)
    files = sorted(p for p in (kept / "2").glob("*/**/*") if p.is_file())
    self.assertGreater(len(files), 8)
    files = [*files[::3], kept / "2" / "meta" / "metadata"]
    target = make_state()
    for number, file in enumerate(files):
      shutil.rmtree(self.folder)
      shutil.copytree(kept, self.folder)
      path = self.folder / file.relative_to(kept)
      data = bytearray(path.read_bytes())
      if number % 3 == 0:
        path.unlink()
      elif number % 3 == 1:
        path.write_bytes(data[: len(data) // 2])
      else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
      with train.Checkpoints(self.folder) as checkpoints:
        restored = checkpoints.restore_latest(target)
      self.assertEqual(restored.step, 1, path)
      assert_same(restored.state, make_state(1))
      self.assertIn(path.name, self.log.text)
    self.assertNotIn("Traceback", self.log.text)

  def test_step_of_another_model_is_passed_over(self):
    other = train.create_state(
      {"w": jnp.zeros((4, 5))}, {}, optax.sgd(0.1), jax.random.key(0)
    )
    self.fill([1])
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(2, other)
    with train.Checkpoints(self.folder) as checkpoints:
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 1)
      self.assertIn("2 cannot be used", self.log.text)
      self.assertIn("another model", self.log.text)
      with self.assertRaisesRegex(
        train.CheckpointError, "step 2 in .* cannot be used: .*another model"
      ):
        checkpoints.restore(2, make_state())
      checkpoints.save(2, make_state(2))
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 2)
    self.assertTrue((self.folder / "damaged" / "2").is_dir())

  # After a failure orbax leaves a coroutine for the garbage collector.
  @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
  def test_full_disk_leaves_the_earlier_steps(self):
    self.folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs"]
    try:
      subprocess.run([*mount, self.folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
      pytest.skip("needs the right to mount a small disk")
    self.addCleanup(subprocess.run, ["umount", "-l", self.folder], check=True)
    disk = self.folder / "disk"
    steps = []
    with train.Checkpoints(disk, keep=99) as checkpoints:
      with self.assertRaisesRegex(
        train.CheckpointError,
        r"saving step \d+ in .*disk failed, 0\.\d MiB of 0\.4 MiB are free "
        r".*earlier steps \[1.*\] are intact.*No space left",
      ):
        for step in range(1, 99):
          checkpoints.save(step, make_state(step))
          checkpoints.wait()
          steps.append(step)
      self.assert_usable(checkpoints, steps)
      # With room again the same object goes on. A save needs more room while
      # it runs than in the end.
      for step in steps[:2]:
        shutil.rmtree(disk / str(step))
      checkpoints.save(99, make_state(99))
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 99)

  @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
  def test_nothing_is_written_after_a_failure(self):
    # A save fails while a part of it is still being written, then that part.
    async def write_late(handler, item, directory):
      await asyncio.sleep(0.5)
      os.makedirs(directory, exist_ok=True)
      pathlib.Path(directory, "metadata").write_text(json.dumps(item)[:9])
      raise full

    full = OSError(errno.ENOSPC, "No space left")
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(1, make_state(1))
      checkpoints.wait()
      with (
        mock.patch.object(ocp.JsonCheckpointHandler, "_save_fn", write_late),
        mock.patch.object(
          ocp.checkpoint_manager,
          "_FinalizeThread",
          side_effect=OSError(errno.ENOSPC, "No space left"),
        ),
        self.assertRaisesRegex(
          train.CheckpointError, r"step 2 .*No space left"
        ),
      ):
        checkpoints.save(2, make_state(2))
      self.assert_usable(checkpoints, [1])
      checkpoints.save(2, make_state(2))
      checkpoints.wait()
      self.assert_usable(checkpoints, [1, 2])

  @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
  def test_failed_write_leaves_the_earlier_steps(self):
    # Stands for the full disk where nothing can be mounted.
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(1, make_state(1))
      checkpoints.wait()
      large = make_state(2)._replace(
        params=np.random.default_rng(0).random(1 << 20)
      )
      resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
      checkpoints.save(2, large)
      with self.assertRaisesRegex(
        train.CheckpointError, r"step 2 .*steps \[1\] are.*File too large"
      ):
        checkpoints.save(3, make_state(3))
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
      self.assert_usable(checkpoints, [1])
      checkpoints.save(3, make_state(3))
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 3)

  def assert_usable(self, checkpoints, steps):
    """The steps are there, nothing else is, and the newest can be restored."""
    self.assertGreater(len(steps), 0)
    self.assertEqual(checkpoints.all_steps(), steps)
    names = {p.name for p in pathlib.Path(checkpoints.directory).iterdir()}
    self.assertEqual(names, {str(step) for step in steps})
    restored = checkpoints.restore_latest(make_state())
    self.assertEqual(restored.step, steps[-1])
    assert_same(restored.state, make_state(steps[-1]))
    gc.collect()

  @parameterized.parameters("metrics", "state")
  def test_run_goes_on_after_damage(self, what):
    with train.Checkpoints(self.folder, best="ap") as checkpoints:
      checkpoints.save(10, make_state(1), metrics={"ap": 0.1})
      checkpoints.save(20, make_state(2), metrics={"ap": 0.2})
    if what == "metrics":  # read when the folder is opened
      (self.folder / "20" / "metrics" / "metrics").write_text('{"ap": 0.')
    else:
      shutil.rmtree(self.folder / "20" / "state")
    with train.Checkpoints(self.folder, best="ap") as checkpoints:
      self.assertEqual(checkpoints.restore_latest(make_state()).step, 10)
      checkpoints.save(20, make_state(5), metrics={"ap": 0.05})
    with train.Checkpoints(self.folder, best="ap") as checkpoints:
      self.assertEqual(checkpoints.all_steps(), [10, 20])
      assert_same(checkpoints.restore_latest(make_state()).state, make_state(5))
      self.assertEqual(checkpoints.best_step(), 10)
    self.assertTrue((self.folder / "damaged" / "20").is_dir())

  def test_nothing_usable_is_an_error_and_nothing_is_moved(self):
    self.fill([1, 2])
    os.remove(self.folder / "2" / "_CRC32.json")
    other = train.create_state(
      {"w": jnp.zeros((4, 5))}, {}, optax.adam(0.1), jax.random.key(0)
    )
    with train.Checkpoints(self.folder) as checkpoints:
      with self.assertRaisesRegex(
        train.CheckpointError,
        r"(?s)none of the 2 .*another directory.*2: .*_CRC32.*1: .*another "
        r"model.*\.params\['w'\] is not in the checkpoint",
      ):
        checkpoints.restore_latest(other)
      with self.assertRaisesRegex(ValueError, "above the latest checkpoint 2"):
        checkpoints.save(1, other)
      self.assertEqual(checkpoints.all_steps(), [1, 2])

  def test_other_shapes_and_dtypes_are_named(self):
    self.fill([1])
    state = make_state()
    with train.Checkpoints(self.folder) as checkpoints:
      for kernel in (jnp.zeros((40, 31)), jnp.zeros((40, 30), jnp.bfloat16)):
        params = {**state.params, "conv": {"kernel": kernel}}
        with self.assertRaisesRegex(
          train.CheckpointError, r"\['kernel'\] is \['float32', \[40, 30\]\]"
        ):
          checkpoints.restore(1, state._replace(params=params))

  def test_saved_numbers_are_those_of_the_call(self):
    # The state is given up to the next update while files are being written.
    def loss_fn(params, batch_stats, batch, key):
      return {"l2": (((params["w"] - batch.mean()) ** 2).sum(), 1)}, None

    tx = optax.sgd(0.01)
    state = train.create_state(
      {"w": jnp.zeros((300, 400))}, {}, tx, jax.random.key(0)
    )
    step = train.make_step(loss_fn, tx)
    batch = np.ones(8, np.float32)
    state, _ = step(state, batch)
    copy = np.array(state.params["w"])
    with train.Checkpoints(self.folder) as checkpoints:
      checkpoints.save(1, state)
      for _ in range(20):
        state, _ = step(state, batch)
      jax.block_until_ready(state)
      restored = checkpoints.restore_latest(state)
    self.assertEqual(int(restored.state.step), 1)
    np.testing.assert_array_equal(restored.state.params["w"], copy)
    self.assertNotEqual(copy[0, 0], np.asarray(state.params["w"])[0, 0])

  def test_leftovers_of_killed_saves_are_removed(self):
    self.fill([1])
    (self.folder / "2.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (self.folder / "trash" / "0").mkdir(parents=True)
    self.fill([2])
    names = {p.name for p in self.folder.iterdir()}
    self.assertEqual(names, {"1", "2"})

  def test_sums_cover_the_items(self):
    self.fill([1])
    sums = json.loads((self.folder / "1" / "_CRC32.json").read_text())
    self.assertEqual({name.split("/")[0] for name in sums}, {"state", "meta"})

  def test_bad_arguments(self):
    with self.assertRaisesRegex(ValueError, "`keep` must be at least 1"):
      train.Checkpoints(self.folder, keep=0)
    with self.assertRaisesRegex(ValueError, "`mode` must be 'max' or 'min'"):
      train.Checkpoints(self.folder, mode="best")
    self.folder.parent.joinpath("file").write_text("")
    with self.assertRaisesRegex(NotADirectoryError, "must be a folder"):
      train.Checkpoints(self.folder.parent / "file")
    self.fill([5])
    with train.Checkpoints(self.folder, best="ap") as checkpoints:
      with self.assertRaisesRegex(KeyError, "must have 'ap'"):
        checkpoints.save(6, make_state(), metrics={"loss": 1.0})
      with self.assertRaisesRegex(ValueError, "latest checkpoint 5 .* got 5"):
        checkpoints.save(5, make_state())
      with self.assertRaisesRegex(
        train.CheckpointError, r"one of \[5\], got 4"
      ):
        checkpoints.restore(4, make_state())
