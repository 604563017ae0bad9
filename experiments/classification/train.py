"""Trains a classifier: data-parallel, resumable, on one machine or several.

Run:  python -m experiments.classification.train generated_textures \
          --workdir runs/textures_0
      python -m experiments.classification.train imagenet2012 \
          --workdir runs/resnet50 --data-dir DIRECTORY

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run. Several processes: see "Training" in the README.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax

from experiments.classification import configs, input_pipeline, task
from experiments.classification.config import Config
from experiments.training_runs import Run, make_loggers, run_command
from vision_jax import bench, data, train, weights


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  workdir = pathlib.Path(run.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(config)
  first = jax.process_index() == 0
  if first:
    (workdir / "config.json").write_text(json.dumps(settings, indent=1))
    print(
      f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax "
      f"{jax.__version__}, {config.model} on {config.data.name}"
    )
  path = input_pipeline.find_set(config.data, run.data_dir, tiny=run.tiny)
  source = input_pipeline.open_split(path, config.data.train)
  test = input_pipeline.open_split(path, config.data.test)
  module, variables = task.create_model(config, len(source.class_names))
  tx, num_steps = task.make_optimizer(config, len(source))
  ema = config.ema_decay is not None
  state = train.create_state(
    variables["params"],
    variables.get("batch_stats"),
    tx,
    jax.random.key(config.seed),
    ema=ema,
  )
  step = train.make_step(
    task.make_loss(config, module),
    tx,
    backend=run.backend,
    accumulate=config.accumulate,
    ema_decay=config.ema_decay,
  )
  eval_step = train.make_eval_step(
    task.make_metrics(module, task.preprocessing(config.data)),
    backend=run.backend,
  )
  test_batches = input_pipeline.eval_batches(config, test)
  evaluated: dict[int, dict[str, float]] = {}  # updates -> metrics

  def evaluate(state: train.TrainState) -> dict[str, float]:
    step = int(state.step)
    if step not in evaluated:
      averaged = train.ema_state(state) if ema else state
      evaluated[step] = train.evaluate(eval_step, averaged, test_batches)
    return evaluated[step]

  timing, started = train.Timing(), time.perf_counter()
  with train.Checkpoints(
    workdir.resolve() / "checkpoints", best="top1"
  ) as checkpoints:
    state = train.fit(
      step,
      state,
      data.prefetch_to_device(
        input_pipeline.train_batches(config, source), step.put
      ),
      num_steps=num_steps,
      checkpoints=checkpoints,
      checkpoint_every=config.checkpoint_every,
      eval_fn=evaluate,
      eval_every=config.eval_every or num_steps,
      logger=make_loggers(workdir, run),
      log_every=config.log_every,
      progress=run.progress,
      timing=timing,
    )
  minutes = (time.perf_counter() - started) / 60
  metrics = evaluate(state)  # by `fit`, unless the run was finished before
  if first:
    train.write_result(
      workdir / "result.json",
      metrics=metrics | {"minutes": minutes},
      steps=int(state.step),
      timing=timing,
      config=settings,
    )
    state = train.ema_state(state) if ema else state
    export(config, source, state, workdir, metrics, minutes)
    print(json.dumps(metrics | {"minutes": minutes}, indent=1))
  return state


def export(
  config: Config,
  source: Any,
  state: train.TrainState,
  workdir: pathlib.Path,
  metrics: dict[str, float],
  minutes: float,
) -> None:
  """Writes weights.safetensors in float16 with its card."""
  command = f"python -m experiments.classification.train {config.data.name}"
  numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(metrics.items()))
  card = (
    f"Data: {config.data.name}, {len(source)} pictures. Command: {command} "
    f"--config.seed {config.seed}. {int(state.step)} updates of "
    f"{config.batch_size}, {minutes:.1f} minutes on "
    f"{jax.device_count()} x {jax.devices()[0].device_kind}. "
    f"On {config.data.test}: {numbers}."
  )
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  weights.save_weights(
    workdir / "weights.safetensors",
    jax.device_get(variables),
    metadata=weights.WeightsMetadata(
      model=config.model,
      arguments={"num_classes": len(source.class_names)},
      source=command,
      class_names=source.class_names,
      preprocessing=task.preprocessing(config.data),
      licence="Apache-2.0",
      card=card,
    ),
    dtype="float16",
  )


def main() -> None:
  """Command line: one subcommand for each file of configs/."""
  run_command(
    "python -m experiments.classification.train",
    __doc__,
    configs,
    train_and_evaluate,
  )


if __name__ == "__main__":
  bench.set_cpu_flags()
  train.start_processes()
  main()
