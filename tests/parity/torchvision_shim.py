"""Makes torchvision importable where its compiled operators are missing.

Import `torchvision` from here, never directly. Where the compiled operators
load, nothing is changed. Elsewhere the schemas of nms, qnms and roi_align are
defined before the import, with implementations in Python for the CPU.
"""

import importlib
import importlib.util
import pathlib

import torch

__all__ = ["torchvision", "uses_shim"]


def _operators_load() -> bool:
  """Whether torchvision's compiled operators can be loaded."""
  if hasattr(torch.ops.torchvision, "nms"):
    return True  # by this file under its other name, or by torchvision
  spec = importlib.util.find_spec("torchvision")
  if spec is None or spec.origin is None:
    raise ImportError("torchvision is not installed")
  folder = pathlib.Path(spec.origin).parent
  for library in [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]:
    try:
      torch.ops.load_library(str(library))
    except OSError:
      continue
    return True
  return False


def _nms(boxes, scores, iou_threshold):
  """Greedy suppression: indices of the kept boxes, by falling score."""
  x1, y1, x2, y2 = boxes.unbind(1)
  areas = (x2 - x1) * (y2 - y1)
  order = torch.argsort(scores, descending=True, stable=True)
  alive = torch.ones(len(boxes), dtype=torch.bool)
  kept = []
  for position, index in enumerate(order.tolist()):
    if not alive[position]:
      continue
    kept.append(index)
    rest = order[position + 1 :]
    width = torch.minimum(x2[rest], x2[index]) - torch.maximum(
      x1[rest], x1[index]
    )
    height = torch.minimum(y2[rest], y2[index]) - torch.maximum(
      y1[rest], y1[index]
    )
    common = width.clamp(min=0) * height.clamp(min=0)
    iou = common / (areas[rest] + areas[index] - common)
    # As the kernel: the threshold is not rounded to float32.
    alive[position + 1 :] &= ~(iou.double() > iou_threshold)
  return torch.tensor(kept, dtype=torch.int64)


def _qnms(boxes, scores, iou_threshold):
  return _nms(boxes.dequantize(), scores.dequantize(), iou_threshold)


def _axis_weights(low, high, scale, bins, size, sampling_ratio, aligned):
  """Weight of every pixel of an axis in every bin of a region, [bins, size].

  The rule of torchvision's kernel (`roi_align_common.h`), sample by sample.
  """
  start = low * scale - (0.5 if aligned else 0.0)
  length = high * scale - (0.5 if aligned else 0.0) - start
  if not aligned:
    length = length.clamp(min=1.0)
  width = length / bins
  count = sampling_ratio
  if count <= 0:
    count = int(torch.ceil(width))
  weights = torch.zeros(bins, size, dtype=low.dtype)
  for i in range(count):
    for p in range(bins):
      y = start + p * width + (i + 0.5) * width / count
      if y < -1 or y > size:
        continue
      y = y.clamp(min=0.0)
      first = int(y)
      if first >= size - 1:
        weights[p, size - 1] += 1.0
        continue
      part = y - first
      weights[p, first] += 1 - part
      weights[p, first + 1] += part
  return weights / max(count, 1)


def _roi_align(
  features,
  rois,
  spatial_scale,
  pooled_height,
  pooled_width,
  sampling_ratio,
  aligned,
):
  """RoIAlign with the kernel's rule at and beyond borders.

  torchvision's own formulation in plain torch operations, which it falls back
  to, reads the border for samples any distance outside.
  """
  high, wide = features.shape[-2:]
  settings = (sampling_ratio, aligned)
  pooled = []
  for roi in rois.detach():
    number, x1, y1, x2, y2 = roi
    rows = _axis_weights(y1, y2, spatial_scale, pooled_height, high, *settings)
    cols = _axis_weights(x1, x2, spatial_scale, pooled_width, wide, *settings)
    pooled.append(
      torch.einsum("ph,chw,qw->cpq", rows, features[int(number)], cols)
    )
  if not pooled:
    return (
      features.new_zeros((0, features.shape[1], pooled_height, pooled_width))
      + 0 * features.sum()
    )
  return torch.stack(pooled)


def _define() -> torch.library.Library:
  """Defines the operators; they live as long as the returned library."""
  library = torch.library.Library("torchvision", "DEF")
  library.define("nms(Tensor dets, Tensor scores, float t) -> Tensor")
  library.define("qnms(Tensor dets, Tensor scores, float t) -> Tensor")
  library.define(
    "roi_align(Tensor input, Tensor rois, float spatial_scale, "
    "SymInt pooled_height, SymInt pooled_width, int sampling_ratio, "
    "bool aligned) -> Tensor"
  )
  library.impl("nms", _nms, "CPU")
  library.impl("qnms", _qnms, "QuantizedCPU")
  # Composite: the gradient comes from the plain operations inside.
  library.impl("roi_align", _roi_align, "CompositeImplicitAutograd")
  return library


_LIBRARY = None if _operators_load() else _define()
uses_shim = _LIBRARY is not None

import torchvision  # noqa: E402

if uses_shim:
  import torchvision.extension

  torchvision.extension._has_ops = lambda: True
  # roi_align took its own reference to the function when it was imported.
  module = importlib.import_module("torchvision.ops.roi_align")
  module._has_ops = torchvision.extension._has_ops
