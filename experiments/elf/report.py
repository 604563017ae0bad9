"""The table, the figures and the README of the evaluation."""

import pathlib
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from experiments import readme
from vision_jax.viz import describe_environment

README = pathlib.Path(__file__).with_name("README.md")
HEADER = (
  "method",
  "points",
  "rep",
  "ms",
  "SP rep",
  "matches",
  "MMA@1/3/5",
  "MHA@1/3/5",
  "AUC@1/3/5",
)


def _percent(values: Any) -> str:
  return "/".join(f"{100 * v:.1f}" for v in values)


def format_result(result: dict[str, Any]) -> str:
  """Tables in Markdown; percent, except for counts."""
  rows = []
  for name, s in result["summary"].items():
    if not s["pairs"]:
      rows.append([name, f"all {s['failed']} pairs failed", *[""] * 7])
      continue
    rows.append(
      [
        name,
        f"{s['points']:.0f}",
        *(f"{100 * s[k]:.1f}" for k in ("rep", "ms", "sp_rep")),
        f"{s['matches']:.0f}",
        _percent([s["mma"][t - 1] for t in (1, 3, 5)]),
        _percent(s["mha"]),
        _percent(s["auc"]),
      ]
    )
  parts = [readme.format_table(HEADER, rows)]
  for name, curve in result.get("curves", {}).items():
    unit = "°" if name == "rotation" else "x"
    header = [
      f"ms under {name}",
      *(f"{step:g}{unit}" for step in curve["steps"]),
    ]
    lines = [
      [method, *(f"{100 * s.get('ms', float('nan')):.1f}" for s in series)]
      for method, series in curve.items()
      if method != "steps"
    ]
    parts.append(readme.format_table(header, lines))
  count = max(s["pairs"] for s in result["summary"].values())
  failed = sum(s["failed"] for s in result["summary"].values())
  notes = [f"{count} pairs of {result['data']}"]
  for label, number in (
    ("evaluations failed", failed),
    ("pairs skipped", len(result["skipped"])),
    ("damaged cache files redone", len(result["damaged"])),
  ):
    if number:
      notes.append(f"{number} {label}")
  if result["seconds"]:
    times = ", ".join(
      f"{name} {1000 * s:.0f} ms" for name, s in result["seconds"].items()
    )
    notes.append(f"median time per image: {times}")
  parts.append("; ".join(notes) + f"; {result['minutes']:.1f} minutes.")
  return "\n\n".join(parts)


def draw_figures(result: dict[str, Any], folder: pathlib.Path) -> list[str]:
  """Writes the MMA, rotation and zoom curves; returns the file names."""
  names = []
  figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
  for k, (name, s) in enumerate(result["summary"].items()):
    if s["pairs"]:
      style = ("-", "--", ":")[k // 10 % 3]
      axes.plot(range(1, 11), s["mma"], style, label=name)
  axes.set(xlabel="threshold, pixels", ylabel="mean matching accuracy")
  axes.set(xlim=(1, 10), ylim=(0, 1))
  axes.grid(alpha=0.3)
  axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
  names.append("mma.png")
  figure.savefig(folder / names[-1], dpi=110)
  plt.close(figure)
  curves = result.get("curves", {})
  if curves:
    figure, both = plt.subplots(
      1, 2, figsize=(9, 3.6), layout="constrained", sharey=True
    )
    for axes, (name, curve) in zip(both, curves.items(), strict=True):
      for method, series in curve.items():
        if method != "steps":
          axes.plot(
            curve["steps"],
            [s.get("ms", float("nan")) for s in series],
            "o-",
            label=method,
          )
      axes.set(xlabel={"rotation": "degrees"}.get(name, name), ylim=(0, 1))
      axes.grid(alpha=0.3)
    both[0].set_ylabel("matching score")
    both[1].legend(fontsize=7)
    names.append("robustness.png")
    figure.savefig(folder / names[-1], dpi=110)
    plt.close(figure)
  return names


def write_readme(
  text: str, result: dict[str, Any], figures: list[str], options: Any
) -> None:
  """Puts table and figures between the markers of README.md."""
  command = "python -m experiments.elf.evaluate"
  if options.data != "homography_pairs":
    command += f" --data {options.data} --root DIR"
  if options.networks:
    command += " --networks " + " ".join(options.networks)
  machine = describe_environment()["processor"]
  for name in figures:
    source = options.out / name
    (README.parent / name).write_bytes(source.read_bytes())
  pictures = "\n".join(f"![{name}]({name})" for name in figures)
  block = (
    f"`{command} --write` on {machine}, jax {jax.__version__}.\n\n{text}\n\n"
    f"{pictures}"
  )
  readme.replace_block(README, result["data"], block)
