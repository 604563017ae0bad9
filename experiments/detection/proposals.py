"""Time by stage: proposals by selective search or by a network.

Run:  python -m experiments.detection.proposals --size 375 500

The lecture says 47 s for a picture's proposals and 2 s for the network, then
0.05 to 0.2 s with a proposal network. The sources say it the other way round:
47 s is R-CNN's network over 2,000 crops, selective search 1.5 to 2 s, and 0.2
s all of Faster R-CNN. Here each stage is timed by itself.
"""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np

from vision_jax import bench, data, ops
from vision_jax.cli import parsing
from vision_jax.systems import proposals


@dataclasses.dataclass(frozen=True)
class Options:
  """What is timed.

  Attributes:
    size: (height, width) of the photograph.
    rounds: repetitions; the median counts.
    quality: time the slow mode of selective search as well.
  """

  size: tuple[int, int] = (375, 500)
  rounds: int = 3
  quality: bool = False


def median_seconds(function: Any, rounds: int) -> tuple[float, Any]:
  """(median of the seconds, last result)."""
  times, result = [], None
  for _ in range(rounds):
    started = time.perf_counter()
    result = function()
    times.append(time.perf_counter() - started)
  return float(np.median(times)), result


def measure(options: Options) -> dict[str, Any]:
  """Seconds and boxes of each stage."""
  image = data.load_photograph("astronaut.png")
  image = np.asarray(ops.resize(jax.numpy.asarray(image), options.size))
  stages: dict[str, Any] = {}
  for mode in ("fast", "quality") if options.quality else ("fast",):
    seconds, boxes = median_seconds(
      lambda mode=mode: proposals.selective_search(image, mode=mode),
      options.rounds,
    )
    stages[f"selective search, {mode}"] = {
      "seconds": seconds,
      "boxes": len(boxes),
    }
  seconds, boxes = median_seconds(
    lambda: proposals.grid_proposals(options.size), options.rounds
  )
  stages["lattice"] = {"seconds": seconds, "boxes": len(boxes)}
  return {"size": options.size, "stages": stages}


def main() -> None:
  """Command line."""
  options = parsing.read_options(
    Options, prog="python -m experiments.detection.proposals"
  )
  print(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main()
