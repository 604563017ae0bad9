"""Runs the sections of the demo page, one after the other."""

import os
import pathlib
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from vision_jax.viz import Page, describe_environment

__all__ = ["SECTIONS", "DemoError", "run_demo"]

SectionFunction = Callable[[Page], None]


def _elf(page: Page) -> None:
  """Imported when it runs: the other sections work without it."""
  from vision_jax.demo import local_features

  local_features.elf_section(page)


def _elf_scores(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import local_feature_scores

  local_feature_scores.elf_scores_section(page)


def _generated_sets(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import generated_sets

  generated_sets.generated_sets_section(page)


def _warps(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import warps

  warps.warps_section(page)


def _transformers(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import transformers

  transformers.transformers_section(page)


def _detection(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import detection

  detection.detection_section(page)


def _segmentation(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import segmentation

  segmentation.segmentation_section(page)


def _instance_search(page: Page) -> None:
  """As `_elf`."""
  from vision_jax.demo import instance_search

  instance_search.instance_search_section(page)


# Name on the command line -> what adds to the page, in the order of the page.
SECTIONS: Mapping[str, SectionFunction] = {
  "elf": _elf,
  "elf_scores": _elf_scores,
  "generated_sets": _generated_sets,
  "warps": _warps,
  "transformers": _transformers,
  "detection": _detection,
  "segmentation": _segmentation,
  "instance_search": _instance_search,
}


class DemoError(RuntimeError):
  """Sections failed; the page was written and says which and why.

  Attributes:
    page: path of the page.
    failed: names of the sections.

  Example:
    >>> from vision_jax import demo
    >>> print(demo.DemoError("demo/index.html", ["elf"]))
    1 section failed (elf); see demo/index.html
  """

  def __init__(self, page: str | os.PathLike[str], failed: Sequence[str]):
    plural = "s" if len(failed) > 1 else ""
    super().__init__(
      f"{len(failed)} section{plural} failed ({', '.join(failed)}); see"
      f" {os.fspath(page)}"
    )
    self.page = pathlib.Path(page)
    self.failed = tuple(failed)


def run_demo(
  out_dir: str | os.PathLike[str],
  *,
  sections: Sequence[str] | None = None,
  functions: Mapping[str, SectionFunction] = SECTIONS,
) -> pathlib.Path:
  """Runs sections and writes the page, with the seconds that each took.

  A section that raises is reported on the page, with its traceback, and the
  others are run.

  Args:
    out_dir: folder of the page; created if need be.
    sections: names of those to run; None for all.
    functions: name -> function that adds to the page.

  Returns:
    Path of the page, `out_dir`/index.html.

  Raises:
    ValueError: if a name is unknown.
    DemoError: after the page is written, if a section failed.

  Example:
    >>> import tempfile
    >>> from vision_jax import demo
    >>> def hello(page):
    ...   page.section("Hello", "A first section.")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = demo.run_demo(folder, functions={"hello": hello})
    ...   print(path.name)  # doctest: +ELLIPSIS
    hello: ... s
    index.html
  """
  names = list(functions) if sections is None else list(sections)
  unknown = [name for name in names if name not in functions]
  if unknown:
    raise ValueError(
      f"run_demo: `sections` must be among {', '.join(functions)}, got"
      f" {', '.join(unknown)}."
    )
  page = Page(
    "vision_jax: what it does, on this machine",
    "Every picture and every number below was computed when this page was"
    " written, on the machine named here.",
    facts={**describe_environment(), "device": _device()},
  )
  failed = []
  for name in names:
    first = len(page.sections)
    start = time.perf_counter()
    try:
      functions[name](page)
    except Exception as error:
      failed.append(name)
      if len(page.sections) == first:
        page.section(name)
      page.sections[-1].failure(
        f"The section `{name}` failed: {type(error).__name__}: {error}",
        details=traceback.format_exc(),
      )
    seconds = time.perf_counter() - start
    # A section function may open several headings: the first has the time.
    if len(page.sections) > first and page.sections[first].seconds is None:
      page.sections[first].seconds = seconds
    state = " (failed)" if name in failed else ""
    print(f"{name}: {seconds:.1f} s{state}", flush=True)
  path = page.write(pathlib.Path(out_dir) / "index.html")
  if failed:
    raise DemoError(path, failed)
  return path


def _device() -> str:
  """What JAX computes on."""
  import jax

  devices = jax.devices()
  return f"{len(devices)} x {devices[0].device_kind}"
