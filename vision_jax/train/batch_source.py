"""Batches by number, from a function or an iterable with a position."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from vision_jax.train import distributed

__all__ = ["BatchSource", "Batches"]

_log = logging.getLogger(__name__)

Batches = Callable[[int], Any] | Iterable[Any]


class BatchSource:
  """Batches for one update after another.

  An iterator with `get_state` and `set_state` (Grain) has a position, which is
  saved with the state. With several processes each has its own position, and
  all are saved.
  """

  def __init__(self, batches: Batches):
    """Takes a function of the number of updates, or an iterable."""
    self._function = batches if callable(batches) else None
    self._iterator: Iterator[Any] = iter(() if callable(batches) else batches)
    self._stateful = hasattr(self._iterator, "get_state") and hasattr(
      self._iterator, "set_state"
    )

  def get(self, step: int) -> Any:
    """The batch for the update after `step` updates.

    Raises:
      ValueError: if an iterable has no more.
    """
    if self._function is not None:
      return self._function(step)
    for batch in self._iterator:
      return batch
    raise ValueError(
      f"fit: `batches` must last for `num_steps` updates, got the end before "
      f"update {step + 1}; repeat the data."
    )

  def positions(self) -> list[Any] | None:
    """The position in each process, as JSON; None if there are none.

    With several processes all must call it.
    """
    if not self._stateful:
      return None
    return distributed.exchange(self._iterator.get_state())  # type: ignore[attr-defined]

  def resume(self, used: int, positions: list[Any] | None) -> None:
    """Goes past the batches that a restored state has used.

    Args:
      used: how many batches that were since the beginning.
      positions: what `positions` returned when the state was saved. If they are
        all the same (`data.make_pipeline` counts batches), any number of
        processes can go on from there. Positions that differ mean nothing to
        another number of processes: batches are then read and dropped, as for
        iterators without a position.
    """
    if self._function is not None:
      return
    if self._stateful and positions:
      count = jax.process_count()
      if len(positions) == count or _all_equal(positions):
        position = positions[jax.process_index() % len(positions)]
        self._iterator.set_state(position)  # type: ignore[attr-defined]
        return
      _log.warning(
        "the positions of `batches` were saved by %d processes, now there are "
        "%d; reading past the %d batches used so far instead",
        len(positions),
        count,
        used,
      )
    for _ in itertools.islice(self._iterator, used):
      pass


def _all_equal(values: list[Any]) -> bool:
  return all(value == values[0] for value in values)
