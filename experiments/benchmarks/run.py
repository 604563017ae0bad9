"""Times every row beside PyTorch and prints the table.

Run:  make bench
      python -m experiments.benchmarks.run --only saliency --rounds 5
      python -m experiments.benchmarks.run --memory   (peak memory of the rows)

Contestants of a row are called in turn; the ratio is ours / the fastest of
PyTorch eager, channels-last eager and compiled, within each round.
"""

import dataclasses
import gc
import json
import os
import pathlib
import subprocess
import sys

from vision_jax.cli import parsing

README = pathlib.Path(__file__).with_name("README.md")


@dataclasses.dataclass(frozen=True)
class Options:
  """What is timed.

  Attributes:
    only: run the rows whose names contain one of these words.
    rounds: timed calls of each contestant.
    out: where the table and the JSON go.
    cpu_flags: set the compiler flags of `vision_jax.bench.set_cpu_flags`.
    memory: measure peak memory, in a process for each contestant.
    memory_of: (internal) row and contestant to measure in this process.
  """

  only: tuple[str, ...] = ()
  rounds: int = 7
  out: pathlib.Path = pathlib.Path("runs/benchmarks")
  cpu_flags: bool = True
  memory: bool = False
  memory_of: tuple[str, str] | None = None


def _selected(options: Options) -> list[str]:
  from experiments.benchmarks import cases

  return [
    name
    for name in cases.CASES
    if not options.only or any(word in name for word in options.only)
  ]


def time_rows(options: Options) -> None:
  """Prints the table, writes it and the JSON."""
  import torch

  from experiments.benchmarks import cases
  from vision_jax import bench
  from vision_jax.viz import describe_environment

  torch.set_num_threads(os.cpu_count() or 1)
  ceilings = bench.machine_ceilings()
  results = []
  for name in _selected(options):
    print(f"{name} ...", file=sys.stderr, flush=True)
    functions, facts = cases.CASES[name]()
    results.append(
      bench.measure(name, functions, rounds=options.rounds, **facts)
    )
    del functions
    gc.collect()
    torch._dynamo.reset()
  table = bench.format_results(results, ceilings)
  print(table)
  print(
    f"\nPeaks of this machine: {ceilings.flops_per_second / 1e9:.0f} GFLOP/s, "
    f"{ceilings.bytes_per_second / 1e9:.1f} GB/s."
  )
  record = {
    "environment": describe_environment() | {"torch": torch.__version__},
    "threads": torch.get_num_threads(),
    "ceilings": dataclasses.asdict(ceilings),
    "results": [result.record() for result in results],
  }
  options.out.mkdir(parents=True, exist_ok=True)
  (options.out / "results.json").write_text(json.dumps(record, indent=1))
  (options.out / "results.md").write_text(table + "\n")


def memory_of(name: str, contestant: str) -> None:
  """Prints the peak of three calls, beyond what was loaded before."""
  from experiments.benchmarks import cases
  from vision_jax import bench

  functions, _ = cases.CASES[name]()
  if contestant not in functions:
    print("peak none")
    return
  function = functions.pop(contestant)
  functions.clear()
  gc.collect()
  meter = bench.MemoryMeter()
  for _ in range(3):
    function()
  print(f"peak {meter.peak()}")


def memory_rows(options: Options) -> None:
  """Peak memory of ours and of PyTorch, one process each."""
  lines = ["| case | contestant | peak memory |", "| --- | --- | --- |"]
  for name in _selected(options):
    for contestant in ("vision_jax", "torch eager", "torch channels_last"):
      done = subprocess.run(
        [
          sys.executable,
          "-m",
          "experiments.benchmarks.run",
          "--memory_of",
          name,
          contestant,
        ],
        capture_output=True,
        text=True,
        check=True,
      )
      peak = done.stdout.strip().splitlines()[-1].split()[1]
      if peak == "none":
        continue
      lines.append(f"| {name} | {contestant} | {int(peak) / 2**20:.0f} MiB |")
      print(lines[-1], flush=True)
  options.out.mkdir(parents=True, exist_ok=True)
  (options.out / "memory.md").write_text("\n".join(lines) + "\n")


def main(options: Options) -> None:
  """Dispatches."""
  if options.cpu_flags:
    from vision_jax import bench

    bench.set_cpu_flags()
  if options.memory_of:
    memory_of(*options.memory_of)
  elif options.memory:
    memory_rows(options)
  else:
    time_rows(options)


if __name__ == "__main__":
  main(
    parsing.read_options(
      Options,
      prog="python -m experiments.benchmarks.run",
      description=__doc__,
      use_underscores=True,
    )
  )
