"""ResNet, ResNeXt and wide ResNet with torchvision's names.

He et al. (arXiv 1512.03385), Xie et al. (arXiv 1611.05431), Zagoruyko and
Komodakis (arXiv 1605.07146). The stride of a bottleneck is in its 3x3
convolution ("v1.5"), as in torchvision, unless said otherwise.
"""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = [
  "ResNet",
  "resnet14_small",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet101",
  "resnet152",
  "resnet_small",
  "resnext50_32x4d",
  "resnext101_32x8d",
  "resnext101_64x4d",
  "wide_resnet50_2",
  "wide_resnet101_2",
]


class _Downsample(nn.Module):
  """The 1x1 projection of a shortcut."""

  features: int
  stride: int
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(
      self.features,
      1,
      self.stride,
      use_bias=False,
      dtype=self.dtype,
      name="0",
    )(x)
    return layers.batch_norm(**self.norm, name="1")(x)


class _Block(nn.Module):
  """Basic block (two 3x3) or bottleneck (1x1, 3x3, 1x1)."""

  width: int  # channels of the 3x3 convolutions
  features: int  # channels of the result
  bottleneck: bool
  stride: int
  dilation: int
  groups: int
  project: bool
  stride_in_1x1: bool
  norm: dict[str, Any]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    spatial: dict[str, Any] = {
      "stride": self.stride,
      "dilation": self.dilation,
    }
    if self.bottleneck:
      first = {}
      if self.stride_in_1x1:
        first["stride"], spatial["stride"] = self.stride, 1
      convs: tuple[tuple[int, int, dict[str, Any]], ...] = (
        (self.width, 1, first),
        (self.width, 3, {**spatial, "groups": self.groups}),
        (self.features, 1, {}),
      )
    else:
      convs = ((self.width, 3, spatial), (self.features, 3, {}))
    y = x
    for k, (features, size, options) in enumerate(convs, 1):
      y = layers.Conv(
        features,
        size,
        use_bias=False,
        dtype=self.dtype,
        name=f"conv{k}",
        **options,
      )(y)
      y = layers.batch_norm(**self.norm, name=f"bn{k}")(y)
      if k < len(convs):
        y = layers.Relu(name=f"relu{k}")(y)
    if self.project:
      x = _Downsample(
        self.features, self.stride, self.norm, self.dtype, name="downsample"
      )(x)
    y = layers.Add(name="add")(y, x)
    return layers.Relu(name="relu")(y)


class _Stage(nn.Module):
  """A sequence of blocks; the first may change stride and channels."""

  blocks: tuple[dict[str, Any], ...]
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x):
    for k, block in enumerate(self.blocks):
      x = _Block(**block, **self.common, name=str(k))(x)
    return x


class ResNet(nn.Module):
  """ResNet: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `conv1` (after ReLU), `pool1`, one for each stage, `layer1` ..
  `layer4` in the published ones, `pooled` [B, C]. Parameter paths joined by
  "." are torchvision's.

  Attributes:
    num_blocks: blocks of each stage; four stages in the published ones.
    bottleneck: bottleneck blocks (True) or basic blocks.
    num_classes: size of the logits; None drops the classifier.
    width: channels of the stem.
    groups: groups of the 3x3 convolutions (ResNeXt).
    width_per_group: base width; 128 gives the wide networks.
    stem_kernel: side of the first convolution.
    stem_stride: its stride; 1 for small images, where a stride of 4 before
      the first block would leave too little.
    output_stride: largest stride of a stage; smaller than that of the last one
      by nature (32 for four stages and a `stem_stride` of 2) by dilation
      instead of stride in the last one or two stages (torchvision's
      replace_stride_with_dilation).
    stem_widths: channels of a stem of 3x3 convolutions instead of one large
      one; (64, 64, 128) is that of DeepLab.
    multi_grid: factors of the dilation of the last stage's blocks, one each.
    dilate_first: the first block of a dilated stage is dilated as the others;
      in torchvision it keeps the dilation of the stage before.
    stride_in_1x1: the stride of a bottleneck is in its first convolution, as
      in the original network and in detectron2's, not in the 3x3.
    frozen_norm: normalise with constants, see `FrozenBatchNorm`.
    norm_epsilon: added to the variances.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_blocks: tuple[int, ...]
  bottleneck: bool = True
  num_classes: int | None = 1000
  width: int = 64
  groups: int = 1
  width_per_group: int = 64
  stem_kernel: int = 7
  stem_stride: int = 2
  output_stride: int = 32
  stem_widths: tuple[int, ...] = ()
  multi_grid: tuple[int, ...] = ()
  dilate_first: bool = False
  stride_in_1x1: bool = False
  frozen_norm: bool = False
  norm_epsilon: float = 1e-5
  axis_name: str | None = None
  dtype: Any = None

  def _stages(self) -> list[tuple[dict[str, Any], ...]]:
    """Widths, strides and dilations of every block."""
    if self.output_stride not in (8, 16, 32):
      raise ValueError(
        "ResNet: `output_stride` must be 8, 16 or 32, got "
        f"{self.output_stride}."
      )
    if self.multi_grid and len(self.multi_grid) != self.num_blocks[-1]:
      raise ValueError(
        "ResNet: `multi_grid` must have one factor for each block of layer4, "
        f"{self.num_blocks[-1]}, got {self.multi_grid}."
      )
    expansion = 4 if self.bottleneck else 1
    channels = (self.width, *self.stem_widths)[-1]
    dilation, total = 1, 2 * self.stem_stride
    stages = []
    for stage, count in enumerate(self.num_blocks):
      planes = self.width * 2**stage
      width = planes
      if self.bottleneck:
        width = planes * self.width_per_group // 64 * self.groups
      stride, first_dilation = (1 if stage == 0 else 2), dilation
      if total * stride > self.output_stride:
        dilation, stride = dilation * stride, 1
      total *= stride
      if self.dilate_first:
        first_dilation = dilation
      last = stage == len(self.num_blocks) - 1
      grid = (self.multi_grid if last else ()) or (1,) * count
      blocks = []
      for k in range(count):
        blocks.append(
          {
            "width": width,
            "features": planes * expansion,
            "stride": stride if k == 0 else 1,
            "dilation": (dilation if k else first_dilation) * grid[k],
            "project": k == 0
            and (stride != 1 or channels != planes * expansion),
          }
        )
        channels = planes * expansion
      stages.append(tuple(blocks))
    return stages

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    norm = {
      "frozen": self.frozen_norm,
      "use_running_average": not train,
      "axis_name": self.axis_name,
      "epsilon": self.norm_epsilon,
      "dtype": self.dtype,
    }
    common = {
      "bottleneck": self.bottleneck,
      "groups": self.groups,
      "stride_in_1x1": self.stride_in_1x1,
      "norm": norm,
      "dtype": self.dtype,
    }
    endpoints = {}
    x = images
    for k, width in enumerate(self.stem_widths or (self.width,), 1):
      x = layers.Conv(
        width,
        3 if self.stem_widths else self.stem_kernel,
        self.stem_stride if k == 1 else 1,
        use_bias=False,
        dtype=self.dtype,
        name=f"conv{k}",
      )(x)
      x = layers.batch_norm(**norm, name=f"bn{k}")(x)
      x = layers.Relu(name="relu" if k == 1 else f"relu{k}")(x)
    endpoints["conv1"] = x
    x = endpoints["pool1"] = layers.MaxPool(3, 2, 1, name="maxpool")(x)
    for k, blocks in enumerate(self._stages(), 1):
      x = _Stage(blocks, common, name=f"layer{k}")(x)
      endpoints[f"layer{k}"] = x
    x = layers.AdaptiveAvgPool((1, 1), name="avgpool")(x)
    x = endpoints["pooled"] = x.reshape(x.shape[0], -1)
    if self.num_classes is None:
      return None, endpoints
    logits = layers.Dense(self.num_classes, dtype=self.dtype, name="fc")(x)
    return logits, endpoints


def resnet18(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-18."""
  return ResNet((2, 2, 2, 2), False, num_classes, **kwargs)


def resnet34(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-34."""
  return ResNet((3, 4, 6, 3), False, num_classes, **kwargs)


def resnet50(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-50."""
  return ResNet((3, 4, 6, 3), True, num_classes, **kwargs)


def resnet101(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-101."""
  return ResNet((3, 4, 23, 3), True, num_classes, **kwargs)


def resnet152(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-152."""
  return ResNet((3, 8, 36, 3), True, num_classes, **kwargs)


def resnext50_32x4d(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNeXt-50, 32 groups of base width 4."""
  return ResNet(
    (3, 4, 6, 3), True, num_classes, groups=32, width_per_group=4, **kwargs
  )


def resnext101_32x8d(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNeXt-101, 32 groups of base width 8."""
  return ResNet(
    (3, 4, 23, 3), True, num_classes, groups=32, width_per_group=8, **kwargs
  )


def resnext101_64x4d(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNeXt-101, 64 groups of base width 4."""
  return ResNet(
    (3, 4, 23, 3), True, num_classes, groups=64, width_per_group=4, **kwargs
  )


def wide_resnet50_2(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-50 with inner layers twice as wide."""
  return ResNet((3, 4, 6, 3), True, num_classes, width_per_group=128, **kwargs)


def wide_resnet101_2(num_classes: int | None = 1000, **kwargs: Any) -> ResNet:
  """ResNet-101 with inner layers twice as wide."""
  return ResNet((3, 4, 23, 3), True, num_classes, width_per_group=128, **kwargs)


def resnet14_small(num_classes: int | None = None, **kwargs: Any) -> ResNet:
  """Three stages of two basic blocks, 32 to 128 channels, strides 4, 8 and 16.

  The body of the small detectors and of the small PointRend, for pictures of
  128 x 128: first convolution 3x3 of stride 2.
  """
  settings = {"width": 32, "stem_kernel": 3, "output_stride": 16} | kwargs
  return ResNet((2, 2, 2), False, num_classes, **settings)


def resnet_small(num_classes: int | None = 20, **kwargs: Any) -> ResNet:
  """ResNet-10 at a quarter of the width, first convolution 3x3 of stride 1.

  A small classifier of the 20 generated texture classes, trained by
  `experiments/pretrain`: one basic block for each stage, and half the strides
  of a ResNet, 2, 4, 8 and 16.
  """
  settings = {
    "width": 16,
    "stem_kernel": 3,
    "stem_stride": 1,
    "output_stride": 16,
  } | kwargs
  return ResNet((1, 1, 1, 1), False, num_classes, **settings)
