"""Tests of vision_jax.train.launch, with programs that need no JAX.

Runs of real training programs: test_distributed and test_restart.
"""

import os
import pathlib
import signal
import sys
import threading
import time

import chex
import pytest
from absl.testing import parameterized

from vision_jax.train import launch

PRINT = """
import os
names = ["COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID", "PLATFORMS",
         "NUM_CPU_DEVICES"]
print(*[os.environ.get("JAX_" + name) for name in names],
      os.environ.get("VISION_JAX_HEARTBEAT_SECONDS"))
"""


class LaunchTest(chex.TestCase):
  @pytest.fixture(autouse=True)
  def _output(self, capfd, tmp_path, monkeypatch):
    self.output = capfd
    self.folder: pathlib.Path = tmp_path
    for name in ("JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES"):
      monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    self.assertIs(signal.getsignal(signal.SIGTERM), before)

  def launch(self, program, *options, processes=2):
    """Exit code, sorted output lines, errors and seconds of a program."""
    text = "import os, signal, sys, time\nme = os.environ['JAX_PROCESS_ID']\n"
    began = time.monotonic()
    code = launch.main(
      [
        "--processes",
        str(processes),
        *options,
        "--",
        sys.executable,
        "-c",
        text + program,
      ]
    )
    seconds = time.monotonic() - began
    out, errors = self.output.readouterr()
    return code, sorted(out.splitlines()), errors, seconds

  def test_environment_and_prefix(self):
    options = ["--devices-per-process", "4", "--heartbeat-seconds", "9"]
    code, lines, errors, _ = self.launch(PRINT, *options)
    self.assertEqual((code, errors), (0, ""))
    self.assertRegex(lines[0], r"^\[0\] 127.0.0.1:\d+ 2 0 cpu 4 9$")
    self.assertRegex(lines[1], r"^\[1\] 127.0.0.1:\d+ 2 1 cpu 4 9$")
    self.assertEqual(lines[0].split()[1], lines[1].split()[1])

  def test_second_machine(self):
    options = ["--coordinator", "first:5000", "--process-id", "2"]
    _, lines, _, _ = self.launch(PRINT, *options, processes=3)
    self.assertEqual(lines, ["[2] first:5000 3 2 None None None"])
    options += ["--local-processes", "2"]
    _, lines, _, _ = self.launch(PRINT, *options, processes=4)
    self.assertEqual([x.split()[3] for x in lines], ["2", "3"])

  def test_lines_and_progress_bars(self):
    program = r"""
sys.stdout.write("bar 1\rbar 2\rdone\r\nlast without end")
sys.stdout.flush()
print("problem", file=sys.stderr)
"""
    code = launch.main(
      ["--processes", "1", "--", sys.executable, "-c", "import sys" + program]
    )
    out, errors = self.output.readouterr()
    self.assertEqual((code, errors), (0, "[0] problem\n"))
    # Text mode of the capture turns \r\n into \n, not a single \r.
    self.assertEqual(
      out.replace("\r\n", "\n"),
      "[0] bar 1\r[0] bar 2\r[0] done\n[0] last without end\n",
    )

  def test_one_failure_ends_all(self):
    program = "sys.exit(3) if me == '1' else time.sleep(60)"
    code, _, errors, seconds = self.launch(program)
    self.assertEqual(code, 3)
    self.assertIn("process 1 ended with code 3; ending the others", errors)
    self.assertLess(seconds, 8)

  def test_the_stubborn_are_killed(self):
    ready = self.folder / "ready"
    program = f"""
if me == "0":
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  open({str(ready)!r}, "w").close()
  time.sleep(60)
while not os.path.exists({str(ready)!r}):
  time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    code, _, errors, seconds = self.launch(program, "--grace-seconds", "0.5")
    self.assertEqual(code, 137)
    self.assertIn("process 1 ended with code 137", errors)
    self.assertBetween(seconds, 0.5, 8)

  def test_highest_code_of_those_who_end_by_themselves(self):
    program = "time.sleep(0.3 * int(me)); sys.exit(7 if me == '0' else 0)"
    self.assertEqual(self.launch(program)[0], 7)
    self.assertEqual(self.launch("sys.exit(0)")[0], 0)

  def test_ending_on_request_is_no_failure(self):
    # Process 0 has saved and ended; process 1 is about to, undisturbed.
    program = """
if me == "1":
  time.sleep(0.5)
  print("saved")
sys.exit(143)
"""
    code, lines, errors, _ = self.launch(program)
    self.assertEqual((code, lines, errors), (143, ["[1] saved"], ""))

  @parameterized.parameters(signal.SIGTERM, signal.SIGINT)
  def test_signals_are_passed_on(self, number):
    # The first process to end with a code of its own has the others ended: each
    # waits until both have the signal, and ignores the one for that.
    program = f"""
folder = {str(self.folder)!r}
def stop(number, frame):
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  print("got", number, flush=True)
  open(os.path.join(folder, "got" + me), "w").close()
  while len(os.listdir(folder)) < 4:
    time.sleep(0.01)
  sys.exit(5)
signal.signal({int(number)}, stop)
open(os.path.join(folder, me), "w").close()
time.sleep(60)
"""

    def send():
      while len(os.listdir(self.folder)) < 2:
        time.sleep(0.01)
      os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    code, lines, _, seconds = self.launch(program)
    thread.join()
    self.assertEqual(code, 5)
    self.assertEqual(lines, [f"[{i}] got {int(number)}" for i in range(2)])
    self.assertLess(seconds, 8)

  def test_unknown_program(self):
    code = launch.main(["--processes", "2", "--", "no-such-program"])
    self.assertEqual(code, 127)
    errors = self.output.readouterr().err
    self.assertIn("cannot start 'no-such-program' (No such file", errors)

  @parameterized.parameters(
    ("--processes 2", "the command must follow after --"),
    ("--processes 0 -- x", "--processes must be at least 1"),
    ("-- x", "required: --processes"),
    ("--processes 2 --process-id 1 -- x", "need --coordinator"),
    (
      "--processes 2 --coordinator a:1 --process-id 2 -- x",
      "must leave room for the processes here: 3 > 2",
    ),
    ("--processes 2 --port 3 -- x", "unrecognized arguments: --port"),
  )
  def test_bad_options(self, text, message):
    with self.assertRaises(SystemExit) as caught:
      launch.main(text.split())
    self.assertEqual(caught.exception.code, 2)
    self.assertIn(message, self.output.readouterr().err)
