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

import dataclasses
import json
import pathlib
import time

import jax

from experiments.segmentation import configs, input_pipeline, task
from experiments.segmentation.config import Config
from experiments.training_runs import Run, make_loggers, run_command
from vision_jax import bench, data, train, weights


def train_and_evaluate(config: Config, run: Run) -> train.TrainState:
  """Trains to the end, evaluates, writes the weights; returns the state."""
  workdir = pathlib.Path(run.workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(config)
  (workdir / "config.json").write_text(json.dumps(settings, indent=1))
  print(
    f"{jax.device_count()} x {jax.devices()[0].device_kind}, jax "
    f"{jax.__version__}, {config.model} ({config.part}) on {config.data.name}"
  )
  source, test = (
    input_pipeline.open_split(
      config.data, run.data_dir, train=flag, tiny=run.tiny
    )
    for flag in (True, False)
  )
  module, variables = task.create_model(config)
  tx = task.make_optimizer(config)
  state = train.create_state(
    variables["params"],
    variables["batch_stats"],
    tx,
    jax.random.key(config.seed),
  )
  step = train.make_step(
    task.make_loss(config, module), tx, backend=run.backend
  )
  timing, started = train.Timing(), time.perf_counter()
  with train.Checkpoints(workdir.resolve() / "checkpoints") as checkpoints:
    state = train.fit(
      step,
      state,
      data.prefetch_to_device(
        input_pipeline.train_batches(config, source), step.put
      ),
      num_steps=config.num_steps,
      checkpoints=checkpoints,
      checkpoint_every=config.checkpoint_every,
      logger=make_loggers(workdir, run),
      log_every=config.log_every,
      progress=run.progress,
      timing=timing,
    )
  minutes = (time.perf_counter() - started) / 60
  trained = jax.device_get(
    {"params": state.params, "batch_stats": state.batch_stats}
  )
  scores = task.evaluate(
    config, module, trained, input_pipeline.eval_batches(config, test)
  )
  train.write_result(
    workdir / "result.json",
    metrics=scores | {"minutes": minutes},
    steps=int(state.step),
    timing=timing,
    config=settings,
  )
  export(config, trained, workdir, scores, minutes)
  print(json.dumps(scores | {"minutes": minutes}, indent=1))
  return state


def export(config, variables, workdir, scores, minutes) -> None:
  """Writes weights.safetensors in float16 with its card."""
  names = ()
  if config.data.name == "generated_shapes":
    names = ("background", *data.SHAPE_NAMES)
    if config.data.num_classes == 2:
      names = ("background", "object")
  elif config.data.name == "cityscapes":
    names = data.CITYSCAPES_CLASSES
  numbers = ", ".join(f"{k} {v:.4g}" for k, v in sorted(scores.items()))
  card = (
    f"Data: {config.data.name}, part: {config.part}, seed {config.seed}; "
    f"{config.num_steps} updates of {config.batch_size}, {minutes:.1f} minutes "
    f"on {jax.device_count()} x {jax.devices()[0].device_kind}. "
    f"On {config.data.test}, per cent: {numbers}."
  )
  weights.save_weights(
    workdir / "weights.safetensors",
    variables,
    metadata=weights.WeightsMetadata(
      model=config.model,
      arguments={"num_classes": config.data.num_classes},
      source="python -m experiments.segmentation.train",
      class_names=names,
      preprocessing=task.preprocessing(config.data),
      licence="Apache-2.0",
      card=card,
    ),
    dtype="float16",
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
