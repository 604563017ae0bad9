"""Trains the bundled networks: data-parallel, resumable, on data made here.

Run:  python -m experiments.pretrain.train vgg_small --workdir runs/vgg_small
      python -m experiments.pretrain.train resnet_small --workdir runs/resnet

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro

from experiments.pretrain import (
  instance_classes,
  point_contrast,
  texture_classes,
)
from experiments.pretrain.configs import (
  resnet_small,
  resnet_small_instances,
  vgg_small,
)
from vision_jax import bench, train, weights
from vision_jax.cli import parsing

Config = (
  point_contrast.Config | texture_classes.Config | instance_classes.Config
)
# Settings -> what is learned, the file of configs/.
TASKS: dict[type, tuple[Any, Any]] = {
  point_contrast.Config: (point_contrast, vgg_small),
  texture_classes.Config: (texture_classes, resnet_small),
  instance_classes.Config: (instance_classes, resnet_small_instances),
}


@dataclasses.dataclass(frozen=True)
class Run:
  """How to run, whatever is trained.

  Attributes:
    workdir: where everything of the run is written.
    backend: pmap or shard_map.
    tiny: a few steps on tiny data, to see that all works.
    progress: show a progress bar.
  """

  workdir: pathlib.Path
  backend: str = "pmap"
  tiny: bool = False
  progress: bool = True


def make_optimizer(config: Config) -> optax.GradientTransformation:
  """Adam with warm-up, cosine decay, decoupled weight decay and clipping."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, config.warmup_steps, config.num_steps
  )
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(schedule, weight_decay=config.weight_decay),
  )


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  task, file = TASKS[type(config)]
  if run.tiny:
    config = file.tiny(config)
  run.workdir.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(config)
  (run.workdir / "config.json").write_text(json.dumps(settings, indent=1))
  model, tx = task.create_model(config), make_optimizer(config)
  key = jax.random.key(config.seed)
  variables = jax.jit(model.init)(key, jnp.zeros((1, 64, 64, 3)))
  if hasattr(task, "initial_variables"):
    variables = task.initial_variables(config, variables)
  state = train.create_state(
    variables["params"], variables["batch_stats"], tx, key
  )
  step = train.make_step(task.make_loss(config, model), tx, backend=run.backend)
  timing = train.Timing()
  started = time.perf_counter()
  with train.Checkpoints(run.workdir.resolve() / "checkpoints") as checkpoints:
    state = train.fit(
      step,
      state,
      task.make_batches(config),
      num_steps=config.num_steps,
      checkpoints=checkpoints,
      checkpoint_every=config.checkpoint_every,
      logger=train.JsonLinesLogger(run.workdir / "metrics.jsonl"),
      log_every=config.log_every,
      progress=run.progress,
      timing=timing,
    )
  minutes = (time.perf_counter() - started) / 60
  metrics = task.evaluate(config, model.clone(axis_name=None), state)
  metrics |= _last_metrics(run.workdir / "metrics.jsonl")
  train.write_result(
    run.workdir / "result.json",
    metrics=metrics | {"minutes": minutes},
    steps=int(state.step),
    timing=timing,
    config=settings,
  )
  _export(task, config, model, state, run.workdir, metrics, minutes)
  print(json.dumps(metrics, indent=1))
  return state


def _last_metrics(path: pathlib.Path) -> dict[str, float]:
  """The last line of the log."""
  last = json.loads(path.read_text().splitlines()[-1])
  return {k: v for k, v in last.items() if isinstance(v, float)}


def _export(
  task: Any,
  config: Config,
  model: Any,
  state: train.TrainState,
  workdir: pathlib.Path,
  metrics: dict[str, float],
  minutes: float,
) -> None:
  """Writes weights.safetensors in float16 with its card."""
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  _, variables, facts = task.finish(config, model, jax.device_get(variables))
  name = TASKS[type(config)][1].__name__.rpartition(".")[2]
  command = f"python -m experiments.pretrain.train {name}"
  numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(metrics.items()))
  preprocess = weights.Preprocess(
    mean=facts["mean"],
    std=facts["std"],
    scale=1.0,
    channel_order="RGB",
    resize=None,
    crop=None,
    antialias=True,
  )
  card = (
    f"Data: {facts['data']}. Command: {command} --config.seed {config.seed}. "
    f"{config.num_steps} steps of batch {config.batch_size}, "
    f"{minutes:.1f} minutes on {jax.devices()[0].device_kind} "
    f"x {jax.device_count()}. At the end: {numbers}."
  )
  weights.save_weights(
    workdir / "weights.safetensors",
    variables,
    metadata=weights.WeightsMetadata(
      model=config.model,
      arguments=facts.get("arguments", {}),
      source=command,
      class_names=facts["class_names"],
      preprocessing=preprocess,
      licence="Apache-2.0",
      card=card,
    ),
    dtype="float16",
  )


def train_vgg_small(
  run: tyro.conf.OmitArgPrefixes[Run],
  config: point_contrast.Config = vgg_small.get_config(),  # noqa: B008
) -> None:
  """Point contrast; the bundled vgg_small."""
  train_and_evaluate(config, run)


def train_resnet_small(
  run: tyro.conf.OmitArgPrefixes[Run],
  config: texture_classes.Config = resnet_small.get_config(),  # noqa: B008
) -> None:
  """Texture classes; the bundled resnet_small."""
  train_and_evaluate(config, run)


def train_resnet_small_instances(
  run: tyro.conf.OmitArgPrefixes[Run],
  config: instance_classes.Config = resnet_small_instances.get_config(),  # noqa: B008
) -> None:
  """Classes of instances; the bundled resnet_small, "instances"."""
  train_and_evaluate(config, run)


def run_command(words: Sequence[str]) -> None:
  """Command line: one subcommand for each network."""
  tyro.extras.subcommand_cli_from_dict(
    {
      "vgg_small": train_vgg_small,
      "resnet_small": train_resnet_small,
      "resnet_small_instances": train_resnet_small_instances,
    },
    prog="python -m experiments.pretrain.train",
    description=__doc__,
    use_underscores=True,
    args=words,
  )


if __name__ == "__main__":
  bench.set_cpu_flags()
  parsing.parse_options(run_command, None)
