"""What the experiments write into their README: tables, between markers."""

import pathlib
import re
from collections.abc import Iterable, Sequence

__all__ = ["format_table", "replace_block"]


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table in Markdown."""
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_block(path: pathlib.Path, name: str, text: str) -> None:
  """Puts a text between the markers `name: begin` and `name: end`.

  Raises:
    ValueError: if the markers are not there.
  """
  begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
  pattern = re.compile(f"{begin}.*{end}", re.S)
  old = path.read_text(encoding="utf-8")
  if not pattern.search(old):
    raise ValueError(
      f"replace_block: `path` must hold {begin} and {end}, got {path} without."
    )
  block = f"{begin}\n{text}\n{end}"
  path.write_text(pattern.sub(lambda _: block, old), encoding="utf-8")
