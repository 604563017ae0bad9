"""What a network is made of: geometry, parameters and cost of every layer.

Computed by following abstract values through the module calls, so it holds
for any network built from `vision_jax.nn.layers` and costs no arithmetic.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import layers

__all__ = ["EndpointInfo", "LayerInfo", "endpoint_info", "layer_table"]


class EndpointInfo(NamedTuple):
  """Geometry of a feature map.

  Cell u covers the input around pixel x = stride u + offset (index frame).

  Attributes:
    stride: input pixels per cell.
    offset: position of the centre of cell 0, in input pixels.
    channels: number of channels.
    receptive_field: side of the input square a cell depends on, in pixels.

  Example:
    >>> from vision_jax import nn
    >>> nn.EndpointInfo(4, 1.5, 128, 16).stride
    4
  """

  stride: int
  offset: float
  channels: int
  receptive_field: int


class LayerInfo(NamedTuple):
  """One row of `layer_table`.

  Attributes:
    name: path joined by ".".
    kind: class of the layer.
    output_shape: shape of the result, batch axis included.
    parameters: number of trained values of this layer.
    flops: multiplications and additions of one forward pass.
    stride: input pixels per cell; None where there is no spatial map.
    offset: position of cell 0 in input pixels; None also where it is another
      for rows than for columns, see `endpoint_info`.
    receptive_field: in input pixels, or None. The gates of squeeze and
      excitation, which see the whole map, are not counted.

  Example:
    >>> from vision_jax import nn
    >>> rows = nn.layer_table(nn.backbones.vgg_small(), image_size=(64, 48))
    >>> rows[0].name, rows[0].kind, rows[0].output_shape
    ('features.0', 'Conv', (1, 64, 48, 16))
  """

  name: str
  kind: str
  output_shape: tuple[int, ...]
  parameters: int
  flops: int
  stride: int | None
  offset: float | None
  receptive_field: int | None


class _Geometry(NamedTuple):
  stride: int
  offsets: tuple[float, float]  # of rows and columns
  field: int

  def window(
    self, size: int, step: int, pads: tuple[int, int], dilation: int = 1
  ) -> "_Geometry":
    """Geometry after a window; `pads`: above and to the left."""
    reach = dilation * (size - 1)
    rows, cols = (
      offset + self.stride * (reach / 2 - pad)
      for offset, pad in zip(self.offsets, pads, strict=True)
    )
    return _Geometry(
      self.stride * step, (rows, cols), self.field + self.stride * reach
    )

  def row(self) -> tuple[int, float | None, int]:
    """Stride, offset and receptive field as `LayerInfo` has them."""
    rows, cols = self.offsets
    return self.stride, rows if rows == cols else None, self.field


# Elementwise: the geometry of the result is that of the input.
_ELEMENTWISE = (
  layers.BatchNorm,
  layers.FrozenBatchNorm,
  layers.Relu,
  layers.Relu6,
  layers.LeakyRelu,
  layers.HardSigmoid,
  layers.HardSwish,
  layers.Sigmoid,
  layers.Add,
  layers.Multiply,
  layers.Concat,
)


_LEAVES = (
  layers.Conv,
  layers.Dense,
  layers.MaxPool,
  layers.AvgPool,
  layers.AdaptiveAvgPool,
  *_ELEMENTWISE,
)


def _after(
  module: nn.Module, inputs: list[_Geometry], size: tuple[int, ...]
) -> _Geometry | None:
  """Geometry of the result of a layer; `size`: of the map it reads."""
  if not inputs:
    return None
  widest = max(inputs, key=lambda g: g.field)
  if isinstance(module, layers.Conv):
    pad = module.pad()
    return widest.window(
      module.kernel_size, module.stride, (pad, pad), module.dilation
    )
  if isinstance(module, layers.MaxPool | layers.AvgPool):
    step = module.stride or module.window
    if isinstance(module, layers.AvgPool):
      return widest.window(module.window, step, (module.padding,) * 2)
    return widest.window(module.window, step, module.pads(size))
  if isinstance(module, layers.Dense | layers.AdaptiveAvgPool):
    return None
  return widest


def _flops(module: nn.Module, shape: tuple[int, ...], inputs: list) -> int:
  size = math.prod(shape)
  if isinstance(module, layers.Conv):
    taps = module.kernel_size**2 * inputs[0].shape[-1] // module.groups
    return 2 * taps * size
  if isinstance(module, layers.Dense):
    return 2 * inputs[0].shape[-1] * size
  if isinstance(module, layers.MaxPool | layers.AvgPool):
    return module.window**2 * size
  if isinstance(module, layers.AdaptiveAvgPool):
    return math.prod(inputs[0].shape)
  if isinstance(module, layers.BatchNorm | layers.FrozenBatchNorm):
    return 2 * size
  return size


def _walk(
  module: nn.Module, image_size: tuple[int, int]
) -> tuple[list[LayerInfo], dict[str, tuple[Any, _Geometry | None]]]:
  """Rows of all layers, and the endpoints with their geometry."""
  rows: list[LayerInfo] = []
  known: dict[int, _Geometry] = {}
  alive: list[Any] = []  # keeps the traced values, so that ids stay unique
  endpoints: dict[str, tuple[Any, _Geometry | None]] = {}

  def follow(next_fun, args, kwargs, context):
    result = next_fun(*args, **kwargs)
    layer = context.module
    if context.method_name != "__call__" or not isinstance(layer, _LEAVES):
      return result
    inputs = [x for x in jax.tree.leaves(args) if hasattr(x, "shape")]
    geometry = _after(
      layer,
      [known[id(x)] for x in inputs if id(x) in known],
      inputs[0].shape[1:3],
    )
    alive.append(result)
    if geometry is not None:
      known[id(result)] = geometry
    parameters = sum(
      x.size for x in jax.tree.leaves(layer.variables.get("params", {}))
    )
    rows.append(
      LayerInfo(
        ".".join(layer.path),
        type(layer).__name__,
        tuple(result.shape),
        parameters,
        _flops(layer, result.shape, inputs),
        *(geometry.row() if geometry else (None, None, None)),
      )
    )
    return result

  def forward(images):
    known[id(images)] = _Geometry(1, (0.0, 0.0), 1)
    alive.append(images)
    with nn.intercept_methods(follow):
      (_, ends), _ = module.init_with_output(jax.random.key(0), images)
    for name, value in ends.items():
      endpoints[name] = (tuple(value.shape), known.get(id(value)))
    return ends

  jax.eval_shape(
    forward, jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
  )
  return rows, endpoints


def endpoint_info(
  module: nn.Module, *, image_size: tuple[int, int] = (256, 256)
) -> dict[str, EndpointInfo]:
  """Stride, offset, channels and receptive field of every feature map.

  The registration is exact: cell u of a map looks at input position
  x = stride u + offset in the index frame.

  Args:
    module: a backbone; `apply` returns (logits, endpoints).
    image_size: (height, width) of the input in pixels. It matters where the
      padding depends on it, as Keras' does: in an Xception.

  Returns:
    Name of the endpoint -> `EndpointInfo`. Endpoints that are not maps
    (fully connected ones) are left out.

  Raises:
    ValueError: if an offset is another for rows than for columns.

  Example:
    >>> from vision_jax import nn
    >>> nn.endpoint_info(nn.backbones.vgg16())["pool4"]
    EndpointInfo(stride=16, offset=7.5, channels=512, receptive_field=100)

  Source:
    Recurrence (s, o) -> (s t, o + s ((k - 1) / 2 - p)) for kernel k, stride
    t, padding p; e.g. Araujo et al., "Computing receptive fields of
    convolutional neural networks", Distill 2019.
  """
  _, endpoints = _walk(module, image_size)
  found = {}
  for name, (shape, geometry) in endpoints.items():
    if geometry is None:
      continue
    stride, offset, field = geometry.row()
    if offset is None:
      raise ValueError(
        f"endpoint_info: `image_size` must give rows and columns of {name!r} "
        f"one offset, got {image_size} with {geometry.offsets}; pad the image "
        "so that both sides are alike."
      )
    found[name] = EndpointInfo(stride, offset, shape[-1], field)
  return found


def layer_table(
  module: nn.Module, *, image_size: tuple[int, int] = (224, 224)
) -> list[LayerInfo]:
  """All layers of a network in the order in which they are called.

  Args:
    module: a backbone built from `vision_jax.nn` layers.
    image_size: (height, width) of the input in pixels.

  Returns:
    One `LayerInfo` per layer call.

  Example:
    >>> from vision_jax import nn
    >>> table = nn.layer_table(nn.backbones.resnet18())
    >>> sum(row.parameters for row in table)
    11689512

  Source:
    Interface of this library.
  """
  return _walk(module, image_size)[0]
