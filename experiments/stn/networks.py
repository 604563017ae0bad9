"""The classifiers of the table: with and without a transformer in front.

All of one kind have the parameters of the plain network, or a few less: what
the transformer takes, the classifier gives.
"""

import bisect
import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.stn.distortions import SIDES
from vision_jax.nn import layers
from vision_jax.systems import stn

__all__ = [
  "MODELS",
  "DigitNetwork",
  "FullyConnected",
  "count_parameters",
  "make_network",
]

_FAMILIES = {"Aff": "affine", "Proj": "projective", "TPS": "tps"}
MODELS = (
  *("FCN", *(f"ST-FCN {name}" for name in _FAMILIES)),
  *("CNN", *(f"ST-CNN {name}" for name in _FAMILIES)),
)
"""The rows of the table."""

# Units, or filters, of the plain networks: the smallest of the paper.
_WIDTHS = {"FCN": 128, "CNN": 32}
_SEEN = 28  # side of what the classifier behind a transformer sees
_LOOKS = {"Aff": 3, "Proj": 3, "TPS": 1}  # splines cannot be multiplied


class FullyConnected(nn.Module):
  """Two hidden layers: [B, ..., 1] -> logits [B, 10]."""

  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Pictures -> logits."""
    x = x.reshape(x.shape[0], -1)
    for k in (1, 2):
      x = layers.Dense(self.width, name=f"fc{k}")(x)
      x = layers.Relu(name=f"relu{k}")(x)
    return layers.Dense(10, name="logits")(x)


class Convolutional(nn.Module):
  """9 x 9 and 7 x 7 convolutions, pooled: [B, H, W, 1] -> logits [B, 10]."""

  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Pictures -> logits."""
    for k, side in ((1, 9), (2, 7)):
      x = layers.Conv(self.width, side, padding=0, name=f"conv{k}")(x)
      x = layers.Relu(name=f"relu{k}")(x)
      x = layers.MaxPool(2, 2, name=f"pool{k}")(x)
    return layers.Dense(10, name="logits")(x.reshape(x.shape[0], -1))


class DigitNetwork(nn.Module):
  """A classifier, behind a transformer or not.

  Attributes:
    classifier: [B, H, W, 1] -> logits.
    transformer: what looks first, or None.
    pool: side of the means taken of what it sees.
  """

  classifier: nn.Module
  transformer: stn.SpatialTransformer | None = None
  pool: int = 1

  def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures, or volumes, [B, ..., 1] -> logits [B, 10], what was seen."""
    seen = images
    if self.transformer is not None:
      seen, _ = self.transformer(images)
    if self.pool > 1:
      pool = (self.pool,) * (seen.ndim - 2)
      seen = nn.avg_pool(seen, pool, strides=pool)
    return self.classifier(seen), seen


def _network(model: str, kind: str, width: int) -> DigitNetwork:
  family, _, transform = model.partition(" ")
  constructor = FullyConnected if family.endswith("FCN") else Convolutional
  classifier = constructor(width)
  if not transform:
    return DigitNetwork(classifier)
  localisation = (
    stn.LocalisationFCN() if family == "ST-FCN" else stn.LocalisationCNN()
  )
  # A larger picture is read at twice the resolution, and averaged.
  pool = 1 if SIDES[kind] == _SEEN else 2
  size = (pool * _SEEN, pool * _SEEN)
  transformer = stn.SpatialTransformer(
    localisation, _FAMILIES[transform], size, num_steps=_LOOKS[transform]
  )
  return DigitNetwork(classifier, transformer, pool)


def count_parameters(network: DigitNetwork, shape: Sequence[int]) -> int:
  """Parameters of a network for pictures or volumes of that shape."""
  images = jnp.zeros((1, *shape, 1))
  shapes = jax.eval_shape(network.init, jax.random.key(0), images)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@functools.cache
def _width(model: str, kind: str) -> int:
  """The largest width with no more parameters than the plain network."""
  plain = "FCN" if "FCN" in model else "CNN"
  reference = _WIDTHS[plain]
  if model == plain:
    return reference

  def count(name: str, width: int) -> int:
    network = _network(name, kind, width)
    return count_parameters(network, (SIDES[kind], SIDES[kind]))

  budget = count(plain, reference)

  def is_above(width: int) -> bool:
    return count(model, width) > budget

  # What a transformer saves on a large picture may widen the classifier.
  return bisect.bisect_left(range(8 * reference), True, lo=1, key=is_above) - 1


def make_network(model: str, kind: str) -> DigitNetwork:
  """A row of the table, for a distortion.

  Args:
    model: one of `MODELS`.
    kind: a key of `SIDES`.

  Returns:
    The module; its parameters are as many as those of the plain network, or up
    to 10 % less.

  Source:
    Jaderberg et al., Spatial Transformer Networks, 2015, appendix A.4; affine
    and projective transformers look three times and multiply what they find,
    as in Lin and Lucey, Inverse Compositional Spatial Transformer Networks,
    2017, section 3.2.
  """
  if model not in MODELS:
    raise ValueError(
      f"make_network: `model` must be one of {', '.join(MODELS)}, got "
      f"{model!r}."
    )
  return _network(model, kind, _width(model, kind))
