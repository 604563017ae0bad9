"""Does reading keep up? Pictures a second read, and used by the train step.

Run:  python -m experiments.classification.throughput
      python -m experiments.classification.throughput --config cifar10 \
          --data-dir DIRECTORY

Reading for the first time (record, PNG, augmentation, batch), reading again
from memory as sets with `cache` do, and the train step are measured alone, in
turn, several times; the ratios are taken in each round.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments.classification import configs, input_pipeline, task
from vision_jax import bench, data, train
from vision_jax.cli import parsing


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
    prepare: draw a generated set that is not there.
  """

  config: str = "generated_textures"
  data_dir: str = "runs/data"
  rounds: int = 5
  updates: int = 20
  num_threads: int | None = None
  num_workers: int = 0
  prepare: bool = True


def measure(options: Options) -> dict[str, Any]:
  """Pictures a second of all three, and the ratios to the step."""
  config = configs.CONFIGS[options.config]
  config = dataclasses.replace(
    config,
    data=dataclasses.replace(
      config.data,
      num_threads=options.num_threads,
      num_workers=options.num_workers,
      cache=False,
    ),
  )
  path = input_pipeline.find_set(
    config.data, options.data_dir, prepare=options.prepare
  )
  source = input_pipeline.open_split(path, config.data.train)
  batches = iter(input_pipeline.train_batches(config, source))
  part = data.cache_in_memory(input_pipeline.First(source, 1000))
  again = iter(input_pipeline.train_batches(config, part))
  for _ in range(2 * len(part) // config.batch_size):
    next(again)
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

  used = []
  rates: dict[str, list[float]] = {"read": [], "read_again": []}
  for _ in range(options.rounds):
    used.append(rate(update))
    for name, pipeline in (("read", batches), ("read_again", again)):
      for _ in range(8):  # read ahead while something else ran
        next(pipeline)
      rates[name].append(rate(lambda pipeline=pipeline: next(pipeline)))
  batches.close()
  again.close()
  result = {"used_per_second": statistics.median(used)}
  for name, values in rates.items():
    result[f"{name}_per_second"] = statistics.median(values)
    ratios = [r / u for r, u in zip(values, used, strict=True)]
    result[f"{name}_ratio"] = statistics.median(ratios)
  return {"config": options.config, **result}


def main() -> None:
  """Command line."""
  options = parsing.read_options(
    Options, prog="python -m experiments.classification.throughput"
  )
  print(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
