"""Mask R-CNN and PointRend stage by stage, on one picture.

The compiled NMS and RoIAlign of torchvision may be missing where this is run
(tests/parity/torchvision_shim.py stands in for them). Hence PyTorch stands
beside stages that use neither: backbone and pyramid, the convolutions of the
proposals, the heads of boxes and masks. The others, and the whole, are times of
ours alone.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from vision_jax import weights
from vision_jax.systems import rcnn
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


CASES: dict[str, Callable[[], Any]] = {
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
      ("backbone, pyramid", "subdivision of masks", "whole"),
    ),
  )
  for stage in stages
}
