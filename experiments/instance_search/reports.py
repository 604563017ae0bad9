"""What was measured, as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.instance_search import published


def _cell(values: Sequence[float]) -> str:
  """Mean, and spread over the seeds."""
  mean = f"{np.mean(values):.3f}"
  return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.3f}"


def _published(row: tuple[float | None, ...] | None) -> str:
  if row is None:
    return "-"
  return " / ".join("-" if v is None else f"{v:.3f}" for v in row)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [headers, ["---"] * len(headers), *rows]
  return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in lines)


def report_tables(
  runs: list[dict[str, dict[str, Any]]], curve: Sequence[int] = ()
) -> str:
  """The two tables of the deck, localisation, sizes and curve, as Markdown."""
  first = runs[0]

  def cells(name, key):
    return _cell([run[name][key] for run in runs if name in run])

  def sized(name, key):
    values = np.array([run[name][key] for run in runs if name in run])
    return [f"{v:.3f}" for v in values.mean(0)]

  names = [n for n in first if "VLAD" not in n and n != "BoVW+HE"]
  text = ["### Instance search", ""]
  text.append(
    _table(
      ("Method", "Dim", "Top-50", "Top-100", "All", "Trapezoid",
       "Deck: I-335 Top-50 / Top-100 / All / INSTRE"),
      [
        (
          name, first[name]["dims"],
          *(cells(name, k) for k in ("top50", "top100", "all", "trapezoid")),
          _published(published.INSTANCE_SEARCH.get(name)),
        )
        for name in names
      ],
    )
  )  # fmt: skip
  text.append(f"\nA random ranking has {first['SPoC']['random']:.3f} (All).\n")
  text += ["### Image search: one vector for a picture", ""]
  vectors = [n for n in first if n not in names or n in published.IMAGE_SEARCH]
  text.append(
    _table(
      ("Method", "Dim", "Trapezoid", "Deck: Holidays / Oxford5k / Paris6k"),
      [
        (
          name, first[name]["dims"], cells(name, "trapezoid"),
          _published(published.IMAGE_SEARCH.get(name)),
        )
        for name in vectors
      ],
    )
  )  # fmt: skip
  text += ["", "### Sizes of the instance, and where it was found", ""]
  text.append(
    _table(
      ("Method", "mAP >= 96 px", "48 to 64", "<= 32", "IoU >= 96 px",
       "48 to 64", "<= 32", "CorLoc >= 96 px", "48 to 64", "<= 32",
       "mAP with IoU >= 0.5", "Twin first"),
      [
        (
          name, *sized(name, "by_size"), *sized(name, "iou_by_size"),
          *sized(name, "corloc_by_size"), cells(name, "map_loc"),
          cells(name, "twin"),
        )
        for name in first
      ],
    )
  )  # fmt: skip
  regions = [n for n in first if "regions" in first[n]]
  text += ["", "### Regions", ""]
  text.append(
    _table(
      ("Source", "Regions a picture", "Best IoU", "Best over the hull"),
      [
        (
          name, f"{first[name]['regions']:.1f}",
          cells(name, "best_region_iou"), cells(name, "best_region_hull"),
        )
        for name in regions
      ],
    )
  )  # fmt: skip
  if curve and first["DASR"]["curve"]:
    text += ["", "### Distractors (mAP, trapezoid, first seed)", ""]
    text.append(
      _table(
        ("Method", *map(str, curve)),
        [(n, *(f"{v:.3f}" for v in first[n]["curve"])) for n in first],
      )
    )
  return "\n".join(text)


def report_ablations(tables: dict[str, Any]) -> str:
  """Tables of `run_ablations` as Markdown."""
  headers = ("mAP", "mAP with IoU >= 0.5", "IoU", "CorLoc",
             "CorLoc <= 32 px", "Best IoU", "Regions")  # fmt: skip
  keys = ("trapezoid", "map_loc", "iou", "corloc", "small", "best", "regions")
  text = []
  for title, rows in tables.items():
    text += ["", f"### {title}", ""]
    text.append(
      _table(
        ("DASR*", *headers),
        [(n, *(f"{values[k]:.3f}" for k in keys)) for n, values in rows],
      )
    )
  return "\n".join(text)
