"""AlexNet as torchvision has it (Krizhevsky, arXiv 1404.5997)."""

from typing import Any

import flax.linen as nn
import jax

from vision_jax.nn import layers

__all__ = ["AlexNet", "alexnet"]

# (channels, kernel, stride, padding) and whether a 3x3 / 2 max-pool follows.
_CONVS = (
  ((64, 11, 4, 2), True),
  ((192, 5, 1, 2), True),
  ((384, 3, 1, 1), False),
  ((256, 3, 1, 1), False),
  ((256, 3, 1, 1), True),
)


class _Features(nn.Module):
  """Five convolutions and three overlapping max-pools."""

  dtype: Any

  @nn.compact
  def __call__(self, x):
    endpoints = {}
    index = 0
    for n, ((features, size, stride, padding), pool) in enumerate(_CONVS, 1):
      x = layers.Conv(
        features, size, stride, padding, dtype=self.dtype, name=str(index)
      )(x)
      x = layers.Relu(name=str(index + 1))(x)
      endpoints[f"relu{n}"] = x
      index += 2
      if pool:
        x = layers.MaxPool(3, 2, name=str(index))(x)
        endpoints[f"pool{n}"] = x
        index += 1
    return x, endpoints


class _Classifier(nn.Module):
  """Two hidden layers and the class scores."""

  num_classes: int
  dtype: Any

  @nn.compact
  def __call__(self, x, train):
    endpoints = {}
    for k, name in ((0, "fc6"), (3, "fc7")):
      x = layers.Dropout(0.5, deterministic=not train, name=str(k))(x)
      x = layers.Dense(4096, dtype=self.dtype, name=str(k + 1))(x)
      x = layers.Relu(name=str(k + 2))(x)
      endpoints[name] = x
    logits = layers.Dense(self.num_classes, dtype=self.dtype, name="6")(x)
    return logits, endpoints


class AlexNet(nn.Module):
  """AlexNet: `apply(variables, images, train=False) -> (logits, endpoints)`.

  Endpoints: `relu1` .. `relu5`, `pool1`, `pool2`, `pool5`, `fc6`, `fc7`.
  Parameter paths joined by "." are torchvision's. This is the one-column
  network: it differs from the two-group Caffe net of the ELF paper.

  Attributes:
    num_classes: size of the logits; None drops the classifier.
    dtype: type of the computation; None takes that of the images.
  """

  num_classes: int | None = 1000
  dtype: Any = None

  def flatten_shapes(self) -> dict[str, tuple[int, int, int]]:
    """Dense layers that read a flattened map, with its (h, w, C)."""
    return {} if self.num_classes is None else {"classifier.1": (6, 6, 256)}

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> tuple[jax.Array | None, dict[str, jax.Array]]:
    """Images [B, H, W, 3] -> (logits [B, num_classes], endpoints)."""
    x, endpoints = _Features(self.dtype, name="features")(images)
    if self.num_classes is None:
      return None, endpoints
    x = layers.AdaptiveAvgPool((6, 6), name="avgpool")(x)
    x = x.reshape(x.shape[0], -1)
    logits, hidden = _Classifier(
      self.num_classes, self.dtype, name="classifier"
    )(x, train)
    return logits, endpoints | hidden


def alexnet(num_classes: int | None = 1000, **kwargs: Any) -> AlexNet:
  """AlexNet with torchvision's layers."""
  return AlexNet(num_classes=num_classes, **kwargs)
