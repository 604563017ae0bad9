"""Checkpoints that can always be resumed; the only module that names orbax.

Layout of a directory of checkpoints::

  1000/  2000/      one folder for each kept step
    state/          the arrays (orbax, OCDBT)
    meta/           names, shapes and dtypes of the arrays; the caller's `extra`
    metrics/        the metrics, if any
    _CRC32.json     size and CRC-32 of every file in these folders
  trash/            steps about to be deleted (a kill never half-deletes a step)
  damaged/          steps that could not be read, set aside at the next save

The sums are written before a step gets its final name. Without them a flipped
bit in the arrays is read without complaint, and a missing file raises errors of
many types; with them each damage is found before anything is read.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import types
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

__all__ = ["CheckpointError", "Checkpoints", "Restored"]

_logger = logging.getLogger(__name__)
_SUMS = "_CRC32.json"
_TEMPORARY = ".orbax-checkpoint-tmp"


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
    self._set_aside(
      step for step in self._step_folders() if not self._metrics_readable(step)
    )
    kept: list[policies.PreservationPolicy] = [policies.LatestN(keep)]
    if best is not None:
      kept.append(
        policies.BestN(
          get_metric_fn=self._score,
          reverse=mode == "min",
          n=1,
          keep_checkpoints_without_metrics=False,
        )
      )
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        # Without a `best_fn` orbax does not write metrics.
        best_fn=None if best is None else self._score,
        best_mode=mode,
        preservation_policy=policies.AnyPreservationPolicy(kept),
        todelete_subdir="trash",
        async_options=ocp.AsyncOptions(
          post_finalization_callback=self._write_sums
        ),
      ),
    )

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
        iterator.

    Raises:
      ValueError: if `step` is not above the latest one.
      KeyError: if `metrics` lacks the metric `best`.
      Exception: the failure of the previous save, if it failed.
    """
    numbers = {name: float(v) for name, v in (metrics or {}).items()}
    if metrics is not None and self.best is not None:
      if self.best not in metrics:
        raise KeyError(
          f"Checkpoints.save: `metrics` must have {self.best!r}, got "
          f"{sorted(metrics)}."
        )
    self.wait()
    self._set_aside(self._damaged)
    self._remove_leftovers()
    self._manager.reload()
    latest = self.latest_step()
    if latest is not None and step <= latest:
      raise ValueError(
        f"Checkpoints.save: `step` must be above the latest checkpoint "
        f"{latest} in {self.directory}, got {step}; resume that run, or use "
        "another directory."
      )
    self._saving = step
    meta = {"leaves": _signature(state), "extra": dict(extra or {})}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
      ),
      metrics=None if self.best is None else numbers,
      force=True,
    )

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
    reasons: dict[int, Exception] = {}
    for step in sorted(self.all_steps(), reverse=True):
      if not os.listdir(self._path(step)):
        reason: Exception = CheckpointError("the folder is empty")
      else:
        try:
          restored = self.restore(step, target)
        except Exception as error:  # whatever it is, older steps remain
          reason = error
        else:
          self._damaged |= set(reasons)
          return restored
      _logger.warning(
        "checkpoint %s cannot be used and is passed over: %s",
        self._path(step),
        _short(reason),
      )
      reasons[step] = reason
    if all(not os.listdir(self._path(step)) for step in reasons):
      self._damaged |= set(reasons)
      return None
    lines = "".join(f"\n  {s}: {_short(e)}" for s, e in reasons.items())
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
    self._check_sums(step)
    args = ocp.args
    meta = self._manager.restore(
      step, args=args.Composite(meta=args.JsonRestore())
    )["meta"]
    _check_signature(meta["leaves"], _signature(target))
    placed = jax.tree.map(_abstract, target)
    state = self._manager.restore(
      step, args=args.Composite(state=args.StandardRestore(placed))
    )["state"]
    return Restored(step, state, meta["extra"])

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
    """Waits for the save in progress; raises its error if it failed."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and closes; the object must not be used afterwards."""
    self._manager.close()
    if self._saving is not None:
      self._remove_leftovers()

  def _path(self, step: int) -> str:
    return os.path.join(self.directory, str(step))

  def _score(self, metrics: Mapping[str, float]) -> float:
    """Value that ranks a step; missing or NaN is worst."""
    value = metrics.get(self.best or "", math.nan)
    worst = -math.inf if self._mode == "max" else math.inf
    return worst if value is None or math.isnan(value) else float(value)

  def _step_folders(self) -> list[int]:
    if not os.path.isdir(self.directory):
      return []
    return [int(n) for n in os.listdir(self.directory) if n.isdecimal()]

  def _metrics_readable(self, step: int) -> bool:
    """Orbax reads metrics when opening and cannot stand broken ones."""
    try:
      with open(os.path.join(self._path(step), "metrics", "metrics")) as file:
        return isinstance(json.load(file), dict)
    except OSError:
      return True
    except ValueError:
      return False

  def _set_aside(self, steps: Any) -> None:
    """Moves unreadable steps out of the way, deleting nothing."""
    for step in sorted(steps):
      target = os.path.join(self.directory, "damaged", str(step))
      if jax.process_index() == 0 and os.path.isdir(self._path(step)):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        number = 0
        while os.path.exists(target):
          number += 1
          target = os.path.join(self.directory, "damaged", f"{step}-{number}")
        os.rename(self._path(step), target)
        _logger.warning(
          "checkpoint %d cannot be read; moved to %s", step, target
        )
    self._damaged = set()

  def _remove_leftovers(self) -> None:
    """Deletes trash, and what a killed save left behind."""
    if jax.process_index() != 0:
      return
    names = [n for n in os.listdir(self.directory) if _TEMPORARY in n]
    for name in [*names, "trash"]:
      shutil.rmtree(os.path.join(self.directory, name), ignore_errors=True)

  def _write_sums(self) -> None:
    """Runs in the background, just before a step gets its final name."""
    if jax.process_index() != 0 or self._saving is None:
      return
    for name in os.listdir(self.directory):
      if name == str(self._saving) or name.startswith(
        f"{self._saving}{_TEMPORARY}"
      ):
        folder = os.path.join(self.directory, name)
        with open(os.path.join(folder, _SUMS), "w") as file:
          json.dump(_sums(folder), file)

  def _check_sums(self, step: int) -> None:
    """Compares every file with the sums written at its time."""
    try:
      with open(os.path.join(self._path(step), _SUMS)) as file:
        wanted = json.load(file)
    except (OSError, ValueError) as error:
      raise CheckpointError(f"file {_SUMS} cannot be read ({error})") from error
    found = _sums(self._path(step))
    for name in sorted(wanted):
      if name not in found:
        raise CheckpointError(f"file {name} is missing")
      if found[name] != wanted[name]:
        raise CheckpointError(
          f"file {name} is damaged: size and CRC-32 are {found[name]}, were "
          f"{wanted[name]}"
        )


def _sums(folder: str) -> dict[str, list[int]]:
  """Relative path -> [size, CRC-32] of every file of a step's items.

  Files beside the items (a time stamp) change later and are not needed to read.
  """
  sums = {}
  for root, _, names in os.walk(folder):
    for name in names if root != folder else ():
      path = os.path.join(root, name)
      size, crc = 0, 0
      with open(path, "rb") as file:
        while block := file.read(1 << 20):
          size, crc = size + len(block), zlib.crc32(block, crc)
      sums[os.path.relpath(path, folder)] = [size, crc]
  return sums


def _signature(tree: Any) -> dict[str, list[Any]]:
  """Path -> [dtype, shape] of every leaf."""
  signature = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    signature[jax.tree_util.keystr(path)] = [str(leaf.dtype), list(leaf.shape)]
  return signature


def _check_signature(
  saved: Mapping[str, list[Any]], wanted: Mapping[str, list[Any]]
) -> None:
  """Raises if a checkpoint holds other arrays than wanted."""
  problems = [
    f"{name} is not in the checkpoint" for name in wanted.keys() - saved
  ]
  problems += [
    f"{name} is in the checkpoint only" for name in saved.keys() - wanted
  ]
  problems += [
    f"{name} is {saved[name]} in the checkpoint, {wanted[name]} wanted"
    for name in saved.keys() & wanted.keys()
    if saved[name] != wanted[name]
  ]
  if problems:
    # Statistics of the optimizer only repeat what differs in the parameters.
    problems.sort(key=lambda text: (text.startswith(".opt_state"), text))
    shown = "; ".join(problems[:4])
    raise CheckpointError(
      f"it belongs to another model or optimizer ({len(problems)} "
      f"differences): {shown}"
    )


def _abstract(leaf: Any) -> Any:
  """Shape, dtype and placement of a target's leaf."""
  if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
    sharding = leaf.sharding
    if sharding is None:
      sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  return leaf


def _short(error: Exception) -> str:
  """First line of an error, at most 300 characters."""
  with contextlib.suppress(IndexError):
    return f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
  return type(error).__name__
