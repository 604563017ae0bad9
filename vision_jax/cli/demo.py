"""`vision-jax demo`: every finished system on one page."""

import dataclasses
import pathlib
import sys

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import UserError

__all__ = ["DemoOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions(CommonOptions):
  """Run every finished system and write one self-contained page.

  Uses photographs that come with the installation and the bundled weights;
  nothing is downloaded.

  Attributes:
    sections: Names of the sections to run; all by default.
    out: Folder to write index.html to.
  """

  sections: tuple[str, ...] = ()
  out: pathlib.Path = pathlib.Path("demo")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    if self.out.exists() and not self.out.is_dir():
      raise UserError(f"--out must be a folder, got the file '{self.out}'")
    from vision_jax import demo

    try:
      page = demo.run_demo(self.out, sections=self.sections or None)
    except demo.DemoError as error:
      print(f"vision-jax demo: {error}", file=sys.stderr)
      return 1
    print(f"written: {page}")
    return 0
