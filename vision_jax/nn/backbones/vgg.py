"""VGG networks (Simonyan, Zisserman, arXiv 1409.1556), torchvision's names."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vision_jax.nn import layers

__all__ = [
  "VGG",
  "fold_batch_norm",
  "vgg11",
  "vgg11_bn",
  "vgg13",
  "vgg13_bn",
  "vgg16",
  "vgg16_bn",
  "vgg19",
  "vgg19_bn",
  "vgg_small",
]

Blocks = tuple[tuple[int, ...], ...]


class _Features(nn.Module):
  """Blocks of 3x3 convolutions, each ended by a 2x2 max-pool."""

  blocks: Blocks
  batch_norm: bool
  axis_name: str | None
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    endpoints = {}
    index = 0
    for b, block in enumerate(self.blocks, 1):
      for c, features in enumerate(block, 1):
        x = layers.Conv(features, 3, dtype=self.dtype, name=str(index))(x)
        index += 1
        if self.batch_norm:
          x = layers.BatchNorm(
            use_running_average=not train,
            axis_name=self.axis_name,
            dtype=self.dtype,
            name=str(index),
          )(x)
          index += 1
        x = layers.Relu(name=str(index))(x)
        index += 1
        endpoints[f"relu{b}_{c}"] = x
      x = layers.MaxPool(2, name=str(index))(x)
      index += 1
      endpoints[f"pool{b}"] = x
    return x, endpoints


class _Classifier(nn.Module):
  """Two hidden layers of `hidden` units and the class scores."""

  num_classes: int
  hidden: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    endpoints = {}
    for k, name in ((0, "fc6"), (3, "fc7")):
      x = layers.Dense(self.hidden, dtype=self.dtype, name=str(k))(x)
      x = layers.Relu(name=str(k + 1))(x)
      endpoints[name] = x
      x = layers.Dropout(0.5, deterministic=not train, name=str(k + 2))(x)
    return layers.Dense(self.num_classes, dtype=self.dtype, name="6")(
      x
    ), endpoints


class VGG(nn.Module):
  """VGG: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `relu{b}_{i}` after each convolution, `pool1` .. `pool5`, `fc6`,
  `fc7`. Parameter paths joined by "." are torchvision's.

  Attributes:
    blocks: channels of the convolutions of each block.
    batch_norm: normalise after each convolution.
    num_classes: size of the logits; None drops the classifier, and the logits
      are None.
    hidden: width of the two hidden layers.
    axis_name: device axis over which training statistics are averaged.
    dtype: type of the computation; None takes that of the images.
  """

  blocks: Blocks
  batch_norm: bool = False
  num_classes: int | None = 1000
  hidden: int = 4096
  axis_name: str | None = None
  dtype: Any = None

  def flatten_shapes(self) -> dict[str, tuple[int, int, int]]:
    """Dense layers that read a flattened map, with its (h, w, C)."""
    if self.num_classes is None:
      return {}
    return {"classifier.0": (7, 7, self.blocks[-1][-1])}

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    x, endpoints = _Features(
      self.blocks,
      self.batch_norm,
      self.axis_name,
      self.dtype,
      name="features",
    )(images, train)
    if self.num_classes is None:
      return None, endpoints
    x = layers.AdaptiveAvgPool((7, 7), name="avgpool")(x)
    x = x.reshape(x.shape[0], -1)
    logits, hidden = _Classifier(
      self.num_classes, self.hidden, self.dtype, name="classifier"
    )(x, train)
    return logits, endpoints | hidden


_A: Blocks = ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2)
_B: Blocks = ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2)
_D: Blocks = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
_E: Blocks = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


def vgg11(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-11 (configuration A)."""
  return VGG(_A, num_classes=num_classes, **kwargs)


def vgg11_bn(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-11 with batch normalisation."""
  return VGG(_A, batch_norm=True, num_classes=num_classes, **kwargs)


def vgg13(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-13 (configuration B)."""
  return VGG(_B, num_classes=num_classes, **kwargs)


def vgg13_bn(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-13 with batch normalisation."""
  return VGG(_B, batch_norm=True, num_classes=num_classes, **kwargs)


def vgg16(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-16 (configuration D)."""
  return VGG(_D, num_classes=num_classes, **kwargs)


def vgg16_bn(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-16 with batch normalisation."""
  return VGG(_D, batch_norm=True, num_classes=num_classes, **kwargs)


def vgg19(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-19 (configuration E)."""
  return VGG(_E, num_classes=num_classes, **kwargs)


def vgg19_bn(num_classes: int | None = 1000, **kwargs: Any) -> VGG:
  """VGG-19 with batch normalisation."""
  return VGG(_E, batch_norm=True, num_classes=num_classes, **kwargs)


def vgg_small(num_classes: int | None = None, **kwargs: Any) -> VGG:
  """Blocks 1 to 4 of VGG-11 at a quarter of the width, no classifier.

  The network behind the bundled weights `vgg_small`, which
  `experiments/pretrain` trains with `batch_norm=True` and folds.
  """
  blocks = ((16,), (32,), (64, 64), (128, 128))
  return VGG(blocks, num_classes=num_classes, **kwargs)


def fold_batch_norm(module: VGG, variables: dict) -> tuple[VGG, dict]:
  """Folds batch normalisation into the convolutions before it.

  Args:
    module: a VGG with `batch_norm=True`.
    variables: its "params" and "batch_stats".

  Returns:
    The same network without batch normalisation, and its variables; its
    features in evaluation mode are equal up to rounding.

  Raises:
    ValueError: if `module` has no batch normalisation.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.nn import backbones
    >>> net = backbones.vgg_small(batch_norm=True)
    >>> v = weights.random_variables(net)
    >>> folded, w = backbones.fold_batch_norm(net, v)
    >>> sorted(w["params"]["features"])
    ['0', '11', '13', '3', '6', '8']
  """
  if not module.batch_norm:
    raise ValueError(
      "fold_batch_norm: `module` must have batch_norm=True, got a VGG "
      "without batch normalisation; it can be used as it is."
    )
  old = variables["params"]["features"]
  stats = variables["batch_stats"]["features"]
  new = {}
  source = target = 0
  for block in module.blocks:
    for _ in block:
      conv, norm = old[str(source)], old[str(source + 1)]
      moments = stats[str(source + 1)]
      gain = np.asarray(norm["scale"], np.float64) / np.sqrt(
        np.asarray(moments["var"], np.float64) + layers.BatchNorm.epsilon
      )
      shift = np.asarray(conv["bias"], np.float64) - moments["mean"]
      new[str(target)] = {
        "kernel": (np.asarray(conv["kernel"]) * gain).astype(np.float32),
        "bias": (shift * gain + norm["bias"]).astype(np.float32),
      }
      source, target = source + 3, target + 2
    source, target = source + 1, target + 1
  params = {k: v for k, v in variables["params"].items() if k != "features"}
  return module.clone(batch_norm=False), {"params": {"features": new, **params}}
