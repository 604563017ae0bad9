"""Does reading keep up? Pictures a second read, and used by the train step.

Run:  python -m experiments.classification.throughput
      python -m experiments.classification.throughput --config cifar10 \
          --data-dir DIRECTORY

Both are measured alone, in turn, several times; the ratio is taken in each
round.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import tyro

from experiments.classification import configs, input_pipeline, task
from vision_jax import bench, train


@dataclasses.dataclass(frozen=True)
class Options:
  """What is measured.

  Attributes:
    config: a file of configs/.
    data_dir: folder of data sets.
    rounds: how often both are measured.
    updates: updates, and batches, of one measurement.
    num_threads: batches read at a time; None is one a core.
    num_workers: processes that read.
  """

  config: str = "generated_textures"
  data_dir: str = "runs/data"
  rounds: int = 5
  updates: int = 20
  num_threads: int | None = None
  num_workers: int = 0


def measure(options: Options) -> dict[str, Any]:
  """Pictures a second of both, and their ratio."""
  config = configs.CONFIGS[options.config]
  config = dataclasses.replace(
    config,
    data=dataclasses.replace(
      config.data,
      num_threads=options.num_threads,
      num_workers=options.num_workers,
    ),
  )
  path = input_pipeline.find_set(config.data, options.data_dir)
  source = input_pipeline.open_split(path, config.data.train)
  batches = iter(input_pipeline.train_batches(config, source))
  module, variables = task.create_model(config, len(source.class_names))
  tx, _ = task.make_optimizer(config, len(source))
  state = train.create_state(
    variables["params"],
    variables.get("batch_stats"),
    tx,
    jax.random.key(0),
  )
  step = train.make_step(task.make_loss(config, module), tx)
  batch = next(batches)
  state, metrics = step(state, batch)
  jax.block_until_ready(metrics)

  def rate(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    for _ in range(options.updates):
      function()
    seconds = time.perf_counter() - started
    return options.updates * config.batch_size / seconds

  def update() -> None:
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready(metrics)

  used, read = [], []
  for _ in range(options.rounds):
    used.append(rate(update))
    # What was read ahead while the step ran does not count.
    for _ in range(8):
      next(batches)
    read.append(rate(lambda: next(batches)))
  batches.close()
  return {
    "config": options.config,
    "used_per_second": statistics.median(used),
    "read_per_second": statistics.median(read),
    "ratio": statistics.median(r / u for r, u in zip(read, used, strict=True)),
  }


def main() -> None:
  """Command line."""
  options = tyro.cli(
    Options, prog="python -m experiments.classification.throughput"
  )
  print(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
