"""SIGTERM as a request to save and end, the same for all processes."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax

from vision_jax.train import distributed

__all__ = ["Preempted", "StopRequest", "stop_on_sigterm"]

# Updates between two questions to all processes. The answer to one is read at
# the next, so nobody waits; a run ends at most twice as many updates after the
# signal.
AGREE_EVERY = 4


class Preempted(SystemExit):
  """The run was asked to end and has saved; ends the program with code 143.

  143 is 128 + SIGTERM: schedulers read it as "ended on request, not finished".
  """

  def __init__(self, step: int):
    """Remembers the saved step."""
    super().__init__(128 + signal.SIGTERM)
    self.step = step


class StopRequest:
  """Whether to stop after an update; the same answer in all processes.

  A signal may reach one process only, and processes may be an update apart when
  it does: all ask each other after every fourth update.
  """

  def __init__(self) -> None:
    """Nothing is requested yet."""
    self.requested = threading.Event()
    self._answer: jax.Array | None = None

  def reached(self, step: int) -> bool:
    """Asked once after each update, with the number of finished updates."""
    if jax.process_count() == 1:
      return self.requested.is_set()
    if step % AGREE_EVERY:
      return False
    answer, self._answer = self._answer, None
    self._answer = distributed.any_process(self.requested.is_set())
    return answer is not None and bool(answer)


@contextlib.contextmanager
def stop_on_sigterm(active: bool) -> Iterator[StopRequest]:
  """Turns SIGTERM into a request; a second SIGTERM acts as before.

  Args:
    active: whether to; if not, and outside the main thread, where Python does
      not allow it, signals act as before.

  Yields:
    The request.
  """
  stop = StopRequest()
  if not active or threading.current_thread() is not threading.main_thread():
    yield stop
    return
  previous = signal.getsignal(signal.SIGTERM)

  def restore() -> None:
    signal.signal(
      signal.SIGTERM, signal.SIG_DFL if previous is None else previous
    )

  def handle(number: int, frame: Any) -> None:
    del number, frame
    stop.requested.set()
    restore()

  signal.signal(signal.SIGTERM, handle)
  try:
    yield stop
  finally:
    restore()
