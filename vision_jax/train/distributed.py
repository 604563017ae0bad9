"""Several processes: connecting them, and letting them agree.

One process drives the devices of one host (or some of them); all run the same
program. What they must agree on beside numbers on devices, such as which
checkpoint to restore, goes through `exchange`. With one process nothing here
does anything.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["any_process", "exchange", "on_first_process", "start_processes"]

_BLOCK = 1024  # bytes; messages are padded, so that few programs are compiled
_T = TypeVar("_T")


def start_processes(
  *,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  local_devices: Sequence[int] | None = None,
  heartbeat_seconds: int | None = None,
  timeout_seconds: int = 300,
) -> bool:
  """Connects the processes of a run; the first thing a program does.

  Every process calls it with the same `coordinator` and `num_processes`. What
  is not given comes from the environment:

  * plain machines: `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`,
    `JAX_PROCESS_ID`, as `python -m vision_jax.train.launch` sets them;
  * TPU pods, SLURM (`srun`), Open MPI: found by JAX itself. Under SLURM and
    Open MPI each process takes one GPU of its host; `JAX_LOCAL_DEVICE_IDS`
    (such as `0,1,2,3`) or `local_devices` changes that.

  On one process (a laptop, `num_processes=1`) it does nothing. A process that
  fails with an error ends at once, and the others within `heartbeat_seconds`.

  Args:
    coordinator: "host:port" of process 0; the port is free there.
    num_processes: number of processes of the run.
    process_id: number of this process, 0 to num_processes - 1.
    local_devices: numbers of the GPUs of this host that this process uses.
    heartbeat_seconds: after so many seconds of silence a process counts as dead
      and all others end; `VISION_JAX_HEARTBEAT_SECONDS`, or 100, if None.
    timeout_seconds: how long to wait for the other processes to start.

  Returns:
    Whether the run has several processes.

  Raises:
    ValueError: if a setting is missing or out of range.
    RuntimeError: if a device was used before, the processes are connected
      already, or the port is taken.
    TimeoutError: if process 0 does not answer.

  Example:
    >>> from vision_jax import train
    >>> train.start_processes(num_processes=1)
    False

  Source:
    Interface of this library, around `jax.distributed.initialize`.
  """
  coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
  num_processes = _number("num_processes", num_processes, "JAX_NUM_PROCESSES")
  process_id = _number("process_id", process_id, "JAX_PROCESS_ID")
  heartbeat = _number(
    "heartbeat_seconds", heartbeat_seconds, "VISION_JAX_HEARTBEAT_SECONDS"
  )
  _check_settings(coordinator, num_processes, process_id)
  given = (coordinator, num_processes, process_id) != (None, None, None)
  if (num_processes or _scheduled()) == 1:
    return False
  if jax.distributed.is_initialized():
    raise RuntimeError(
      "start_processes: the processes are connected already; call it once."
    )
  if coordinator is not None and process_id is not None:
    _reach(coordinator, process_id, timeout_seconds)
  # The service of JAX swallows SIGTERM; `fit` has an agreement of its own.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      local_devices,
      initialization_timeout=timeout_seconds,
      heartbeat_timeout_seconds=heartbeat or 100,
    )
  except ValueError as error:
    if not given and "coordinator_address should be" in str(error):
      return False  # neither settings nor a scheduler: one process
    raise ValueError(
      "start_processes: `coordinator`, `num_processes` and `process_id` must "
      f"all be given where no scheduler gives them, got {coordinator!r}, "
      f"{num_processes} and {process_id} ({error}); set "
      "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or use "
      "python -m vision_jax.train.launch."
    ) from error
  except RuntimeError as error:
    if "must be called before" not in str(error):
      raise
    if not given and _scheduled() is None and jax.process_count() == 1:
      return False
    raise RuntimeError(
      "start_processes: must be called before JAX uses a device, got a call "
      "after jax.devices(), an array or a key was made; make it the first line "
      "of the program."
    ) from error
  _end_at_once_on_errors()
  return jax.process_count() > 1


def _number(name: str, value: int | None, variable: str) -> int | None:
  """A setting, from the environment if not given."""
  text = os.environ.get(variable)
  if value is None and text:
    try:
      value = int(text)
    except ValueError as error:
      raise ValueError(
        f"start_processes: `{name}` must be an integer, got {text!r} from the "
        f"environment variable {variable}."
      ) from error
  if value is not None and value < (0 if name == "process_id" else 1):
    raise ValueError(f"start_processes: `{name}` must be a count, got {value}.")
  return value


def _check_settings(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Raises on settings that contradict each other."""
  if coordinator is not None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
      raise ValueError(
        "start_processes: `coordinator` must be 'host:port', got "
        f"{coordinator!r}."
      )
  if (
    num_processes is not None
    and process_id is not None
    and process_id >= num_processes
  ):
    raise ValueError(
      f"start_processes: `process_id` must be 0 to {num_processes - 1} for "
      f"{num_processes} processes, got {process_id}."
    )


def _scheduled() -> int | None:
  """Number of processes that SLURM or Open MPI started; None without them."""
  for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
    if os.environ.get(name, "").isdecimal():
      return int(os.environ[name])
  return None


def _reach(coordinator: str, process_id: int, timeout: int) -> None:
  """Says clearly what JAX would end the program for without a clear word."""
  host, _, port = coordinator.rpartition(":")
  host = host.strip("[]")
  if process_id == 0:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
      server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      try:
        server.bind(("", int(port)))
      except OSError as error:
        raise RuntimeError(
          f"start_processes: `coordinator` must name a free port, got {port} "
          f"({error}); another run may be using it."
        ) from error
    return
  end = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host, int(port)), timeout=5).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise TimeoutError(
          f"start_processes: process 0 must answer at {coordinator} within "
          f"{timeout} s, got {error}; start it, or correct the address."
        ) from error
    time.sleep(0.1)


def _end_at_once_on_errors() -> None:
  """An uncaught error ends the process without waiting for the others.

  JAX would wait for all processes to reach their end, and they wait for this
  one in the next collective: nobody would see the error for minutes.
  """
  previous = sys.excepthook

  def hook(
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType | None,
  ) -> None:
    with contextlib.suppress(Exception):
      previous(kind, error, trace)
      print(
        f"process {jax.process_index()} of {jax.process_count()} ends with an "
        "error; the others cannot go on without it",
        file=sys.stderr,
        flush=True,
      )
      sys.stdout.flush()
    os._exit(130 if issubclass(kind, KeyboardInterrupt) else 1)

  sys.excepthook = hook


def exchange(value: Any) -> list[Any]:
  """What every process says; all must call it, in the same order.

  Args:
    value: anything that JSON holds.

  Returns:
    The values of process 0, 1, ...

  Example:
    >>> from vision_jax.train import distributed
    >>> distributed.exchange({"step": 3})
    [{'step': 3}]

  Source:
    Interface of this library.
  """
  if jax.process_count() == 1:
    return [value]
  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = _gather(np.array([data.size], np.int32))[:, 0]
  rows = _gather(np.pad(data, (0, -data.size % _BLOCK + _pad(sizes, data))))
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(rows, sizes, strict=True)
  ]


def _pad(sizes: np.ndarray, data: np.ndarray) -> int:
  """Bytes from the own number of blocks to the largest one."""
  blocks = -(-sizes // _BLOCK)
  return int(blocks.max() - -(-data.size // _BLOCK)) * _BLOCK


def _gather(array: np.ndarray) -> np.ndarray:
  """Stacks the arrays of all processes."""
  return np.asarray(multihost_utils.process_allgather(array))


def on_first_process(function: Callable[[], _T]) -> _T:
  """Runs a function in process 0 only; all get its result, or its error.

  The others wait meanwhile, so that it may change files which all read next.

  Args:
    function: takes nothing and returns what JSON holds.

  Returns:
    The result of process 0.

  Raises:
    RuntimeError: in the other processes, if it failed; process 0 raises what
      the function did.

  Example:
    >>> from vision_jax.train import distributed
    >>> distributed.on_first_process(lambda: 3)
    3

  Source:
    Interface of this library.
  """
  if jax.process_count() == 1:
    return function()
  said: Any = None
  failure: Exception | None = None
  if jax.process_index() == 0:
    try:
      said = [True, function()]
    except Exception as error:
      failure, said = error, [False, f"{type(error).__name__}: {error}"]
  succeeded, result = exchange(said)[0]
  if failure is not None:
    raise failure
  if not succeeded:
    raise RuntimeError(f"process 0 failed: {result}")
  return result


def any_process(flag: bool) -> jax.Array:
  """Whether the flag is set in any process; does not wait for the answer.

  Args:
    flag: what this process says; all must call it, in the same order.

  Returns:
    Bool [], the same everywhere; `bool(...)` waits for it.

  Example:
    >>> from vision_jax.train import distributed
    >>> bool(distributed.any_process(True))
    True

  Source:
    Interface of this library.
  """
  sharding, reduce = _flags()
  local = np.array([flag])
  answer = reduce(jax.make_array_from_process_local_data(sharding, local))
  answer = answer.addressable_data(0)
  if sharding.mesh.devices.flat[0].platform == "cpu":
    # Programs with collectives that overlap can block each other there.
    jax.block_until_ready(answer)
  return answer


@functools.cache
def _flags() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
  """One flag on the first device of each process, and their maximum."""
  first: dict[int, jax.Device] = {}
  for device in jax.devices():
    first.setdefault(device.process_index, device)
  mesh = Mesh(np.array([first[i] for i in sorted(first)]), ("process",))
  return (
    NamedSharding(mesh, PartitionSpec("process")),
    jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec())),
  )
