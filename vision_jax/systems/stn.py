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

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.nn import layers
from vision_jax.ops.grid_sampling import pixel_centres
from vision_jax.ops.matrix_tools import (
  as_float,
  map_lattice,
  product,
  stack_matrix,
)

__all__ = [
  "TRANSFORMS",
  "LocalisationCNN",
  "LocalisationFCN",
  "SpatialTransformer",
  "Transform",
  "bound_parameters",
  "transform_grid",
]


@dataclasses.dataclass(frozen=True)
class Transform:
  """A family of warps of the ndc frame.

  Attributes:
    identity: the parameters that change nothing.
    to_theta: parameters [..., P] to matrices [..., D + 1, D + 1] that map
      output to input, ndc frame; None for a spline, whose parameters are the
      places its control points read.
    num_dims: 2 for images, 3 for volumes.
  """

  identity: tuple[float, ...]
  to_theta: Callable[[jax.Array], jax.Array] | None
  num_dims: int = 2


def _rotation_translation(p: jax.Array) -> jax.Array:
  """Angle, x, y: the three parameters of a rigid motion, "pull_cw"."""
  c, s = jnp.cos(p[..., 0]), jnp.sin(p[..., 0])
  return stack_matrix([[c, s, p[..., 1]], [-s, c, p[..., 2]], [0.0, 0.0, 1.0]])


def _similarity(p: jax.Array) -> jax.Array:
  """(a, b, x, y): scale and rotation as a complex number, no angle to wrap."""
  a, b, x, y = (p[..., k] for k in range(4))
  return stack_matrix([[a, -b, x], [b, a, y], [0.0, 0.0, 1.0]])


def _attention(p: jax.Array) -> jax.Array:
  """(s, x, y): crop, translation and isotropic scale; equation 2."""
  s, x, y = (p[..., k] for k in range(3))
  return stack_matrix([[s, 0.0, x], [0.0, s, y], [0.0, 0.0, 1.0]])


def _affine(dims: int) -> Callable[[jax.Array], jax.Array]:
  """Theta row by row, equation 1; its analogue in space has 12 entries."""

  def to_theta(p: jax.Array) -> jax.Array:
    last = jnp.zeros((*p.shape[:-1], dims + 1), p.dtype).at[..., dims].set(1)
    full = jnp.concatenate([p, last], -1)
    return full.reshape(*p.shape[:-1], dims + 1, dims + 1)

  return to_theta


TRANSFORMS: dict[str, Transform] = {
  "rotation_translation": Transform((0, 0, 0), _rotation_translation),
  "similarity": Transform((1, 0, 0, 0), _similarity),
  "attention": Transform((1, 0, 0), _attention),
  "affine": Transform((1, 0, 0, 0, 1, 0), _affine(2)),
  "projective": Transform(
    (1, 0, 0, 0, 1, 0, 0, 0), ops.homography_from_parameters
  ),
  "tps": Transform(tuple(ops.control_lattice(4).ravel()), None),
  "affine3d": Transform((1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), _affine(3), 3),
}
"""The families by name."""


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


def _theta_grid(
  theta: jax.Array, size: Sequence[int], align_corners: bool
) -> jax.Array:
  """Grid of matrices; infinity, far outside, behind the horizon."""
  dims = theta.shape[-1] - 1
  lines = [
    jnp.asarray(pixel_centres(side, align_corners), theta.dtype)
    for side in reversed(size)
  ]
  total = map_lattice(theta, lines)
  w = total[..., dims:]
  front = w > jnp.finfo(theta.dtype).eps
  return jnp.where(front, total[..., :dims], jnp.inf) / jnp.where(front, w, 1)


def transform_grid(
  name: str,
  parameters: jax.Array,
  size: Sequence[int],
  *,
  align_corners: bool = False,
) -> jax.Array:
  """Where the pixels of the output read, under a family of warps.

  Convention:
    Both sides in the ndc frame; maps output to input; order (x, y) or
    (x, y, z).

  Args:
    name: a key of `TRANSFORMS`.
    parameters: [..., P].
    size: (height, width) of the output; (depth, height, width) for "affine3d".
    align_corners: which ndc frame; pass the same to `ops.grid_sample`.

  Returns:
    Positions [..., *size, 2 or 3] for `ops.grid_sample`; infinite, and so
    padding without derivative, behind the horizon of a projective map.

  Raises:
    ValueError: if the name is unknown or a shape is wrong.

  Example:
    >>> from vision_jax.systems import stn
    >>> print(stn.transform_grid("attention", jnp.array([0.5, 0.0, 0.25]),
    ...                          (1, 2)))
    [[[-0.25  0.25]
      [ 0.25  0.25]]]

  Source:
    Jaderberg et al., 2015, section 3.2.
  """
  transform = find_transform("transform_grid", name)
  parameters = as_float(parameters)
  count = len(transform.identity)
  if parameters.ndim < 1 or parameters.shape[-1] != count:
    raise ValueError(
      f"transform_grid: `parameters` of {name!r} must be [..., {count}], got "
      f"shape {parameters.shape}."
    )
  if transform.to_theta is None:
    places = parameters.reshape(*parameters.shape[:-1], count // 2, 2)
    return ops.thin_plate_grid(places, size, align_corners=align_corners)
  if len(size) != transform.num_dims:
    raise ValueError(
      f"transform_grid: `size` must be {transform.num_dims} numbers for "
      f"{name!r}, got {tuple(size)}."
    )
  return _theta_grid(transform.to_theta(parameters), size, align_corners)


def find_transform(function: str, name: str) -> Transform:
  """The family of that name."""
  if name not in TRANSFORMS:
    raise ValueError(
      f"{function}: the transform must be one of {', '.join(TRANSFORMS)}, got "
      f"{name!r}."
    )
  return TRANSFORMS[name]


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
    transform: a key of `TRANSFORMS`.
    size: of the output; that of the input if None.
    bound: largest difference of a parameter from the identity, see
      `bound_parameters`; None has no bound.
    num_steps: how often the localisation, always the same, looks at what has
      been read and corrects the warp; each time the original is read, so that
      nothing is smoothed twice. Above 1 for all but splines.
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
    size = (
      x.shape[1 : 1 + transform.num_dims] if self.size is None else self.size
    )
    seen, total = x, None
    for _ in range(self.num_steps):
      parameters = regression(self.localisation(seen)).astype(jnp.float32)
      if self.bound is not None:
        parameters = bound_parameters(
          parameters, transform.identity, self.bound
        )
      if transform.to_theta is None:
        grid = transform_grid(
          self.transform, parameters, size, align_corners=self.align_corners
        )
      else:
        theta = transform.to_theta(parameters)
        total = theta if total is None else product(total, theta)
        grid = _theta_grid(total, size, self.align_corners)
      seen = ops.grid_sample(
        x,
        grid,
        mode=self.mode,
        padding_mode=self.padding_mode,
        align_corners=self.align_corners,
        method=self.method,
      )
    return seen, parameters
