"""Atrous spatial pyramid pooling, and the heads of DeepLab that stand on it.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation"
(arXiv 1706.05587), and "Encoder-Decoder with Atrous Separable Convolution"
(arXiv 1802.02611). Two forms are released: torchvision's, whose image pooling
is global and normalised, and detectron2's, whose pooling has a window of the
size of the training crop and a bias. Names are torchvision's, and in the
detectron2 forms detectron2's, with "0" for a convolution and "1" for its norm.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.nn import layers
from vision_jax.nn.pyramids import ConvBlock
from vision_jax.ops import sampling

__all__ = ["ASPP", "DeepLabHead", "DeepLabPlusHead", "DeepLabWindowHead"]

_PREDICTOR = nn.initializers.normal(0.001)


class _WindowMean(nn.Module):
  """Means over windows that lie inside the map, at every place."""

  window: tuple[int, int] | None  # the whole map, if None or larger

  @nn.compact
  def __call__(self, x):
    if self.window is None:
      return x.mean((-3, -2), keepdims=True)
    for axis, size in zip((1, 2), self.window, strict=True):
      n = x.shape[axis]
      size = min(size, n)
      start = np.arange(n - size + 1)[:, None]
      inside = (start <= np.arange(n)) & (np.arange(n) < start + size)
      band = jnp.asarray(inside / size, x.dtype)
      x = jnp.tensordot(band, x, (1, axis), precision="highest")
      x = jnp.moveaxis(x, 0, axis)
    return x


class _Pooling(nn.Module):
  """Image pooling: mean, 1x1 convolution, enlarged to the map."""

  features: int
  window: tuple[int, int] | None
  use_norm: bool
  axis_name: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    y = _WindowMean(self.window, name="0")(x)
    y = layers.Conv(
      self.features,
      1,
      use_bias=not self.use_norm,
      dtype=self.dtype,
      name="1",
    )(y)
    if self.use_norm:
      y = layers.BatchNorm(
        use_running_average=not train,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name="2",
      )(y)
    y = layers.Relu(name="3")(y)
    return sampling.resize(y, (x.shape[1], x.shape[2]))


class _Branches(nn.Module):
  """A 1x1 convolution, dilated 3x3 ones and image pooling."""

  features: int
  rates: Sequence[int]
  window: tuple[int, int] | None
  pool_norm: bool
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x, train):
    blocks = [ConvBlock(self.features, 1, True, **self.common, name="0")]
    for k, rate in enumerate(self.rates, 1):
      blocks.append(
        ConvBlock(
          self.features,
          3,
          True,
          dilation=rate,
          **self.common,
          name=str(k),
        )
      )
    results = [block(x, train=train) for block in blocks]
    pooling = _Pooling(
      self.features,
      self.window,
      self.pool_norm,
      **self.common,
      name=str(len(blocks)),
    )
    return [*results, pooling(x, train)]


class _Project(nn.Module):
  """1x1 convolution of the joined branches, and dropout."""

  features: int
  dropout: float
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x, train):
    x = layers.Conv(
      self.features,
      1,
      use_bias=False,
      dtype=self.common["dtype"],
      name="0",
    )(x)
    x = layers.BatchNorm(
      use_running_average=not train, **self.common, name="1"
    )(x)
    x = layers.Relu(name="2")(x)
    return layers.Dropout(self.dropout, deterministic=not train, name="3")(x)


class ASPP(nn.Module):
  """Atrous spatial pyramid pooling.

  Attributes:
    features: channels of every branch and of the result.
    rates: dilations of the 3x3 branches. At output stride 16 the papers take
      (6, 12, 18), at 8 twice that.
    dropout: share of the result that training drops; torchvision 0.5,
      detectron2 0.1.
    pool_window: rows and columns of the map that image pooling averages; None
      is all. detectron2: training crop / stride.
    pool_norm: whether image pooling has a norm (torchvision) or a bias.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> aspp = nn.ASPP(8, rates=(1, 2))
    >>> aspp.apply(aspp.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 8)
  """

  features: int = 256
  rates: Sequence[int] = (12, 24, 36)
  dropout: float = 0.5
  pool_window: tuple[int, int] | None = None
  pool_norm: bool = True
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """[B, h, w, C] -> [B, h, w, features]."""
    common = {"axis_name": self.axis_name, "dtype": self.dtype}
    branches = _Branches(
      self.features,
      self.rates,
      self.pool_window,
      self.pool_norm,
      common,
      name="convs",
    )(x, train)
    x = layers.Concat(name="concat")(branches)
    return _Project(self.features, self.dropout, common, name="project")(
      x, train
    )


class DeepLabHead(nn.Module):
  """Head of DeepLabV3 as torchvision has it: ASPP, 3x3, 1x1.

  Attributes:
    num_classes: channels of the result.
    rates: see `ASPP`.
    features: channels inside.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> head = nn.DeepLabHead(4, rates=(1, 2), features=8)
    >>> head.apply(head.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 4)
  """

  num_classes: int
  rates: Sequence[int] = (12, 24, 36)
  features: int = 256
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """[B, h, w, C] -> logits [B, h, w, num_classes]."""
    common = {"axis_name": self.axis_name, "dtype": self.dtype}
    x = ASPP(self.features, self.rates, **common, name="0")(x, train=train)
    x = layers.Conv(
      self.features, 3, use_bias=False, dtype=self.dtype, name="1"
    )(x)
    x = layers.BatchNorm(use_running_average=not train, **common, name="2")(x)
    x = layers.Relu(name="3")(x)
    return layers.Conv(self.num_classes, 1, dtype=self.dtype, name="4")(x)


class DeepLabWindowHead(nn.Module):
  """Head of DeepLabV3 as detectron2 has it: ASPP with a window, 1x1.

  Attributes:
    num_classes: channels of the result.
    rates: see `ASPP`.
    pool_window: see `ASPP`.
    features: channels inside.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((1, 5, 7, 3))
    >>> head = nn.DeepLabWindowHead(4, rates=(1, 2), features=8)
    >>> head.apply(head.init(jax.random.key(0), x), x).shape
    (1, 5, 7, 4)
  """

  num_classes: int
  rates: Sequence[int] = (6, 12, 18)
  pool_window: tuple[int, int] | None = None
  features: int = 256
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
    """[B, h, w, C] -> logits [B, h, w, num_classes]."""
    x = ASPP(
      self.features,
      self.rates,
      0.1,
      self.pool_window,
      False,
      self.axis_name,
      self.dtype,
      name="aspp",
    )(x, train=train)
    return layers.Conv(
      self.num_classes,
      1,
      dtype=self.dtype,
      kernel_init=_PREDICTOR,
      name="predictor",
    )(x)


class _Fuse(nn.Module):
  """Two 3x3 convolutions."""

  features: int
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x, train):
    for k in range(2):
      x = ConvBlock(self.features, 3, True, **self.common, name=str(k))(
        x, train=train
      )
    return x


class _DecoderStage(nn.Module):
  """What `decoder.res2` has: fine features reduced, joined and fused."""

  reduced: int
  features: int
  common: dict[str, Any]

  @nn.compact
  def __call__(self, coarse, fine, train):
    fine = ConvBlock(self.reduced, 1, True, **self.common, name="project_conv")(
      fine, train=train
    )
    coarse = sampling.resize(coarse, (fine.shape[1], fine.shape[2]))
    x = layers.Concat(name="concat")([fine, coarse])
    return _Fuse(self.features, self.common, name="fuse_conv")(x, train)


class _EncoderStage(nn.Module):
  """What `decoder.res5` has."""

  aspp: dict[str, Any]

  @nn.compact
  def __call__(self, x, train):
    return ASPP(**self.aspp, name="project_conv")(x, train=train)


class _Decoder(nn.Module):
  """ASPP of the coarse map, joined with the fine one."""

  aspp: dict[str, Any]
  reduced: int
  common: dict[str, Any]

  @nn.compact
  def __call__(self, coarse, fine, train):
    x = _EncoderStage(self.aspp, name="res5")(coarse, train)
    features = self.aspp["features"]
    return _DecoderStage(self.reduced, features, self.common, name="res2")(
      x, fine, train
    )


class DeepLabPlusHead(nn.Module):
  """Head of DeepLabV3+ as detectron2 has it.

  ASPP of the coarse map is enlarged, joined with the fine map after a 1x1
  convolution, and goes through two 3x3 convolutions.

  Attributes:
    num_classes: channels of the result.
    rates: see `ASPP`.
    pool_window: see `ASPP`.
    features: channels inside.
    reduced: channels of the fine map after its 1x1 convolution.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> coarse, fine = jnp.ones((1, 3, 4, 6)), jnp.ones((1, 9, 13, 5))
    >>> head = nn.DeepLabPlusHead(4, rates=(1, 2), features=8, reduced=2)
    >>> variables = head.init(jax.random.key(0), coarse, fine)
    >>> head.apply(variables, coarse, fine).shape
    (1, 9, 13, 4)
  """

  num_classes: int
  rates: Sequence[int] = (6, 12, 18)
  pool_window: tuple[int, int] | None = None
  features: int = 256
  reduced: int = 48
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, coarse: jax.Array, fine: jax.Array, *, train: bool = False
  ) -> jax.Array:
    """[B, h, w, C], [B, H, W, c] -> logits [B, H, W, num_classes]."""
    common = {"axis_name": self.axis_name, "dtype": self.dtype}
    aspp = {
      "features": self.features,
      "rates": self.rates,
      "dropout": 0.1,
      "pool_window": self.pool_window,
      "pool_norm": False,
      **common,
    }
    x = _Decoder(aspp, self.reduced, common, name="decoder")(
      coarse, fine, train
    )
    return layers.Conv(
      self.num_classes,
      1,
      dtype=self.dtype,
      kernel_init=_PREDICTOR,
      name="predictor",
    )(x)
