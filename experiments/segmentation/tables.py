"""The tables of the paper in miniature: how points are drawn, and how many.

Run:  python -m experiments.segmentation.tables --coarse \
          runs/segmentation/coarse_*/weights.safetensors --write-readme

On each coarse network, which stays as it is, heads of points are trained that
differ in nothing but how their training points are drawn; then one of them is
run with other numbers of points and steps. The coarse network sees every
picture once: its maps are kept. Bilinear enlargement of the same maps is the
baseline, so that all differences are paired. (In one step: that of the
subdivision without points, "points 0", doubles four times, blurs the scores,
and is worse.)

      python -m experiments.segmentation.tables --write-readme

does nothing but write the README and its figure from the numbers there are, and

      python -m experiments.segmentation.tables --times \
          runs/segmentation/points_0/weights.safetensors

times the settings of the second part in turn. Do it on an idle machine.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats

from experiments import readme
from experiments.segmentation import input_pipeline, task
from experiments.segmentation.config import Config
from vision_jax import bench, data, metrics, ops, weights
from vision_jax.cli import parsing

README = pathlib.Path(__file__).with_name("README.md")
SETTINGS = ("regular", *ops.POINT_SAMPLING)
KEYS = ("mean_iou", "boundary_iou_0.02", "boundary_iou_0.005")
PAIRS = (
  ("mild", "bilinear"),
  ("mild", "uniform"),
  ("mild", "heavy_fig5"),
  ("mild", "heavy_tab4"),
)
PREDICTIONS: dict[str, dict[str, Any]] = {
  **{
    f"points {count}": {"num_points": count}
    for count in (0, 16, 64, 1024, 4096)
  },
  **{f"steps {k}": {"num_points": 256, "num_steps": k} for k in (1, 2, 3)},
  "edge padding": {"num_points": 256, "padding": "edge"},
  "probability margin": {
    "num_points": 256,
    "uncertainty": ops.probability_uncertainty,
  },
  "threshold 0.5": {
    "num_points": 256,
    "uncertainty": ops.probability_uncertainty,
    "threshold": 0.5,
  },
  "threshold 0.5, 8 rounds": {
    "num_points": 256,
    "uncertainty": ops.probability_uncertainty,
    "threshold": 0.5,
    "max_rounds": 8,
  },
}
"""Row -> how the head "mild" is run."""


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained and evaluated.

  Attributes:
    coarse: weights of coarse networks, one for each seed; without any, the
      numbers are those in `out`.
    num_train: pictures the heads are trained on.
    num_test: pictures they are evaluated on.
    num_steps: updates of each head.
    num_points: N of training.
    batch_size: pictures of an update and of a prediction.
    times: weights of a whole network, whose predictions are timed, nothing
      else: into times.json beside `out`.
    rounds: timed calls of each.
    out: JSON file of all numbers.
    write_readme: put the tables into README.md, and its figure beside it.
  """

  coarse: tuple[pathlib.Path, ...] = ()
  num_train: int = 480
  num_test: int = 160
  num_steps: int = 400
  num_points: int = 256
  batch_size: int = 16
  times: pathlib.Path | None = None
  rounds: int = 20
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
  logits = jnp.concatenate([part.logits for part in parts])
  return logits, jnp.concatenate([part.fine for part in parts])


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
  """Scores of a head, and evaluated points for a picture."""
  key, written = tuple(sorted(settings.items())), 0

  def predict(part):
    nonlocal written
    classes, count = _refine(head, labels.shape[1:], key, params, *part)
    written += int(count)
    return classes

  found = _score(predict, maps, labels, batch_size)
  return found | {"points": written / len(labels)}


@functools.partial(jax.jit, static_argnums=0)
def _enlarge(size, logits):
  """Classes [B, H, W] of the coarse scores."""
  return ops.resize(logits, size).argmax(-1)


def score_bilinear(
  maps: Any, labels: np.ndarray, batch_size: int
) -> dict[str, float]:
  """Scores of the coarse maps, enlarged in one step."""

  def predict(part):
    return _enlarge(labels.shape[1:], part[0])

  return _score(predict, maps, labels, batch_size) | {"points": 0.0}


def _score(
  predict: Callable[[Any], Any], maps: Any, labels: np.ndarray, batch_size: int
) -> dict[str, float]:
  """Scores of the classes that a function finds in parts of the maps."""
  scores = task.Scores(maps[0].shape[-1])
  for k in range(0, len(labels), batch_size):
    classes = predict([m[k : k + batch_size] for m in maps])
    rows = zip(labels[k : k + batch_size], np.asarray(classes), strict=True)
    for truth, found in rows:
      scores.add(truth, found)
  return scores.result()


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
  rows["bilinear"] = score_bilinear(maps, labels, size)
  for name, settings in PREDICTIONS.items():
    rows[name] = run(heads["mild"], **settings)
  return rows


def measure_times(path: pathlib.Path, options: Options) -> dict[str, float]:
  """Milliseconds a picture, all settings in turn: row -> the fastest call.

  "coarse network" is what the others begin from, with its features; they are
  the subdivision alone. The median of calls would tell of other work.
  """
  module, variables, _ = weights.load_model(path)
  count = options.batch_size
  images, _ = input_pipeline.arrays(
    input_pipeline.Shapes("test", count, 128, module.num_classes), count
  )
  maps = cached_maps(module, variables, images, count)
  params = variables["params"]["point_head"]
  size = images.shape[1:3]

  def refine(settings):
    key = tuple(sorted(settings.items()))
    found, _ = _refine(module.point_head, size, key, params, *maps)
    found.block_until_ready()

  functions: dict[str, Callable[[], Any]] = {
    "coarse network": lambda: jax.block_until_ready(
      _maps(module, variables, images)
    ),
    "bilinear": lambda: _enlarge(size, maps[0]).block_until_ready(),
    "mild": functools.partial(refine, {"num_points": 256}),
  }
  for name, settings in PREDICTIONS.items():
    functions[name] = functools.partial(refine, settings)
  _, seconds = bench.time_interleaved(functions, rounds=options.rounds)
  return {k: 1e3 * min(v) / count for k, v in seconds.items()}


def t_interval(
  differences: Any, *, confidence: float = 0.95
) -> metrics.Interval:
  """Mean of differences and Student's interval of it; NaN for a single one.

  Args:
    differences: one for each seed, [N].
    confidence: level of the interval.

  Returns:
    (mean, low, high).

  Example:
    >>> mean, low, high = t_interval([0.0, 1.0, 2.0])
    >>> print(f"{mean:.1f} in [{low:.2f}, {high:.2f}]")
    1.0 in [-1.48, 3.48]
  """
  values = np.asarray(differences, np.float64)
  mean, half = float(values.mean()), float("nan")
  if len(values) > 1:
    error = values.std(ddof=1) / len(values) ** 0.5
    quantile = scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)
    half = float(quantile * error)
  return metrics.Interval(mean, mean - half, mean + half)


def _difference(
  results: list[dict[str, Any]], key: str, first: str, second: str
) -> str:
  """Mean and interval of a score of one row above that of another."""
  gain = t_interval([rows[first][key] - rows[second][key] for rows in results])
  if np.isnan(gain.low):
    return f"{gain.mean:+.2f}"
  return f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"


def table(
  results: list[dict[str, Any]], times: dict[str, float] | None = None
) -> str:
  """Mean and deviation over the seeds, and what is above the baseline."""
  header = [
    "heads and settings",
    "mean IoU, %",
    "boundary IoU (2 %)",
    "boundary IoU (0.5 %)",
    "mean IoU above bilinear",
    "boundary IoU (2 %) above bilinear",
    "points a picture",
  ]
  lines = []
  for name in results[0]:
    cells = [name]
    for key in KEYS:
      values = [rows[name][key] for rows in results]
      cells.append(f"{np.mean(values):.2f} +- {np.std(values):.2f}")
    for key in KEYS[:2]:
      cells.append(
        ""
        if name == "bilinear"
        else _difference(results, key, name, "bilinear")
      )
    cells.append(f"{np.mean([rows[name]['points'] for rows in results]):.0f}")
    if times:
      cells.append(f"{times[name]:.2f}" if name in times else "")
    lines.append(cells)
  if times:
    header.append("ms a picture")
  return readme.format_table(header, lines)


def differences(results: list[dict[str, Any]]) -> str:
  """How far "mild" is above others, every score."""
  lines = [
    [
      f"{first} above {second}",
      *(_difference(results, key, first, second) for key in KEYS),
    ]
    for first, second in PAIRS
  ]
  header = ("", "mean IoU", "boundary IoU (2 %)", "boundary IoU (0.5 %)")
  return readme.format_table(header, lines)


def draw_curves(results: list[dict[str, Any]]) -> np.ndarray:
  """Boundary IoU over the points evaluated: picture uint8 [H, W, 3]."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg  # heavy
  from matplotlib.figure import Figure

  def mean(name: str, key: str) -> float:
    return float(np.mean([rows[name][key] for rows in results]))

  curves = {
    "0 to 4 steps of 256 points": [
      ("bilinear", "0 steps"),
      *((f"steps {k}", f"{k}") for k in (1, 2, 3)),
      ("mild", "4"),
    ],
    "4 steps of 0 to 4,096 points": [
      ("points 0", "0 points"),
      *((f"points {n}", f"{n}") for n in (16, 64)),
      ("mild", ""),
      *((f"points {n}", f"{n}") for n in (1024, 4096)),
    ],
  }
  figure = Figure(figsize=(7, 3.8), dpi=100, layout="constrained")
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for (label, rows), shift in zip(curves.items(), (6, -13), strict=True):
    x = [mean(name, "points") for name, _ in rows]
    y = [mean(name, KEYS[1]) for name, _ in rows]
    axes.plot(x, y, marker="o", markersize=4, label=label)
    for place, (_, note) in zip(zip(x, y, strict=True), rows, strict=True):
      axes.annotate(
        note, place, (0, shift), textcoords="offset points", fontsize=8
      )
  axes.set_xscale("symlog", linthresh=64, base=2)
  ticks = [0, 64, 256, 1024, 3072, 8192]
  axes.set_xticks(ticks, [f"{t:,}" for t in ticks])
  axes.set(
    xlabel="points evaluated for a picture of 16,384 pixels",
    ylabel="boundary IoU (2 %), %",
  )
  axes.margins(y=0.12)
  axes.grid(alpha=0.3)
  axes.legend(fontsize=8, loc="lower right")
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def main(options: Options) -> list[dict[str, Any]]:
  """Runs all seeds; writes the JSON and, if asked for, the README."""
  times: dict[str, float] | None = None
  times_file = options.out.with_name("times.json")
  options.out.parent.mkdir(parents=True, exist_ok=True)
  if options.times is not None:
    times = measure_times(options.times, options)
    times_file.write_text(json.dumps(times, indent=1))
    print(json.dumps(times, indent=1))
    return []
  if options.coarse:
    results = [
      run_seed(path, seed, options) for seed, path in enumerate(options.coarse)
    ]
    options.out.write_text(json.dumps(results, indent=1))
  else:
    results = json.loads(options.out.read_text())
  if times_file.exists():
    times = json.loads(times_file.read_text())
  texts = {"tables": table(results, times), "differences": differences(results)}
  for name, text in texts.items():
    print(text, end="\n\n")
    if options.write_readme:
      readme.replace_block(README, name, text)
  if options.write_readme:
    data.write_image(README.with_name("curves.png"), draw_curves(results))
  return results


if __name__ == "__main__":
  bench.set_cpu_flags()
  main(
    parsing.read_options(
      Options, prog="python -m experiments.segmentation.tables"
    )
  )
