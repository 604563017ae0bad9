r"""The tables of the DASR deck, ablations and curves, on generated pictures.

Run:  python -m experiments.instance_search.evaluate            (all, seed 0)
      python -m experiments.instance_search.evaluate --seeds 0 2 3 \
        --parts tables
      python -m experiments.instance_search.evaluate --preset tiny --no-sift

Prints Markdown and writes it, with the numbers of each set as JSON, to --out;
what is there already, under the same settings, is not measured again (weights
that were trained anew need another folder). Published numbers stand beside ours
for the direction only: other pictures, another network.
"""

import dataclasses
import functools
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from experiments.instance_search import (
  benchmark,
  describe,
  methods,
  reports,
  scores,
  sift_rows,
)
from experiments.readme import replace_block
from vision_jax import data, viz, weights
from vision_jax.bench import set_cpu_flags
from vision_jax.cli import parsing
from vision_jax.systems import dasr

README = pathlib.Path(__file__).with_name("README.md")
LEARN_SEED = 1
FIRST_TRAINED = 100  # sets of instances from here on trained the network
BETAS = (0.1, 0.3, 0.5, 0.7, 0.9)
TWO_SCALES = ("R-MAC grid", "DASR", "DASR*", "True boxes")
"""Regions that are looked for in the enlarged pictures too."""


@dataclasses.dataclass(frozen=True)
class Options:
  """What is measured.

  Attributes:
    preset: "full" or "tiny" set.
    seeds: of the sets; 0 is the published one, 1 is for learning.
    num_distractors: pictures of clutter in each database.
    curve: numbers of distractors of the curve, on the first seed.
    parts: what to run.
    sift: whether to run the rows of SIFT (first seed).
    model: network.
    weights: of the network.
    num_seeds: top-down passes for each picture.
    rule: of the top-down pass.
    two_scales: whether there are rows that see the database a second time,
      enlarged twice.
    detectors: bundled weights of rcnn_small whose boxes are rows: "bundled",
      a Faster R-CNN, and "masks", a Mask R-CNN.
    learn: pictures of seed 1 to learn from; 0 for all of the database.
    out: folder of the results.
    write_readme: put the report into README.md.
  """

  preset: Literal["full", "tiny"] = "full"
  seeds: tuple[int, ...] = (0,)
  num_distractors: int = 300
  curve: tuple[int, ...] = ()
  parts: tuple[Literal["tables", "ablations"], ...] = ("tables", "ablations")
  sift: bool = True
  model: str = "resnet_small"
  weights: str = "instances"
  num_seeds: int = 16
  rule: str = "prm"
  two_scales: bool = True
  detectors: tuple[str, ...] = ("bundled", "masks")
  learn: int = 280
  out: pathlib.Path = pathlib.Path("runs/instance_search")
  write_readme: bool = False


class Bench:
  """The network and the sets that were described with it."""

  def __init__(self, options: Options) -> None:
    if not 0 <= min(options.seeds) <= max(options.seeds) < FIRST_TRAINED:
      raise ValueError(
        f"evaluate: `seeds` must be from 0 to {FIRST_TRAINED - 1}, got "
        f"{options.seeds}; on others the network was trained (GENERATED.md)."
      )
    self.options = options
    self.module, self.variables, preprocess = weights.resolve(
      options.model, options.weights
    )
    self.config = dasr.make_config(
      options.model,
      preprocess,
      seeds="peaks_all",
      max_regions=options.num_seeds,
      rule=options.rule,
    )
    self.kernel = np.asarray(self.variables["params"]["fc"]["kernel"])
    self.learn_rows = benchmark.records(LEARN_SEED, options.preset, 0)[
      "database"
    ]
    if options.learn:
      step = max(1, len(self.learn_rows) // options.learn)
      self.learn_rows = self.learn_rows[::step]
    self.size = self.learn_rows[0].size
    self.detectors = describe.load_detectors(options.detectors, self.size)

  @functools.cached_property
  def learn(self) -> describe.Described:
    """What may be learned from."""
    return self._describe(self.learn_rows, "to learn from")

  @functools.cached_property
  def learn_enlarged(self) -> describe.Described:
    """The same at twice the size."""
    return self._enlarge(self.learn_rows, "to learn from, enlarged")

  @functools.cached_property
  def cut(self) -> describe.Cut:
    """What `choose_cut` chooses."""
    return choose_cut(self)

  def _describe(self, rows, text, config=None, cuts=describe.CUTS, scale=1):
    return describe.describe(
      self.module,
      self.variables,
      rows,
      config or self.config,
      cuts=cuts,
      detectors=self.detectors if config is None else None,
      scale=scale,
      text=text,
    )

  def _enlarge(self, rows, text):
    # The paper's cut alone, which is the first of `CUTS` too; no detectors.
    return self._describe(rows, text, self.config, (describe.PAPER,), scale=2)

  def problem(self, seed: int, num_distractors: int) -> methods.Problem:
    """Database and queries of a seed."""
    rows = benchmark.records(seed, self.options.preset, num_distractors)
    return methods.Problem(
      self._describe(rows["database"], f"database {seed}"),
      self._describe(rows["query"], f"queries {seed}"),
      describe.crops(self.module, self.variables, rows["query"], self.config),
      self.learn,
      self.kernel,
    )

  def with_enlarged(
    self, problem: methods.Problem, seed: int, num_distractors: int
  ) -> methods.Problem:
    """The problem with what is seen at twice the size."""
    rows = benchmark.records(seed, self.options.preset, num_distractors)
    database = self._enlarge(rows["database"], f"database {seed}, enlarged")
    return problem._replace(enlarged=(database, self.learn_enlarged))

  def small_problem(self, seed: int, **changes: Any) -> methods.Problem:
    """A quarter of the set, no distractors, under other settings of DASR."""
    config = dataclasses.replace(self.config, **changes)
    settings = dict(data.INSTANCE_PRESETS[self.options.preset])
    half = settings.get("num_instances", 40) // 4 * 2
    settings |= {
      "num_instances": half,
      "num_per_side": 1,
      "num_distractors": 0,
    }
    rows = data.instance_set(seed=seed, **settings)
    text = ", ".join(f"{k} {v}" for k, v in changes.items())
    cuts = (describe.PAPER,)
    database, queries, learn = (
      self._describe(part, text, config, cuts)
      for part in (
        [r for r in rows if r.kind == "database"],
        [r for r in rows if r.kind == "query"],
        self.learn_rows[::2],
      )
    )
    return methods.Problem(
      database, queries, (None, None, []), learn, self.kernel
    )


def _sources(
  bench: Bench, cut: describe.Cut
) -> dict[str, Callable[[Any], methods.Regions]]:
  """Name -> regions of described pictures."""
  find = methods.dasr_regions
  detected = {
    "bundled": {"Faster R-CNN for DeepVision": False},
    "masks": {"Mask R-CNN for FCIS+XD": True},
  }
  detectors = {
    row: functools.partial(methods.detected_regions, name=name, masks=masks)
    for name in bench.options.detectors
    for row, masks in detected[name].items()
  }
  return {
    "Full image": methods.full_regions,
    "R-MAC grid": methods.grid_regions,
    "CAM boxes": lambda d: methods.cam_regions(d, bench.kernel),
    **detectors,
    "DASR": find,
    "DASR*": lambda d: find(d, beta=0.3),
    "DASR-m": lambda d: find(d, masks=True),
    "DASR-m*": lambda d: find(d, masks=True, beta=0.3),
    f"DASR* ({cut.name})": lambda d: find(d, cut=cut, beta=0.3),
    "True boxes": methods.oracle_regions,
  }


def choose_cut(bench: Bench) -> describe.Cut:
  """The cut of DASR* with the best mAP on the set that is learned from.

  Queries are those of seed 1, the database its pictures.
  """
  queries = benchmark.records(LEARN_SEED, bench.options.preset, 0)["query"]
  described = bench._describe(queries, "queries to choose by")
  problem = methods.Problem(
    bench.learn, described, (None, None, []), bench.learn, bench.kernel
  )
  best = {}
  for cut in describe.CUTS:
    regions = methods.dasr_regions(bench.learn, cut=cut, beta=0.3)
    both = [(bench.learn, regions)]
    ranked, _ = methods.search_regions(problem, both, both)
    best[cut] = scores.score(ranked, bench.learn.truth)["trapezoid"]
  return max(best, key=lambda c: best[c])


def run_tables(
  bench: Bench, problem: methods.Problem, seed: int, *, first: bool
) -> dict[str, dict[str, Any]]:
  """Every row on one set: name -> numbers; some on the first set alone."""
  if bench.options.two_scales:
    problem = bench.with_enlarged(problem, seed, bench.options.num_distractors)
  database, side = problem.database, bench.size
  rankings: dict[str, tuple[list[methods.Ranked], int]] = {}
  found = {}
  for name, (queries, vectors) in {
    **methods.image_vectors(problem),
    **methods.local_words(problem),
  }.items():
    rankings[name] = (
      methods.search_vectors(queries, vectors, side), queries.shape[1]
    )  # fmt: skip
  sources = _sources(bench, bench.cut)
  pairs = [(database, problem.learn)]
  if problem.enlarged is not None:
    pairs.append(problem.enlarged)
  for name, source in sources.items():
    scales = len(pairs) if name in TWO_SCALES else 1
    seen, learn = (
      [(d, source(d)) for d in part]
      for part in zip(*pairs[:scales], strict=True)
    )
    for n in range(1, scales + 1):
      row = name if n == 1 else f"{name}, {n} scales"
      rankings[row] = methods.search_regions(problem, seen[:n], learn[:n])
      regions = methods.join_regions([regions for _, regions in seen[:n]])
      found[row] = {
        "regions": float(regions.valid.sum(1).mean()),
        "best_region_iou": scores.best_overlap(regions, database.truth),
        "best_region_hull": scores.best_overlap(
          regions, database.truth, hull=True
        ),
      }
  for name in ("DASR", "DASR*"):
    queries, vectors = methods.region_vlad(problem, sources[name])
    rankings[f"{name}+VLAD"] = (
      methods.search_vectors(queries, vectors, side), queries.shape[1]
    )  # fmt: skip
  if bench.options.sift and first:
    rows = benchmark.records(
      seed, bench.options.preset, bench.options.num_distractors
    )["database"]
    for name, values in sift_rows.sift_scores(
      bench.learn_rows, rows, problem.crops[2]
    ).items():
      order = np.argsort(-values, 1, kind="stable")
      boxes = np.tile(np.float32([0, 0, side, side]), (len(rows), 1))
      dims = sift_rows.NUM_WORDS if name == "BoVW+HE" else 8192
      rankings[name] = [methods.Ranked(o, boxes) for o in order], dims
  results = {}
  for name, (ranked, dims) in rankings.items():
    results[name] = {
      **found.get(name, {}),
      **scores.score(ranked, database.truth),
      "dims": dims,
      "by_size": scores.by_group(ranked, database.truth, "trapezoid"),
      "iou_by_size": scores.by_group(ranked, database.truth, "iou"),
      "corloc_by_size": scores.by_group(ranked, database.truth, "corloc"),
      "curve": [
        scores.score(ranked, database.truth, num_distractors=n)["trapezoid"]
        for n in (bench.options.curve if first else ())
        if n <= database.truth.num_distractors
      ],
    }
  return results


def run_ablations(
  bench: Bench, problem: methods.Problem, seed: int
) -> dict[str, list[tuple[str, dict[str, float]]]]:
  """DASR* under other settings, without distractors on `rules`."""
  numbers = ("trapezoid", "map_loc", "iou", "corloc")

  def measure(problem, make, **settings):
    regions = make(problem.database)
    ranked, _ = methods.search_regions(
      problem,
      [(problem.database, regions)],
      [(problem.learn, make(problem.learn))],
      **settings,
    )
    found = scores.score(ranked, problem.database.truth)
    small = scores.by_group(ranked, problem.database.truth, "corloc")
    return {k: found[k] for k in numbers} | {
      "small": small[-1],
      "best": scores.best_overlap(regions, problem.database.truth),
      "regions": float(regions.valid.sum(1).mean()),
    }

  find = methods.dasr_regions
  tables: dict[str, list[tuple[str, dict[str, float]]]] = {
    "Feature layer, pooling": [
      (
        f"{layer}, GeM p = {power:g}" if power > 1 else f"{layer}, mean",
        measure(problem, lambda d: find(d, beta=0.3), layer=layer, power=power),
      )
      for layer in describe.FEATURES
      for power in (1.0, 3.0)
    ],
    "Overlap beta of DASR*": [
      (f"{beta:g}", measure(problem, lambda d, b=beta: find(d, beta=b)))
      for beta in BETAS
    ],
    "What is kept of a map": [
      (cut.name, measure(problem, lambda d, c=cut: find(d, cut=c, beta=0.3)))
      for cut in describe.CUTS
    ],
  }
  rules, paper = [], (describe.PAPER,)
  for text, changes in (
    ("prm", {"rule": "prm"}),
    ("ebp", {"rule": "ebp"}),
    ("ebp_folded", {"rule": "ebp_folded"}),
    ("prm, ends behind the first pool", {"stop_at": "maxpool"}),
    ("prm, from the class maps", {"start": "classes"}),
  ):
    other = bench.small_problem(seed, **changes)
    rules.append(
      (text, measure(other, lambda d: find(d, beta=0.3, cuts=paper)))
    )
  tables["Rule of the top-down pass (a quarter of the set, no distractors)"] = (
    rules
  )
  return tables


def main(options: Options) -> str:
  """Runs what is asked for and returns the report."""
  set_cpu_flags()
  bench = Bench(options)
  pieces = {"tables": [], "ablations": []}
  for seed in options.seeds:
    first = seed == options.seeds[0]
    problem = functools.cache(
      lambda s=seed: bench.problem(s, options.num_distractors)
    )
    if "tables" in options.parts:
      pieces["tables"].append(
        measured(
          options,
          f"tables_{seed}",
          lambda f=first, s=seed, p=problem: run_tables(bench, p(), s, first=f),
          first=first,
        )
      )
    if "ablations" in options.parts and first:
      pieces["ablations"].append(
        measured(
          options,
          f"ablations_{seed}",
          lambda s=seed, p=problem: run_ablations(bench, p(), s),
        )
      )
    problem.cache_clear()
  parts = []
  if pieces["tables"]:
    found = [piece["found"] for piece in pieces["tables"]]
    parts.append(reports.report_tables(found, options.curve))
  parts += [reports.report_ablations(p["found"]) for p in pieces["ablations"]]
  seconds = sum(p["seconds"] for kind in pieces.values() for p in kind)
  parts.append(f"{seconds / 60:.0f} minutes.\n")
  text = "\n\n".join(parts)
  (options.out / "report.md").write_text(text)
  if options.write_readme:
    replace_block(README, "report", text.strip())
  print(text)
  return text


def measured(
  options: Options, name: str, measure: Callable[[], Any], *, first: bool = True
) -> dict[str, Any]:
  """A part of the report, read from `options.out` where it was measured."""
  recipe = dataclasses.asdict(options)
  for key in ("seeds", "parts", "out", "write_readme"):
    del recipe[key]
  recipe |= {} if first else {"sift": False, "curve": ()}
  recipe = json.loads(json.dumps(recipe))
  path = options.out / f"{name}.json"
  if path.exists():
    record = json.loads(path.read_text())
    if record["recipe"] == recipe:
      print(f"{path}: measured before", flush=True)
      return record
  started = time.perf_counter()
  found = measure()
  record = {
    "recipe": recipe,
    "found": found,
    "seconds": time.perf_counter() - started,
    "environment": viz.describe_environment(),
  }
  options.out.mkdir(parents=True, exist_ok=True)
  part = path.with_suffix(".part")
  part.write_text(json.dumps(record, indent=1))
  os.replace(part, path)
  return json.loads(path.read_text())


if __name__ == "__main__":
  main(parsing.read_options(Options))
