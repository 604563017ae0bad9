"""`vision-jax prepare`: the generated sets, written to disk."""

import dataclasses
import pathlib
from typing import Annotated

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import UserError

__all__ = ["PrepareOptions"]


def _parse_counts(texts: tuple[str, ...]) -> dict[str, int] | None:
  """{"train": 1000} of ("train=1000",); None of nothing."""
  counts = {}
  for text in texts:
    split, _, number = text.partition("=")
    if not split or not number.isdecimal():
      raise UserError(
        f"--examples must be SPLIT=NUMBER, such as train=1000, got '{text}'"
      )
    counts[split] = int(number)
  return counts or None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareOptions(CommonOptions):
  """Draw a generated set and write it as a TFDS set.

  Nothing is downloaded. A set that is there already is kept; one that is
  half written is never taken for a whole one.

  Attributes:
    name: Name of the set, for example generated_textures; a name that is not
      known lists all.
    out: Folder for sets; this one goes to OUT/NAME/CONFIG/VERSION.
    config: Which pictures are drawn, for example 128; by default the first
      configuration of the set.
    examples: Splits to draw and their sizes, for example train=1000 test=200;
      all splits at their full sizes by default.
    workers: Processes that draw.
  """

  name: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="NAME")]]
  out: pathlib.Path
  config: str | None = None
  examples: tuple[str, ...] = ()
  workers: int = 2

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    counts = _parse_counts(self.examples)
    from vision_jax import data

    path = data.prepare_generated(
      self.name,
      self.out,
      config=self.config,
      num_examples=counts,
      num_workers=self.workers,
    )
    size = sum(file.stat().st_size for file in path.iterdir())
    print(f"prepared: {path} ({size / 1e6:.1f} MB)")
    return 0
