"""The `vision-jax` command.

Each module holds one command: a frozen dataclass whose fields are its options
and whose `run` does the work. Heavy libraries are imported there, so that
`--help` answers at once.

Exit codes: 0 success; 1 finished, but something failed or was not found; 2 a
mistake in the options or files; 70 a bug; 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from vision_jax.cli.benchmark import BenchOptions
from vision_jax.cli.convert import ConvertOptions
from vision_jax.cli.demo import DemoOptions
from vision_jax.cli.detect import DetectOptions
from vision_jax.cli.info import InfoOptions
from vision_jax.cli.keypoints import KeypointsOptions
from vision_jax.cli.match import MatchOptions
from vision_jax.cli.parsing import parse_options
from vision_jax.cli.prepare import PrepareOptions
from vision_jax.cli.saliency import SaliencyOptions
from vision_jax.cli.search import SearchOptions
from vision_jax.cli.segment import SegmentOptions
from vision_jax.cli.support import describe_error
from vision_jax.cli.warp import WarpOptions

__all__ = ["main"]

_Command = (
  Annotated[MatchOptions, tyro.conf.subcommand("match")]
  | Annotated[KeypointsOptions, tyro.conf.subcommand("keypoints")]
  | Annotated[SaliencyOptions, tyro.conf.subcommand("saliency")]
  | Annotated[SegmentOptions, tyro.conf.subcommand("segment")]
  | Annotated[WarpOptions, tyro.conf.subcommand("warp")]
  | Annotated[DetectOptions, tyro.conf.subcommand("detect")]
  | Annotated[SearchOptions, tyro.conf.subcommand("search")]
  | Annotated[ConvertOptions, tyro.conf.subcommand("convert")]
  | Annotated[InfoOptions, tyro.conf.subcommand("info")]
  | Annotated[PrepareOptions, tyro.conf.subcommand("prepare")]
  | Annotated[BenchOptions, tyro.conf.subcommand("bench")]
  | Annotated[DemoOptions, tyro.conf.subcommand("demo")]
)

_BUG = 70  # EX_SOFTWARE of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line.

  Args:
    argv: arguments without the name of the program; those of the process by
      default.

  Returns:
    The exit code. `--help` and misspelt options leave by SystemExit, as is
    usual.

  Example:
    >>> from vision_jax import cli
    >>> cli.main(["info", "no_such_model"])
    2
  """

  def parse(words: Sequence[str]) -> Any:
    return tyro.cli(
      _Command,
      prog="vision-jax",
      description=(
        "Points, regions and warps of pretrained networks. Each command has"
        " its own --help."
      ),
      args=words,
      config=(
        tyro.conf.FlagCreatePairsOff,
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.OmitArgPrefixes,
      ),
    )

  options = parse_options(parse, argv)
  from vision_jax import bench  # after --help, which needs no NumPy

  bench.set_cpu_flags()
  name = type(options).__name__.removesuffix("Options").lower()
  try:
    return options.run()
  except KeyboardInterrupt:
    print(f"vision-jax {name}: interrupted", file=sys.stderr)
    return 130
  except BrokenPipeError:
    # The reader of our output has gone; nothing may be flushed at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except Exception as error:
    if options.debug:
      raise
    message, is_users = describe_error(error)
    print(f"vision-jax {name}: error: {message}", file=sys.stderr)
    return 2 if is_users else _BUG
