"""Writing the generated sets to disk, once, for reading many times."""

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Mapping
from concurrent.futures import process
from typing import TYPE_CHECKING

from vision_jax.data import prepared_folders
from vision_jax.data.errors import DataError

if TYPE_CHECKING:
  from vision_jax.data import builders

__all__ = ["prepare_generated"]


def prepare_generated(
  name: str,
  directory: str | os.PathLike[str],
  *,
  config: str | None = None,
  num_examples: Mapping[str, int] | None = None,
  num_workers: int = 0,
  progress: bool = True,
) -> pathlib.Path:
  """Draws a generated set and writes it as a TFDS set, if it is not there.

  The set appears under its name when it is complete: a run that is stopped
  leaves nothing that could be taken for a set. The files do not depend on
  `num_workers`.

  Args:
    name: "generated_shapes", "generated_textures", "homography_pairs" and
      others; an unknown name lists them.
    directory: where sets are kept; this one goes to
      `directory/name/config/version`.
    config: which pictures are drawn, for example "128"; the first
      configuration of the set by default.
    num_examples: number of examples by split; only the splits that are named
      are drawn. By default all splits at the sizes of GENERATED.md.
    num_workers: processes that draw; 0 draws in this process. A script that
      asks for more needs the usual `if __name__ == "__main__":`.
    progress: whether a progress bar is shown.

  Returns:
    The folder of the set, as `read_prepared` takes it.

  Raises:
    DataError: if the folder holds a half copied set, or one of other sizes,
      or a worker process died.
    KeyError: if `name` or `config` is unknown.
    ValueError: if a split is unknown or a number is too small.

  Example:
    >>> import tempfile
    >>> from vision_jax.data import prepare_generated
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = prepare_generated("generated_textures", folder,
    ...                            num_examples={"test": 3}, progress=False)
    ...   print(path.relative_to(folder))
    generated_textures/64/1.0.0

  Source:
    GENERATED.md; TFDS.
  """
  from vision_jax.data import builders

  if name not in builders.BUILDERS:
    raise KeyError(
      f"prepare_generated: `name` must be one of"
      f" {' '.join(sorted(builders.BUILDERS))}, got {name!r}."
    )
  kind = builders.BUILDERS[name]
  configs = [known.name for known in kind.BUILDER_CONFIGS]
  if config is not None and config not in configs:
    raise KeyError(
      f"prepare_generated: `config` of {name} must be one of"
      f" {' '.join(configs)}, got {config!r}."
    )
  version = pathlib.Path(config or configs[0], str(kind.VERSION))
  folder = pathlib.Path(directory, name, version)
  if folder.exists():
    try:
      prepared_folders.open_builder(folder)
    except DataError as error:
      raise DataError(
        f"prepare_generated: `directory` must have no damaged {name}, got"
        f" {str(folder)!r}; remove that folder and prepare again. ({error})"
      ) from None
  builder = kind(
    data_dir=os.fspath(directory),
    config=config,
    num_examples=num_examples,
    num_workers=num_workers,
    progress=progress,
  )
  _write(builder)
  _check_counts(builder, folder)
  return folder


def _write(builder: "builders.GeneratedBuilder") -> None:
  """Prepares the set, without TFDS's remarks on downloads."""
  with (
    tempfile.TemporaryDirectory() as downloads,
    contextlib.redirect_stdout(io.StringIO()),
  ):
    try:
      builder.download_and_prepare(download_dir=downloads)
    except process.BrokenProcessPool as error:
      raise DataError(
        f"prepare_generated: a process that draws {builder.name} has died (out"
        ' of memory, or a script without `if __name__ == "__main__":`), nothing'
        " is kept; try again with fewer workers."
      ) from error
    except RuntimeError as error:  # what ArrayRecord raises on a full disk
      raise DataError(
        f"prepare_generated: {builder.name} cannot be written to"
        f" {builder.data_dir!r} ({' '.join(str(error).split())[:200]}), nothing"
        " is kept; make room, or name another `directory`."
      ) from error
    except OSError:
      # Another process was faster; if it was not that, the error stands.
      if not pathlib.Path(builder.data_dir).is_dir():
        raise


def _check_counts(
  builder: "builders.GeneratedBuilder", folder: pathlib.Path
) -> None:
  """Refuses a set that was prepared earlier, at other sizes."""
  there = {
    split: info.num_examples for split, info in builder.info.splits.items()
  }
  if there != builder.num_examples:
    texts = [
      " ".join(f"{split}={count}" for split, count in sorted(counts.items()))
      for counts in (builder.num_examples, there)
    ]
    raise DataError(
      f"prepare_generated: `num_examples` must be what is prepared already, got"
      f" {texts[0]} where {str(folder)!r} holds {texts[1]}; name another"
      " `directory`, or remove the folder first."
    )
