"""Heads of PointRend, and the convolutional mask head it is compared with.

Kirillov et al., "PointRend: Image Segmentation as Rendering" (arXiv
1912.08193); names as in detectron2. All work on any leading axes: they are
written for one region and take many.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax.nn import layers

__all__ = ["CoarseMaskHead", "ConvMaskHead", "PointHead"]

_HE = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_PREDICTOR = nn.initializers.normal(0.001)


class _Predictor(nn.Module):
  """A dense layer of which one output may be asked for alone."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x, labels=None):
    shape = (x.shape[-1], self.features)
    kernel = self.param("kernel", _PREDICTOR, shape, jnp.float32)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), jnp.float32
    )
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    if labels is None:
      return x @ kernel + bias.reshape(*[1] * (x.ndim - 1), -1)
    column, shift = kernel.T[labels], bias[labels]
    y = jnp.matmul(x, column[..., None])
    return y + shift[..., None, None]


class PointHead(nn.Module):
  """A network of points: features and coarse scores in, scores out.

  Attributes:
    num_classes: channels of the result.
    width: channels of the hidden layers.
    num_layers: number of hidden layers.
    coarse_each_layer: append the coarse scores to the input of every layer, not
      of the first alone. Released instance models do, semantic ones do not.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> fine, coarse = jnp.ones((2, 9, 8)), jnp.ones((2, 9, 3))
    >>> head = nn.PointHead(3, width=16)
    >>> variables = head.init(jax.random.key(0), fine, coarse)
    >>> head.apply(variables, fine, coarse).shape
    (2, 9, 3)
    >>> head.apply(variables, fine, coarse, jnp.array([0, 2])).shape
    (2, 9, 1)
  """

  num_classes: int
  width: int = 256
  num_layers: int = 3
  coarse_each_layer: bool = True
  dtype: Any = None

  @nn.compact
  def __call__(
    self,
    fine: jax.Array,
    coarse: jax.Array,
    labels: jax.Array | None = None,
  ) -> jax.Array:
    """Scores of points.

    Args:
      fine: features at the points, [..., P, C].
      coarse: coarse scores at the points, [..., P, K].
      labels: class of each region, integers [...]; only its scores are
        computed. The result is the same, at 1 / K of the memory.

    Returns:
      [..., P, num_classes], or [..., P, 1] with labels.

    Source:
      Kirillov et al., PointRend, 2020, section 3.3.
    """
    x = jnp.concatenate([fine, coarse.astype(fine.dtype)], axis=-1)
    for k in range(1, self.num_layers + 1):
      x = layers.Dense(
        self.width, dtype=self.dtype, kernel_init=_HE, name=f"fc{k}"
      )(x)
      x = layers.Relu(name=f"relu{k}")(x)
      if self.coarse_each_layer:
        x = jnp.concatenate([x, coarse.astype(x.dtype)], axis=-1)
    return _Predictor(self.num_classes, self.dtype, name="predictor")(x, labels)


class CoarseMaskHead(nn.Module):
  """A small mask of every class from the features of a region.

  A 2x2 convolution of stride 2 (after a 1x1 one, if there are more channels
  than `width`) and two hidden layers.

  Attributes:
    num_classes: K.
    side: of the masks, cells.
    width: channels of the convolution.
    hidden: width of the two hidden layers.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((2, 14, 14, 8))
    >>> head = nn.CoarseMaskHead(3, width=8, hidden=16)
    >>> head.apply(head.init(jax.random.key(0), x), x).shape
    (2, 7, 7, 3)
  """

  num_classes: int
  side: int = 7
  width: int = 256
  hidden: int = 1024
  dtype: Any = None

  def flatten_shapes(self) -> dict[str, tuple[int, int, int]]:
    """The layer behind the flattened map, for regions of 14 x 14 cells."""
    return {"fc1": (7, 7, self.width)}

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Features [R, 14, 14, C] -> logits [R, side, side, num_classes]."""
    settings = {"dtype": self.dtype}
    if x.shape[-1] > self.width:
      x = layers.Conv(
        self.width, 1, **settings, name="reduce_channel_dim_conv"
      )(x)
      x = layers.Relu(name="relu0")(x)
    x = layers.Conv(
      self.width, 2, 2, 0, **settings, name="reduce_spatial_dim_conv"
    )(x)
    x = layers.Relu(name="relu1")(x)
    x = x.reshape(len(x), -1)
    xavier = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
    for k in (1, 2):
      x = layers.Dense(
        self.hidden, **settings, kernel_init=xavier, name=f"fc{k}"
      )(x)
      x = layers.Relu(name=f"relu{k + 1}")(x)
    x = layers.Dense(
      self.num_classes * self.side**2,
      **settings,
      kernel_init=_PREDICTOR,
      name="prediction",
    )(x)
    x = x.reshape(-1, self.num_classes, self.side, self.side)
    return jnp.moveaxis(x, 1, -1)


class ConvMaskHead(nn.Module):
  """The mask head of Mask R-CNN: 3x3 convolutions, one doubling, 1x1.

  He et al., "Mask R-CNN" (arXiv 1703.06870), figure 4, right.

  Attributes:
    num_classes: K.
    num_convs: number of 3x3 convolutions.
    width: channels inside.
    dtype: type of the computation; None takes that of the input.

  Example:
    >>> from vision_jax import nn
    >>> x = jnp.ones((2, 14, 14, 8))
    >>> head = nn.ConvMaskHead(3, width=8)
    >>> head.apply(head.init(jax.random.key(0), x), x).shape
    (2, 28, 28, 3)
  """

  num_classes: int
  num_convs: int = 4
  width: int = 256
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Features [R, h, w, C] -> logits [R, 2 h, 2 w, num_classes]."""
    for k in range(1, self.num_convs + 1):
      x = layers.Conv(self.width, 3, dtype=self.dtype, name=f"mask_fcn{k}")(x)
      x = layers.Relu(name=f"relu{k}")(x)
    x = layers.ConvTranspose(self.width, 2, 2, dtype=self.dtype, name="deconv")(
      x
    )
    x = layers.Relu(name="relu")(x)
    return layers.Conv(
      self.num_classes,
      1,
      dtype=self.dtype,
      kernel_init=_PREDICTOR,
      name="predictor",
    )(x)
