"""Trains a coarse network, a head of points, or both at once; resumable.

Run:  python -m experiments.segmentation.train generated_shapes \
          --workdir runs/segmentation/coarse_0
      python -m experiments.segmentation.train generated_shapes_points \
          --workdir runs/segmentation/points_0 \
          --config.weights runs/segmentation/coarse_0/weights.safetensors

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run.
"""

import jax

from experiments.segmentation import configs, input_pipeline, task
from experiments.segmentation.config import Config
from experiments.training_runs import (
  Run,
  export,
  run_command,
  run_training,
)
from vision_jax import bench, data, train


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  source, test = (
    input_pipeline.open_split(
      config.data, run.data_dir, train=flag, tiny=run.tiny
    )
    for flag in (True, False)
  )
  module, variables = task.create_model(config)

  def evaluate(state: train.TrainState) -> dict[str, float]:
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    batches = input_pipeline.eval_batches(config, test)
    return task.evaluate(config, module, jax.device_get(variables), batches)

  result = run_training(
    config,
    run,
    variables=variables,
    tx=task.make_optimizer(config),
    loss_fn=task.make_loss(config, module),
    batches=input_pipeline.train_batches(config, source),
    evaluate=evaluate,
    num_steps=config.num_steps,
  )
  export(
    config,
    run,
    result,
    program="experiments.segmentation.train",
    configs=configs,
    data_words=f"{config.data.name}, {len(source)} pictures, {config.part}",
    test=f"{config.data.test}, per cent",
    arguments=task.arguments(config),
    class_names=class_names(config),
    preprocessing=task.preprocessing(config.data),
  )
  return result.state


def class_names(config: Config) -> tuple[str, ...]:
  """Names of what the scores are of, where the set has some."""
  if config.data.name == "cityscapes":
    return data.CITYSCAPES_CLASSES
  if config.data.name != "generated_shapes":
    return ()
  objects = data.SHAPE_NAMES
  return (
    "background",
    *(objects if config.data.num_classes > 2 else ("object",)),
  )


def main() -> None:
  """Command line: one subcommand for each file of configs/."""
  run_command(
    "python -m experiments.segmentation.train",
    __doc__,
    configs,
    train_and_evaluate,
  )


if __name__ == "__main__":
  bench.set_cpu_flags()
  train.start_processes()
  main()
