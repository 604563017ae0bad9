"""A directory with one folder for each step, as checkpoints lie in it."""

import json
import logging
import os
import shutil
from collections.abc import Iterable

__all__ = [
  "metrics_readable",
  "remove_leftovers",
  "set_aside",
  "step_numbers",
  "unfinished",
]

_logger = logging.getLogger(__name__)
# Part of the names of unfinished steps, given by orbax.
_TEMPORARY = ".orbax-checkpoint-tmp"


def step_numbers(directory: str) -> list[int]:
  """Steps that have a folder under their final name, ascending."""
  if not os.path.isdir(directory):
    return []
  return sorted(int(n) for n in os.listdir(directory) if n.isdecimal())


def unfinished(directory: str, step: int) -> list[str]:
  """Folders in which a step is being written, before it gets its name."""
  return [
    os.path.join(directory, name)
    for name in os.listdir(directory)
    if name == str(step) or name.startswith(f"{step}{_TEMPORARY}")
  ]


def metrics_readable(directory: str, step: int) -> bool:
  """Whether a step has sound metrics, or none."""
  path = os.path.join(directory, str(step), "metrics", "metrics")
  try:
    with open(path) as file:
      return isinstance(json.load(file), dict)
  except OSError:
    return True
  except ValueError:
    return False


def set_aside(directory: str, steps: Iterable[int]) -> None:
  """Moves unreadable steps to `damaged/`, deleting nothing."""
  for step in sorted(steps):
    source = os.path.join(directory, str(step))
    if not os.path.isdir(source):
      continue
    target = os.path.join(directory, "damaged", str(step))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    number = 0
    while os.path.exists(target):
      number += 1
      target = os.path.join(directory, "damaged", f"{step}-{number}")
    os.rename(source, target)
    _logger.warning("checkpoint %d cannot be read; moved to %s", step, target)


def remove_leftovers(directory: str) -> None:
  """Deletes `trash/`, and what killed or failed saves left behind."""
  names = [n for n in os.listdir(directory) if _TEMPORARY in n]
  for name in [*names, "trash"]:
    shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
