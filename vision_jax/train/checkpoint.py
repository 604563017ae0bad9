"""Checkpoints that can always be resumed; the only module that names orbax.

Layout of a directory of checkpoints::

  1000/  2000/      one folder for each kept step
    state/          the arrays (orbax, OCDBT)
    meta/           names, shapes and dtypes of the arrays; the caller's `extra`
    metrics/        the metrics, if any
    _CRC32.json     size and CRC-32 of every file in these folders
  trash/            steps about to be deleted (a kill never half-deletes a step)
  damaged/          steps that could not be read, set aside at the next save

The sums are written before a step gets its final name, and checked before it is
read. With several processes each call is made by all of them, in the same
order; process 0 alone renames, deletes and judges, and the others follow it.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import threading
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from vision_jax.train import distributed, placement, step_folders
from vision_jax.train.checksums import find_damage, write_checksums

__all__ = ["CheckpointError", "Checkpoints", "Restored"]

_logger = logging.getLogger(__name__)
_EMPTY = "the folder is empty"
# What each thread of a failed save is given to see that it failed.
_SECONDS_TO_STOP = 30.0


class CheckpointError(RuntimeError):
  """A checkpoint cannot be used; the message says which and why."""


class Restored(NamedTuple):
  """What one checkpoint holds.

  Attributes:
    step: its step.
    state: the state, placed as the target.
    extra: what `save` was given, `{}` if nothing.
  """

  step: int
  state: Any
  extra: dict[str, Any]


class Checkpoints:
  """Saves and restores training states in one directory.

  `save` returns as soon as the arrays are in host memory; files are written in
  the background and appear under their final name only when complete. The
  newest `keep` steps are kept, and the best one beside them. Each step carries
  checksums. Use it as a context manager, or call `close`, so that the last save
  finishes.

  With several processes the directory is on a file system that all of them see,
  and every method is called by all of them. What was saved by any number of
  processes and devices can be restored by any other.

  Attributes:
    directory: absolute path.
    best: name of the metric that ranks steps, or None.

  Example:
    >>> from vision_jax import train
    >>> import tempfile
    >>> state = {"w": jnp.arange(3.0), "key": jax.random.key(0)}
    >>> with tempfile.TemporaryDirectory() as directory:
    ...   with train.Checkpoints(directory, best="accuracy") as checkpoints:
    ...     checkpoints.save(10, state, metrics={"accuracy": 0.5})
    ...     checkpoints.wait()
    ...     restored = checkpoints.restore_latest(state)
    >>> print(restored.step, restored.state["w"])
    10 [0. 1. 2.]
  """

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    keep: int = 2,
    best: str | None = None,
    mode: str = "max",
  ):
    """Opens or creates a directory of checkpoints.

    Args:
      directory: path of the directory.
      keep: how many of the newest steps to keep, at least 1.
      best: name of the metric of the best step, which is kept as well; None
        keeps the newest only.
      mode: "max" or "min", what of `best` is better.

    Raises:
      ValueError: on a wrong `keep` or `mode`.
      NotADirectoryError: if the path is a file.
      CheckpointError: if not all processes see the directory.
    """
    if keep < 1:
      raise ValueError(f"Checkpoints: `keep` must be at least 1, got {keep}.")
    if mode not in ("max", "min"):
      raise ValueError(
        f"Checkpoints: `mode` must be 'max' or 'min', got {mode!r}."
      )
    self.directory = os.path.abspath(os.fspath(directory))
    if os.path.exists(self.directory) and not os.path.isdir(self.directory):
      raise NotADirectoryError(
        f"Checkpoints: `directory` must be a folder, got the file "
        f"{self.directory}; choose another path."
      )
    self.best = best
    self._mode = mode
    self._damaged: set[int] = set()
    self._saving: int | None = None
    self._writers: set[threading.Thread] = set()
    distributed.on_first_process(self._prepare)
    self._check_shared()
    self._keep = keep
    self._manager = self._open()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    self.close()

  def save(
    self,
    step: int,
    state: Any,
    *,
    metrics: Mapping[str, float] | None = None,
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves a state in the background.

    Args:
      step: number of finished updates; above every step saved so far.
      state: pytree of arrays, typed random keys included.
      metrics: numbers of this step, stored to rank it by `best`, which must be
        among them. NaN ranks last; so does a step without metrics.
      extra: anything that JSON holds, for example the position of a data
        iterator; that of process 0 is stored.

    Raises:
      ValueError: if `step` is not above the latest one.
      KeyError: if `metrics` lacks the metric `best`.
      CheckpointError: if the previous save failed, or this one already has.
    """
    numbers = {name: float(v) for name, v in (metrics or {}).items()}
    if metrics is not None and self.best is not None:
      if self.best not in metrics:
        raise KeyError(
          f"Checkpoints.save: `metrics` must have {self.best!r}, got "
          f"{sorted(metrics)}."
        )
    self.wait()
    distributed.on_first_process(self._tidy)
    self._damaged = set()
    self._manager.reload()
    latest = self.latest_step()
    if latest is not None and step <= latest:
      raise ValueError(
        f"Checkpoints.save: `step` must be above the latest checkpoint "
        f"{latest} in {self.directory}, got {step}; resume that run, or use "
        "another directory."
      )
    self._saving = step
    threads = set(threading.enumerate())
    meta = {"leaves": placement.signature(state), "extra": dict(extra or {})}
    args = ocp.args.Composite(
      state=ocp.args.StandardSave(placement.to_global(state)),
      meta=ocp.args.JsonSave(meta),
    )
    try:
      try:
        self._manager.save(
          step,
          args=args,
          metrics=None if self.best is None else numbers,
          force=True,
        )
      finally:
        self._writers = set(threading.enumerate()) - threads
    except Exception as error:  # in files, networks or services: many types
      raise self._failed(error) from error

  def restore_latest(self, target: Any) -> Restored | None:
    """Restores the newest step that can be read.

    Steps that are damaged, or of another model, are named in a warning and
    passed over; the next `save` moves them to `damaged/`.

    Args:
      target: state with the wanted tree, shapes, dtypes and placement, such as
        a fresh `create_state(...)`; arrays or `jax.ShapeDtypeStruct`.

    Returns:
      The restored step, or None if there is no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints and none can be used.
    """
    self.wait()
    reasons: dict[int, str] = {}
    wanted = placement.signature(target)
    for step in sorted(self.all_steps(), reverse=True):
      reason = self._judge(step, wanted)
      if reason is None:
        try:
          restored = self._read(step, target)
        except Exception as error:  # whatever it is, older steps remain
          if jax.process_count() > 1:
            raise  # the others may have read it; they end with this process
          reason = _short(error)
        else:
          self._damaged |= set(reasons)
          return restored
      if jax.process_index() == 0:
        _logger.warning(
          "checkpoint %s cannot be used and is passed over: %s",
          self._path(step),
          reason,
        )
      reasons[step] = reason
    if all(reason == _EMPTY for reason in reasons.values()):
      self._damaged |= set(reasons)
      return None
    lines = "".join(f"\n  {s}: {reason}" for s, reason in reasons.items())
    raise CheckpointError(
      f"Checkpoints.restore_latest: none of the {len(reasons)} checkpoints in "
      f"{self.directory} can be used; to start afresh use another directory."
      f"{lines}"
    )

  def restore_best(self, target: Any) -> Restored:
    """Restores the step with the best metric.

    Args:
      target: as for `restore_latest`.

    Returns:
      The restored step.

    Raises:
      CheckpointError: if no step has the metric, or the best is damaged.
    """
    self.wait()
    step = self.best_step()
    if step is None:
      raise CheckpointError(
        f"Checkpoints.restore_best: no checkpoint in {self.directory} has the "
        f"metric {self.best!r}."
      )
    return self.restore(step, target)

  def restore(self, step: int, target: Any) -> Restored:
    """Restores one step.

    Args:
      step: one of `all_steps()`.
      target: as for `restore_latest`. Its placement may differ from the one
        that was saved, also in the number of devices.

    Returns:
      The restored step.

    Raises:
      CheckpointError: if the step does not exist, a file is damaged or missing,
        or its arrays are not those of the target.
    """
    if step not in self.all_steps():
      raise CheckpointError(
        f"Checkpoints.restore: `step` must be one of {self.all_steps()}, got "
        f"{step}."
      )
    reason = self._judge(step, placement.signature(target))
    if reason is not None:
      raise CheckpointError(
        f"Checkpoints.restore: step {step} in {self.directory} cannot be used: "
        f"{reason}"
      )
    return self._read(step, target)

  def all_steps(self) -> list[int]:
    """Steps in the directory, ascending, sound or not."""
    return sorted(self._manager.all_steps())

  def latest_step(self) -> int | None:
    """The newest step, or None."""
    return max(self._manager.all_steps(), default=None)

  def best_step(self) -> int | None:
    """The step with the best metric, or None if none has the metric."""
    step = None if self.best is None else self._manager.best_step()
    if step is None or self.best not in (self._manager.metrics(step) or {}):
      return None
    return step

  def wait(self) -> None:
    """Waits for the save in progress.

    Raises:
      CheckpointError: if it failed (a full disk, say). Earlier steps are as
        they were, what was written of the failed one is removed, and a later
        save may succeed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:  # in files, networks or services: many types
      raise self._failed(error) from error

  def close(self) -> None:
    """Waits and closes; the object must not be used afterwards.

    Raises:
      CheckpointError: if the save in progress failed.
    """
    try:
      self.wait()
    finally:
      self._manager.close()
    if self._saving is not None and jax.process_index() == 0:
      step_folders.remove_leftovers(self.directory)

  def _open(self) -> ocp.CheckpointManager:
    kept: list[policies.PreservationPolicy] = [policies.LatestN(self._keep)]
    if self.best is not None:
      kept.append(
        policies.BestN(
          get_metric_fn=self._score,
          reverse=self._mode == "min",
          n=1,
          keep_checkpoints_without_metrics=False,
        )
      )
    return ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        # Without a `best_fn` orbax does not write metrics.
        best_fn=None if self.best is None else self._score,
        best_mode=self._mode,
        preservation_policy=policies.AnyPreservationPolicy(kept),
        todelete_subdir="trash",
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_sums
        ),
      ),
    )

  def _path(self, step: int) -> str:
    return os.path.join(self.directory, str(step))

  def _score(self, metrics: Mapping[str, float]) -> float:
    """Value that ranks a step; missing or NaN is worst."""
    value = metrics.get(self.best or "", math.nan)
    worst = -math.inf if self._mode == "max" else math.inf
    return worst if value is None or math.isnan(value) else float(value)

  def _prepare(self) -> None:
    """Process 0, when opening: the directory, without what orbax chokes on."""
    os.makedirs(self.directory, exist_ok=True)
    step_folders.set_aside(
      self.directory,
      [
        step
        for step in step_folders.step_numbers(self.directory)
        if not step_folders.metrics_readable(self.directory, step)
      ],
    )

  def _check_shared(self) -> None:
    """Raises if some processes look at another directory of that name."""
    if jax.process_count() == 1:
      return
    token = os.path.join(self.directory, f"shared-{os.getpid()}.tmp")
    name = distributed.on_first_process(lambda: os.path.basename(_touch(token)))
    own = os.path.join(self.directory, name)
    seen = distributed.exchange(os.path.exists(own))
    if jax.process_index() == 0:
      os.remove(token)
    if not all(seen):
      blind = [number for number, sees in enumerate(seen) if not sees]
      raise CheckpointError(
        f"Checkpoints: `directory` must be on a file system that all processes "
        f"share, got {self.directory}, which processes {blind} do not see as "
        "process 0 does."
      )

  def _tidy(self) -> None:
    """Process 0, before a save: nothing is in the way of the new step."""
    step_folders.set_aside(self.directory, self._damaged)
    step_folders.remove_leftovers(self.directory)

  def _failed(self, error: Exception) -> CheckpointError:
    """The error of a save in plain words; the directory is as before it."""
    if jax.process_count() == 1:
      # Orbax raises with the first part that fails, while others are still
      # being written, and may raise once more what these meet.
      with contextlib.suppress(Exception):
        self._manager.close()
      for thread in self._writers:
        threading.Thread.join(thread, _SECONDS_TO_STOP)  # orbax's own raises
      step_folders.remove_leftovers(self.directory)
      self._manager = self._open()
    else:  # opening waits for every process, and the others may not have failed
      if jax.process_index() == 0:
        step_folders.remove_leftovers(self.directory)
      self._manager.reload()
    usage = shutil.disk_usage(self.directory)
    return CheckpointError(
      f"Checkpoints: saving step {self._saving} in {self.directory} failed, "
      f"{usage.free / 2**20:.1f} MiB of {usage.total / 2**20:.1f} MiB are free "
      f"there; the earlier steps {self.all_steps()} are intact. "
      f"{_short(error)}"
    )

  def _write_sums(self) -> None:
    """Runs in the background, just before a step gets its final name."""
    if jax.process_index() != 0 or self._saving is None:
      return
    for folder in step_folders.unfinished(self.directory, self._saving):
      write_checksums(folder)

  def _judge(self, step: int, wanted: Mapping[str, list[Any]]) -> str | None:
    """Why a step cannot be used, as process 0 sees it; None if it can."""

    def look() -> str | None:
      folder = self._path(step)
      if not os.path.isdir(folder) or not os.listdir(folder):
        return _EMPTY
      damage = find_damage(folder)
      if damage is not None:
        return damage
      try:
        saved = self._read_meta(step)["leaves"]
      except Exception as error:  # sound files, but not ours
        return _short(error)
      return placement.find_differences(saved, wanted)

    return distributed.on_first_process(look)

  def _read_meta(self, step: int) -> dict[str, Any]:
    # Not by the manager, which would let the processes wait for each other.
    with open(os.path.join(self._path(step), "meta", "metadata")) as file:
      return json.load(file)

  def _read(self, step: int, target: Any) -> Restored:
    """A step that was judged sound."""
    extra = self._read_meta(step)["extra"]
    args = ocp.args
    restored = self._manager.restore(
      step,
      args=args.Composite(state=args.StandardRestore(placement.target(target))),
    )["state"]
    return Restored(step, placement.place_like(restored, target), extra)


def _touch(path: str) -> str:
  """Makes an empty file."""
  with open(path, "w"):
    return path


def _short(error: Exception) -> str:
  """Type and first line of an error; of a long one both ends, which tell."""
  line = (str(error).splitlines() or [""])[0]
  if len(line) > 300:
    line = f"{line[:140]} ... {line[-140:]}"
  return f"{type(error).__name__}: {line}"
