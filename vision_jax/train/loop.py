"""The training loop: resume, step, watch, log, evaluate, save."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vision_jax.train.batch_source import Batches, BatchSource
from vision_jax.train.checkpoint import Checkpoints
from vision_jax.train.loggers import Logger
from vision_jax.train.parallel import PlacedBatch
from vision_jax.train.state import TrainState
from vision_jax.train.stopping import Preempted, StopRequest, stop_on_sigterm

__all__ = ["NonFiniteError", "Timing", "fit"]

_log = logging.getLogger(__name__)
_WATCHED = ("loss", "grad_norm")

StepFn = Callable[[TrainState, Any], tuple[TrainState, Mapping[str, Any]]]
EvalFn = Callable[[TrainState], Mapping[str, float]]


class NonFiniteError(FloatingPointError):
  """A loss or gradient became infinite or not a number.

  Attributes:
    step: the first update concerned, counted from 1.
    names: the metrics concerned.
  """

  def __init__(self, message: str, step: int, names: Sequence[str]):
    """Keeps the facts beside the message."""
    super().__init__(message)
    self.step = step
    self.names = tuple(names)


@dataclasses.dataclass
class Timing:
  """How fast a run was; filled by `fit`.

  Attributes:
    seconds_to_first_step: from the call to the end of the first update, with
      restoring and compilation.
    images: examples processed after the first update, in all processes.
    seconds: time for them, without evaluation and waiting for checkpoints.
  """

  seconds_to_first_step: float = math.nan
  images: int = 0
  seconds: float = 0.0

  @property
  def images_per_second(self) -> float:
    """Examples per second after the first update."""
    return self.images / self.seconds if self.seconds else math.nan


def fit(
  step_fn: StepFn,
  state: TrainState,
  batches: Batches,
  *,
  num_steps: int,
  checkpoints: Checkpoints | None = None,
  checkpoint_every: int = 1000,
  eval_fn: EvalFn | None = None,
  eval_every: int | None = None,
  logger: Logger | Sequence[Logger] = (),
  log_every: int = 100,
  progress: bool = True,
  timing: Timing | None = None,
  max_in_flight: int = 2,
) -> TrainState:
  """Trains until `num_steps` updates are done, resuming where a run stopped.

  With `checkpoints` the newest sound one is restored first, whatever step the
  given state has; SIGTERM then saves and raises `Preempted`. On the CPU a run
  that was stopped and resumed gives bit for bit the parameters of one that was
  not, provided the batches are the same.

  With several processes all of them call it, with their part of each batch, and
  they stop, save and evaluate after the same updates, also when a signal
  reaches one of them only. Process 0 shows progress and writes logs.

  Every metric of every update is looked at when logging and before saving, so a
  checkpoint never holds a state after a non-finite loss.

  Args:
    step_fn: `(state, batch) -> (state, metrics)`, see `make_step`.
    state: the initial state.
    batches: a function of the number of finished updates, `batches(step)`,
      which makes any restart exact; or an iterable. One with `get_state` and
      `set_state` (Grain) has its position saved and restored with the state;
      another must begin where `state` does, and batches that a restored state
      has used are read and dropped. So are they with another number of
      processes, if their positions differ.
    num_steps: total number of updates, including those before a restart.
    checkpoints: where to save; None saves nothing.
    checkpoint_every: updates between checkpoints; the last state is saved, too.
    eval_fn: `state -> {name: number}`; runs every `eval_every` updates and
      after the last one. It must not keep arrays of the state: the next update
      gives up their buffers. If checkpoints rank by a metric, it is one of
      these.
    eval_every: updates between evaluations, `checkpoint_every` if None.
    logger: one or more loggers; means over the interval under the metrics' own
      names, "steps_per_second", "images_per_second", and "eval/<name>".
    log_every: updates between log entries.
    progress: whether process 0 shows a progress bar.
    timing: filled with speeds if given.
    max_in_flight: how many updates may be queued on the devices.

  Returns:
    The state after `num_steps` updates (the restored state if it is later).

  Raises:
    NonFiniteError: naming the update, the interval and the loss term.
    ValueError: on intervals below 1, or if batches end too early.
    Preempted: after SIGTERM, when the state is saved.
    CheckpointError: if saving fails (a full disk); earlier steps stay.

  Example:
    >>> from vision_jax import train
    >>> import optax
    >>> def loss_fn(params, batch_stats, batch, key):
    ...   return {"l2": (((batch - params) ** 2).sum(), batch.size)}, None
    >>> tx = optax.sgd(0.5)
    >>> state = train.create_state(jnp.zeros(()), {}, tx, jax.random.key(0))
    >>> step_fn = train.make_step(loss_fn, tx, devices=jax.devices()[:1])
    >>> batches = lambda step: np.full(4, 3.0, np.float32)
    >>> state = train.fit(step_fn, state, batches, num_steps=3, progress=False)
    >>> print(int(state.step), state.params)
    3 3.0

  Source:
    Interface of this library.
  """
  settings = {
    "checkpoint_every": checkpoint_every,
    "eval_every": checkpoint_every if eval_every is None else eval_every,
    "log_every": log_every,
    "max_in_flight": max_in_flight,
  }
  for name, value in settings.items():
    if value < 1:
      raise ValueError(f"fit: `{name}` must be at least 1, got {value}.")
  loggers = list(logger) if isinstance(logger, Sequence) else [logger]
  run = _Run(
    step_fn=step_fn,
    num_steps=num_steps,
    checkpoints=checkpoints,
    eval_fn=eval_fn,
    loggers=loggers,
    timing=Timing() if timing is None else timing,
    checkpoint_every=settings["checkpoint_every"],
    eval_every=settings["eval_every"],
    log_every=log_every,
    max_in_flight=max_in_flight,
  )
  started = time.perf_counter()
  state, source = _resume(state, batches, checkpoints)
  start = int(state.step)
  for entry in loggers:
    entry.rewind(start)
  try:
    with (
      stop_on_sigterm(checkpoints is not None) as stop,
      _bar(start, num_steps, progress) as bar,
    ):
      state = run.train(state, source, started, stop, bar)
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() > 1:  # said now: what follows may wait for the dead
      _log.error(
        "fit: process %d of %d cannot go on (%s); if another one has died, its "
        "output says why. All of them started again go on from the newest "
        "checkpoint",
        jax.process_index(),
        jax.process_count(),
        str(error).partition("\n")[0][:300],
      )
    raise
  finally:
    for entry in loggers:
      entry.close()
    if checkpoints is not None:
      checkpoints.wait()
  return state


@dataclasses.dataclass
class _Run:
  """The moving parts of one call of `fit`."""

  step_fn: StepFn
  num_steps: int
  checkpoints: Checkpoints | None
  eval_fn: EvalFn | None
  loggers: list[Any]
  timing: Timing
  checkpoint_every: int
  eval_every: int
  log_every: int
  max_in_flight: int
  saved: int = 0
  checked: int = 0
  unchecked: list[Any] = dataclasses.field(default_factory=list)
  interval: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  clock: float = 0.0
  updates: int = 0
  images: int = 0

  def train(
    self,
    state: TrainState,
    source: BatchSource,
    started: float,
    stop: StopRequest,
    bar: Any,
  ) -> TrainState:
    """Updates from the state's step to the end."""
    start = int(state.step)
    self.saved = self.checked = start
    for step in range(start + 1, self.num_steps + 1):
      batch = source.get(step - 1)
      state, metrics = self.step_fn(state, batch)
      self.unchecked.append(metrics)
      if step == start + 1:
        jax.block_until_ready(metrics)
        self.timing.seconds_to_first_step = time.perf_counter() - started
        self.restart_clock()
      else:
        if len(self.unchecked) >= self.max_in_flight:
          jax.block_until_ready(self.unchecked[-self.max_in_flight])
        self.updates += 1
        self.images += _batch_size(batch) * jax.process_count()
      bar.update()
      stopping = stop.reached(step) and step < self.num_steps
      self.act(step, state, source, stopping, bar)
      if stopping and self.checkpoints is not None:
        self.checkpoints.wait()
        _log.warning("SIGTERM: saved step %d, ending", step)
        raise Preempted(step)
    return state

  def act(
    self,
    step: int,
    state: TrainState,
    source: BatchSource,
    stopping: bool,
    bar: Any,
  ) -> None:
    """Logs, evaluates and saves where it is time to."""
    last = stopping or step == self.num_steps
    logs = last or step % self.log_every == 0
    saves = last or step % self.checkpoint_every == 0
    saves = saves and self.checkpoints is not None
    evaluates = step == self.num_steps or step % self.eval_every == 0
    evaluates = evaluates and self.eval_fn is not None and not stopping
    if not (logs or saves or evaluates):
      return
    self.check(step)
    seconds = time.perf_counter() - self.clock
    self.timing.images += self.images
    self.timing.seconds += seconds
    if logs:
      values = _means(self.interval)
      self.interval.clear()
      bar.set_postfix({name: f"{v:.4g}" for name, v in values.items()})
      if self.updates:
        values["steps_per_second"] = self.updates / seconds
        values["images_per_second"] = self.images / seconds
      self.write(step, values)
    found = None
    if evaluates and self.eval_fn is not None:
      found = {name: float(v) for name, v in self.eval_fn(state).items()}
      self.write(step, {f"eval/{name}": v for name, v in found.items()})
    if saves and self.checkpoints is not None:
      positions = source.positions()
      extra = {} if positions is None else {"batches": positions}
      self.checkpoints.save(step, state, metrics=found, extra=extra)
      self.saved = step
    self.restart_clock()

  def restart_clock(self) -> None:
    """Starts a new stretch of pure training time."""
    self.clock, self.updates, self.images = time.perf_counter(), 0, 0

  def check(self, step: int) -> None:
    """Fetches the metrics since the last check; stops on a non-finite one."""
    fetched = jax.device_get(self.unchecked)
    self.unchecked.clear()
    first = self.checked + 1
    for update, metrics in enumerate(fetched, first):
      bad = [k for k, v in metrics.items() if not np.all(np.isfinite(v))]
      watched = [k for k in _WATCHED if k in metrics] or list(metrics)
      if set(bad) & set(watched):
        # A term tells more than the sum of terms.
        names = [k for k in bad if k not in _WATCHED] or bad
        told = ", ".join(
          f"{k} = {float(np.ravel(metrics[k])[0])}" for k in names
        )
        kept = (
          f"the last checkpoint is step {self.saved}"
          if self.checkpoints is not None and self.saved
          else "there is no checkpoint"
        )
        raise NonFiniteError(
          f"fit: loss and gradient must be finite, got {told} at update "
          f"{update} (updates {first} to {step} were looked at; {kept}); look "
          f"at batch {update - 1}, lower the learning rate, or clip gradients.",
          update,
          names,
        )
    self.interval += fetched
    self.checked = step

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Gives numbers to all loggers."""
    for entry in self.loggers:
      entry.write(step, values)


def _resume(
  state: TrainState, batches: Batches, checkpoints: Checkpoints | None
) -> tuple[TrainState, BatchSource]:
  """The newest saved state and the batches after it, or what was given."""
  source = BatchSource(batches)
  restored = None if checkpoints is None else checkpoints.restore_latest(state)
  if restored is None:
    return state, source
  _log.info("resuming from step %d", restored.step)
  used = restored.step - int(state.step)
  source.resume(used, restored.extra.get("batches"))
  return restored.state, source


def _bar(start: int, num_steps: int, progress: bool) -> Any:
  """A progress bar, silent when not wanted or not on process 0."""
  import tqdm

  return tqdm.tqdm(
    total=num_steps,
    initial=min(start, num_steps),
    desc="train",
    unit="step",
    dynamic_ncols=True,
    disable=not progress or jax.process_index() != 0,
  )


def _batch_size(batch: Any) -> int:
  """Rows of a batch."""
  if isinstance(batch, PlacedBatch):
    return batch.rows
  leaves = jax.tree.leaves(batch)
  return int(np.shape(leaves[0])[0]) if leaves and np.shape(leaves[0]) else 0


def _means(interval: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Mean of each metric over an interval."""
  names = interval[0] if interval else ()
  return {
    name: float(np.mean([metrics[name] for metrics in interval]))
    for name in names
  }
