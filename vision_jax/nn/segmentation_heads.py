"""Heads that give every cell of a map its class: FCN, LR-ASPP, Semantic FPN."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from vision_jax.nn import layers
from vision_jax.nn.pyramids import ConvBlock
from vision_jax.ops import sampling

__all__ = ["CoarseSegmentation", "FCNHead", "LRASPPHead", "SemanticFPNHead"]


class CoarseSegmentation(NamedTuple):
  """What a network says before it is enlarged.

  Attributes:
    logits: scores at the stride of the head, [B, h, w, K].
    fine: features of higher resolution, [B, H, W, C], which PointRend reads;
      or several such maps, whose channels it joins at each point.
    aux: scores of the auxiliary head, or None.
  """

  logits: jax.Array
  fine: jax.Array | tuple[jax.Array, ...]
  aux: jax.Array | None = None


class FCNHead(nn.Module):
  """3x3 convolution to a quarter of the channels, dropout 0.1, 1x1.

  Long et al., "Fully Convolutional Networks for Semantic Segmentation" (arXiv
  1411.4038), as torchvision has it, with its names.

  Attributes:
    num_classes: channels of the result.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 8))
    >>> head = nn.FCNHead(4)
    >>> head.apply(head.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 4)
  """

  num_classes: int
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """[B, h, w, C] -> logits [B, h, w, num_classes]."""
    x = layers.Conv(
      x.shape[-1] // 4, 3, use_bias=False, dtype=self.dtype, name="0"
    )(x)
    x = layers.BatchNorm(
      use_running_average=not train,
      axis_name=self.axis_name,
      dtype=self.dtype,
      name="1",
    )(x)
    x = layers.Relu(name="2")(x)
    x = layers.Dropout(0.1, deterministic=not train, name="3")(x)
    return layers.Conv(self.num_classes, 1, dtype=self.dtype, name="4")(x)


class _Gates(nn.Module):
  """Gates of the channels from their means."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.AdaptiveAvgPool((1, 1), name="0")(x)
    x = layers.Conv(
      self.features, 1, use_bias=False, dtype=self.dtype, name="1"
    )(x)
    return layers.Sigmoid(name="2")(x)


class LRASPPHead(nn.Module):
  """Lite reduced ASPP: gated coarse features, joined with fine ones as scores.

  Howard et al., "Searching for MobileNetV3" (arXiv 1905.02244), section 6.4, as
  torchvision has it, with its names.

  Attributes:
    num_classes: channels of the result.
    features: channels of the coarse features.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> coarse, fine = jnp.ones((1, 3, 4, 6)), jnp.ones((1, 9, 13, 5))
    >>> head = nn.LRASPPHead(4, features=8)
    >>> variables = head.init(jax.random.key(0), coarse, fine)
    >>> head.apply(variables, coarse, fine).shape
    (1, 9, 13, 4)
  """

  num_classes: int
  features: int = 128
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, coarse: jax.Array, fine: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """[B, h, w, C], [B, H, W, c] -> logits [B, H, W, num_classes]."""
    x = ConvBlock(
      self.features,
      1,
      use_norm=True,
      axis_name=self.axis_name,
      dtype=self.dtype,
      name="cbr",
    )(coarse, train=train)
    gates = _Gates(self.features, self.dtype, name="scale")(coarse)
    x = layers.Multiply(name="gated")(x, gates)
    x = sampling.resize(x, (fine.shape[1], fine.shape[2]))
    low = layers.Conv(
      self.num_classes, 1, dtype=self.dtype, name="low_classifier"
    )(fine)
    high = layers.Conv(
      self.num_classes, 1, dtype=self.dtype, name="high_classifier"
    )(x)
    return layers.Add(name="sum")(low, high)


class _NormedConv(nn.Module):
  """3x3 convolution, group normalisation, ReLU."""

  features: int
  num_groups: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(
      self.features, 3, use_bias=False, dtype=self.dtype, name="0"
    )(x)
    x = nn.GroupNorm(
      self.num_groups,
      epsilon=1e-5,
      dtype=self.dtype,
      use_fast_variance=False,
      name="1",
    )(x)
    return layers.Relu(name="2")(x)


class _Level(nn.Module):
  """Convolutions of one level, each followed by an enlargement if it is coarse.

  In detectron2 they are one sequence: with enlargements, the convolutions have
  the even numbers.
  """

  features: int
  num_groups: int
  dtype: Any

  @nn.compact
  def __call__(self, x, sizes):
    for k in range(max(1, len(sizes))):
      x = _NormedConv(
        self.features, self.num_groups, self.dtype, name=str(2 * k)
      )(x)
      if sizes:
        x = sampling.resize(x, sizes[k])
    return x


class SemanticFPNHead(nn.Module):
  """Levels of a feature pyramid enlarged to one stride, added and classified.

  Kirillov et al., "Panoptic Feature Pyramid Networks" (arXiv 1901.02446),
  section 3, as detectron2 has it, with its names.

  Attributes:
    num_classes: channels of the result.
    strides: of the given levels, falling resolution, powers of two.
    common_stride: of the result; that of a level.
    features: channels inside.
    num_groups: of group normalisation.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> maps = [jnp.ones((1, 8, 12, 3)), jnp.ones((1, 4, 6, 3))]
    >>> head = nn.SemanticFPNHead(5, strides=(4, 8), features=8, num_groups=2)
    >>> head.apply(head.init(jax.random.key(0), maps), maps).shape
    (1, 8, 12, 5)
  """

  num_classes: int
  strides: Sequence[int] = (4, 8, 16, 32)
  common_stride: int = 4
  features: int = 128
  num_groups: int = 32
  dtype: Any = None

  @nn.compact
  def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
    """[B, h_l, w_l, C] of each level -> logits at the common stride."""
    if len(maps) != len(self.strides) or self.common_stride not in self.strides:
      raise ValueError(
        f"SemanticFPNHead: `maps` must be one for each of {self.strides}, with "
        f"{self.common_stride} among them, got {len(maps)}."
      )
    levels, base = [], self.strides.index(self.common_stride)
    for k, (stride, x) in enumerate(zip(self.strides, maps, strict=True)):
      # Through the sizes of all levels between: exactly doubled if those are.
      sizes = [
        (maps[j].shape[1], maps[j].shape[2]) for j in range(k - 1, base - 1, -1)
      ]
      y = _Level(
        self.features,
        self.num_groups,
        self.dtype,
        name=f"p{int(math.log2(stride))}",
      )(x, sizes)
      levels.append(y)
    total = levels[0]
    for k, level in enumerate(levels[1:], 1):
      total = layers.Add(name=f"add{k}")(total, level)
    return layers.Conv(self.num_classes, 1, dtype=self.dtype, name="predictor")(
      total
    )
