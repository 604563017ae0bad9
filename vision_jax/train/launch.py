r"""Starts the processes of a run on this machine, and ends them together.

One machine, four processes (each with the accelerators it is told to use)::

  python -m vision_jax.train.launch --processes 4 -- python train.py --lr 0.1

Simulated on the CPU, two processes with four devices each::

  python -m vision_jax.train.launch --processes 2 --devices-per-process 4 -- \
    python train.py

Two machines with one process each; the address is that of the first::

  first$  python -m vision_jax.train.launch --processes 2 --process-id 0 \
            --coordinator first:5000 -- python train.py
  second$ python -m vision_jax.train.launch --processes 2 --process-id 1 \
            --coordinator first:5000 -- python train.py

The program calls `vision_jax.train.start_processes()` first. Its output appears
with the number of its process in front. When a process fails, the others are
ended: asked first, killed after the grace time. SIGINT, SIGTERM and SIGHUP are
passed on to all. The exit code is the highest of the processes that ended by
themselves (128 + the signal if a signal ended one).
"""

import argparse
import contextlib
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

__all__ = ["main", "run_processes"]

# The code of a run that was asked to end and has saved.
_ON_REQUEST = 128 + signal.SIGTERM
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
  """The command line; see the module.

  Args:
    argv: arguments without the name of the program; those of the process by
      default.

  Returns:
    The exit code.
  """
  options, command = _parse(sys.argv[1:] if argv is None else list(argv))
  coordinator = options.coordinator or f"127.0.0.1:{free_port()}"
  count = options.local_processes
  if count is None:
    count = options.processes if options.coordinator is None else 1
  shared = {
    "JAX_COORDINATOR_ADDRESS": coordinator,
    "JAX_NUM_PROCESSES": str(options.processes),
    "PYTHONUNBUFFERED": "1",
  }
  if options.heartbeat_seconds is not None:
    shared["VISION_JAX_HEARTBEAT_SECONDS"] = str(options.heartbeat_seconds)
  if options.devices_per_process is not None:
    shared["JAX_PLATFORMS"] = "cpu"
    shared["JAX_NUM_CPU_DEVICES"] = str(options.devices_per_process)
  environments = {
    number: {**shared, "JAX_PROCESS_ID": str(number)}
    for number in range(options.process_id, options.process_id + count)
  }
  return run_processes(
    command, environments, grace_seconds=options.grace_seconds
  )


def run_processes(
  command: Sequence[str],
  environments: Mapping[int, Mapping[str, str]],
  *,
  grace_seconds: float = 10.0,
) -> int:
  """Runs a command once for each environment and waits for all.

  Args:
    command: program and arguments.
    environments: number of a process -> variables added to the environment.
    grace_seconds: time between asking processes to end, because one has
      failed, and killing them.

  Returns:
    The exit code, see the module.
  """
  processes: dict[int, subprocess.Popen[bytes]] = {}

  def pass_on(number: int, frame: object) -> None:
    del frame
    for process in processes.values():
      _send(process, number)

  previous = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
  readers = []
  try:
    for number, variables in environments.items():
      processes[number] = subprocess.Popen(
        list(command),
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # signals reach them from here only
      )
      for source, target in (
        (processes[number].stdout, sys.stdout),
        (processes[number].stderr, sys.stderr),
      ):
        assert source is not None
        reader = threading.Thread(
          target=_copy, args=(source, target, f"[{number}] ".encode())
        )
        reader.start()
        readers.append(reader)
    return _wait(processes, grace_seconds)
  except OSError as error:
    _say(f"cannot start {command[0]!r} ({error.strerror})")
    return 127
  finally:
    for process in processes.values():
      _send(process, signal.SIGKILL)
      process.wait()
    for reader in readers:
      reader.join(timeout=5)  # a grandchild may keep the pipe open
    for number, handler in previous.items():
      signal.signal(number, handler)


def free_port() -> int:
  """A port that nobody uses at the moment."""
  with socket.socket() as server:
    server.bind(("", 0))
    return int(server.getsockname()[1])


def _wait(
  processes: Mapping[int, "subprocess.Popen[bytes]"], grace_seconds: float
) -> int:
  """Waits for all; after a failure the others have `grace_seconds` left."""
  codes: list[int] = []
  kill_at = math.inf
  asked = False
  running = dict(processes)
  while running:
    for number, process in list(running.items()):
      code = process.poll()
      if code is None:
        continue
      del running[number]
      code = 128 - code if code < 0 else code
      if not asked:  # by itself
        codes.append(code)
      if not code or kill_at < math.inf:
        continue
      kill_at = time.monotonic() + grace_seconds
      if code == _ON_REQUEST or not running:
        continue  # all know of the request and end after the same update
      _say(f"process {number} ended with code {code}; ending the others")
      asked = True
      for other in running.values():
        _send(other, signal.SIGTERM)
    if time.monotonic() > kill_at:
      asked = True
      for process in running.values():
        _send(process, signal.SIGKILL)
    time.sleep(0.02)
  return max(codes)


def _send(process: "subprocess.Popen[bytes]", number: int) -> None:
  """Signals a process and what it started, if it is still there."""
  if process.poll() is None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, number)


def _copy(source: IO[bytes], target: IO[str], prefix: bytes) -> None:
  """Copies lines with a prefix; a carriage return (progress bar) ends one."""
  rest = b""
  while block := os.read(source.fileno(), 1 << 16):
    *lines, rest = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", rest + block)
    _write(target, b"".join(prefix + line for line in lines))
  if rest:
    _write(target, prefix + rest + b"\n")
  source.close()


def _write(target: IO[str], data: bytes) -> None:
  """Writes; if the reader of our output has gone, the programs still go on."""
  with contextlib.suppress(OSError):
    target.buffer.write(data)  # type: ignore[attr-defined]
    target.buffer.flush()  # type: ignore[attr-defined]


def _say(text: str) -> None:
  print(f"launch: {text}", file=sys.stderr, flush=True)


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
  """Options, and the command after `--`."""
  parser = argparse.ArgumentParser(
    prog="python -m vision_jax.train.launch",
    description="Starts the processes of a run and ends them together.",
    usage="%(prog)s [options] -- command ...",
  )
  parser.add_argument(
    "--processes", type=int, required=True, help="number of all processes"
  )
  parser.add_argument(
    "--devices-per-process",
    type=int,
    help="simulate so many devices in each, on the CPU",
  )
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="address of process 0, if there are several machines",
  )
  parser.add_argument(
    "--process-id",
    type=int,
    default=0,
    help="number of the first process on this machine (default 0)",
  )
  parser.add_argument(
    "--local-processes",
    type=int,
    help="how many processes to start here (default: all, or 1 with "
    "--coordinator)",
  )
  parser.add_argument(
    "--heartbeat-seconds",
    type=int,
    help="after so much silence a process counts as dead (default 100)",
  )
  parser.add_argument(
    "--grace-seconds",
    type=float,
    default=10.0,
    help="time for the others to end when one has failed (default 10)",
  )
  split = argv.index("--") if "--" in argv else len(argv)
  options = parser.parse_args(argv[:split])
  command = argv[split + 1 :]
  if not command:
    parser.error("the command must follow after --")
  local = options.local_processes
  for name in ("processes", "devices_per_process", "local_processes"):
    value = getattr(options, name)
    if value is not None and value < 1:
      parser.error(f"--{name.replace('_', '-')} must be at least 1")
  last = options.process_id + (local or 1)
  if options.process_id < 0 or last > options.processes:
    parser.error(
      f"--process-id must leave room for the processes here: {last} > "
      f"{options.processes}"
    )
  if options.coordinator is None and (options.process_id or local):
    parser.error("--process-id and --local-processes need --coordinator")
  return options, command


if __name__ == "__main__":
  sys.exit(main())
