"""One process's part of one batch: read, transform, stack.

This is what threads and worker processes run; it depends on the number of the
batch alone.
"""

import contextlib
import dataclasses
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vision_jax.data.augmentation import Transform
from vision_jax.data.batching import collate
from vision_jax.data.errors import DataError
from vision_jax.data.generated.streams import Domain, random_stream
from vision_jax.data.images import ImageError

__all__ = [
  "BatchReader",
  "Source",
  "hold_back_end",
  "source_name",
  "start_worker",
]

_LAYOUT_TRIES = 100
_ORDERS = 4  # epochs whose order is kept: threads may be in several
_GRACE_SECONDS = 30.0

Batch = dict[str, np.ndarray]
Notes = tuple[tuple[int, str], ...]


class Source(Protocol):
  """Random access to the examples of a set.

  Example:
    >>> from vision_jax.data import Source
    >>> source: Source = [{"label": np.int32(3)}]
    >>> print(len(source), source[0]["label"])
    1 3
  """

  def __len__(self) -> int:
    """Number of examples."""

  def __getitem__(self, index: int, /) -> Mapping[str, Any]:
    """One example, name -> array."""


@dataclasses.dataclass
class BatchReader:
  """Makes this process's part of batch number b; can be pickled."""

  source: Any
  seed: int
  shuffle: bool
  epochs: int | None
  batch_size: int
  first_row: int
  num_rows: int
  transforms: tuple[Transform, ...]
  on_error: str
  in_worker: bool

  def __post_init__(self) -> None:
    self._orders: dict[int, np.ndarray] = {}
    self._layout: Batch | None = None
    self._lock = threading.Lock()

  def __getstate__(self) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(self)]
    return {name: getattr(self, name) for name in names}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self.__post_init__()

  def __call__(self, number: int) -> tuple[Batch, Notes]:
    """The batch, and (index, reason) of the rows that cannot be read."""
    if not self.in_worker:
      return self._read(number)
    try:
      return self._read(number)
    except BaseException as error:
      # An error that cannot travel between processes, or an exit, would leave
      # the main process waiting for ever.
      raise _portable(error) from None

  def _read(self, number: int) -> tuple[Batch, Notes]:
    first = number * self.batch_size + self.first_row
    examples: list[dict[str, Any] | None] = []
    notes: list[tuple[int, str]] = []
    for row in range(first, first + self.num_rows):
      address = self.address(row)
      if address is None:
        examples.append(None)
        continue
      try:
        examples.append(self.example(*address))
      except (DataError, ImageError) as error:
        if self.on_error == "stop":
          raise DataError(
            f"make_pipeline: example {address[1]} of"
            f" {source_name(self.source)} must be readable, got:"
            f" {str(error).rstrip('.')}; mend or remove it, or pass"
            ' on_error="skip".'
          ) from error
        examples.append(None)
        notes.append((address[1], str(error)))
    return self._stacked(examples), tuple(notes)

  def address(self, row: int) -> tuple[int, int] | None:
    """(epoch, index) of a row; None beyond the last epoch."""
    epoch, place = divmod(row, len(self.source))
    if self.epochs is not None and epoch >= self.epochs:
      return None
    return epoch, int(self._order(epoch)[place]) if self.shuffle else place

  def _order(self, epoch: int) -> np.ndarray:
    """The order of one epoch."""
    with self._lock:
      order = self._orders.pop(epoch, None)
      if order is None:
        stream = random_stream(Domain.ORDER, self.seed, epoch)
        # Raw words: no version of NumPy or Grain changes the order.
        words = stream.bit_generator.random_raw(len(self.source))
        order = np.argsort(words, kind="stable")
      self._orders[epoch] = order  # the last one used stands last
      if len(self._orders) > _ORDERS:
        del self._orders[next(iter(self._orders))]
      return order

  def example(self, epoch: int, index: int) -> dict[str, Any]:
    """One example, transformed."""
    try:
      example = dict(self.source[index])
      example.setdefault("index", np.int64(index))
      for place, transform in enumerate(self.transforms):
        rng = random_stream(
          Domain.AUGMENTATION, self.seed, index, item=epoch * 2**16 + place
        )
        example = transform(example, rng)
    except Exception as error:
      error.add_note(
        f"make_pipeline: in example {index} of {source_name(self.source)}"
      )
      raise
    return example

  def _stacked(self, examples: Sequence[dict[str, Any] | None]) -> Batch:
    """A batch, with rows of zeros where there is no example."""
    present = [example for example in examples if example is not None]
    if len(present) == len(examples):
      return collate(present)
    stacked = collate(present) if present else self._empty_row()
    valid = np.array([example is not None for example in examples])
    batch = {}
    for name, rows in stacked.items():
      batch[name] = np.zeros((len(examples), *rows.shape[1:]), rows.dtype)
      if present:
        batch[name][valid] = rows
    return batch

  def _empty_row(self) -> Batch:
    """One row of the right shapes, for a batch in which nothing is valid."""
    if self._layout is None:
      for index in range(min(len(self.source), _LAYOUT_TRIES)):
        try:
          self._layout = collate([self.example(0, index)])
          break
        except (DataError, ImageError) as error:
          last = error
      else:
        raise DataError(
          f"make_pipeline: {source_name(self.source)} must have a readable"
          f" example among its first {_LAYOUT_TRIES}, got none; the last error:"
          f" {last}"
        )
    return self._layout


def source_name(source: Any) -> str:
  """What messages call a source."""
  name = repr(getattr(source, "name", type(source).__name__))
  split = getattr(source, "split", None)
  return name if split is None else f"{name}, split {split!r}"


def _portable(error: BaseException) -> Exception:
  """An error that another process can receive."""
  if isinstance(error, Exception):
    try:
      pickle.loads(pickle.dumps(error))
      return error
    except Exception:  # its class does not allow it
      pass
  notes = " ".join(getattr(error, "__notes__", ()))
  return RuntimeError(f"{type(error).__name__}: {error} {notes}".rstrip())


@contextlib.contextmanager
def hold_back_end() -> Iterator[None]:
  """Delays SIGTERM for this thread and the processes it starts.

  A new process inherits it, and may take seconds until `start_worker` says what
  the signal does there.
  """
  from multiprocessing import resource_tracker

  resource_tracker.ensure_running()  # starting it would undo the delay
  before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(index: int, count: int) -> None:
  """Settings of a worker process: one core, no device, no orphan."""
  del index, count
  import multiprocessing
  import multiprocessing.connection
  import sys

  import cv2

  cv2.setNumThreads(1)
  # An accelerator belongs to the main process.
  os.environ["JAX_PLATFORMS"] = "cpu"
  if "jax" in sys.modules:
    sys.modules["jax"].config.update("jax_platforms", "cpu")

  def follow(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(
      target=follow, args=(parent.sentinel,), daemon=True
    ).start()

  def linger(number: int, frame: Any) -> None:
    # A scheduler asks all processes to end; the main one may still need a
    # batch before it saves, and ends this one with it.
    del number, frame
    timer = threading.Timer(_GRACE_SECONDS, os._exit, (143,))
    timer.daemon = True
    timer.start()

  signal.signal(signal.SIGTERM, linger)
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
