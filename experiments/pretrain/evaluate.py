"""Do trained weights beat random ones in ELF's matching score?

Run:  python -m experiments.pretrain.evaluate        (the bundled weights)
      python -m experiments.pretrain.evaluate --models vgg_small \
          --vgg_small runs/vgg_small_*

Every set of weights detects and describes the 70 homography pairs of
`data.homography_pairs` (photographs that no network has seen). The difference
between trained and random weights is bootstrapped over pairs, resampled by
photograph. The table is printed and, with --write, put into README.md.
"""

import dataclasses
import itertools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import readme
from vision_jax import bench, data, metrics, weights
from vision_jax.cli import parsing
from vision_jax.systems import elf
from vision_jax.viz import describe_environment

README = pathlib.Path(__file__).with_name("README.md")
MODES = {"entropy threshold": "kapur", "500 points": "none"}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compared.

  Attributes:
    vgg_small: work directories of training runs, or none for the bundled file.
    resnet_small: likewise.
    models: which networks.
    num_random: random initialisations.
    num_per_image: pairs for each of the seven photographs.
    seed: of the pairs; 0 is the published set, 1 is for choosing settings.
    write: update README.md.
    out: where the numbers of every pair are written as JSON.
  """

  vgg_small: tuple[pathlib.Path, ...] = ()
  resnet_small: tuple[pathlib.Path, ...] = ()
  models: tuple[str, ...] = ("vgg_small", "resnet_small")
  num_random: int = 3
  num_per_image: int = 10
  seed: int = 0
  write: bool = False
  out: pathlib.Path = pathlib.Path("runs/pretrain_evaluation.json")


def load_networks(model: str, runs: tuple[pathlib.Path, ...], randoms: int):
  """[(label, module, variables, config)] of all sets of weights."""
  files = [run / "weights.safetensors" for run in runs]
  loaded = [weights.load_model(f) for f in files] or [
    weights.load_bundled(model)
  ]
  networks = []
  for k, (module, variables, metadata) in enumerate(loaded):
    config = elf.make_config(model, metadata.preprocessing)
    networks.append((f"trained {k}", module, variables, config))
  _, module, _, config = networks[0]
  for k in range(randoms):
    key = jax.random.key(1000 + k)
    variables = jax.jit(module.init)(key, jnp.zeros((1, 64, 64, 3)))
    networks.append((f"random {k}", module, variables, config))
  return networks


def make_extractor(module: Any, config: elf.ElfConfig):
  """(variables, image) -> key points of both modes; one forward pass."""
  configs = {
    name: dataclasses.replace(config, threshold=mode)
    for name, mode in MODES.items()
  }

  @jax.jit
  def extract(variables, image):
    return {
      name: elf.extract(module, variables, image, c)
      for name, c in configs.items()
    }

  return extract


def score_pair(k0, k1, truth) -> dict[str, float]:
  """Repeatability, matching score and number of points of one pair."""
  v0, v1 = np.asarray(k0.valid), np.asarray(k1.valid)
  xy0, xy1 = np.asarray(k0.xy)[v0], np.asarray(k1.xy)[v1]
  return {
    "rep": metrics.repeatability(xy0, xy1, truth),
    "ms": metrics.matching_score(
      xy0,
      xy1,
      np.asarray(k0.descriptors)[v0],
      np.asarray(k1.descriptors)[v1],
      truth,
    ),
    "points": (len(xy0) + len(xy1)) / 2,
  }


def evaluate_model(
  model: str, runs: tuple[pathlib.Path, ...], options: Options
) -> dict[str, dict[str, list[dict[str, Any]]]]:
  """Label -> mode -> one record for each pair."""
  networks = load_networks(model, runs, options.num_random)
  extract = make_extractor(networks[0][1], networks[0][3])
  records: dict[str, dict[str, list[dict[str, Any]]]] = {
    label: {mode: [] for mode in MODES} for label, *_ in networks
  }
  pairs = data.homography_pairs(
    num_per_image=options.num_per_image, seed=options.seed
  )
  total = options.num_per_image * len(data.EVALUATION)
  for pair in tqdm(pairs, total=total, desc=model, unit="pair"):
    truth = metrics.homography_ground_truth(
      pair.homography_0to1, pair.image0.shape[:2], pair.image1.shape[:2]
    )
    for label, _, variables, _ in networks:
      first, second = (
        extract(variables, jnp.asarray(i)) for i in (pair.image0, pair.image1)
      )
      for mode in MODES:
        scores = score_pair(first[mode], second[mode], truth)
        records[label][mode].append({"photograph": pair.name} | scores)
  return records


def _series(records, kind: str, mode: str, field: str) -> np.ndarray:
  """[seeds, pairs] of one field for "trained" or "random" weights."""
  return np.array(
    [
      [row[field] for row in by_mode[mode]]
      for label, by_mode in records.items()
      if label.startswith(kind)
    ]
  )


def table_rows(model: str, records) -> list[list[str]]:
  """Rows of the table: one for each mode and kind of weights."""
  rows = []
  names = [r["photograph"] for r in next(iter(records.values()))["500 points"]]
  for mode in MODES:
    ms = {k: _series(records, k, mode, "ms") for k in ("random", "trained")}
    difference = metrics.paired_bootstrap(
      ms["trained"].mean(0) - ms["random"].mean(0), clusters=names
    )
    worst = min(
      metrics.paired_bootstrap(a - b, clusters=names).low
      for a, b in itertools.product(ms["trained"], ms["random"])
    )
    for kind in ("random", "trained"):
      rep = _series(records, kind, mode, "rep").mean(1)
      points = _series(records, kind, mode, "points").mean()
      by_seed = ms[kind].mean(1)
      gain = (
        ""
        if kind == "random"
        else (
          f"{difference.mean:+.3f} [{difference.low:+.3f}, "
          f"{difference.high:+.3f}]"
        )
      )
      rows.append(
        [
          model,
          mode,
          f"{kind} ({len(by_seed)})",
          f"{points:.0f}",
          f"{rep.mean():.3f} ± {rep.std():.3f}",
          f"{by_seed.mean():.3f} ± {by_seed.std():.3f}",
          gain,
          "" if kind == "random" else f"{worst:+.3f}",
        ]
      )
  return rows


HEADER = (
  "network",
  "mode",
  "weights (seeds)",
  "points",
  "repeatability",
  "matching score",
  "gain, 95 % interval",
  "worst of all seed pairs",
)


def write_readme(
  model: str, text: str, options: Options, minutes: float
) -> None:
  """Puts the table of a network between its markers."""
  machine = describe_environment()
  runs = " ".join(f"runs/{run.name}" for run in getattr(options, model))
  command = (
    f"python -m experiments.pretrain.evaluate --models {model}"
    + (f" --{model} {runs}" if runs else "")
    + " --write"
  )
  block = (
    f"`{command}`: {minutes:.0f} minutes on {machine['cores']} cores of an "
    f"{machine['processor']}, jax {jax.__version__}.\n\n{text}"
  )
  readme.replace_block(README, model, block)


def main(options: Options) -> None:
  """Evaluates the networks and prints their tables."""
  everything = {}
  for model in options.models:
    started = time.perf_counter()
    records = evaluate_model(model, getattr(options, model), options)
    everything[model] = records
    text = readme.format_table(HEADER, table_rows(model, records))
    print(text)
    if options.write:
      write_readme(model, text, options, (time.perf_counter() - started) / 60)
  options.out.parent.mkdir(parents=True, exist_ok=True)
  options.out.write_text(json.dumps(everything))


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(
    parsing.read_options(
      Options,
      prog="python -m experiments.pretrain.evaluate",
      description=__doc__,
      use_underscores=True,
    )
  )
