"""The train steps of the project, compiled for devices that are not here.

Each entry of `STEPS` is what an experiment trains with: its network, loss and
optimizer, and a batch as its pipeline makes it. Nothing is computed.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import SingleDeviceSharding

from experiments.classification import configs as classification
from experiments.detection import configs as detection
from experiments.detection import input_pipeline, tasks
from experiments.detection import train as detection_train
from experiments.instance_search import methods
from experiments.pretrain import train as pretrain
from experiments.scaling.run import compile_step
from experiments.segmentation import configs as segmentation
from experiments.segmentation import input_pipeline as segmentation_pipeline
from experiments.segmentation import tables
from experiments.segmentation import task as segmentation_task
from experiments.stn import networks, volumes
from experiments.stn import training as stn
from experiments.stn.distortions import SIDES
from vision_jax import data, nn, train
from vision_jax.systems import retrieval

__all__ = ["STEPS", "compile_alone"]


def shapes(tree: Any, device: Any = None) -> Any:
  """What stands for a tree of arrays; on one device, if it is given."""
  here = None if device is None else SingleDeviceSharding(device)
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(np.shape(a), a.dtype, sharding=here), tree
  )


def compile_alone(devices: list[Any], function: Any, *arguments: Any) -> Any:
  """A function of arrays, on the first device."""
  given = shapes(arguments, devices[0])
  return jax.jit(function).lower(*given).compile()


def _compile(
  devices: list[Any],
  variables: Callable[[], Any],
  loss_fn: Any,
  tx: Any,
  batch: Any,
  ema_decay: float | None = None,
) -> Any:
  """The step of `train.make_step` on all devices."""

  def create() -> train.TrainState:
    found = variables()
    return train.create_state(
      found["params"],
      found.get("batch_stats"),
      tx,
      jax.random.key(0),
      ema=ema_decay is not None,
    )

  step = train.make_step(
    loss_fn, tx, backend="shard_map", devices=devices, ema_decay=ema_decay
  )
  return step.lower(jax.eval_shape(create), shapes(batch)).compile()


def _classification(devices: list[Any], *, name: str, classes: int) -> Any:
  return compile_step(classification.CONFIGS[name], classes, devices)[0]


def _pretraining(devices: list[Any], *, task: Any, file: Any) -> Any:
  """Networks at their size, on a few pictures."""
  config = file.tiny(file.get_config())
  model = task.create_model(config)
  return _compile(
    devices,
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))),
    task.make_loss(config, model),
    pretrain.make_optimizer(config),
    task.make_batches(config)(0),
  )


class _Drawn:
  """The first generated shapes; their masks, if they are wanted."""

  class_names = data.SHAPE_NAMES

  def __init__(self, count: int, size: int, *, masks: bool):
    self._count, self._size = count, size
    self._names = ("image", "boxes", "labels", *(["masks"] if masks else []))

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> dict[str, Any]:
    example = data.shapes(0, index, size=self._size)
    return {name: example[name] for name in self._names}


def _detection(devices: list[Any], *, name: str) -> Any:
  config = dataclasses.replace(detection.CONFIGS[name], weights=None)
  task = tasks.find_task(config.model)
  options = config.data
  source = _Drawn(config.batch_size, options.size[0], masks=options.masks)
  classes = len(source.class_names)
  return _compile(
    devices,
    lambda: task.create_model(config, classes)[1],
    task.make_loss(config, task.create_module(config, classes)),
    detection_train.make_optimizer(config),
    next(iter(input_pipeline.train_batches(config, source))),
    config.ema_decay,
  )


def _segmentation(devices: list[Any], *, name: str, **changes: Any) -> Any:
  config = dataclasses.replace(
    segmentation.CONFIGS[name], backbone=None, weights=None, **changes
  )
  source = segmentation_pipeline.Shapes(
    "train", config.batch_size, config.data.size[0], config.data.num_classes
  )
  module = segmentation_task.create_module(config)
  return _compile(
    devices,
    lambda: segmentation_task.create_model(config)[1],
    segmentation_task.make_loss(config, module),
    segmentation_task.make_optimizer(config),
    next(iter(segmentation_pipeline.train_batches(config, source))),
  )


def _digits(devices: list[Any], network: Any, shape: tuple[int, ...]) -> Any:
  config = stn.Config()
  return _compile(
    devices,
    lambda: network.init(jax.random.key(0), jnp.zeros((1, *shape, 1))),
    stn.make_loss(network),
    stn.make_optimizer(network, config),
    {
      "image": np.zeros((config.batch_size, *shape), np.uint8),
      "label": np.zeros(config.batch_size, np.int32),
    },
  )


def _transformer(devices: list[Any], *, model: str) -> Any:
  side = SIDES["R"]
  return _digits(devices, networks.make_network(model, "R"), (side, side))


def _volumes(devices: list[Any]) -> Any:
  return _digits(devices, volumes.make_network(True), (volumes.SIDE,) * 3)


def _segmentation_head(devices: list[Any]) -> Any:
  """The heads of the tables, on maps that are kept; one device."""
  head = nn.PointHead(13, width=64)
  tx = optax.adam(3e-3)
  logits, fine = np.zeros((16, 8, 8, 13)), np.zeros((16, 32, 32, 64))
  logits, fine = logits.astype(np.float32), fine.astype(np.float32)
  labels = np.zeros((16, 128, 128), np.int32)
  params = jax.eval_shape(
    head.init, jax.random.key(0), fine[:1, 0, 0], logits[:1, 0, 0]
  )["params"]
  state = jax.eval_shape(tx.init, params)
  arguments = (params, state, jax.random.key(0), (logits, fine, labels))
  step = functools.partial(tables.update_head, head, tx, "mild", 256)
  return compile_alone(devices, step, *arguments)


def _attention(devices: list[Any]) -> Any:
  """Regional attention of the instance search; one device."""
  head = retrieval.RegionalAttention(num_classes=8)
  tx = optax.adam(3e-3)
  regions, mean = np.zeros((64, 55, 128)), np.zeros((64, 128))
  seen = tuple(a.astype(np.float32) for a in (regions, regions, mean))
  targets = np.zeros(64, np.int32)
  params = jax.eval_shape(head.init, jax.random.key(0), *seen)
  arguments = (params, jax.eval_shape(tx.init, params), seen, targets)
  step = functools.partial(methods.update_attention, head, tx)
  return compile_alone(devices, step, *arguments)


STEPS: Mapping[str, Callable[[list[Any]], Any]] = {
  "textures": functools.partial(
    _classification, name="generated_textures", classes=20
  ),
  "imagenet": functools.partial(
    _classification, name="imagenet2012", classes=1000
  ),
  **{
    f"pretrain_{file.__name__.rpartition('.')[2]}": functools.partial(
      _pretraining, task=task, file=file
    )
    for task, file in pretrain.TASKS.values()
  },
  **{
    name.removesuffix("_shapes"): functools.partial(_detection, name=name)
    for name in detection.CONFIGS
    if name.endswith("_shapes")
  },
  **{
    f"segmentation_{part}": functools.partial(
      _segmentation, name="generated_shapes", part=part
    )
    for part in ("coarse", "points", "joint")
  },
  "cityscapes": functools.partial(_segmentation, name="cityscapes"),
  "segmentation_head": _segmentation_head,
  **{
    f"stn_{model.split()[-1].lower()}": functools.partial(
      _transformer, model=model
    )
    for model in ("ST-FCN Proj", "ST-CNN Aff", "ST-CNN TPS")
  },
  "stn_volumes": _volumes,
  "attention": _attention,
}
"""Name -> function of the devices that compiles the step."""
