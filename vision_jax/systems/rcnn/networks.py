"""The networks of the R-CNN family, with torchvision's parameter names.

`RCNN` holds a backbone, the head of the region proposal network and the heads
that look at regions. It has no rule for boxes: what anchors, proposals and
targets are stands in `proposals.py`, `detection.py` and `training.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import layers
from vision_jax.nn.point_heads import CoarseMaskHead, PointHead
from vision_jax.nn.pyramids import ConvBlock, FeaturePyramid
from vision_jax.ops import sampling
from vision_jax.systems.rcnn.settings import Settings

__all__ = ["RCNN", "Backbone"]

BOX_CELLS = 7
MASK_CELLS = 14
_SMALL = nn.initializers.normal(0.01)


class Backbone(nn.Module):
  """A network for features and, on it, a pyramid.

  Attributes:
    body: `body(images, train=...) -> (logits or last map, endpoints)`.
    levels: endpoints that are read, from fine to coarse.
    features: channels of the pyramid; 0 has no pyramid.
    use_norm: batch normalisation in the pyramid.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  body: nn.Module
  levels: tuple[str, ...]
  features: int = 256
  use_norm: bool = False
  axis_name: str | None = None
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> list[jax.Array]:
    """Images [B, H, W, 3] -> maps, fine to coarse, the pyramid's last one too.

    Args:
      images: normalised.
      train: whether batch normalisation learns.
    """
    _, endpoints = self.body(images, train=train)
    maps = [endpoints[name] for name in self.levels]
    if not self.features:
      return maps
    return FeaturePyramid(
      self.features, self.use_norm, self.axis_name, self.dtype, name="fpn"
    )(maps, train=train)


class _Blocks(nn.Module):
  """Convolutions of 3x3 with ReLU, named "0", "1", ..."""

  widths: tuple[int, ...]
  options: dict[str, Any]

  @nn.compact
  def __call__(self, x, train=False):
    for k, width in enumerate(self.widths):
      x = ConvBlock(width, 3, **self.options, name=str(k))(x, train=train)
    return x


class _RPNHead(nn.Module):
  """Objectness and box of every anchor of one map."""

  num_anchors: int
  depth: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    options = {"dtype": self.dtype, "kernel_init": _SMALL}
    widths = (x.shape[-1],) * self.depth
    x = _Blocks(widths, options, name="conv")(x)
    logits, deltas = (
      layers.Conv(
        self.num_anchors * number,
        1,
        dtype=self.dtype,
        kernel_init=_SMALL,
        name=name,
      )(x)
      for name, number in (("cls_logits", 1), ("bbox_pred", 4))
    )
    return logits, deltas.reshape(*logits.shape, 4)


class _RPN(nn.Module):
  """The same head for all maps."""

  num_anchors: int
  depth: int
  dtype: Any

  @nn.compact
  def __call__(self, maps):
    head = _RPNHead(self.num_anchors, self.depth, self.dtype, name="head")
    return [head(x) for x in maps]


class _BoxHead(nn.Module):
  """Convolutions if there are any, then dense layers with ReLU."""

  convs: tuple[int, ...]
  hidden: tuple[int, ...]
  dropout: float
  options: dict[str, Any]

  @nn.compact
  def __call__(self, x, train):
    for k, width in enumerate(self.convs):
      x = ConvBlock(width, 3, **self.options, name=str(k))(x, train=train)
    x = x.reshape(x.shape[0], -1)
    for k, units in enumerate(self.hidden):
      # torchvision counts flattening and ReLU where there are convolutions.
      first = len(self.convs) + 1
      name = str(first + 2 * k) if self.convs else f"fc{6 + k}"
      x = layers.Dense(units, dtype=self.options["dtype"], name=name)(x)
      x = layers.Relu(name=f"relu{k}")(x)
      if self.dropout:
        x = layers.Dropout(
          self.dropout, deterministic=not train, name=f"dropout{k}"
        )(x)
    return x


class _BoxPredictor(nn.Module):
  """Class scores and one box for each class."""

  num_classes: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    logits, deltas = (
      layers.Dense(
        self.num_classes * number,
        dtype=self.dtype,
        kernel_init=nn.initializers.normal(deviation),
        name=name,
      )(x)
      for name, number, deviation in (
        ("cls_score", 1, 0.01),
        ("bbox_pred", 4, 0.001),
      )
    )
    return logits, deltas.reshape(*logits.shape, 4)


class _MaskPredictor(nn.Module):
  """Twice the resolution, then a mask for each class."""

  features: int
  num_classes: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.ConvTranspose(
      self.features, 2, 2, dtype=self.dtype, name="conv5_mask"
    )(x)
    x = layers.Relu(name="relu")(x)
    return layers.Conv(
      self.num_classes, 1, dtype=self.dtype, name="mask_fcn_logits"
    )(x)


class _KeypointHead(nn.Module):
  """Convolutions of 3x3 named "0", "2", ... with ReLU between."""

  widths: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    for k, width in enumerate(self.widths):
      x = layers.Conv(width, 3, dtype=self.dtype, name=str(2 * k))(x)
      x = layers.Relu(name=str(2 * k + 1))(x)
    return x


class _KeypointPredictor(nn.Module):
  """Four times the resolution: one heatmap for each keypoint."""

  num_keypoints: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.ConvTranspose(
      self.num_keypoints, 4, 2, 1, dtype=self.dtype, name="kps_score_lowres"
    )(x)
    size = (2 * x.shape[-3], 2 * x.shape[-2])
    return sampling.resize(x, size, mode="bilinear")


class _PointMasks(nn.Module):
  """PointRend's heads; they know no background."""

  net: "RCNN"  # for its attributes alone

  def setup(self):
    net = self.net
    if len(set(net.point_layers)) > 1 or not net.backbone.features:
      raise ValueError(
        "RCNN: `point_layers` must be of one width, on a backbone with a "
        f"pyramid, got {net.point_layers} and {net.backbone.features} features."
      )
    classes = net.num_classes - 1
    self.coarse_head = CoarseMaskHead(
      classes,
      width=net.backbone.features,
      hidden=net.coarse_hidden,
      dtype=net.dtype,
    )
    self.point_head = PointHead(
      classes, net.point_layers[0], len(net.point_layers), dtype=net.dtype
    )

  def __call__(self, x):
    coarse = self.coarse_head(x)
    if self.is_initializing():
      self.point_head(x[:, 0], coarse[:, :1, 0].repeat(x.shape[2], 1))
    return coarse


class _RoIHeads(nn.Module):
  """What looks at regions; every method takes [N, h, w, C]."""

  net: "RCNN"  # for its attributes alone

  def setup(self):
    net = self.net
    options = {
      "use_norm": net.use_norm,
      "axis_name": net.axis_name,
      "dtype": net.dtype,
    }
    self.mask_head: Any
    self.box_head = _BoxHead(
      net.box_convs, net.box_hidden, net.box_dropout, options
    )
    self.box_predictor = _BoxPredictor(net.num_classes, net.dtype)
    if net.point_layers:
      self.mask_head = _PointMasks(net)
    elif net.mask_layers:
      self.mask_head = _Blocks(net.mask_layers, options)
      self.mask_predictor = _MaskPredictor(
        net.mask_layers[-1], net.num_classes, net.dtype
      )
    if net.keypoint_layers:
      self.keypoint_head = _KeypointHead(net.keypoint_layers, net.dtype)
      self.keypoint_predictor = _KeypointPredictor(net.num_keypoints, net.dtype)

  def boxes(self, x, train):
    return self.box_predictor(self.box_head(x, train))

  def masks(self, x, train):
    return self.mask_predictor(self.mask_head(x, train))

  def coarse_masks(self, x):
    return self.mask_head(x)

  def keypoints(self, x):
    return self.keypoint_predictor(self.keypoint_head(x))


class RCNN(nn.Module):
  """A detector: backbone, proposals, boxes, and masks or keypoints.

  The constructors of this package make the published ones. Class 0 is the
  background. Parameter paths joined by "." are torchvision's.

  Attributes:
    backbone: what gives the maps.
    num_classes: number of classes, background included.
    anchor_sizes: sides of the anchors of each map; empty for a Fast R-CNN,
      whose proposals are given.
    anchor_ratios: heights over widths.
    rpn_depth: convolutions of the proposal head.
    box_convs: channels of the convolutions of the box head.
    box_hidden: units of its dense layers.
    box_dropout: rate of dropout behind them.
    mask_layers: channels of the convolutions of the mask head; empty has none.
    point_layers: channels of the layers of PointRend's head of points, all the
      same; empty has none. In place of `mask_layers`.
    coarse_hidden: units of PointRend's coarse mask head.
    keypoint_layers: channels of the convolutions of the keypoint head; empty
      has none.
    num_keypoints: number of keypoints.
    use_norm: batch normalisation in the heads.
    roi_pool: max-pool regions of the one map (RoIPool), not RoIAlign.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
    settings: all that has no parameter.
  """

  backbone: Backbone
  num_classes: int = 91
  anchor_sizes: tuple[tuple[float, ...], ...] = ()
  anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
  rpn_depth: int = 1
  box_convs: tuple[int, ...] = ()
  box_hidden: tuple[int, ...] = (1024, 1024)
  box_dropout: float = 0.0
  mask_layers: tuple[int, ...] = ()
  point_layers: tuple[int, ...] = ()
  coarse_hidden: int = 1024
  keypoint_layers: tuple[int, ...] = ()
  num_keypoints: int = 17
  use_norm: bool = False
  roi_pool: bool = False
  axis_name: str | None = None
  dtype: Any = None
  settings: Settings = Settings()

  def setup(self) -> None:
    """The heads."""
    if self.anchor_sizes:
      number = len(self.anchor_sizes[0]) * len(self.anchor_ratios)
      self.rpn = _RPN(number, self.rpn_depth, self.dtype)
    self.roi_heads = _RoIHeads(self.clone(parent=None, name=None))

  def flatten_shapes(self) -> dict[str, tuple[int, int, int]]:
    """Dense layers that read a flattened map, with its (h, w, C)."""
    name = str(len(self.box_convs) + 1) if self.box_convs else "fc6"
    channels = self.box_convs[-1] if self.box_convs else self.backbone.features
    shape = (BOX_CELLS, BOX_CELLS, channels or 512)
    shapes = {f"roi_heads.box_head.{name}": shape}
    if self.point_layers:
      half = MASK_CELLS // 2
      shape = (half, half, self.backbone.features)
      shapes["roi_heads.mask_head.coarse_head.fc1"] = shape
    return shapes

  def features(
    self, images: jax.Array, *, train: bool = False
  ) -> list[jax.Array]:
    """Normalised images [B, H, W, 3] -> maps [B, h_l, w_l, C]."""
    return self.backbone(images, train=train)

  def objectness(
    self, maps: Sequence[jax.Array]
  ) -> list[tuple[jax.Array, jax.Array]]:
    """Maps -> logits [B, h, w, A] and deltas [B, h, w, A, 4] of each."""
    if len(self.anchor_sizes) != len(maps):
      raise ValueError(
        f"RCNN: `anchor_sizes` must be given for each of the {len(maps)} maps "
        f"of the backbone, got {len(self.anchor_sizes)}."
      )
    return self.rpn(maps)

  def classify(
    self, pooled: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array, jax.Array]:
    """Regions [B, R, 7, 7, C] -> logits [B, R, K], deltas [B, R, K, 4]."""
    logits, deltas = self.roi_heads.boxes(_flat(pooled), train)
    return _unflat(logits, pooled), _unflat(deltas, pooled)

  def mask_logits(self, pooled: jax.Array, *, train: bool = False) -> jax.Array:
    """Regions [B, R, 14, 14, C] -> mask logits [B, R, 28, 28, K]."""
    return _unflat(self.roi_heads.masks(_flat(pooled), train), pooled)

  def coarse_masks(self, cells: jax.Array) -> jax.Array:
    """Grids [B, R, 14, 14, C] -> coarse logits [B, R, 7, 7, K - 1]."""
    return _unflat(self.roi_heads.coarse_masks(_flat(cells)), cells)

  def point_function(self) -> Callable[..., jax.Array]:
    """The head of points: fine [P, C], coarse [P, K - 1], label -> [P, 1]."""
    head, variables = self.roi_heads.mask_head.point_head.unbind()
    return lambda *points: head.apply(variables, *points)

  def keypoint_logits(self, pooled: jax.Array) -> jax.Array:
    """Regions [B, R, 14, 14, C] -> heatmaps [B, R, 56, 56, keypoints]."""
    return _unflat(self.roi_heads.keypoints(_flat(pooled)), pooled)

  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[list[jax.Array], list[tuple[jax.Array, jax.Array]]]:
    """Maps, and logits and deltas of the anchors; makes all parameters.

    Args:
      images: normalised [B, H, W, 3].
      train: whether batch normalisation learns.
    """
    maps = self.features(images, train=train)
    found = self.objectness(maps) if self.anchor_sizes else []
    if self.is_initializing():
      region = jnp.zeros((1, 1, BOX_CELLS, BOX_CELLS, maps[0].shape[-1]))
      self.classify(region)
      region = jnp.zeros((1, 1, MASK_CELLS, MASK_CELLS, maps[0].shape[-1]))
      if self.point_layers:
        self.coarse_masks(region)
      elif self.mask_layers:
        self.mask_logits(region)
      if self.keypoint_layers:
        self.keypoint_logits(region)
    return maps, found


def _flat(x: jax.Array) -> jax.Array:
  return x.reshape(-1, *x.shape[2:])


def _unflat(x: jax.Array, like: jax.Array) -> jax.Array:
  return x.reshape(*like.shape[:2], *x.shape[1:])
