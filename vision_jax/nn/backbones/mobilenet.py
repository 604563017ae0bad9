"""MobileNet V2 and V3, torchvision's names.

Sandler et al. (arXiv 1801.04381) and Howard et al. (arXiv 1905.02244). Both
are rows of one kind of bottleneck: a 1x1 expansion, a depthwise convolution,
in V3 squeeze and excitation, and a linear 1x1 projection.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = [
  "MobileNetV2",
  "MobileNetV3",
  "mobilenet_v2",
  "mobilenet_v3_large",
  "mobilenet_v3_large_features",
  "mobilenet_v3_small",
]

_Activation = Callable[..., nn.Module]


class _Row(NamedTuple):
  """A bottleneck, as in tables 1 and 2 of the V3 paper."""

  kernel: int
  expanded: int
  features: int
  squeeze: bool
  activation: _Activation
  stride: int
  dilation: int = 1


_RE, _HS = layers.Relu, layers.HardSwish

_LARGE = (
  _Row(3, 16, 16, False, _RE, 1),
  _Row(3, 64, 24, False, _RE, 2),
  _Row(3, 72, 24, False, _RE, 1),
  _Row(5, 72, 40, True, _RE, 2),
  _Row(5, 120, 40, True, _RE, 1),
  _Row(5, 120, 40, True, _RE, 1),
  _Row(3, 240, 80, False, _HS, 2),
  _Row(3, 200, 80, False, _HS, 1),
  _Row(3, 184, 80, False, _HS, 1),
  _Row(3, 184, 80, False, _HS, 1),
  _Row(3, 480, 112, True, _HS, 1),
  _Row(3, 672, 112, True, _HS, 1),
  _Row(5, 672, 160, True, _HS, 2),
  _Row(5, 960, 160, True, _HS, 1),
  _Row(5, 960, 160, True, _HS, 1),
)
_SMALL = (
  _Row(3, 16, 16, True, _RE, 2),
  _Row(3, 72, 24, False, _RE, 2),
  _Row(3, 88, 24, False, _RE, 1),
  _Row(5, 96, 40, True, _HS, 2),
  _Row(5, 240, 40, True, _HS, 1),
  _Row(5, 240, 40, True, _HS, 1),
  _Row(5, 120, 48, True, _HS, 1),
  _Row(5, 144, 48, True, _HS, 1),
  _Row(5, 288, 96, True, _HS, 2),
  _Row(5, 576, 96, True, _HS, 1),
  _Row(5, 576, 96, True, _HS, 1),
)


def _v2_rows() -> tuple[_Row, ...]:
  """Table 2 of the V2 paper: channels, blocks, stride of the first one."""
  table = (
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
  )
  rows: list[_Row] = []
  for features, count, stride in table:
    for k in range(count):
      expanded = 6 * rows[-1].features if rows else 32
      rows.append(
        _Row(
          3, expanded, features, False, layers.Relu6, stride if k == 0 else 1
        )
      )
  return tuple(rows)


def _dilate(
  rows: tuple[_Row, ...], output_stride: int, at_once: bool
) -> tuple[_Row, ...]:
  """Dilation instead of stride beyond `output_stride`.

  A bottleneck that loses its stride is dilated itself (`at_once`), or only
  those behind it are.
  """
  if output_stride not in (8, 16, 32):
    raise ValueError(
      f"MobileNet: `output_stride` must be 8, 16 or 32, got {output_stride}."
    )
  total, dilation, dilated = 2, 1, []
  for row in rows:
    stride, own = row.stride, dilation
    if total * stride > output_stride:
      dilation, stride = dilation * stride, 1
    total *= stride
    own = dilation if at_once else own
    dilated.append(row._replace(stride=stride, dilation=own))
  return tuple(dilated)


def _squeezed(channels: int) -> int:
  """A quarter, rounded to a multiple of 8 that is not much smaller."""
  quarter = channels // 4
  rounded = max(8, (quarter + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * quarter else rounded


class _ConvNorm(nn.Module):
  """Convolution, batch normalisation and, if there is one, activation."""

  features: int
  kernel_size: int
  activation: _Activation | None
  norm: dict[str, Any]
  dtype: Any
  stride: int = 1
  dilation: int = 1
  groups: int = 1

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(
      self.features,
      self.kernel_size,
      self.stride,
      dilation=self.dilation,
      groups=self.groups,
      use_bias=False,
      dtype=self.dtype,
      name="0",
    )(x)
    x = layers.batch_norm(**self.norm, name="1")(x)
    return x if self.activation is None else self.activation(name="2")(x)


class _Branch(nn.Module):
  """The layers of a bottleneck, named by their number."""

  row: _Row
  version: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    row, index = self.row, 0
    common = {"norm": self.norm, "dtype": self.dtype}
    if row.expanded != x.shape[-1]:
      x = _ConvNorm(row.expanded, 1, row.activation, **common, name="0")(x)
      index = 1
    x = _ConvNorm(
      row.expanded,
      row.kernel,
      row.activation,
      **common,
      stride=row.stride,
      dilation=row.dilation,
      groups=row.expanded,
      name=str(index),
    )(x)
    if row.squeeze:
      index += 1
      x = layers.SqueezeExcitation(
        _squeezed(row.expanded),
        layers.HardSigmoid,
        self.dtype,
        name=str(index),
      )(x)
    index += 1
    if self.version == 3:
      return _ConvNorm(row.features, 1, None, **common, name=str(index))(x)
    x = layers.Conv(
      row.features, 1, use_bias=False, dtype=self.dtype, name=str(index)
    )(x)
    return layers.batch_norm(**self.norm, name=str(index + 1))(x)


class _Block(nn.Module):
  """A bottleneck, added to its input where that has the same shape."""

  row: _Row
  version: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    name = {2: "conv", 3: "block"}[self.version]
    y = _Branch(self.row, self.version, self.norm, self.dtype, name=name)(x)
    same = self.row.stride == 1 and self.row.features == x.shape[-1]
    return layers.Add(name="add")(x, y) if same else y


class _Features(nn.Module):
  """Stem, bottlenecks and a last 1x1 convolution: (last map, endpoints)."""

  rows: tuple[_Row, ...]
  width: int
  last_width: int
  activation: _Activation
  version: int
  axis_name: str | None = None
  frozen_norm: bool = False
  norm_epsilon: float = 1e-5
  norm_momentum: float = 0.9
  dtype: Any = None

  @nn.compact
  def __call__(self, images, *, train=False):
    norm = {
      "frozen": self.frozen_norm,
      "use_running_average": not train,
      "axis_name": self.axis_name,
      "momentum": self.norm_momentum,
      "epsilon": self.norm_epsilon,
      "dtype": self.dtype,
    }
    endpoints = {}
    common = {"norm": norm, "dtype": self.dtype}
    x = _ConvNorm(self.width, 3, self.activation, **common, stride=2, name="0")(
      images
    )
    endpoints["conv0"] = x
    for k, row in enumerate(self.rows, 1):
      x = _Block(row, self.version, **common, name=str(k))(x)
      endpoints[f"block{k}"] = x
    last = len(self.rows) + 1
    x = _ConvNorm(
      self.last_width, 1, self.activation, **common, name=str(last)
    )(x)
    endpoints[f"conv{last}"] = x
    return x, endpoints


class _ClassifierV2(nn.Module):
  """The class scores."""

  num_classes: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    x = layers.Dropout(0.2, deterministic=not train, name="0")(x)
    return layers.Dense(self.num_classes, dtype=self.dtype, name="1")(x)


class _ClassifierV3(nn.Module):
  """One hidden layer and the class scores."""

  num_classes: int
  hidden: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    x = layers.Dense(self.hidden, dtype=self.dtype, name="0")(x)
    hidden = layers.HardSwish(name="1")(x)
    x = layers.Dropout(0.2, deterministic=not train, name="2")(hidden)
    x = layers.Dense(self.num_classes, dtype=self.dtype, name="3")(x)
    return x, hidden


class MobileNetV2(nn.Module):
  """MobileNet V2: `apply(variables, images, train=False)`.

  Returns (logits, endpoints). Endpoints have the numbers of torchvision's
  `features`: `conv0`, the bottlenecks `block1` .. `block17`, `conv18`; and
  `pooled` [B, C]. Parameter paths joined by "." are torchvision's.

  Attributes:
    num_classes: size of the logits; None drops the classifier.
    output_stride: stride of the last map: 32, or 16 or 8 by dilation of the
      bottlenecks behind those that lose their stride.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_classes: int | None = 1000
  output_stride: int = 32
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    x, endpoints = _Features(
      _dilate(_v2_rows(), self.output_stride, at_once=False),
      32,
      1280,
      layers.Relu6,
      2,
      self.axis_name,
      dtype=self.dtype,
      name="features",
    )(images, train=train)
    x = layers.AdaptiveAvgPool((1, 1), name="avgpool")(x)
    x = endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    logits = _ClassifierV2(self.num_classes, self.dtype, name="classifier")(
      x, train
    )
    return logits, endpoints


class MobileNetV3(nn.Module):
  """MobileNet V3: `apply(variables, images, train=False)`.

  Returns (logits, endpoints). Endpoints have the numbers of torchvision's
  `features`: `conv0`, the bottlenecks `block1` .., the last convolution
  `conv16` (large) or `conv12` (small); `pooled` [B, C] and `hidden`.
  Parameter paths joined by "." are torchvision's.

  Attributes:
    rows: kernel, expanded channels, channels, whether there is squeeze and
      excitation, activation and stride of each bottleneck.
    hidden: width of the hidden layer of the classifier.
    num_classes: size of the logits; None drops the classifier.
    output_stride: stride of the last map: 32, or 16 or 8 by dilation, which
      begins at the bottleneck that loses its stride (torchvision's `dilated`
      is 16).
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  rows: tuple[_Row, ...]
  hidden: int
  num_classes: int | None = 1000
  output_stride: int = 32
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    x, endpoints = _Features(
      _dilate(self.rows, self.output_stride, at_once=True),
      16,
      6 * self.rows[-1].features,
      layers.HardSwish,
      3,
      self.axis_name,
      norm_epsilon=1e-3,
      norm_momentum=0.99,
      dtype=self.dtype,
      name="features",
    )(images, train=train)
    x = layers.AdaptiveAvgPool((1, 1), name="avgpool")(x)
    x = endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    logits, endpoints["hidden"] = _ClassifierV3(
      self.num_classes, self.hidden, self.dtype, name="classifier"
    )(x, train)
    return logits, endpoints


def mobilenet_v2(num_classes: int | None = 1000, **kwargs: Any) -> MobileNetV2:
  """MobileNet V2, width 1."""
  return MobileNetV2(num_classes, **kwargs)


def mobilenet_v3_large(
  num_classes: int | None = 1000, **kwargs: Any
) -> MobileNetV3:
  """MobileNet V3 large."""
  return MobileNetV3(_LARGE, 1280, num_classes, **kwargs)


def mobilenet_v3_small(
  num_classes: int | None = 1000, **kwargs: Any
) -> MobileNetV3:
  """MobileNet V3 small."""
  return MobileNetV3(_SMALL, 1024, num_classes, **kwargs)


def mobilenet_v3_large_features(
  *, output_stride: int = 32, **kwargs: Any
) -> nn.Module:
  """MobileNet V3 large without its classifier, for networks on top of it.

  `apply(variables, images, train=False) -> (last map, endpoints)`; parameter
  paths are those of torchvision's `features`: "0.0.weight".
  """
  rows = _dilate(_LARGE, output_stride, at_once=True)
  settings = {"norm_epsilon": 1e-3, "norm_momentum": 0.99} | kwargs
  return _Features(
    rows, 16, 6 * _LARGE[-1].features, layers.HardSwish, 3, **settings
  )
