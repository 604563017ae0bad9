"""Compiles every train step and prediction of the project for one TPU slice.

Run:  PYTHONPATH=.venv/tpu python -m experiments.scaling.programs
      PYTHONPATH=.venv/tpu python -m experiments.scaling.programs predict/elf

Steps are compiled for all chips; what is not data-parallel, for one. The large
programs (`LARGE`) only if they are named.
"""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from experiments.scaling import predictions, steps, topology
from experiments.scaling.costs import costs_of

SLICE = "v5e:2x4"

PROGRAMS: Mapping[str, Callable[[list[Any]], Any]] = {
  **{f"train/{name}": make for name, make in steps.STEPS.items()},
  **{f"predict/{name}": make for name, make in predictions.PREDICTIONS.items()},
}
"""Name -> function of the devices that compiles it."""

LARGE = (
  "train/imagenet",
  "train/cityscapes",
  "predict/dasr_resnet50",
  "predict/deeplabv3_resnet50",
  "predict/maskrcnn_resnet50_fpn",
  "predict/pointrend_semantic_fpn_resnet50",
  "predict/yolov3",
)
"""Those that take the compiler minutes; smaller ones run the same code."""


def main(names: list[str]) -> None:
  """Compiles the programs of these names; without names, all but the large."""
  for name in names:
    if name not in PROGRAMS:
      raise SystemExit(
        f"programs: names must be of {', '.join(PROGRAMS)}, got {name!r}."
      )
  devices = topology.tpu_devices(SLICE)
  kind = SLICE.partition(":")[0]
  limit = topology.HBM_GIB[kind] << 30
  for name in names or [name for name in PROGRAMS if name not in LARGE]:
    started = time.perf_counter()
    with topology.compiling_for("tpu"):
      costs = costs_of(PROGRAMS[name](devices))
    fits = "fits" if costs.memory <= limit else "does not fit"
    print(
      f"{name}: {costs.memory / 2**20:.0f} MiB a device, "
      f"{costs.flops / 1e9:.1f} GFLOP, {fits} {kind}; compiled in "
      f"{time.perf_counter() - started:.0f} s",
      flush=True,
    )


if __name__ == "__main__":
  main(sys.argv[1:])
