"""Trains one network of the table and prints its test error.

Run:  python -m experiments.stn.train --config.model "ST-CNN Aff" \
          --config.kind RTS
"""

import dataclasses
import json
import pathlib

import numpy as np
import tyro

from experiments.stn import distortions, training
from vision_jax import bench, data

__all__ = ["Run", "load_digits", "main"]

# The order of the seeds of GENERATED.md; MNIST's parts are distorted by them.
_SEEDS = {"train": 0, "test": 1, "validation": 2}
_TINY = {"train": 128, "validation": 20, "test": 40}


@dataclasses.dataclass(frozen=True)
class Run:
  """Where the digits are, and how many.

  Attributes:
    data: "generated_digits", drawn on first use, or the name of a prepared
      TFDS set with 28 x 28 pictures, such as mnist.
    data_dir: folder of data sets.
    split: part that the error is of; choose settings on "validation".
    out: file for the result, or nothing.
    tiny: a few updates on a few pictures, to see that all works.
    progress: whether to show a progress bar.
  """

  data: str = "generated_digits"
  data_dir: str = "runs/data"
  split: str = "test"
  out: str | None = None
  tiny: bool = False
  progress: bool = True


def load_digits(run: Run, kind: str, split: str) -> training.Digits:
  """The distorted pictures, uint8 [N, S, S], and labels, int32 [N]."""
  folder = pathlib.Path(run.data_dir) / ("tiny" if run.tiny else "")
  path = folder / run.data
  if run.data == "generated_digits":
    path = data.prepare_generated(
      run.data, folder, num_examples=_TINY if run.tiny else None
    )
  source = data.read_prepared(path, split, features=("image", "label"))
  examples = [source[index] for index in range(len(source))]
  images = np.stack([example["image"][..., 0] for example in examples])
  labels = np.array([example["label"] for example in examples], np.int32)
  return distortions.distort(kind, images, _SEEDS[split]), labels


def main(config: training.Config, run: Run) -> float:
  """Trains, tests, prints; returns the error in percent."""
  if run.tiny:
    config = dataclasses.replace(config, num_steps=3, batch_size=16)
  digits = load_digits(run, config.kind, "train")
  network, variables, seconds = training.train_network(
    config, digits, progress=run.progress
  )
  error = training.error_percent(
    network, variables, load_digits(run, config.kind, run.split)
  )
  print(
    f"{config.model} on {config.kind}, seed {config.seed}: "
    f"{error:.2f} % of {run.split} wrong after {config.num_steps} updates, "
    f"{seconds:.0f} s"
  )
  if run.out:
    result = {
      "config": dataclasses.asdict(config),
      run.split: error,
      "seconds": seconds,
    }
    pathlib.Path(run.out).write_text(json.dumps(result, indent=1))
  return error


@dataclasses.dataclass(frozen=True)
class _Command:
  """Trains one network on one distortion and prints its test error."""

  config: training.Config = dataclasses.field(default_factory=training.Config)
  run: tyro.conf.OmitArgPrefixes[Run] = dataclasses.field(default_factory=Run)


if __name__ == "__main__":
  bench.set_cpu_flags()
  command = tyro.cli(_Command, description=__doc__)
  main(command.config, command.run)
