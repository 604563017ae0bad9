"""Trains one network of the table and prints its test error.

Run:  python -m experiments.stn.train --model "ST-CNN Aff" --kind RTS
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import tyro

from experiments.stn import distortions, networks, training
from vision_jax import bench, data
from vision_jax.cli import parsing

__all__ = ["SEEDS", "Run", "load_digits", "load_images", "main", "run_once"]

SEEDS = {"train": 0, "test": 1, "validation": 2}
"""As in GENERATED.md; MNIST's parts are distorted by them."""
_TINY = {"train": 128, "validation": 20, "test": 40}


@dataclasses.dataclass(frozen=True)
class Run:
  """Where the digits are, and how many.

  Attributes:
    data: "generated_digits", drawn on first use, or the name of a prepared
      TFDS set with 28 x 28 pictures, such as mnist.
    data_dir: folder of data sets.
    split: part that the error is of; choose settings on "validation".
    tiny: a few updates on a few pictures, to see that all works.
    progress: whether to show a progress bar.
  """

  data: str = "generated_digits"
  data_dir: str = "runs/data"
  split: str = "test"
  tiny: bool = False
  progress: bool = True


def load_images(
  run: Run, split: str, count: int | None = None
) -> training.Digits:
  """The first upright digits, uint8 [N, 28, 28], and labels, int32 [N]."""
  folder = pathlib.Path(run.data_dir) / ("tiny" if run.tiny else "")
  path = folder / run.data
  if run.data == "generated_digits":
    path = data.prepare_generated(
      run.data, folder, num_examples=_TINY if run.tiny else None
    )
  source = data.read_prepared(path, split, features=("image", "label"))
  examples = [source[index] for index in range(len(source))[:count]]
  images = np.stack([example["image"][..., 0] for example in examples])
  labels = np.array([example["label"] for example in examples], np.int32)
  return images, labels


def load_digits(run: Run, kind: str, split: str) -> training.Digits:
  """The distorted pictures, uint8 [N, S, S], and labels, int32 [N]."""
  images, labels = load_images(run, split)
  return distortions.distort(kind, images, SEEDS[split]), labels


def run_once(
  model: str,
  kind: str,
  config: training.Config,
  digits: training.Digits,
  asked: training.Digits,
  *,
  progress: bool = True,
) -> dict[str, Any]:
  """Trains a network of the table and asks it; what the table needs."""
  network = networks.make_network(model, kind)
  variables, seconds = training.train_network(
    network, config, digits, progress=progress
  )
  return {
    "model": model,
    "kind": kind,
    "config": dataclasses.asdict(config),
    "error": training.error_percent(network, variables, asked),
    "seconds": seconds,
  }


def main(
  model: str,
  kind: str,
  config: training.Config,
  run: Run,
  out: str | None = None,
) -> float:
  """Trains, tests, prints; returns the error in percent."""
  if run.tiny:
    config = dataclasses.replace(config, num_steps=3, batch_size=16)
  digits, asked = (load_digits(run, kind, s) for s in ("train", run.split))
  result = run_once(model, kind, config, digits, asked, progress=run.progress)
  print(
    f"{model} on {kind}, seed {config.seed}: {result['error']:.2f} % of "
    f"{run.split} wrong after {config.num_steps} updates, "
    f"{result['seconds']:.0f} s of processor time"
  )
  if out:
    result["split"] = run.split
    pathlib.Path(out).write_text(json.dumps(result, indent=1))
  return result["error"]


@dataclasses.dataclass(frozen=True)
class _Command:
  """Trains one network on one distortion and prints its test error.

  Attributes:
    model: one of `networks.MODELS`.
    kind: a distortion: R, RTS, P, E or TC.
    config: of the training.
    run: data.
    out: file for the result, or nothing.
  """

  model: str = "ST-CNN Aff"
  kind: str = "R"
  config: training.Config = dataclasses.field(default_factory=training.Config)
  run: tyro.conf.OmitArgPrefixes[Run] = dataclasses.field(default_factory=Run)
  out: str | None = None


if __name__ == "__main__":
  bench.set_cpu_flags()
  command = parsing.read_options(_Command, description=__doc__)
  main(command.model, command.kind, command.config, command.run, command.out)
