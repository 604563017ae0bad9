"""The table: every network on every distortion, resumable.

Run:     python -m experiments.stn.table [--write]
Expect:  72 runs of at most about two minutes of one core; a run that is done,
         a file in runs/stn, is not repeated. Kinds may run side by side
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tyro

from experiments import readme
from experiments.stn import networks, train, training
from vision_jax import bench, viz
from vision_jax.cli import parsing

__all__ = ["SEEDS", "Args", "format_table", "main"]

SEEDS = {"R": 3, "RTS": 3, "P": 1, "E": 1, "TC": 1}
"""Seeds of each distortion."""

# By the size of the pictures, so that no run is longer than two minutes.
_STEPS = {"R": 2000, "RTS": 1000, "P": 2000, "E": 2000, "TC": 400}
_README = pathlib.Path(__file__).with_name("README.md")


@dataclasses.dataclass(frozen=True)
class Args:
  """Fills the table of `experiments/stn`.

  Attributes:
    kinds: distortions.
    models: rows.
    out: folder of the results, one file a run.
    write: whether to put the table into the README.
    run: where the digits are, and which are asked.
  """

  kinds: tuple[str, ...] = tuple(SEEDS)
  models: tuple[str, ...] = networks.MODELS
  out: str = "runs/stn"
  write: bool = False
  run: tyro.conf.OmitArgPrefixes[train.Run] = dataclasses.field(
    default_factory=train.Run
  )


def _path(folder: pathlib.Path, model: str, kind: str, seed: int):
  name = re.sub(r"\W+", "_", model).lower()
  return folder / f"{name}_{kind}_{seed}.json"


def _asked(args: Args, config: training.Config) -> dict[str, Any]:
  """What a result that is there must say, else it is of another table."""
  return {
    "config": dataclasses.asdict(config),
    "data": args.run.data,
    "split": args.run.split,
    "tiny": args.run.tiny,
  }


def _results(args: Args) -> Iterator[dict[str, Any]]:
  """One after the other; what is there is read."""
  folder = pathlib.Path(args.out)
  folder.mkdir(parents=True, exist_ok=True)
  for kind in args.kinds:
    digits = None
    for seed in range(SEEDS[kind]):
      for model in args.models:
        path = _path(folder, model, kind, seed)
        steps = 3 if args.run.tiny else _STEPS[kind]
        config = training.Config(seed=seed, num_steps=steps)
        asked = _asked(args, config)
        result = json.loads(path.read_text()) if path.exists() else {}
        if not asked.items() <= result.items():
          if digits is None:
            digits = [
              train.load_digits(args.run, kind, split)
              for split in ("train", args.run.split)
            ]
          result = asked | train.run_once(
            model, kind, config, *digits, progress=args.run.progress
          )
          partial = path.with_suffix(".partial")
          partial.write_text(json.dumps(result, indent=1))
          partial.rename(path)
        print(
          f"{model} on {kind}, seed {seed}: {result['error']:.2f} %, "
          f"{result['seconds']:.0f} s of processor time",
          flush=True,
        )
        yield result


def format_table(results: Sequence[dict[str, Any]]) -> str:
  """Rows of networks, columns of distortions: mean +- deviation of errors.

  The deviation over seeds is that of a sample, n - 1.
  """
  kinds = [k for k in SEEDS if any(r["kind"] == k for r in results)]
  models = [m for m in networks.MODELS if any(r["model"] == m for r in results)]

  def cell(model: str, kind: str) -> str:
    errors = [
      r["error"] for r in results if r["model"] == model and r["kind"] == kind
    ]
    if not errors:
      return ""
    mean = f"{np.mean(errors):.2f}"
    if len(errors) == 1:
      return mean
    return f"{mean} ± {np.std(errors, ddof=1):.2f}"

  rows = [[model, *(cell(model, kind) for kind in kinds)] for model in models]
  return readme.format_table(("test error, %", *kinds), rows)


def main(args: Args) -> str:
  """Runs what is missing, prints the table, returns it."""
  results = list(_results(args))
  text = format_table(results)
  slowest = max(result["seconds"] for result in results)
  text += (
    f"\n\n{len(results)} runs, the slowest {slowest:.0f} s of processor time; "
    f"{viz.describe_environment()['processor']}."
  )
  print(text)
  if args.write:
    readme.replace_block(_README, "table", text)
  return text


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(parsing.read_options(Args, description=__doc__))
