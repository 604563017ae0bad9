"""Detectors: YOLOv3, Mask R-CNN and PointRend stage by stage, a train step.

The compiled NMS and RoIAlign of torchvision may be missing where this is run
(tests/parity/torchvision_shim.py stands in for them). Hence PyTorch stands
beside stages that use neither: backbone and pyramid, the convolutions of the
proposals, the heads of boxes and masks. The others, and the whole, are times of
ours alone.
"""

import copy
import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from vision_jax import train, weights
from vision_jax.nn import layer_table
from vision_jax.systems import rcnn, yolo
from vision_jax.systems.rcnn import detection

__all__ = ["CASES"]

_REGIONS = 1000
_MASKS = 100


@functools.cache
def _detector(name: str):
  """(module, variables) with random weights."""
  module = rcnn.MODELS[name]()
  return module, weights.random_variables(module, seed=0)


def _stage(module: Any, stage: str, size: tuple[int, int]) -> Any:
  """What a stage computes, function of variables and inputs; the inputs."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
  channels, whole = module.backbone.features, np.array([size], np.int32)
  maps = [
    normal(1, *(-(-n // s) for n in size), channels) for s in (4, 8, 16, 32, 64)
  ]
  if stage == "backbone, pyramid":
    return lambda v, x: module.bind(v).features(x), normal(1, *size, 3)
  if stage == "proposal convolutions":
    return lambda v, x: module.bind(v).objectness(x), maps
  if stage == "choice of proposals":
    found = [
      (normal(1, *m.shape[1:3], 3), 0.2 * normal(1, *m.shape[1:3], 3, 4))
      for m in maps
    ]
    return (
      lambda v, x: detection.propose(module, x, size, whole, whole),
      found,
    )
  if stage == "head of boxes":
    return (
      lambda v, x: module.bind(v).classify(x),
      normal(1, _REGIONS, 7, 7, channels),
    )
  if stage == "head of masks":
    return (
      lambda v, x: module.bind(v).mask_logits(x),
      normal(1, _MASKS, 14, 14, channels),
    )
  if stage == "subdivision of masks":
    boxes = rng.uniform(0, 0.6, (1, _MASKS, 2)) * np.array(size[::-1])
    sides = rng.uniform(24, 200, (1, _MASKS, 2))
    boxes = np.concatenate([boxes, boxes + sides], -1).astype(np.float32)

    def refine(v, x):
      fine, boxes = x
      found = detection.ops.Detections(
        boxes,
        np.ones((1, _MASKS), np.float32),
        np.ones((1, _MASKS), np.int32),
        np.ones((1, _MASKS), bool),
      )
      return detection.refine_point_masks(
        module.bind(v), fine, found, whole, size
      )

    return refine, (maps[0], boxes)
  if stage == "whole":
    return lambda v, x: rcnn.detect(module, v, x, whole), normal(1, *size, 3)
  raise ValueError(f"detector_stage: unknown stage {stage!r}.")


def _torch_net(name: str, module: Any, variables: Any) -> Any:
  """The detector of torchvision with our weights."""
  from tests.parity.torchvision_shim import torchvision

  net = getattr(torchvision.models.detection, name)(
    weights=None, weights_backbone=None
  )
  state = weights.variables_to_state_dict(module, variables)
  tensors = {k: torch.from_numpy(np.array(v)) for k, v in state.items()}
  net.load_state_dict(tensors, strict=False)
  return net.eval().requires_grad_(False)


def _torch_stage(net: Any, stage: str) -> Callable[[Any], Any] | None:
  """The stage of torchvision, of an NCHW tensor or a list of them."""
  heads = net.roi_heads
  return {
    "backbone, pyramid": lambda x: list(net.backbone(x).values()),
    "proposal convolutions": net.rpn.head,
    "head of boxes": lambda x: heads.box_predictor(heads.box_head(x)),
    "head of masks": lambda x: heads.mask_predictor(heads.mask_head(x)),
  }.get(stage)


def _values(tree: Any) -> list[np.ndarray]:
  """The values of each leaf, sorted: layouts differ."""
  return [np.sort(np.asarray(leaf), None) for leaf in jax.tree.leaves(tree)]


def detector_stage(name: str, stage: str, size: tuple[int, int]):
  """One stage of a detector on one canvas."""
  module, variables = _detector(name)
  function, inputs = _stage(module, stage, size)
  run = jax.jit(function)
  given = jax.device_put((variables, inputs))
  ours = lambda: jax.block_until_ready(run(*given))  # noqa: E731
  contestants: dict[str, Callable[[], Any]] = {"vision_jax": ours}
  net = _torch_net(name, module, variables) if name.startswith("mask") else None
  if net is None or _torch_stage(net, stage) is None:
    return contestants, {}

  def timed(layout, compiled=False):
    forward = _torch_stage(copy.deepcopy(net).to(memory_format=layout), stage)

    def tensor(x):
      x = x[0] if x.ndim == 5 else x
      x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
      return x.to(memory_format=layout)

    values = jax.tree.map(tensor, inputs)
    program = torch.compile(forward) if compiled else forward

    def call():
      with torch.no_grad():
        return program(values)

    return call

  contestants["torch eager"] = timed(torch.contiguous_format)
  contestants["torch channels_last"] = timed(torch.channels_last)
  contestants["torch compile"] = timed(torch.channels_last, compiled=True)
  expected = sorted(_values(ours()), key=len)
  found = sorted(_values(contestants["torch eager"]()), key=len)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max(), err_msg=stage)
  return contestants, {}


def yolo_forward(size: int):
  """The maps of YOLOv3 before its boxes, one picture."""
  from tests.parity import torch_yolo

  module = yolo.MODELS["yolov3"](80)
  variables = weights.random_variables(module, seed=0)
  image = np.random.default_rng(1).random((1, size, size, 3), np.float32)
  run = jax.jit(lambda v, x: module.apply(v, x)[0])
  given = jax.device_put((variables, image))
  ours = lambda: jax.block_until_ready(run(*given))  # noqa: E731
  program = torch_yolo.DarknetProgram(torch_yolo.yolov3(80))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "yolov3.weights"
    weights.write_darknet(
      path,
      weights.variables_to_state_dict(module, variables),
      weights.darknet_layers(module),
    )
    header = weights.read_darknet_header(path)
    program.load(np.fromfile(path, "<f4", offset=header.size))
  contestants: dict[str, Callable[[], Any]] = {"vision_jax": ours}
  tensor = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
  for name, layout in (
    ("eager", torch.contiguous_format),
    ("channels_last", torch.channels_last),
  ):
    network = copy.deepcopy(program).to(memory_format=layout)
    value = tensor.to(memory_format=layout)
    contestants[f"torch {name}"] = functools.partial(network, value)
  contestants["torch compile"] = functools.partial(
    torch.compile(network), value
  )
  for a, b in zip(
    _values(contestants["torch eager"]()), _values(ours()), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-3 * np.abs(b).max())
  flops = sum(r.flops for r in layer_table(module, image_size=(size, size)))
  return contestants, {"flops": flops}


def train_step(name: str, rows: int, size: int):
  """One update of a detector; torchvision's needs its missing kernels."""
  module = rcnn.MODELS[name]()
  variables = weights.random_variables(module, seed=0)
  rng = np.random.default_rng(0)
  corners = rng.uniform(0, 0.6 * size, (rows, 8, 2))
  boxes = np.concatenate(
    [corners, corners + rng.uniform(0.1, 0.4, (rows, 8, 2)) * size], -1
  ).astype(np.float32)
  line = np.arange(size) + 0.5
  inside = (line > boxes[..., :2, None]) & (line < boxes[..., 2:, None])
  batch = {
    "image": rng.random((rows, size, size, 3), np.float32),
    "boxes": boxes,
    "labels": rng.integers(1, 80, (rows, 8)).astype(np.int32),
    "masks": inside[..., 1, :, None] & inside[..., 0, None, :],
  }
  tx = optax.sgd(0.02, 0.9)
  step = train.make_step(
    functools.partial(rcnn.loss, module.clone(axis_name="batch")),
    tx,
    devices=jax.devices()[:1],
  )
  state = train.create_state(
    variables["params"], variables["batch_stats"], tx, jax.random.key(0)
  )
  batch = jax.tree.map(jnp.asarray, batch)

  def ours() -> Any:
    nonlocal state
    state, metrics = step(state, batch)
    return jax.block_until_ready(metrics)

  return {"vision_jax": ours}, {}


CASES: dict[str, Callable[[], Any]] = {
  "YOLOv3 forward, 416 x 416": lambda: yolo_forward(416),
  "Mask R-CNN R50 train step, 2 x 512 x 512": (
    lambda: train_step("maskrcnn_resnet50_fpn", 2, 512)
  ),
  "Faster R-CNN small train step, 16 x 128 x 128": (
    lambda: train_step("rcnn_small", 16, 128)
  ),
} | {
  f"{title}, {stage}, {size[0]} x {size[1]}": functools.partial(
    detector_stage, name, stage, size
  )
  for title, name, size, stages in (
    (
      "Mask R-CNN R50",
      "maskrcnn_resnet50_fpn",
      (800, 1088),
      (
        "backbone, pyramid",
        "proposal convolutions",
        "choice of proposals",
        "head of boxes",
        "head of masks",
        "whole",
      ),
    ),
    (
      "PointRend R50",
      "pointrend_rcnn_r50_fpn",
      (480, 640),
      (
        "backbone, pyramid",
        "proposal convolutions",
        "choice of proposals",
        "head of boxes",
        "subdivision of masks",
        "whole",
      ),
    ),
  )
  for stage in stages
}
