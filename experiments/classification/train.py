"""Trains a classifier: data-parallel, resumable, on one machine or several.

Run:  python -m experiments.classification.train generated_textures \
          --workdir runs/textures_0
      python -m experiments.classification.train imagenet2012 \
          --workdir runs/resnet50 --data-dir DIRECTORY

The work directory receives checkpoints, metrics.jsonl, config.json,
result.json and weights.safetensors. Starting the command again continues an
interrupted run. Several processes: see "Training" in the README.
"""

from experiments.classification import configs, input_pipeline, task
from experiments.classification.config import Config
from experiments.training_runs import (
  Run,
  export,
  run_command,
  run_training,
)
from vision_jax import bench, train


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  path = input_pipeline.find_set(config.data, run.data_dir, tiny=run.tiny)
  source, test = input_pipeline.open_both(config.data, path, tiny=run.tiny)
  names = source.class_names
  module, variables = task.create_model(config, len(names))
  tx, num_steps = task.make_optimizer(config, len(source))
  preprocessing = task.preprocessing(config.data)
  eval_step = train.make_eval_step(
    task.make_metrics(module, preprocessing), backend=run.backend
  )
  test_batches = input_pipeline.eval_batches(config, test)
  result = run_training(
    config,
    run,
    variables=variables,
    tx=tx,
    loss_fn=task.make_loss(config, module),
    batches=input_pipeline.train_batches(config, source),
    evaluate=lambda state: train.evaluate(eval_step, state, test_batches),
    num_steps=num_steps,
    accumulate=config.accumulate,
    ema_decay=config.ema_decay,
    eval_every=config.eval_every,
    best="top1",
  )
  export(
    config,
    run,
    result,
    program="experiments.classification.train",
    configs=configs,
    data_words=f"{config.data.name}, {len(source)} pictures",
    test=config.data.test,
    arguments={"num_classes": len(names)},
    class_names=names,
    preprocessing=preprocessing,
  )
  return result.state


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
