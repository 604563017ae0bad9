"""Spatial transformer networks: a layer that looks where it should.

A localisation network sees the input and gives the parameters of a warp, the
warp reads the input at a grid, and the rest of a network sees the result. All
is differentiable, so that the loss of the rest trains the localisation:

  module = stn.SpatialTransformer(stn.LocalisationCNN(), "affine", (28, 28))
  variables = module.init(key, images)
  seen, parameters = module.apply(variables, images)

Jaderberg et al., Spatial Transformer Networks, 2015 (arXiv 1506.02025). The
localisation is best trained at a smaller rate than the rest:
`train.make_optimizer(..., factors={"transformer.localisation": 0.1})`.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import layers
from vision_jax.ops.matrix_tools import product
from vision_jax.ops.warp_families import find_transform, theta_grid

__all__ = [
  "LocalisationCNN",
  "LocalisationFCN",
  "SpatialTransformer",
  "bound_parameters",
]


def bound_parameters(
  parameters: jax.Array, identity: Sequence[float], bound: float
) -> jax.Array:
  """Parameters within `bound` of the identity, by a tanh of slope 1 there.

  Keeps a transformer from zooming to nothing, whence no gradient leads back.

  Args:
    parameters: [..., P].
    identity: the parameters that change nothing, [P].
    bound: largest difference, above 0.

  Returns:
    Parameters [..., P].

  Raises:
    ValueError: if `bound` is not positive.

  Example:
    >>> from vision_jax.systems import stn
    >>> print(stn.bound_parameters(jnp.array([1.0, 9.0]), (1.0, 1.0), 0.5))
    [1.  1.5]

  Source:
    Interface of this library.
  """
  if not bound > 0:
    raise ValueError(f"bound_parameters: `bound` must be > 0, got {bound}.")
  rest = jnp.asarray(identity, parameters.dtype).reshape(
    *[1] * (parameters.ndim - 1), -1
  )
  return rest + bound * jnp.tanh((parameters - rest) / bound)


class LocalisationFCN(nn.Module):
  """Fully connected localisation: [B, ...] -> [B, hidden[-1]].

  Attributes:
    hidden: units of the layers, each followed by a ReLU.
    dtype: type of the computation; None takes that of the input.
  """

  hidden: Sequence[int] = (32, 32)
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Pictures or volumes [B, ..., C] -> features [B, hidden[-1]]."""
    x = x.reshape(x.shape[0], -1)
    for k, units in enumerate(self.hidden):
      x = layers.Dense(units, dtype=self.dtype, name=f"fc{k + 1}")(x)
      x = layers.Relu(name=f"relu{k + 1}")(x)
    return x


class LocalisationCNN(nn.Module):
  """Convolutional localisation of the paper: [B, H, W, C] -> [B, units].

  2 x 2 max-pooling, 5 x 5 convolution, max-pooling, 5 x 5 convolution, a fully
  connected layer (appendix A.1); without padding.

  Attributes:
    filters: filters of the convolutions.
    units: units of the last layer.
    dtype: type of the computation; None takes that of the input.
  """

  filters: Sequence[int] = (20, 20)
  units: int = 20
  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Pictures [B, H, W, C] -> features [B, units]."""
    for k, features in enumerate(self.filters, 1):
      x = layers.MaxPool(2, 2, name=f"pool{k}")(x)
      x = layers.Conv(
        features, 5, padding=0, dtype=self.dtype, name=f"conv{k}"
      )(x)
      x = layers.Relu(name=f"relu{k}")(x)
    x = x.reshape(x.shape[0], -1)
    x = layers.Dense(self.units, dtype=self.dtype, name="fc")(x)
    return layers.Relu(name="relu")(x)


class SpatialTransformer(nn.Module):
  """Looks, decides, and reads: `apply(variables, x) -> (seen, parameters)`.

  The last layer of the localisation, `regression`, starts at weight 0 and, as
  bias, the parameters of the identity: a network with a new transformer begins
  as the network without.

  Attributes:
    localisation: module from the input to features [B, F].
    transform: a key of `ops.TRANSFORMS`.
    size: of the output; that of the input if None.
    bound: largest difference of a parameter from the identity, see
      `bound_parameters`; None has no bound.
    num_steps: how often the localisation, always the same, looks at what has
      been read and corrects the warp; each time the original is read, so that
      nothing is smoothed twice, in its own size until the last. Above 1 for
      all but splines.
    padding_mode: of `ops.grid_sample`.
    mode: of `ops.grid_sample`.
    align_corners: which ndc frame.
    method: of `ops.grid_sample`.
  """

  localisation: nn.Module
  transform: str = "affine"
  size: Sequence[int] | None = None
  bound: float | None = None
  num_steps: int = 1
  padding_mode: str = "zeros"
  mode: str = "bilinear"
  align_corners: bool = False
  method: str = "gather"

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pictures [B, H, W, C] or volumes [B, D, H, W, C].

    Args:
      x: what is looked at.

    Returns:
      What is seen, [B, *size, C], and the parameters of the last look [B, P].

    Raises:
      ValueError: if the transform is unknown or does not fit.

    Source:
      Jaderberg et al., 2015, section 3; several looks after Lin and Lucey,
      Inverse Compositional Spatial Transformer Networks, 2017.
    """
    transform = find_transform("SpatialTransformer", self.transform)
    if self.num_steps < 1 or (
      self.num_steps > 1 and transform.to_theta is None
    ):
      raise ValueError(
        "SpatialTransformer: `num_steps` must be at least 1, and 1 for "
        f"splines, got {self.num_steps} with {self.transform!r}."
      )
    regression = layers.Dense(
      len(transform.identity),
      kernel_init=nn.initializers.zeros,
      bias_init=lambda key, shape, dtype=jnp.float32: jnp.asarray(
        transform.identity, dtype
      ),
      name="regression",
    )
    shape = x.shape[1 : 1 + transform.num_dims]
    last: Sequence[int] = shape if self.size is None else self.size
    seen, total = x, None
    for size in (*[shape] * (self.num_steps - 1), last):
      parameters = regression(self.localisation(seen)).astype(jnp.float32)
      if self.bound is not None:
        parameters = bound_parameters(
          parameters, transform.identity, self.bound
        )
      if transform.to_theta is None:
        grid = ops.transform_grid(
          self.transform, parameters, size, align_corners=self.align_corners
        )
      else:
        theta = transform.to_theta(parameters)
        total = theta if total is None else product(total, theta)
        grid = theta_grid(total, size, self.align_corners)
      seen = ops.grid_sample(
        x,
        grid,
        mode=self.mode,
        padding_mode=self.padding_mode,
        align_corners=self.align_corners,
        method=self.method,
      )
    return seen, parameters
