"""Trains a detector: data-parallel, resumable, on one machine or several.

Run:  python -m experiments.detection.train yolo_small_shapes \
          --workdir runs/yolo_small_0
      python -m experiments.detection.train yolov3_coco \
          --workdir runs/yolov3 --data-dir DIRECTORY_WITH_coco

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run.
"""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax

from experiments.detection import configs, input_pipeline, scoring, tasks
from experiments.detection.config import Config
from experiments.training_runs import Run, make_loggers, run_command
from vision_jax import bench, data, train, weights


def make_optimizer(config: Config) -> Any:
  """The transformation of the gradients."""
  options = config.optimizer
  schedule = train.make_schedule(
    options.schedule,
    options.learning_rate,
    config.num_steps,
    warmup_steps=min(options.warmup_steps, config.num_steps - 1),
    milestones=options.milestones,
  )
  return train.make_optimizer(
    options.name,
    schedule,
    momentum=options.momentum,
    weight_decay=options.weight_decay,
    clip_norm=options.clip_norm,
    factors=dict(options.factors) or None,
  )


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
  task = tasks.find_task(config.model)
  path = input_pipeline.find_set(config.data, run.data_dir, tiny=run.tiny)
  source = input_pipeline.open_split(config.data, path, config.data.train)
  module, variables = task.create_model(config, len(source.class_names))
  tx = make_optimizer(config)
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
  evaluate = make_evaluation(config, run, task, module, path)
  timing, started = train.Timing(), time.perf_counter()
  with train.Checkpoints(
    workdir.resolve() / "checkpoints", best="AP50"
  ) as checkpoints:
    state = train.fit(
      step,
      state,
      data.prefetch_to_device(
        input_pipeline.train_batches(config, source), step.put
      ),
      num_steps=config.num_steps,
      checkpoints=checkpoints,
      checkpoint_every=config.checkpoint_every,
      eval_fn=evaluate,
      eval_every=config.eval_every or config.num_steps,
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


def make_evaluation(
  config: Config, run: Run, task: Any, module: Any, path: pathlib.Path
) -> Any:
  """`evaluate(state) -> numbers`, each state once."""
  source = input_pipeline.open_split(config.data, path, config.data.test)
  evaluated: dict[int, dict[str, float]] = {}  # updates -> numbers

  def evaluate(state: train.TrainState) -> dict[str, float]:
    step = int(state.step)
    if step not in evaluated:
      if config.ema_decay is not None:
        state = train.ema_state(state)
      variables = {"params": state.params, "batch_stats": state.batch_stats}
      pairs = scoring.find_all(
        functools.partial(
          task.predict,
          module,
          jax.device_get(variables),
          size=config.data.size,
          batch_size=config.eval_batch_size,
        ),
        source,
        batch_size=config.eval_batch_size,
        progress=run.progress,
      )
      evaluated[step] = scoring.score(
        pairs,
        num_classes=len(source.class_names),
        metric=config.metric,
        kinds=scoring.KINDS[: 3 if config.data.masks else 1],
      )
    return evaluated[step]

  return evaluate


def export(
  config: Config,
  source: Any,
  state: train.TrainState,
  workdir: pathlib.Path,
  metrics: dict[str, float],
  minutes: float,
) -> None:
  """Writes weights.safetensors in float16 with its card."""
  task = tasks.find_task(config.model)
  command = f"python -m experiments.detection.train {configs.name_of(config)}"
  numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(metrics.items()))
  card = (
    f"Data: {config.data.name}, {len(source)} pictures. Command: {command} "
    f"--config.seed {config.seed}. {int(state.step)} updates of "
    f"{config.batch_size}, {minutes:.1f} minutes on "
    f"{jax.device_count()} x {jax.devices()[0].device_kind}. "
    f"On {config.data.test}: {numbers}."
  )
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  names = tuple(source.class_names)
  weights.save_weights(
    workdir / "weights.safetensors",
    jax.device_get(variables),
    metadata=weights.WeightsMetadata(
      model=config.model,
      arguments=task.export_arguments(config, len(names)),
      source=command,
      class_names=names,
      preprocessing=weights.Preprocess(
        (0.0,) * 3, (1.0,) * 3, resize=None, crop=None
      ),
      licence="Apache-2.0",
      card=card,
    ),
    dtype="float16",
  )


def main() -> None:
  """Command line: one subcommand for each file of configs/."""
  run_command(
    "python -m experiments.detection.train",
    __doc__,
    configs,
    train_and_evaluate,
  )


if __name__ == "__main__":
  bench.set_cpu_flags()
  train.start_processes()
  main()
