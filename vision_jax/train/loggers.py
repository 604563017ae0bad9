"""Where numbers go: JSON lines, TensorBoard, and the result file of a run."""

import dataclasses
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Protocol

import jax
import numpy as np

__all__ = [
  "JsonLinesLogger",
  "Logger",
  "TensorBoardLogger",
  "write_result",
]

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Logger(Protocol):
  """What `fit` needs of a logger; write your own for other services."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records numbers of one step."""

  def rewind(self, step: int) -> None:
    """Forgets records after `step`; called once, when a run starts."""

  def close(self) -> None:
    """Finishes."""


class JsonLinesLogger:
  """One JSON object for each call, one call for each line.

  A run that was killed and resumed from an earlier checkpoint leaves no line
  twice, and no half line: `rewind` cleans the file.

  Example:
    >>> from vision_jax import train
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "train.jsonl"
    >>> logger = train.JsonLinesLogger(path)
    >>> logger.write(10, {"loss": 0.5})
    >>> logger.close()
    >>> print(path.read_text().strip())
    {"step": 10, "loss": 0.5}
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Appends to `path`, making its folder; process 0 writes, others do not."""
    self._path = os.fspath(path)
    self._active = jax.process_index() == 0
    self._file: Any = None
    if self._active:
      os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Appends a line; numbers that JSON lacks (NaN) become null.

    Raises:
      OSError: naming the file, if it cannot be written (a full disk).
    """
    if not self._active:
      return
    line = json.dumps(_plain({"step": int(step), **values}), allow_nan=False)
    try:
      if self._file is None:
        self._file = open(self._path, "a", encoding="utf-8")
      self._file.write(line + "\n")
      self._file.flush()
    except OSError as error:  # a full disk does not say which file it means
      raise OSError(
        error.errno,
        f"JsonLinesLogger: cannot write step {step} ({error.strerror})",
        self._path,
      ) from error

  def rewind(self, step: int) -> None:
    """Drops lines of later steps and lines that were cut off."""
    self.close()
    if not self._active or not os.path.exists(self._path):
      return
    kept = []
    with open(self._path, encoding="utf-8") as file:
      for line in file:
        try:
          if json.loads(line)["step"] <= step and line.endswith("\n"):
            kept.append(line)
        except (ValueError, KeyError, TypeError):
          continue
    _replace(self._path, "".join(kept))

  def close(self) -> None:
    """Closes the file; a later `write` opens it again."""
    if self._file is not None:
      self._file.close()
      self._file = None


class TensorBoardLogger:
  """Scalars for TensorBoard, written by tensorboardX.

  Example:
    >>> from vision_jax import train
    >>> import os, tempfile
    >>> directory = tempfile.mkdtemp()
    >>> logger = train.TensorBoardLogger(directory)
    >>> logger.write(10, {"loss": 0.5})
    >>> logger.close()
    >>> len(os.listdir(directory))
    1
  """

  def __init__(self, directory: str | os.PathLike[str]):
    """Event files go to `directory`; process 0 writes, others do not."""
    self._directory = os.fspath(directory)
    self._active = jax.process_index() == 0
    self._purge: int | None = None
    self._writer: Any = None

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Records scalars."""
    if not self._active:
      return
    if self._writer is None:
      try:
        import tensorboardX
      except ImportError as error:
        raise ImportError(
          "TensorBoardLogger: needs the package tensorboardX; install it, or "
          "use JsonLinesLogger."
        ) from error
      self._writer = tensorboardX.SummaryWriter(
        self._directory, purge_step=self._purge
      )
    for name, value in values.items():
      self._writer.add_scalar(name, float(value), int(step))

  def rewind(self, step: int) -> None:
    """Tells TensorBoard to hide what an earlier run recorded after `step`."""
    self.close()
    self._purge = int(step) + 1 if step else None

  def close(self) -> None:
    """Flushes and closes."""
    if self._writer is not None:
      self._writer.close()
      self._writer = None


def write_result(
  path: str | os.PathLike[str],
  *,
  metrics: Mapping[str, float],
  steps: int,
  config: Any = None,
  timing: Any = None,
  extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Writes the one file that says what a run gave, and how.

  Args:
    path: the JSON file, usually `result.json` in the run's folder.
    metrics: final numbers.
    steps: number of finished updates.
    config: dataclass or mapping with the resolved configuration.
    timing: the `Timing` that `fit` filled.
    extra: more entries.

  Returns:
    What was written: metrics, steps, seconds_to_first_step, images_per_second,
    devices, versions, commit (None outside a git checkout; ends in "+" with
    local changes), config and the extra entries.

  Example:
    >>> from vision_jax import train
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "result.json")
    >>> result = train.write_result(path, metrics={"accuracy": 0.9}, steps=100)
    >>> result["metrics"], result["steps"]
    ({'accuracy': 0.9}, 100)

  Source:
    Interface of this library.
  """
  devices = jax.devices()
  result = _plain(
    {
      "metrics": dict(metrics),
      "steps": int(steps),
      "seconds_to_first_step": getattr(timing, "seconds_to_first_step", None),
      "images_per_second": getattr(timing, "images_per_second", None),
      "devices": {
        "count": len(devices),
        "kind": devices[0].device_kind,
        "platform": devices[0].platform,
        "processes": jax.process_count(),
        "host_cpus": os.cpu_count(),
      },
      "versions": _versions(),
      "commit": _commit(),
      "config": config,
      **dict(extra or {}),
    }
  )
  if jax.process_index() == 0:
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    _replace(os.fspath(path), text)
  return result


def _replace(path: str, text: str) -> None:
  """Writes a file in one go: the old or the new one exists, never a part."""
  temporary = f"{path}.tmp"
  with open(temporary, "w", encoding="utf-8") as file:
    file.write(text)
  os.replace(temporary, path)


def _versions() -> dict[str, str]:
  """Python's and the packages' versions."""
  versions = {"python": platform.python_version()}
  for name in (*_PACKAGES, "vision_jax"):
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return versions


def _commit() -> str | None:
  """Commit of the checkout that this module lies in, or None."""

  def git(*command: str) -> str:
    return subprocess.run(
      ["git", "-C", os.path.dirname(os.path.abspath(__file__)), *command],
      capture_output=True,
      check=True,
      text=True,
      timeout=10,
    ).stdout.strip()

  try:
    # An installed package inside someone else's checkout is not that commit.
    git("ls-files", "--error-unmatch", os.path.abspath(__file__))
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return None


def _plain(value: Any) -> Any:
  """Anything as JSON values; NaN and infinities as None."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
  if isinstance(value, Mapping):
    return {str(name): _plain(entry) for name, entry in value.items()}
  if isinstance(value, list | tuple | set | frozenset):
    return [_plain(entry) for entry in value]
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return _plain(np.asarray(value).tolist())
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if value is None or isinstance(value, bool | int | str):
    return value
  return str(value)
