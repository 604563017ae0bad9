"""Compiles a config's train step for devices that are not here.

Run:  python -m experiments.scaling.run --topology v5e:2x4
      python -m experiments.scaling.run --topology v5e:16x16 --write
      python -m experiments.scaling.run --forced-devices 8 --model resnet_small

The step is that of experiments/classification at full size: forward, backward,
all-reduce, update. The compiler says what one device needs; nothing is run.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from experiments import readme
from experiments.classification import configs, task
from experiments.classification.config import Config
from experiments.scaling import topology
from experiments.scaling.costs import Costs, costs_of
from vision_jax import train

README = pathlib.Path(__file__).with_name("README.md")


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compiled, for what.

  Attributes:
    config: a file of experiments/classification/configs.
    topology: TPU slices, such as v5e:2x4 v5e:16x16.
    forced_devices: instead of slices: CPU devices of this machine.
    batch_size: global batch; that of the config if None.
    model: another network than that of the config.
    image_size: another side of the pictures, pixels.
    num_classes: length of the logits.
    accumulate: parts of a device's share, one after the other.
    largest: also look for the largest batch of a device that fits.
    out: where all numbers are written as JSON.
    write: update README.md.
  """

  config: str = "imagenet2012_large_batch"
  topology: tuple[str, ...] = ("v5e:2x4",)
  forced_devices: int | None = None
  batch_size: int | None = None
  model: str | None = None
  image_size: int | None = None
  num_classes: int = 1000
  accumulate: int = 1
  largest: bool = True
  out: pathlib.Path = pathlib.Path("runs/scaling.json")
  write: bool = False


def choose_config(options: Options) -> Config:
  """The config with the options' changes."""
  if options.config not in configs.CONFIGS:
    raise SystemExit(
      f"scaling: `--config` must be one of {', '.join(configs.CONFIGS)}, got "
      f"{options.config!r}."
    )
  config = configs.CONFIGS[options.config]
  size = options.image_size or config.data.size
  return dataclasses.replace(
    config,
    model=options.model or config.model,
    batch_size=options.batch_size or config.batch_size,
    accumulate=options.accumulate,
    weights=None,
    data=dataclasses.replace(config.data, size=size),
  )


def state_shapes(module: Any, size: int, tx: Any, *, ema: bool = False) -> Any:
  """Shapes of the state of a run on pictures of `size`; nothing is computed."""

  def create() -> train.TrainState:
    key = jax.random.key(0)
    variables = module.init(key, np.zeros((1, size, size, 3), np.float32))
    return train.create_state(
      variables["params"], variables.get("batch_stats"), tx, key, ema=ema
    )

  return jax.eval_shape(create)


def compile_step(
  config: Config, num_classes: int, devices: list[Any]
) -> tuple[Any, float]:
  """(compiled train step, seconds) for a global batch over all devices."""
  started = time.perf_counter()
  with topology.compiling_for(devices[0].platform):
    module = task.create_module(config, num_classes)
    size = config.data.size
    tx, _ = task.make_optimizer(config, 1_281_167)
    state = state_shapes(module, size, tx, ema=config.ema_decay is not None)
    rows = config.batch_size
    batch = {
      "image": jax.ShapeDtypeStruct((rows, size, size, 3), np.uint8),
      "label": jax.ShapeDtypeStruct((rows,), np.int32),
      "index": jax.ShapeDtypeStruct((rows,), np.int32),
      "valid": jax.ShapeDtypeStruct((rows,), np.bool_),
    }
    step = train.make_step(
      task.make_loss(config, module),
      tx,
      backend="shard_map",
      devices=devices,
      accumulate=config.accumulate,
      ema_decay=config.ema_decay,
    )
    compiled = step.lower(state, batch).compile()
  return compiled, time.perf_counter() - started


def largest_share(
  config: Config, num_classes: int, devices: list[Any], limit: int
) -> int:
  """The largest power of two of pictures for one device that fits."""
  share = 1
  for power in tqdm(range(3, 14), desc="largest batch", unit="program"):
    trial = dataclasses.replace(config, batch_size=2**power * len(devices))
    try:
      compiled, _ = compile_step(trial, num_classes, devices)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      break
    if costs_of(compiled).memory > limit:
      break
    share = 2**power
  return share


def report(options: Options) -> list[dict[str, Any]]:
  """One record for each topology."""
  config = choose_config(options)
  if options.forced_devices is not None:
    jax.config.update("jax_num_cpu_devices", options.forced_devices)
    names = [f"{options.forced_devices} forced CPU devices"]
  else:
    names = list(options.topology)
  records = []
  for name in names:
    forced = options.forced_devices is not None
    devices = jax.devices("cpu") if forced else topology.tpu_devices(name)
    if config.batch_size % len(devices):
      raise SystemExit(
        f"scaling: `--batch-size` must be a multiple of the {len(devices)} "
        f"devices of {name}, got {config.batch_size}."
      )
    try:
      compiled, seconds = compile_step(config, options.num_classes, devices)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      raise SystemExit(
        f"scaling: {config.batch_size // len(devices)} pictures a device do "
        f"not fit {name}; take a smaller `--batch-size` or more devices."
      ) from error
    costs = costs_of(compiled)
    record: dict[str, Any] = {
      "topology": name,
      "devices": len(devices),
      "model": config.model,
      "image_size": config.data.size,
      "batch_size": config.batch_size,
      "share": config.batch_size // len(devices),
      "precision": config.precision,
      "compile_seconds": seconds,
      "costs": dataclasses.asdict(costs),
      "memory": costs.memory,
    }
    kind = name.partition(":")[0]
    if options.largest and kind in topology.HBM_GIB:
      limit = topology.HBM_GIB[kind] << 30
      record["largest_share"] = largest_share(
        config, options.num_classes, devices, limit
      )
    records.append(record)
    print(json.dumps(record, indent=1))
  return records


def table(records: list[dict[str, Any]]) -> str:
  """The records as a table in Markdown."""
  header = (
    "devices",
    "network, pictures",
    "global batch",
    "a device: pictures",
    "state and batch, MiB",
    "at work, MiB",
    "GFLOP",
    "all-reduce, MiB",
    "largest share",
  )
  rows = []
  for r in records:
    costs = Costs(**r["costs"])
    mib = 1 / 2**20
    rows.append(
      (
        f"{r['topology']} ({r['devices']})",
        f"{r['model']}, {r['image_size']} px, {r['precision']}",
        str(r["batch_size"]),
        str(r["share"]),
        f"{costs.arguments * mib:.0f}",
        f"{costs.temporaries * mib:.0f}",
        f"{costs.flops / 1e9:.0f}",
        f"{sum(costs.collectives.values()) * mib:.1f}",
        str(r.get("largest_share", "")),
      )
    )
  return readme.format_table(header, rows)


def main() -> None:
  """Command line."""
  options = tyro.cli(Options, prog="python -m experiments.scaling.run")
  try:
    records = report(options)
  except (topology.MissingCompilerError, ValueError) as error:
    raise SystemExit(f"scaling: {error}") from error
  options.out.parent.mkdir(parents=True, exist_ok=True)
  options.out.write_text(json.dumps(records, indent=1))
  text = table(records)
  print(text)
  if options.write:
    readme.replace_block(README, "table", text)


if __name__ == "__main__":
  main()
