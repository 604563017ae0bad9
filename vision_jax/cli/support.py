"""What the commands share: errors, output files, sizes, result records."""

import dataclasses
import json
import os
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import numpy as np

__all__ = [
  "UserError",
  "check_outputs",
  "describe_error",
  "fit_image",
  "format_columns",
  "make_model",
  "result_record",
  "write_json",
]

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class UserError(ValueError):
  """A mistake in what the user asked for; its text is one clear line."""


def check_outputs(
  option: str,
  path: pathlib.Path,
  suffixes: Sequence[str] = _PICTURES,
  *,
  inputs: Sequence[pathlib.Path] = (),
) -> None:
  """Makes sure, before the work starts, that a file can be written.

  Args:
    option: name of the option, for the message.
    path: the file; its folder is created.
    suffixes: the endings allowed, in lower case.
    inputs: files that must not be overwritten.

  Raises:
    UserError: if the ending is another, or the place cannot be written.
  """
  if path.suffix.lower() not in suffixes:
    raise UserError(
      f"{option} must end in {' or '.join(suffixes)}, got '{path}'"
    )
  if any(path.resolve() == other.resolve() for other in inputs):
    raise UserError(f"{option} must not be an input file, got '{path}'")
  if path.is_dir():
    raise UserError(f"{option} must be a file, got the folder '{path}'")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f"{option}: cannot create the folder '{path.parent}':"
      f" {error.strerror or error}"
    ) from error
  target = path if path.exists() else path.parent
  if not os.access(target, os.W_OK):
    raise UserError(f"{option}: no permission to write '{path}'")


def describe_error(error: BaseException) -> tuple[str, bool]:
  """One line about an exception, and whether it is the user's to mend.

  The errors that this package raises itself say what was expected and got, so
  their text is shown as it is; all others are bugs, or memory.
  """
  text = " ".join(str(error).split())
  if isinstance(error, KeyError) and error.args:
    text = " ".join(str(error.args[0]).split())
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
    return "not enough memory; try a smaller --max-side", True
  if isinstance(error, OSError) and error.strerror:
    name = f": '{error.filename}'" if error.filename else ""
    return f"{error.strerror}{name}", True
  ours = isinstance(error, (ValueError, TypeError, KeyError, OSError))
  if isinstance(error, UserError) or (ours and _is_from_us(error)):
    return text.rstrip("."), True
  return (
    f"internal error, {type(error).__name__}: {text[:300]}; run again with"
    " --debug for the traceback",
    False,
  )


def _is_from_us(error: BaseException) -> bool:
  """Whether an exception was raised by a line of this package."""
  frame: types.TracebackType | None = error.__traceback__
  name = ""
  while frame is not None:
    name = frame.tb_frame.f_globals.get("__name__", "")
    frame = frame.tb_next
  return name == "vision_jax" or name.startswith("vision_jax.")


def fit_image(image: "np.ndarray", max_side: int) -> "np.ndarray":
  """Image shrunk by area averaging so that it fits; never enlarged.

  Args:
    image: float32 [H, W, 3].
    max_side: longest side allowed, pixels; 0 for no limit.

  Returns:
    float32 [h, w, 3].

  Raises:
    UserError: if `max_side` is negative.
  """
  if max_side < 0:
    raise UserError(f"--max-side must be at least 0, got {max_side}")
  height, width = image.shape[:2]
  if max_side == 0 or max(height, width) <= max_side:
    return image
  import cv2

  scale = max_side / max(height, width)
  size = (max(1, round(width * scale)), max(1, round(height * scale)))
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def result_record(options: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
  """What a JSON file of results holds: facts, settings, machine, versions."""
  from vision_jax import viz

  settings = {
    name: _plain(value)
    for name, value in dataclasses.asdict(options).items()
    if name != "debug"
  }
  return {
    **{name: _plain(value) for name, value in facts.items()},
    "options": settings,
    "environment": viz.describe_environment(),
  }


def format_columns(
  headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int
) -> str:
  """Aligned columns; the first `left` to the left, the rest to the right."""
  lines = [tuple(headers), *map(tuple, rows)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
  texts = []
  for line in lines:
    cells = [
      cell.ljust(width) if i < left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    texts.append("  ".join(cells).rstrip())
  texts.insert(1, "-" * sum(widths, 2 * (len(widths) - 1)))
  return "\n".join(texts)


def make_model(name: str) -> Any:
  """The network of a name.

  Raises:
    UserError: if the name is unknown.
  """
  from vision_jax import nn

  models = nn.backbones.MODELS
  if name not in models:
    raise UserError(f"unknown model '{name}'; known: {', '.join(models)}")
  return models[name]()


def write_json(path: pathlib.Path, record: Mapping[str, Any]) -> None:
  """Writes a record as indented JSON with a last newline."""
  text = json.dumps(_plain(record), indent=2, allow_nan=False)
  path.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
  """A value made of what JSON knows; values that are not finite become null."""
  if isinstance(value, Mapping):
    return {str(name): _plain(entry) for name, entry in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(entry) for entry in value]
  if isinstance(value, pathlib.Path):
    return str(value)
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  if isinstance(value, float) and not abs(value) < float("inf"):
    return None
  return value
