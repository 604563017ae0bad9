"""The networks of YOLOv3 (Redmon, Farhadi, arXiv 1804.02767).

Layers are called in the order of darknet's configuration files, which is that
of its files of weights. Anchors come one group for each head, coarse first.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import layers
from vision_jax.nn.backbones import darknet

__all__ = [
  "MODELS",
  "Yolo",
  "YoloTiny",
  "yolo_small",
  "yolov3",
  "yolov3_spp",
  "yolov3_tiny",
]

Anchors = tuple[tuple[tuple[float, float], ...], ...]

# cfg/yolov3.cfg: (width, height) in pixels, at any size of the input.
_ANCHORS: Anchors = (
  ((116, 90), (156, 198), (373, 326)),
  ((30, 61), (62, 45), (59, 119)),
  ((10, 13), (16, 30), (33, 23)),
)
_TINY: Anchors = (
  ((81, 82), (135, 169), (344, 319)),
  ((10, 14), (23, 27), (37, 58)),
)
_TINY_FIRST = ((23, 27), (37, 58), (81, 82))


class _Neck(nn.Module):
  """Kernels of 1 and 3 by turns, five in all; SPP behind the third."""

  features: int
  spp: bool
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x):
    def conv(x, index):
      wide = index % 2
      features = self.features if wide else self.features // 2
      block = darknet.DarknetConv(
        features, 3 if wide else 1, **self.common, name=str(index)
      )
      return block(x)

    for k in range(3):
      x = conv(x, k)
    if self.spp:
      pooled = [
        layers.MaxPool(side, 1, padding=side // 2, name=f"pool{side}")(x)
        for side in (5, 9, 13)
      ]
      x = layers.Concat(name="pools")([*pooled[::-1], x])
      x = darknet.DarknetConv(self.features // 2, 1, **self.common, name="spp")(
        x
      )
    return conv(conv(x, 3), 4)


class _Head(nn.Module):
  """A 3 x 3 convolution and the map [B, h, w, A, 5 + K], float32."""

  features: int
  num_anchors: int
  num_classes: int
  common: dict[str, Any]

  @nn.compact
  def __call__(self, x):
    x = darknet.DarknetConv(self.features, 3, **self.common, name="block")(x)
    numbers = 5 + self.num_classes
    x = layers.Conv(
      self.num_anchors * numbers, 1, dtype=self.common["dtype"], name="out"
    )(x)
    x = x.reshape(*x.shape[:-1], self.num_anchors, numbers)
    return x.astype(jnp.float32)


def _enlarged(x: jax.Array) -> jax.Array:
  """[B, h, w, C] -> [B, 2 h, 2 w, C], nearest."""
  return x.repeat(2, -3).repeat(2, -2)


def _patches(x: jax.Array, side: int) -> jax.Array:
  """[B, H, W, C] -> [B, H / side, W / side, side^2 C]."""
  if side == 1:
    return x
  batch, height, width, channels = x.shape
  x = x.reshape(batch, height // side, side, width // side, side, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(*x.shape[:3], side**2 * channels)


def _check_images(name: str, images: jax.Array, stride: int) -> None:
  if images.ndim != 4 or any(side % stride for side in images.shape[1:3]):
    raise ValueError(
      f"{name}: `images` must be [B, H, W, 3] with sides that {stride} "
      f"divides, got {images.shape}; `letterbox` fits any picture."
    )


class Yolo(nn.Module):
  """YOLOv3: `apply(variables, images, train=False) -> (maps, endpoints)`.

  Maps: a tuple, one [B, h, w, A, 5 + K] for each head, coarse first; the last
  axis is x, y, width, height, objectness, classes, all before the activation.
  Endpoints: those of the backbone, and `neck0`, `neck1`, ... before the heads.

  Attributes:
    num_classes: K.
    anchors: (width, height) in pixels, one group for each head, coarse first;
      the heads read the last stages of the backbone.
    num_blocks: residual blocks of the stages of the backbone.
    width: channels of its first convolution.
    spp: spatial pyramid pooling before the first head.
    patch: side of the squares whose pixels become channels before all else; 1
      for darknet's networks.
    image_size: (height, width) that pictures are brought to by default.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_classes: int = 80
  anchors: Anchors = _ANCHORS
  num_blocks: tuple[int, ...] = (1, 2, 8, 8, 4)
  width: int = 32
  spp: bool = False
  patch: int = 1
  image_size: tuple[int, int] = (416, 416)
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[tuple[jax.Array, ...], dict[str, jax.Array]]:
    """Images [B, H, W, 3] in [0, 1] -> (maps, endpoints)."""
    last = len(self.num_blocks)
    _check_images("Yolo", images, self.patch * 2**last)
    settings = {"axis_name": self.axis_name, "dtype": self.dtype}
    common = {"train": train, **settings}
    _, endpoints = darknet.Darknet(
      self.num_blocks,
      self.width,
      num_classes=None,
      **settings,
      name="backbone",
    )(_patches(images, self.patch), train=train)
    endpoints = {k: v for k, v in endpoints.items() if k != "pooled"}
    maps = []
    x = endpoints[f"stage{last}"]
    for k, group in enumerate(self.anchors):
      features = self.width * 2 ** (last - k)
      if k:
        x = darknet.DarknetConv(features // 2, 1, **common, name=f"lateral{k}")(
          x
        )
        x = layers.Concat(name=f"concat{k}")(
          [_enlarged(x), endpoints[f"stage{last - k}"]]
        )
      spp = self.spp and k == 0
      x = _Neck(features, spp, common, name=f"neck{k}")(x)
      endpoints[f"neck{k}"] = x
      head = _Head(
        features, len(group), self.num_classes, common, name=f"head{k}"
      )
      maps.append(head(x))
    return tuple(maps), endpoints


class YoloTiny(nn.Module):
  """YOLOv3-tiny: convolutions and max-pools, two heads; as `Yolo` in use.

  Endpoints: `conv0` .. `conv6`, `neck`.

  Attributes:
    num_classes: K.
    anchors: as of `Yolo`, two groups.
    image_size: (height, width) that pictures are brought to by default.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  num_classes: int = 80
  anchors: Anchors = _TINY
  image_size: tuple[int, int] = (416, 416)
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[tuple[jax.Array, ...], dict[str, jax.Array]]:
    """Images [B, H, W, 3] in [0, 1] -> (maps, endpoints)."""
    _check_images("YoloTiny", images, 32)
    common = {
      "train": train,
      "axis_name": self.axis_name,
      "dtype": self.dtype,
    }

    def conv(x, features, size, name):
      block = darknet.DarknetConv(features, size, **common, name=name)
      return block(x)

    endpoints = {}
    x = images
    for k in range(7):
      x = conv(x, 16 * 2**k, 3, f"conv{k}")
      endpoints[f"conv{k}"] = x
      if k < 5:
        x = layers.MaxPool(2, name=f"pool{k}")(x)
      elif k == 5:  # of stride 1: the padding is to the right and below
        border = ((0, 0), (0, 1), (0, 1), (0, 0))
        x = jnp.pad(x, border, constant_values=-jnp.inf)
        x = layers.MaxPool(2, 1, name=f"pool{k}")(x)
    x = endpoints["neck"] = conv(x, 256, 1, "neck")
    coarse, fine = (len(group) for group in self.anchors)
    maps = [_Head(512, coarse, self.num_classes, common, name="head0")(x)]
    x = conv(x, 128, 1, "lateral1")
    x = layers.Concat(name="concat1")([_enlarged(x), endpoints["conv4"]])
    maps.append(_Head(256, fine, self.num_classes, common, name="head1")(x))
    return tuple(maps), endpoints


def _tuples(anchors: Sequence[Sequence[Sequence[float]]]) -> Anchors:
  """Anchors as a module needs them, also from JSON."""
  return tuple(tuple((a[0], a[1]) for a in group) for group in anchors)


def yolov3(num_classes: int = 80, **kwargs: Any) -> Yolo:
  """YOLOv3 on Darknet-53 (cfg/yolov3.cfg, yolov3-voc.cfg).

  Args:
    num_classes: K; 80 for COCO, 20 for VOC.
    **kwargs: attributes of `Yolo`.

  Returns:
    The module.

  Example:
    >>> from vision_jax.systems import yolo
    >>> yolo.yolov3().anchors[2][0]
    (10, 13)

  Source:
    github.com/pjreddie/darknet, cfg/yolov3.cfg.
  """
  if "anchors" in kwargs:
    kwargs["anchors"] = _tuples(kwargs["anchors"])
  for name in ("num_blocks", "image_size"):
    if name in kwargs:
      kwargs[name] = tuple(kwargs[name])
  return Yolo(num_classes, **kwargs)


def yolov3_spp(num_classes: int = 80, **kwargs: Any) -> Yolo:
  """YOLOv3 with spatial pyramid pooling (cfg/yolov3-spp.cfg).

  Args:
    num_classes: K.
    **kwargs: attributes of `Yolo`.

  Returns:
    The module.

  Example:
    >>> from vision_jax.systems import yolo
    >>> yolo.yolov3_spp().spp
    True

  Source:
    github.com/pjreddie/darknet, cfg/yolov3-spp.cfg.
  """
  return yolov3(
    num_classes, **{"spp": True, "image_size": (608, 608), **kwargs}
  )


def yolov3_tiny(
  num_classes: int = 80, *, first_release: bool = False, **kwargs: Any
) -> YoloTiny:
  """YOLOv3-tiny (cfg/yolov3-tiny.cfg).

  Args:
    num_classes: K.
    first_release: take the finer anchors of the first release of the file
      (mask 1, 2, 3) instead of today's (mask 0, 1, 2).
    **kwargs: attributes of `YoloTiny`.

  Returns:
    The module.

  Example:
    >>> from vision_jax.systems import yolo
    >>> yolo.yolov3_tiny().anchors[1][0]
    (10, 14)
    >>> yolo.yolov3_tiny(first_release=True).anchors[1][0]
    (23, 27)

  Source:
    github.com/pjreddie/darknet, cfg/yolov3-tiny.cfg; the first release is
    that of revision 481d9d9.
  """
  if first_release:
    kwargs = {"anchors": (_TINY[0], _TINY_FIRST), **kwargs}
  if "anchors" in kwargs:
    kwargs["anchors"] = _tuples(kwargs["anchors"])
  if "image_size" in kwargs:
    kwargs["image_size"] = tuple(kwargs["image_size"])
  return YoloTiny(num_classes, **kwargs)


def yolo_small(num_classes: int = 12, **kwargs: Any) -> Yolo:
  """YOLOv3 small enough for a laptop, for pictures of 128 x 128.

  Patches of 2 x 2 pixels, three stages of the backbone instead of five, three
  quarters of its width, heads of strides 16 and 8.

  Args:
    num_classes: K.
    **kwargs: attributes of `Yolo`.

  Returns:
    The module.

  Example:
    >>> from vision_jax.systems import yolo
    >>> yolo.yolo_small().image_size
    (128, 128)

  Source:
    Made for the generated shapes of this library.
  """
  settings: dict[str, Any] = {
    "anchors": (
      ((29, 29), (40, 40), (58, 58)),
      ((10, 10), (15, 15), (21, 21)),
    ),
    "num_blocks": (1, 2, 2),
    "width": 24,
    "patch": 2,
    "image_size": (128, 128),
  }
  return yolov3(num_classes, **{**settings, **kwargs})


MODELS: dict[str, Callable[..., Any]] = {
  "yolov3": yolov3,
  "yolov3_spp": yolov3_spp,
  "yolov3_tiny": yolov3_tiny,
  "yolo_small": yolo_small,
}
"""Name -> constructor, whose first argument is the number of classes."""
