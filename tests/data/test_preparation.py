"""A set is prepared once, as a whole or not at all."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from concurrent.futures import process
from unittest import mock

from absl.testing import absltest

from vision_jax import data
from vision_jax.data import generated_builder

_ROOT = pathlib.Path(data.__file__).parents[2]
_FOREVER = """
import sys
from vision_jax import data
data.prepare_generated("generated_textures", sys.argv[1], progress=False)
"""


class _DyingPool(futures.ThreadPoolExecutor):
  """A pool one of whose processes is killed."""

  def __init__(self, *arguments, **settings):
    super().__init__(1)

  def map(self, function, indices, chunksize):
    del chunksize
    yield function(indices[0])
    raise process.BrokenProcessPool("a child process terminated abruptly")


class PrepareGeneratedTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enterContext(tempfile.TemporaryDirectory())

  def _prepare(self, **arguments):
    arguments = {"num_examples": {"train": 4}, "progress": False, **arguments}
    return data.prepare_generated(
      "generated_textures", self.folder, **arguments
    )

  def test_a_set_that_is_there_is_kept(self):
    path = self._prepare()
    self.assertEqual(
      path.relative_to(self.folder),
      pathlib.Path("generated_textures", "64", "1.0.0"),
    )
    times = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    self.assertEqual(self._prepare(), path)
    self.assertEqual(
      times, {file: file.stat().st_mtime_ns for file in path.iterdir()}
    )

  def test_other_numbers_than_those_that_are_there(self):
    self._prepare()
    with self.assertRaisesRegex(
      data.DataError, "got test=2 train=4 where .* holds train=4; name another"
    ):
      self._prepare(num_examples={"train": 4, "test": 2})

  def test_unknown_names_list_the_known(self):
    with self.assertRaisesRegex(KeyError, "stick_pose, got 'mnist'"):
      data.prepare_generated("mnist", self.folder)
    with self.assertRaisesRegex(KeyError, "one of 64 32 128 224, got '65'"):
      self._prepare(config="65")

  def test_progress_goes_to_the_error_stream(self):
    with (
      mock.patch("sys.stderr") as errors,
      mock.patch("sys.stdout") as output,
    ):
      self._prepare(progress=True)
    text = "".join(call.args[0] for call in errors.write.call_args_list)
    self.assertIn("generated_textures: 100%", text)
    output.write.assert_not_called()

  def test_a_killed_run_leaves_no_set(self):
    runner = subprocess.Popen(
      [sys.executable, "-c", _FOREVER, self.folder],
      env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    try:
      started = False
      deadline = time.monotonic() + 60
      while not started and time.monotonic() < deadline:
        time.sleep(0.1)
        started = any(pathlib.Path(self.folder).rglob("*array_record*"))
    finally:
      runner.send_signal(signal.SIGKILL)
      runner.wait()
    self.assertTrue(started)
    with self.assertRaisesRegex(
      data.DataError, r"got the half prepared '.*incomplete\..*remove it and"
    ):
      data.read_prepared(self.folder, "train")
    # What is left of it does not stand in the way.
    self._prepare()
    self.assertLen(data.read_prepared(self.folder, "train"), 4)

  def test_a_worker_that_dies(self):
    with (
      mock.patch.object(
        generated_builder.futures, "ProcessPoolExecutor", _DyingPool
      ),
      self.assertRaisesRegex(
        data.DataError,
        "a process that draws generated_textures has died .* fewer workers",
      ),
    ):
      self._prepare(num_workers=1)
    left = [p for p in pathlib.Path(self.folder).rglob("*") if p.is_file()]
    self.assertFalse([p for p in left if "array_record" in p.name])
    with self.assertRaisesRegex(data.DataError, "prepare the set first"):
      data.read_prepared(self.folder, "train")

  def test_a_full_disk(self):
    # The limit on the size of a file fails in the same place.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
      with self.assertRaisesRegex(
        data.DataError, "cannot be written to .* nothing is kept; make room"
      ):
        self._prepare(num_examples={"train": 60})
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    self._prepare()
    self.assertLen(data.read_prepared(self.folder, "train"), 4)

  def test_a_half_copied_set_is_not_taken_for_one(self):
    path = self._prepare()
    (path / "dataset_info.json").unlink()
    with self.assertRaisesRegex(
      data.DataError,
      "must have no damaged generated_textures, got '.*'; remove that folder",
    ):
      self._prepare()

  def test_a_second_run_at_the_same_time(self):
    # The other run finishes while this one is writing.
    write = generated_builder.GeneratedBuilder._generate

    def slow(builder, *arguments):
      yield from write(builder, *arguments)
      with mock.patch.object(
        generated_builder.GeneratedBuilder, "_generate", write
      ):
        self._prepare()

    with mock.patch.object(
      generated_builder.GeneratedBuilder, "_generate", slow
    ):
      path = self._prepare()
    self.assertLen(data.read_prepared(path, "train"), 4)

  def test_a_place_that_cannot_be_written(self):
    file = pathlib.Path(self.folder, "file")
    file.write_text("")
    with self.assertRaises(OSError):
      data.prepare_generated(
        "generated_textures", file, num_examples={"train": 1}, progress=False
      )


if __name__ == "__main__":
  absltest.main()
