"""The tables of the paper in miniature: how points are drawn, and how many.

Run:  python -m experiments.segmentation.tables --coarse \
          runs/segmentation/coarse_*/weights.safetensors --write-readme

On each coarse network, which stays as it is, heads of points are trained that
differ in nothing but how their training points are drawn; then one of them is
run with other numbers of points and steps. The coarse network sees every
picture once: its maps are kept. Bilinear enlargement of the same maps is the
baseline, so that all differences are paired.
"""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from experiments import readme
from experiments.segmentation import input_pipeline, task
from experiments.segmentation.config import Config
from vision_jax import bench, metrics, ops, weights

README = pathlib.Path(__file__).with_name("README.md")
SETTINGS = ("regular", *ops.POINT_SAMPLING)
KEYS = ("mean_iou", "boundary_iou_0.02", "boundary_iou_0.005")


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained and evaluated.

  Attributes:
    coarse: weights of coarse networks, one for each seed.
    num_train: pictures the heads are trained on.
    num_test: pictures they are evaluated on.
    num_steps: updates of each head.
    num_points: N of training.
    batch_size: pictures of an update and of a prediction.
    out: JSON file of all numbers.
    write_readme: put the tables into README.md.
  """

  coarse: tuple[pathlib.Path, ...]
  num_train: int = 480
  num_test: int = 160
  num_steps: int = 400
  num_points: int = 256
  batch_size: int = 16
  out: pathlib.Path = pathlib.Path("runs/segmentation/tables.json")
  write_readme: bool = False


@functools.partial(jax.jit, static_argnums=0)
def _maps(module: Any, variables: Any, images: jax.Array) -> Any:
  return module.apply(
    variables, task.normalize(images, Config().data), method="maps"
  )


def cached_maps(
  module: Any, variables: Any, images: np.ndarray, batch_size: int
) -> tuple[jax.Array, jax.Array]:
  """Coarse scores and fine features of all pictures."""
  parts = [
    _maps(module, variables, images[k : k + batch_size])
    for k in range(0, len(images), batch_size)
  ]
  return tuple(
    jnp.concatenate([getattr(p, name) for p in parts])
    for name in ("logits", "fine")
  )


def _draw(key: jax.Array, logits: jax.Array, count: int, setting: str):
  """Training points of one picture, [N, 2]."""
  if setting == "regular":
    side = int(count**0.5)
    return ops.grid_points((side, side))
  rule = ops.POINT_SAMPLING[setting]
  return ops.sample_uncertain_points(key, logits, count, **rule._asdict())


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def update_head(head, tx, setting, count, params, state, key, batch):
  """One update of a head."""
  logits, fine, labels = batch
  keys = jax.random.split(key, len(logits))
  points = jax.vmap(functools.partial(_draw, count=count, setting=setting))(
    keys, logits
  )
  read = jax.vmap(ops.point_sample)
  targets = jax.vmap(ops.sample_labels)(labels, points)
  seen = read(fine, points), read(logits, points)

  def loss(params):
    found = head.apply({"params": params}, *seen)
    losses, valid = ops.label_losses(found, targets)
    return losses.sum() / jnp.maximum(valid.sum(), 1)

  value, slope = jax.value_and_grad(loss)(params)
  updates, state = tx.update(slope, state, params)
  return optax.apply_updates(params, updates), state, value


def train_head(
  head: Any,
  maps: Any,
  labels: np.ndarray,
  options: Options,
  setting: str,
  seed: int,
) -> Any:
  """Parameters of a head of points."""
  logits, fine = maps
  one = jnp.zeros((1, fine.shape[-1])), jnp.zeros((1, logits.shape[-1]))
  params = head.init(jax.random.key(seed), *one)["params"]
  tx = _transformation(options.num_steps)
  state = tx.init(params)
  rng = np.random.default_rng(seed)
  for k in range(options.num_steps):
    rows = rng.choice(len(logits), options.batch_size, replace=False)
    batch = logits[rows], fine[rows], jnp.asarray(labels[rows])
    key = jax.random.fold_in(jax.random.key(seed), k)
    params, state, _ = update_head(
      head, tx, setting, options.num_points, params, state, key, batch
    )
  return params


@functools.cache
def _transformation(num_steps: int) -> optax.GradientTransformation:
  return optax.adam(optax.cosine_decay_schedule(3e-3, num_steps))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _refine(head, size, settings, params, logits, fine):
  """Classes [B, H, W]; `settings`: (num_points, num_steps, and others)."""
  options = dict(settings)
  padding = options.pop("padding", "zeros")
  sizes = ops.subdivision_sizes(logits.shape[1:3], size)
  sizes = sizes[: options.pop("num_steps", len(sizes))]

  def one(logits, fine):
    def evaluate(points):
      read = functools.partial(ops.point_sample, padding=padding)
      return head.apply(
        {"params": params}, read(fine, points), read(logits, points)
      )

    return ops.refine(logits, evaluate, sizes, **options)

  result = jax.vmap(one)(logits, fine)
  written = sum(valid.sum() for valid in result.valid)
  return ops.resize(result.logits, size).argmax(-1), written


def score(
  head: Any,
  params: Any,
  maps: Any,
  labels: np.ndarray,
  batch_size: int,
  **settings: Any,
) -> dict[str, float]:
  """Scores of a head, seconds and evaluated points for a picture."""
  scores = task.Scores(maps[0].shape[-1])
  key = tuple(sorted(settings.items()))
  size, written, seconds = labels.shape[1:], 0, []
  for k in range(0, len(labels), batch_size):
    part = [m[k : k + batch_size] for m in maps]
    started = time.perf_counter()
    classes, count = _refine(head, size, key, params, *part)
    classes = np.asarray(classes)
    seconds.append((time.perf_counter() - started) / len(classes))
    written += int(count)
    for truth, found in zip(labels[k : k + batch_size], classes, strict=True):
      scores.add(truth, found)
  return scores.result() | {
    "milliseconds": 1e3 * float(np.median(seconds)),
    "points": written / len(labels),
  }


def run_seed(path: pathlib.Path, seed: int, options: Options) -> dict[str, Any]:
  """All settings on one coarse network."""
  module, variables, _ = weights.load_model(path)
  head, size = module.point_head, options.batch_size
  sources = [
    input_pipeline.arrays(
      input_pipeline.Shapes(split, count, 128, module.num_classes), count
    )
    for split, count in (
      ("train", options.num_train),
      ("test", options.num_test),
    )
  ]
  kept = [cached_maps(module, variables, images, size) for images, _ in sources]
  maps, labels = kept[1], sources[1][1]
  run = functools.partial(
    score, head, maps=maps, labels=labels, batch_size=size
  )
  rows: dict[str, Any] = {}
  heads = {}
  for setting in SETTINGS:
    heads[setting] = train_head(
      head, kept[0], sources[0][1], options, setting, seed
    )
    rows[setting] = run(heads[setting], num_points=256)
    print(seed, setting, rows[setting], flush=True)
  mild = heads["mild"]
  rows["bilinear"] = run(mild, num_points=0)
  for count in (16, 64, 1024, 4096):
    rows[f"points {count}"] = run(mild, num_points=count)
  for steps in (1, 2, 3):
    rows[f"steps {steps}"] = run(mild, num_points=256, num_steps=steps)
  rows["edge padding"] = run(mild, num_points=256, padding="edge")
  rows["probability margin"] = run(
    mild, num_points=256, uncertainty=ops.probability_uncertainty
  )
  rows["threshold 0.5"] = run(
    mild,
    num_points=256,
    uncertainty=ops.probability_uncertainty,
    threshold=0.5,
  )
  rows["threshold 0.5, 8 rounds"] = run(
    mild,
    num_points=256,
    uncertainty=ops.probability_uncertainty,
    threshold=0.5,
    max_rounds=8,
  )
  return rows


def table(results: list[dict[str, Any]]) -> str:
  """Mean and deviation over the seeds, and the paired difference."""
  lines = []
  for name in results[0]:
    cells = [name]
    for key in KEYS:
      values = [rows[name][key] for rows in results]
      cells.append(f"{np.mean(values):.2f} +- {np.std(values):.2f}")
    gains = np.array(
      [rows[name][KEYS[1]] - rows["bilinear"][KEYS[1]] for rows in results]
    )
    gain = metrics.paired_bootstrap(gains)
    cells.append(f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
    cells.append(f"{np.mean([rows[name]['points'] for rows in results]):.0f}")
    milliseconds = [rows[name]["milliseconds"] for rows in results]
    cells.append(f"{np.median(milliseconds):.1f}")
    lines.append(cells)
  header = (
    "heads and settings",
    "mean IoU, %",
    "boundary IoU (2 %)",
    "boundary IoU (0.5 %)",
    "above bilinear (2 %), 95 % interval",
    "points a picture",
    "ms a picture",
  )
  return readme.format_table(header, lines)


def main(options: Options) -> list[dict[str, Any]]:
  """Runs all seeds; writes the JSON and, if asked for, the README."""
  results = [
    run_seed(path, seed, options) for seed, path in enumerate(options.coarse)
  ]
  options.out.parent.mkdir(parents=True, exist_ok=True)
  options.out.write_text(json.dumps(results, indent=1))
  text = table(results)
  print(text)
  if options.write_readme:
    readme.replace_block(README, "tables", text)
  return results


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(tyro.cli(Options, prog="python -m experiments.segmentation.tables"))
