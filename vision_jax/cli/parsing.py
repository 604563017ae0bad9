"""Options that do not exist are answered by those that do."""

import contextlib
import difflib
import io
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

__all__ = ["known_options", "parse_options", "read_options"]

_T = TypeVar("_T")

# A line of tyro's help that begins with names, in a frame or without one:
# "  -h, --help   show ...". What explains them is indented by more.
_NAMES = re.compile(r"^(?:\S |  )((?:-\w, |--\w[\w.-]*(?:, ?|(?=\s)))+)", re.M)


def known_options(
  parse: Callable[[Sequence[str]], object], args: Sequence[str] = ()
) -> tuple[str, ...]:
  """Names of the options of a command, as its help has them.

  Args:
    parse: parses a command line by `tyro`.
    args: words before the options: a subcommand, or none.

  Returns:
    The names with their dashes, in the order of the help.

  Example:
    >>> import dataclasses, tyro
    >>> from vision_jax.cli.parsing import known_options
    >>> @dataclasses.dataclass
    ... class Options:
    ...   max_side: int = 3
    ...   tiny: bool = False
    >>> known_options(lambda args: tyro.cli(Options, args=args))
    ('--help', '--max-side', '--tiny', '--no-tiny')

  Source:
    Interface of this library.
  """
  text = io.StringIO()
  with (
    contextlib.redirect_stdout(text),
    contextlib.redirect_stderr(io.StringIO()),
    contextlib.suppress(SystemExit),
  ):
    parse([*args, "--help"])
  plain = re.sub(r"\x1b\[[\d;]*m", "", text.getvalue())
  lines = (match[1] for match in _NAMES.finditer(plain))
  return tuple(
    dict.fromkeys(n for line in lines for n in re.findall(r"--\w[\w.-]*", line))
  )


def parse_options(
  parse: Callable[[Sequence[str]], _T], args: Sequence[str] | None
) -> _T:
  """Parses a command line; says what there is where it has unknown options.

  Args:
    parse: parses words by `tyro`; called again with "--help" if it leaves with
      code 2. If there are subcommands, the first word names one.
    args: the words; those of the process if None.

  Returns:
    What `parse` returns.

  Raises:
    SystemExit: as `parse` raises it, with code 2 for unknown options.

  Example:
    >>> import dataclasses, tyro
    >>> from vision_jax.cli.parsing import parse_options
    >>> @dataclasses.dataclass
    ... class Options:
    ...   max_side: int = 3
    >>> parse = lambda args: tyro.cli(Options, args=args)
    >>> parse_options(parse, ["--max-side", "4"])
    Options(max_side=4)

  Source:
    Interface of this library.
  """
  words = list(sys.argv[1:] if args is None else args)
  try:
    return parse(words)
  except SystemExit as leave:
    if leave.code == 2:
      _explain(parse, words)
    raise


def read_options(
  kind: Callable[..., _T], *, args: Sequence[str] | None = None, **settings: Any
) -> _T:
  """The options of a command without subcommands.

  Args:
    kind: a dataclass of options, or a function of them.
    args: the words; those of the process if None.
    **settings: of `tyro.cli`, such as `prog`.

  Returns:
    An instance, or what the function returns.

  Raises:
    SystemExit: as `tyro.cli` raises it; unknown options list the known.

  Example:
    >>> import dataclasses
    >>> from vision_jax.cli.parsing import read_options
    >>> @dataclasses.dataclass
    ... class Options:
    ...   max_side: int = 3
    >>> read_options(Options, args=["--max-side", "4"])
    Options(max_side=4)

  Source:
    Interface of this library.
  """

  def parse(words: Sequence[str]) -> _T:
    return tyro.cli(kind, args=words, **settings)

  return parse_options(parse, args)


def _explain(
  parse: Callable[[Sequence[str]], object], words: Sequence[str]
) -> None:
  """Prints the options there are, if some of the words are unknown ones."""
  command = [w for w in words[:1] if not w.startswith("-")]
  known = known_options(parse, command)
  given = [w.partition("=")[0].replace("_", "-") for w in words]
  plain = [name.replace("_", "-") for name in known]
  unknown = [w for w in given if w.startswith("--") and w not in plain]
  if not unknown or not set(known) - {"--help"}:
    return
  lines = []
  for name in dict.fromkeys(unknown):
    close = difflib.get_close_matches(name, plain, 3)
    close += [k for k in plain if k not in close and k.endswith("." + name[2:])]
    near = [known[plain.index(k)] for k in close]
    if near:
      lines.append(f"{name} is unknown; near it: {', '.join(near)}")
  positive = [n for n in known if not _is_negation(n, known)]
  of = f" of {command[0]}" if command else ""
  lines.append(f"options{of}: {', '.join(positive)}")
  for line in lines:
    print(
      textwrap.fill(line, 80, subsequent_indent="  ", break_on_hyphens=False),
      file=sys.stderr,
    )


def _is_negation(name: str, known: Sequence[str]) -> bool:
  """Whether an option switches another one off: --no-tiny, --a.no-tiny."""
  for mark in ("--no-", ".no-", "--no_", ".no_"):
    if mark in name and name.replace(mark, mark[:-3], 1) in known:
      return True
  return False
