"""The table, the figures and the README of the evaluation."""

import pathlib
from typing import Any

import jax
import numpy as np

from experiments import readme
from vision_jax import data, ops, viz

README = pathlib.Path(__file__).with_name("README.md")
HEADER = (
  "points",
  "rep",
  "ms",
  "SP rep",
  "matches",
  "MMA@1/3/5",
  "MHA@1/3/5",
  "AUC@1/3/5",
)


def format_percent(values: Any) -> str:
  """Shares as percent, joined by slashes."""
  return "/".join(f"{100 * v:.1f}" for v in values)


def _format_summary(label: str, summary: dict[str, dict[str, Any]]) -> str:
  """One table of methods."""
  rows = []
  for name, s in summary.items():
    if not s["num_pairs"]:
      rows.append([name, f"all {s['failed']} pairs failed", *[""] * 7])
      continue
    shares = (
      s[k]
      for k in ("repeatability", "matching_score", "superpoint_repeatability")
    )
    rows.append(
      [
        name,
        f"{s['num_points']:.0f}",
        *(f"{100 * share:.1f}" for share in shares),
        f"{s['num_matches']:.0f}",
        format_percent([s["mma"][t - 1] for t in (1, 3, 5)]),
        format_percent(s["mha"]),
        format_percent(s["auc"]),
      ]
    )
  return readme.format_table((label, *HEADER), rows)


def format_result(result: dict[str, Any]) -> str:
  """Tables in Markdown; percent, except for counts."""
  parts = [_format_summary("method", result["summary"])]
  for kind, summary in result["kinds"].items():
    name = {"i": "illumination", "v": "viewpoint"}.get(kind, kind)
    parts.append(_format_summary(name, summary))
  for name, curve in result.get("curves", {}).items():
    unit = "°" if name == "rotation" else "x"
    header = [
      f"ms under {name}",
      *(f"{step:g}{unit}" for step in curve["steps"]),
    ]
    lines = [
      [method, *(f"{100 * value:.1f}" for value in _scores(series))]
      for method, series in curve.items()
      if method != "steps"
    ]
    parts.append(readme.format_table(header, lines))
  parts.append(_notes(result))
  return "\n\n".join(parts)


def _scores(series: list[dict[str, Any]]) -> list[float]:
  """Matching score at every step; NaN where all pairs failed."""
  return [s.get("matching_score", float("nan")) for s in series]


def _notes(result: dict[str, Any]) -> str:
  """How many pairs, what went wrong, how long it took."""
  count = max(s["num_pairs"] for s in result["summary"].values())
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
  rate = result["pairs_per_second"]
  notes.append(f"all protocols on stored features: {rate:.1f} pairs a second")
  return "; ".join(notes) + f"; {result['minutes']:.1f} minutes."


def draw_figures(
  result: dict[str, Any], folder: pathlib.Path
) -> dict[str, str]:
  """Writes the MMA, rotation and zoom curves; file name -> caption."""
  captions = {"mma.png": "Mean matching accuracy over the threshold in pixels."}
  accuracy = {
    name: (range(1, 11), s["mma"])
    for name, s in result["summary"].items()
    if s["num_pairs"]
  }
  picture = viz.plot_curves(
    accuracy,
    x_label="threshold, pixels",
    y_label="mean matching accuracy",
    size=(480, 900),
  )
  data.write_image(folder / "mma.png", picture)
  for name, curve in result.get("curves", {}).items():
    series = {
      method: (curve["steps"], _scores(values))
      for method, values in curve.items()
      if method != "steps"
    }
    picture = viz.plot_curves(
      series,
      x_label={"rotation": "degrees"}.get(name, name),
      y_label="matching score",
      size=(340, 900),
    )
    data.write_image(folder / f"{name}.png", picture)
    captions[f"{name}.png"] = f"Matching score under {name}."
  return captions


def draw_keypoints(
  pictures: list[tuple[str, np.ndarray, ops.Keypoints]],
  path: pathlib.Path,
  *,
  columns: int,
) -> None:
  """Writes a grid of (title, image, key points), 320 pixels wide each."""
  drawn = [
    viz.draw_keypoints(
      image, found.xy, scores=found.scores, valid=found.valid, radius=3.0
    )
    for _, image, found in pictures
  ]
  small = [np.asarray(ops.resize(d / 255.0, (240, 320))) for d in drawn]
  titles = [title for title, _, _ in pictures]
  data.write_image(path, viz.image_grid(small, columns=columns, titles=titles))


def provenance(command: str) -> str:
  """The command, the machine and the version behind a table."""
  machine = viz.describe_environment()["processor"]
  return f"`{command}` on {machine}, jax {jax.__version__}."


def write_readme(
  text: str, result: dict[str, Any], captions: dict[str, str], options: Any
) -> None:
  """Puts table and figures between the markers of README.md."""
  command = "python -m experiments.elf.evaluate"
  if options.data != "homography_pairs":
    command += f" --data {options.data} --root DIR"
  if options.published:
    command += " --published"
  if options.networks:
    command += " --networks " + " ".join(options.networks)
  for name in captions:
    source = options.out / name
    (README.parent / name).write_bytes(source.read_bytes())
  pictures = "\n\n".join(f"![{text}]({n})" for n, text in captions.items())
  block = f"{provenance(command + ' --write')}\n\n{text}\n\n{pictures}"
  readme.replace_block(README, result["data"], block)
