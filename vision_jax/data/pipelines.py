"""Input pipelines: shuffled, sharded by process, augmented, resumable batches.

A *source* is anything with `len(source)` and `source[i] -> dict` of arrays,
and, for messages, a `name` and a `split`. The rows of a run are numbered: row r
is place r mod N of epoch r // N, and batch b holds rows bB to (b + 1)B. Process
p of P reads the rows pB/P to (p + 1)B/P of each batch, so P processes together
read what one would, in the same order.

What a transform draws depends on (seed, epoch, index of the example, place of
the transform in the list) alone: not on processes, workers, threads or the
place in the batch. So the position of a run is the number of the next batch,
and a run may go on with another number of processes, workers or threads, or
for more epochs.

Grain reads ahead. Its element is a whole batch of one process, so that its
cost of about 0.1 ms an element is paid once a batch.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vision_jax.data.augmentation import Transform
from vision_jax.data.batch_reading import (
  Batch,
  BatchReader,
  Notes,
  Source,
  hold_back_end,
  source_name,
  start_worker,
)

__all__ = ["BatchIterator", "Pipeline", "make_eval_batches", "make_pipeline"]

_log = logging.getLogger(__name__)

_ENDLESS = 2**62  # batches


class BatchIterator(Iterator[Batch]):
  """Batches one after another; its position can be saved and restored.

  Made by `iter(pipeline)`. Use it from one thread.

  Attributes:
    skipped: index -> reason of the examples that could not be read so far.
    left_out: objects beyond `max_objects` so far, where `pad_example` counts.
  """

  def __init__(self, pipeline: "Pipeline"):
    """Begins at the first batch."""
    self._pipeline = pipeline
    self._next = 0
    self._elements: Any = None
    self.skipped: dict[int, str] = {}
    self.left_out = 0

  def __iter__(self) -> "BatchIterator":
    return self

  def __next__(self) -> Batch:
    if self._next >= self._pipeline.num_batches:
      self.close()
      raise StopIteration
    try:
      if self._elements is None:
        batch, notes = self._start()
      else:
        batch, notes = next(self._elements)
    except BaseException as error:
      self.close()
      if isinstance(error, RuntimeError) and "exit code" in str(error):
        raise RuntimeError(
          "make_pipeline: worker processes must stay alive, got: "
          f"{error} Batch {self._next} was wanted. Look for a lack of memory;"
          ' guard the script by `if __name__ == "__main__":`; or try'
          " num_workers=0."
        ) from None
      raise
    self._next += 1
    self._watch(batch, notes)
    return {name: np.asarray(value) for name, value in batch.items()}

  def _start(self) -> tuple[Batch, Notes]:
    """Starts threads and worker processes; gives the first batch."""
    workers = self._pipeline.num_workers
    with hold_back_end() if workers else contextlib.nullcontext():
      self._elements = iter(self._pipeline.elements(self._next))
      return next(self._elements)

  def _watch(self, batch: Batch, notes: Notes) -> None:
    """Counts and names what is missing."""
    for index, reason in notes:
      if index not in self.skipped:
        self.skipped[index] = reason
        _log.warning(
          "make_pipeline: skipping example %d of %s: %s (%d skipped so far)",
          index,
          source_name(self._pipeline.source),
          reason,
          len(self.skipped),
        )
    beyond = int(np.sum(batch.get("objects_left_out", 0)))
    if beyond and not self.left_out:
      _log.warning(
        "make_pipeline: an example of %s has more objects than `max_objects`;"
        " the smallest are left out (counted in `left_out`)",
        source_name(self._pipeline.source),
      )
    self.left_out += beyond

  def get_state(self) -> dict[str, Any]:
    """The position after the last batch, as JSON can hold it."""
    return {"batch": self._next, **self._pipeline.settings()}

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a saved position.

    Args:
      state: what `get_state` gave, here or in another run, whatever its number
        of processes, workers and threads.

    Raises:
      ValueError: if the state is of other data or settings, which would change
        what the following batches are.
    """
    expected = self._pipeline.settings()
    found = {name: state.get(name) for name in expected}
    changed = [name for name in expected if found[name] != expected[name]]
    if changed or not isinstance(state.get("batch"), int):
      raise ValueError(
        "set_state: `state` must be of the same pipeline, got "
        + ", ".join(f"{n} {found[n]!r} for {expected[n]!r}" for n in changed)
        + (f" in {dict(state)}" if not changed else "")
        + "; resume with the old settings, or start a new run."
      )
    self.close()
    self._next = state["batch"]

  def close(self) -> None:
    """Ends threads and worker processes; the position stays."""
    elements, self._elements = self._elements, None
    if elements is not None:
      elements.close()

  def __del__(self) -> None:
    self.close()


class Pipeline:
  """Batches of a set, to be iterated over any number of times.

  Made by `make_pipeline` and `make_eval_batches`. `len(pipeline)` is the number
  of batches, if there is an end.

  Attributes:
    source: where the examples come from.
    num_batches: batches of one iteration; a very large number without an end.
    num_workers: processes that make batches; 0 uses threads.
  """

  def __init__(self, reader: BatchReader, num_threads: int, num_workers: int):
    """See `make_pipeline`."""
    self.source = reader.source
    self.num_batches = _ENDLESS
    if reader.epochs is not None:
      rows = reader.epochs * len(reader.source)
      self.num_batches = -(-rows // reader.batch_size)
    self._reader = reader
    self._num_threads = num_threads
    self.num_workers = num_workers

  def __len__(self) -> int:
    if self.num_batches == _ENDLESS:
      raise TypeError(
        "Pipeline: `epochs` must be given for a length, got None."
      )
    return self.num_batches

  def __iter__(self) -> BatchIterator:
    return BatchIterator(self)

  def settings(self) -> dict[str, Any]:
    """What fixes the batches, beside the source's content and transforms."""
    reader = self._reader
    return {
      "examples": len(reader.source),
      "batch_size": reader.batch_size,
      "seed": reader.seed,
      "shuffle": reader.shuffle,
    }

  def elements(self, start: int) -> Any:
    """Grain's data set of (batch, notes) from batch number `start` on."""
    import grain

    threads = self._num_threads
    options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=threads + 1 if threads else 0
    )
    numbers = grain.MapDataset.range(start, self.num_batches)
    elements = numbers.map(self._reader).to_iter_dataset(options)
    if not self.num_workers:
      return elements
    from absl import flags

    if not flags.FLAGS.is_parsed():  # Grain looks at them
      flags.FLAGS.mark_as_parsed()
    return elements.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=self.num_workers, per_worker_buffer_size=2
      ),
      worker_init_fn=start_worker,
    )


def make_pipeline(
  source: Source,
  *,
  batch_size: int,
  seed: int,
  transforms: Sequence[Transform] = (),
  shuffle: bool = True,
  epochs: int | None = None,
  process_index: int | None = None,
  process_count: int | None = None,
  num_threads: int | None = None,
  num_workers: int = 0,
  on_error: str = "stop",
) -> Pipeline:
  """Makes batches for training.

  Every example comes once an epoch, in a new order each; a batch may hold the
  end of one epoch and the beginning of the next, so nothing is dropped. After
  the last epoch the last batch is filled up with rows whose `valid` is False.

  Convention:
    A batch maps names to arrays [B / process_count, ...], this process's rows,
    with `valid`, bool, and `index`, int64, the example's place in the source.

  Args:
    source: see the head of this module.
    batch_size: B, examples of a batch over all processes.
    seed: number of the run's order and augmentation, below 2**64.
    transforms: functions `(example, rng) -> example`, applied in this order;
      after them all examples must have the same entries, shapes and dtypes.
    shuffle: whether the order is random; else it is that of the source.
    epochs: how often the source is gone through; None has no end.
    process_index: number of this process; JAX's if None.
    process_count: number of processes; JAX's if None.
    num_threads: batches that each process makes at a time; None takes the
      number of cores, at most 8, or 1 in each worker.
    num_workers: processes that make batches, for transforms that hold Python's
      lock; 0 uses threads alone. Workers start the main script anew, so it
      must be guarded by `if __name__ == "__main__":`.
    on_error: what an example that raises `DataError` or `ImageError` does:
      "stop" raises `DataError` naming it, "skip" gives a row of zeros whose
      `valid` is False, and a warning once for each example.

  Returns:
    The batches. Its iterators have `get_state` and `set_state`.

  Raises:
    ValueError: on an empty source, a batch that does not divide by the
      processes, or a setting beyond its limits.

  Example:
    >>> from vision_jax.data import make_pipeline, random_flip, textures
    >>> class Textures:
    ...   def __len__(self): return 100
    ...   def __getitem__(self, index):
    ...     image, label = textures(0, index)
    ...     return {"image": image, "label": np.int32(label)}
    >>> batches = iter(make_pipeline(Textures(), batch_size=8, seed=0,
    ...                              transforms=[random_flip()]))
    >>> batch = next(batches)
    >>> print(batch["image"].shape, batch["valid"].all())
    (8, 64, 64, 3) True
    >>> state, after = batches.get_state(), next(batches)["index"]
    >>> batches.set_state(state)
    >>> bool((next(batches)["index"] == after).all())
    True
    >>> batches.close()

  Source:
    Interface of this library; read ahead by Grain.
  """
  if process_index is None or process_count is None:
    import jax

    process_index = (
      jax.process_index() if process_index is None else process_index
    )
    process_count = (
      jax.process_count() if process_count is None else process_count
    )
  _check_settings(
    {
      "batch_size": (batch_size, 1),
      "epochs": (1 if epochs is None else epochs, 1),
      "num_threads": (0 if num_threads is None else num_threads, 0),
      "num_workers": (num_workers, 0),
      "process_count": (process_count, 1),
      "process_index": (process_index, 0),
      "seed": (seed, 0),
    }
  )
  if len(source) < 1:
    raise ValueError(
      f"make_pipeline: `source` must hold at least one example, got"
      f" {source_name(source)} with none."
    )
  if batch_size % process_count or process_index >= process_count:
    raise ValueError(
      "make_pipeline: `batch_size` must be a multiple of `process_count`, above"
      f" `process_index`, got {batch_size}, {process_count}, {process_index}."
    )
  if on_error not in ("stop", "skip"):
    raise ValueError(
      f'make_pipeline: `on_error` must be "stop" or "skip", got {on_error!r}.'
    )
  if num_threads is None:
    num_threads = 1 if num_workers else min(os.cpu_count() or 1, 8)
  rows = batch_size // process_count
  reader = BatchReader(
    source=source,
    seed=int(seed),
    shuffle=bool(shuffle),
    epochs=epochs,
    batch_size=int(batch_size),
    first_row=process_index * rows,
    num_rows=rows,
    transforms=tuple(transforms),
    on_error=on_error,
    in_worker=num_workers > 0,
  )
  return Pipeline(reader, num_threads, num_workers)


def _check_settings(settings: Mapping[str, tuple[int, int]]) -> None:
  """Refuses numbers below their least value."""
  for name, (value, least) in settings.items():
    if value < least:
      raise ValueError(
        f"make_pipeline: `{name}` must be at least {least}, got {value}."
      )


def make_eval_batches(
  source: Source,
  *,
  batch_size: int,
  transforms: Sequence[Transform] = (),
  process_index: int | None = None,
  process_count: int | None = None,
  num_threads: int | None = None,
  num_workers: int = 0,
  on_error: str = "stop",
) -> Pipeline:
  """Makes batches for exact evaluation: each example once, in order.

  The last batch is filled up with rows whose `valid` is False, and all
  processes get the same number of batches, if need be with no valid row.

  Args:
    source: as `make_pipeline` takes it, like all that follow.
    batch_size: examples of a batch over all processes.
    transforms: functions `(example, rng) -> example`; what they draw is the
      same in every evaluation.
    process_index: number of this process; JAX's if None.
    process_count: number of processes; JAX's if None.
    num_threads: batches that each process makes at a time.
    num_workers: processes that make batches.
    on_error: "stop" or "skip"; what is skipped is not counted.

  Returns:
    The batches; iterate over them once for each evaluation.

  Raises:
    ValueError: as `make_pipeline`.

  Example:
    >>> from vision_jax.data import make_eval_batches
    >>> source = [{"x": np.float32(i)} for i in range(5)]
    >>> for batch in make_eval_batches(source, batch_size=4):
    ...   print(batch["x"], batch["valid"])
    [0. 1. 2. 3.] [ True  True  True  True]
    [4. 0. 0. 0.] [ True False False False]

  Source:
    Interface of this library.
  """
  return make_pipeline(
    source,
    batch_size=batch_size,
    seed=0,
    transforms=transforms,
    shuffle=False,
    epochs=1,
    process_index=process_index,
    process_count=process_count,
    num_threads=num_threads,
    num_workers=num_workers,
    on_error=on_error,
  )
