"""Trains a detector: data-parallel, resumable, on one machine or several.

Run:  python -m experiments.detection.train yolo_small_shapes \
          --workdir runs/yolo_small_0
      python -m experiments.detection.train yolov3_coco \
          --workdir runs/yolov3 --data-dir DIRECTORY_WITH_coco

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from experiments.detection import configs, input_pipeline, scoring, tasks
from experiments.detection.config import Config
from experiments.training_runs import (
  Run,
  export,
  run_command,
  run_training,
)
from vision_jax import bench, train, weights


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
    nesterov=options.nesterov,
    weight_decay=options.weight_decay,
    clip_norm=options.clip_norm,
    factors=dict(options.factors) or None,
  )


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  task = tasks.find_task(config.model)
  path = input_pipeline.find_set(config.data, run.data_dir, tiny=run.tiny)
  source = input_pipeline.open_split(config.data, path, config.data.train)
  names = tuple(source.class_names)
  module, variables = task.create_model(config, len(names))
  result = run_training(
    config,
    run,
    variables=variables,
    tx=make_optimizer(config),
    loss_fn=task.make_loss(config, module),
    batches=input_pipeline.train_batches(config, source),
    evaluate=make_evaluation(config, run, task, module, path),
    num_steps=config.num_steps,
    accumulate=config.accumulate,
    ema_decay=config.ema_decay,
    eval_every=config.eval_every,
    best="AP50",
  )
  export(
    config,
    run,
    result,
    program="experiments.detection.train",
    configs=configs,
    data_words=f"{config.data.name}, {len(source)} pictures",
    test=config.data.test,
    arguments=task.export_arguments(config, len(names)),
    class_names=names,
    preprocessing=weights.Preprocess(
      (0.0,) * 3, (1.0,) * 3, resize=None, crop=None
    ),
  )
  return result.state


def make_evaluation(
  config: Config, run: Run, task: Any, module: Any, path: pathlib.Path
) -> Callable[[train.TrainState], dict[str, float]]:
  """`evaluate(state) -> numbers`."""
  source = input_pipeline.open_split(config.data, path, config.data.test)

  def evaluate(state: train.TrainState) -> dict[str, float]:
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
      limit=input_pipeline.TINY["test"] if run.tiny else None,
    )
    return scoring.score(
      pairs,
      num_classes=len(source.class_names),
      metric=config.metric,
      kinds=scoring.KINDS[: 3 if config.data.masks else 1],
    )

  return evaluate


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
