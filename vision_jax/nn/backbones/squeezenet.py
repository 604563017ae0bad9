"""SqueezeNet (Iandola et al., arXiv 1602.07360), torchvision's names."""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = ["SqueezeNet", "squeezenet1_0", "squeezenet1_1"]

# Channels (squeezed, expanded) of the fire modules 2 to 9; each of the two
# expansions has half of the expanded ones.
_FIRES = (
  (16, 128),
  (16, 128),
  (32, 256),
  (32, 256),
  (48, 384),
  (48, 384),
  (64, 512),
  (64, 512),
)


class _Fire(nn.Module):
  """A 1x1 convolution, then a 1x1 and a 3x3 one side by side."""

  squeezed: int
  expanded: int
  dtype: Any

  @nn.compact
  def __call__(self, x):
    x = layers.Conv(self.squeezed, 1, dtype=self.dtype, name="squeeze")(x)
    x = layers.Relu(name="squeeze_activation")(x)
    sides = []
    for size, name in ((1, "expand1x1"), (3, "expand3x3")):
      y = layers.Conv(self.expanded // 2, size, dtype=self.dtype, name=name)(x)
      sides.append(layers.Relu(name=f"{name}_activation")(y))
    return layers.Concat(name="concat")(sides)


class _Features(nn.Module):
  """Stem, fire modules and the pools between them."""

  width: int
  stem_kernel: int
  pools: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self, x):
    endpoints = {}
    x = layers.Conv(
      self.width, self.stem_kernel, 2, 0, dtype=self.dtype, name="0"
    )(x)
    x = endpoints["conv1"] = layers.Relu(name="1")(x)
    index = 2
    for k in range(1, len(_FIRES) + 2):
      if k > 1:
        x = _Fire(*_FIRES[k - 2], self.dtype, name=str(index))(x)
        endpoints[f"fire{k}"] = x
        index += 1
      if k in self.pools:
        x = layers.MaxPool(3, 2, ceil_mode=True, name=str(index))(x)
        endpoints[f"pool{k}"] = x
        index += 1
    return x, endpoints


class _Classifier(nn.Module):
  """A score per class and position; the logits are the means."""

  num_classes: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    x = layers.Dropout(0.5, deterministic=not train, name="0")(x)
    x = layers.Conv(self.num_classes, 1, dtype=self.dtype, name="1")(x)
    scores = layers.Relu(name="2")(x)
    means = layers.AdaptiveAvgPool((1, 1), name="3")(scores)
    return means.reshape(means.shape[0], -1), scores


class SqueezeNet(nn.Module):
  """SqueezeNet: `apply(variables, images, train=False)`.

  Returns (logits, endpoints). Endpoints: `conv1` (after ReLU), `fire2` ..
  `fire9`, a pool with the number of the layer before it (`pool1`, `pool4`,
  `pool8` in version 1.0; `pool1`, `pool3`, `pool5` in 1.1) and `conv10`, the
  scores of the classes at each position. Parameter paths joined by "." are
  torchvision's. The pools keep a partial last window.

  Attributes:
    width: channels of the first convolution.
    stem_kernel: its side.
    pools: the layers after which a max-pool follows.
    num_classes: size of the logits; None drops the classifier.
    dtype: type of the computation; None takes that of the images.
  """

  width: int
  stem_kernel: int
  pools: tuple[int, ...]
  num_classes: int | None = 1000
  dtype: Any = None

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    x, endpoints = _Features(
      self.width, self.stem_kernel, self.pools, self.dtype, name="features"
    )(images)
    if self.num_classes is None:
      return None, endpoints
    logits, scores = _Classifier(
      self.num_classes, self.dtype, name="classifier"
    )(x, train)
    return logits, endpoints | {"conv10": scores}


def squeezenet1_0(num_classes: int | None = 1000, **kwargs: Any) -> SqueezeNet:
  """SqueezeNet 1.0, the network of the paper."""
  return SqueezeNet(96, 7, (1, 4, 8), num_classes, **kwargs)


def squeezenet1_1(num_classes: int | None = 1000, **kwargs: Any) -> SqueezeNet:
  """SqueezeNet 1.1: pools earlier, at 2.4 times fewer operations."""
  return SqueezeNet(64, 3, (1, 3, 5), num_classes, **kwargs)
