"""Compiles every train step and prediction of the project for one TPU slice.

Run:  PYTHONPATH=.venv/tpu python -m experiments.scaling.programs
      PYTHONPATH=.venv/tpu python -m experiments.scaling.programs elf
"""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding

from experiments.classification import configs
from experiments.pretrain import point_contrast
from experiments.pretrain import train as pretrain
from experiments.pretrain.configs import vgg_small
from experiments.scaling import topology
from experiments.scaling.costs import costs_of
from experiments.scaling.run import compile_step, state_shapes
from vision_jax import train, weights
from vision_jax.systems import elf

SLICE = "v5e:2x4"


def _shapes(tree: Any) -> Any:
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype), tree
  )


def classification(devices: list[Any]) -> Any:
  """The default config's step, on all devices."""
  config = configs.CONFIGS["generated_textures"]
  return compile_step(config, 20, devices)[0]


def pretraining(devices: list[Any]) -> Any:
  """Point contrast, the step of vgg_small, on all devices."""
  config = vgg_small.tiny(vgg_small.get_config())
  model = point_contrast.create_model(config)
  tx = pretrain.make_optimizer(config)
  state = state_shapes(model, 64, tx)
  step = train.make_step(
    point_contrast.make_loss(config, model),
    tx,
    backend="shard_map",
    devices=devices,
  )
  batch = point_contrast.make_batches(config)(0)
  return step.lower(state, _shapes(batch)).compile()


def elf_extraction(devices: list[Any]) -> Any:
  """Key points and descriptors of one picture, on one device."""
  module, variables, preprocess = weights.resolve("vgg_small", "bundled")
  config = elf.make_config("vgg_small", preprocess)
  here = SingleDeviceSharding(devices[0])
  variables, image = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here),
    (
      _shapes(variables),
      jax.ShapeDtypeStruct((240, 320, 3), np.float32),
    ),
  )
  run = jax.jit(functools.partial(elf.extract, module, config=config))
  return run.lower(variables, image).compile()


PROGRAMS: Mapping[str, Callable[[list[Any]], Any]] = {
  "classification": classification,
  "pretrain": pretraining,
  "elf": elf_extraction,
}


def main(names: list[str]) -> None:
  """Compiles the programs of these names, all of them if none is given."""
  devices = topology.tpu_devices(SLICE)
  limit = topology.HBM_GIB[SLICE.partition(":")[0]] << 30
  for name in names or PROGRAMS:
    with topology.compiling_for("tpu"):
      costs = costs_of(PROGRAMS[name](devices))
    fits = "fits" if costs.memory <= limit else "does not fit"
    print(
      f"{name}: {costs.memory / 2**20:.0f} MiB a device, "
      f"{costs.flops / 1e9:.1f} GFLOP, {fits} {SLICE.partition(':')[0]}",
      flush=True,
    )


if __name__ == "__main__":
  main(sys.argv[1:])
