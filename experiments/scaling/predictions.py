"""The predictions of the project, compiled for one device that is not here.

Pictures of a usual size; only shapes are needed, no weights and no pictures.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.classification import configs as classification
from experiments.classification import task as classification_task
from experiments.scaling.steps import compile_alone
from experiments.stn import networks
from vision_jax import nn, ops, weights
from vision_jax.systems import (
  dasr,
  deeplab,
  elf,
  pointrend,
  rcnn,
  registration,
  retrieval,
  yolo,
)

__all__ = ["PREDICTIONS"]

_SIZE = (240, 320)
_PREPROCESS = weights.Preprocess((0.5,) * 3, (0.5,) * 3, resize=None, crop=None)


def _image(*shape: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((*shape, 3), jnp.float32)


def _variables(module: Any, size: tuple[int, int] = (64, 64)) -> Any:
  key = jax.random.key(0)
  return jax.eval_shape(module.init, key, jnp.zeros((1, *size, 3)))


def _classify(devices: list[Any]) -> Any:
  config = classification.CONFIGS["imagenet2012"]
  module = classification_task.create_module(config, 1000).clone(axis_name=None)
  return compile_alone(
    devices,
    lambda variables, images: module.apply(variables, images)[0],
    _variables(module),
    _image(64, 224, 224),
  )


def _elf(
  devices: list[Any], *, run: Callable[..., Any], name: str = "vgg_small"
) -> Any:
  """`run` gets module, variables, settings, two pictures, their key points."""
  module = nn.backbones.MODELS[name](None)
  config = elf.make_config(name, _PREPROCESS)
  variables, image = _variables(module), _image(*_SIZE)
  found = jax.eval_shape(
    lambda v, x: elf.extract(module, v, x, config), variables, image
  )
  return compile_alone(
    devices,
    lambda v, *a: run(module, v, config, *a),
    variables,
    (image, image),
    (found, found),
  )


def _extract(module, variables, config, images, keypoints):
  del keypoints
  return elf.extract(module, variables, images[0], config)


def _match(module, variables, config, images, keypoints):
  matches = elf.match(*keypoints)
  return elf.refine_matches(module, variables, *images, *keypoints, matches)


def _views(module, variables, config, images, keypoints):
  turned = {"rotations": (0.0, 90.0), "scales": (1.0, 2.0)}
  return elf.describe_views(
    module, variables, images[0], keypoints[0], config, **turned
  )


def _rcnn(
  devices: list[Any],
  *,
  name: str,
  size: tuple[int, int] = (128, 128),
  **arguments: Any,
) -> Any:
  module = rcnn.MODELS[name](**arguments)
  return compile_alone(
    devices,
    functools.partial(rcnn.detect, module),
    _variables(module),
    _image(1, *size),
    jax.ShapeDtypeStruct((1, 2), jnp.int32),
  )


def _yolo(devices: list[Any], *, name: str) -> Any:
  module = yolo.MODELS[name]()
  return compile_alone(
    devices, yolo.make_detector(module), _variables(module), _image(1, 416, 416)
  )


def _segment(
  devices: list[Any], *, system: Any, name: str, size: tuple[int, int]
) -> Any:
  module = system.MODELS[name]()
  return compile_alone(
    devices,
    functools.partial(system.segment, module),
    _variables(module),
    _image(1, *size),
  )


def _regions(devices: list[Any], *, name: str, size: tuple[int, int]) -> Any:
  """Regions of DASR and their descriptors."""
  module = nn.backbones.MODELS[name]()
  config = dasr.make_config(name, _PREPROCESS)

  def run(variables, image):
    regions = dasr.find_regions(module, variables, image, config)
    return dasr.describe_regions(module, variables, image, regions, config)

  return compile_alone(devices, run, _variables(module), _image(*size))


def _descriptors(devices: list[Any]) -> Any:
  """One vector for each picture."""
  module = nn.backbones.resnet50(None)

  def run(variables, images):
    features = nn.read_layers(module, variables, images, ["layer4"])["layer4"]
    pools = (
      ops.spoc_pool,
      ops.mac_pool,
      ops.gem_pool,
      retrieval.rmac_descriptor,
      retrieval.crow_descriptor,
    )
    return [jax.vmap(pool)(features) for pool in pools]

  return compile_alone(devices, run, _variables(module), _image(8, 384, 512))


def _search(devices: list[Any]) -> Any:
  """100 queries in 200,000 vectors of ResNet-50."""

  def run(queries, vectors):
    database = retrieval.Database(vectors, 200_000)
    return retrieval.search(queries, database, top_k=100)

  return compile_alone(
    devices,
    run,
    np.zeros((100, 2048), np.float32),
    jax.ShapeDtypeStruct((1, 200_000, 2048), jnp.float32),
  )


def _register(devices: list[Any]) -> Any:
  return compile_alone(
    devices, registration.register, _image(*_SIZE), _image(*_SIZE)
  )


def _digits(devices: list[Any]) -> Any:
  network = networks.make_network("ST-CNN TPS", "R")
  images = jax.ShapeDtypeStruct((500, 28, 28, 1), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), images)
  return compile_alone(devices, network.apply, variables, images)


PREDICTIONS: Mapping[str, Callable[[list[Any]], Any]] = {
  "classify": _classify,
  "elf": functools.partial(_elf, run=_extract, name="vgg16"),
  "elf_match": functools.partial(_elf, run=_match),
  "elf_views": functools.partial(_elf, run=_views),
  "faster_rcnn_small": functools.partial(_rcnn, name="rcnn_small"),
  "mask_rcnn_small": functools.partial(
    _rcnn, name="rcnn_small", mask_layers=(32, 32)
  ),
  "pointrend_rcnn_small": functools.partial(_rcnn, name="pointrend_rcnn_small"),
  "maskrcnn_resnet50_fpn": functools.partial(
    _rcnn, name="maskrcnn_resnet50_fpn", size=(800, 1088)
  ),
  **{
    name: functools.partial(_yolo, name=name)
    for name in ("yolov3", "yolov3_tiny")
  },
  "lraspp_mobilenet_v3_large": functools.partial(
    _segment,
    system=deeplab,
    name="lraspp_mobilenet_v3_large",
    size=(520, 520),
  ),
  "pointrend_small": functools.partial(
    _segment, system=pointrend, name="pointrend_small", size=(128, 128)
  ),
  "deeplabv3_resnet50": functools.partial(
    _segment, system=deeplab, name="deeplabv3_resnet50", size=(520, 520)
  ),
  "pointrend_semantic_fpn_resnet50": functools.partial(
    _segment,
    system=pointrend,
    name="pointrend_semantic_fpn_resnet50",
    size=(1024, 2048),
  ),
  "dasr": functools.partial(_regions, name="resnet_small", size=(256, 256)),
  "dasr_resnet50": functools.partial(
    _regions, name="resnet50", size=(384, 512)
  ),
  "descriptors": _descriptors,
  "search": _search,
  "registration": _register,
  "stn": _digits,
}
"""Name -> function of the devices that compiles the prediction."""
