"""Batches on the devices before they are asked for."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["prefetch_to_device"]


class _Ahead(Iterator[Any]):
  """The iterator of `prefetch_to_device`."""

  def __init__(
    self, batches: Iterator[Any], put: Callable[[Any], Any], size: int
  ):
    self._batches = batches
    self._put = put
    self._size = size
    self._queue: collections.deque[tuple[Any, Any]] = collections.deque()
    self._end: BaseException | None = None
    self._state = self._position()

  def _position(self) -> Any:
    return None

  def __iter__(self) -> "_Ahead":
    return self

  def __next__(self) -> Any:
    while self._end is None and len(self._queue) < self._size:
      try:
        batch = self._put(next(self._batches))
      except Exception as error:  # raised when it is its turn
        self._end = error
      else:
        self._queue.append((batch, self._position()))
    if not self._queue:
      reached, self._end = self._end, None
      assert reached is not None
      raise reached
    batch, self._state = self._queue.popleft()
    return batch

  def close(self) -> None:
    """Closes the iterator behind, if it can be closed."""
    self._queue.clear()
    getattr(self._batches, "close", lambda: None)()


class _AheadWithState(_Ahead):
  """The same over an iterator whose position can be saved."""

  def _position(self) -> Any:
    return self._batches.get_state()  # type: ignore[attr-defined]

  def get_state(self) -> Any:
    """The position after the batch that was handed out last."""
    return self._state

  def set_state(self, state: Mapping[str, Any]) -> None:
    """Goes to a saved position; batches that were read ahead are dropped."""
    self._batches.set_state(state)  # type: ignore[attr-defined]
    self._queue.clear()
    self._end = None
    self._state = state


def prefetch_to_device(
  batches: Iterable[Any], put: Callable[[Any], Any], *, size: int = 2
) -> Iterator[Any]:
  """Puts batches on the devices ahead of their use.

  A step that was started computes while the next batches are fetched and
  copied, so the devices need not wait for the host.

  Args:
    batches: batches in host memory, for example a `Pipeline`.
    put: moves a batch to the devices and returns at once, such as
      `jax.device_put`.
    size: batches on the devices at a time, at least 1.

  Returns:
    Iterator over the batches that `put` returns. If the iterator of `batches`
    has `get_state` and `set_state`, so has this one: positions are those after
    the batch that was handed out last, not the one that was read last. An error
    or the end comes when it is reached. `close` ends the reading.

  Raises:
    ValueError: if `size` is below 1.

  Example:
    >>> from vision_jax.data import make_eval_batches, prefetch_to_device
    >>> source = [{"x": np.float32(i)} for i in range(4)]
    >>> batches = make_eval_batches(source, batch_size=2)
    >>> for batch in prefetch_to_device(batches, jax.device_put):
    ...   print(batch["x"])
    [0. 1.]
    [2. 3.]

  Source:
    Interface of this library.
  """
  if size < 1:
    raise ValueError(
      f"prefetch_to_device: `size` must be at least 1, got {size}."
    )
  iterator = iter(batches)
  if hasattr(iterator, "get_state") and hasattr(iterator, "set_state"):
    return _AheadWithState(iterator, put, size)
  return _Ahead(iterator, put, size)
