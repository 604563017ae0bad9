"""Registration by descent: the warp under which one image matches another.

The parameters of a warp are moved down the derivative of what the warped image
differs by, from the coarsest level of a pyramid to the image itself. The warps
are those of the spatial transformers, and so are the frames: parameters in ndc
mean the same at every level.

Source: Lucas and Kanade, An Iterative Image Registration Technique with an
Application to Stereo Vision, 1981, with Adam for their Newton steps.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vision_jax import ops
from vision_jax.ops import warp_families

__all__ = [
  "Registration",
  "absolute_difference",
  "correlation_distance",
  "register",
]

Difference = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
_SMALLEST = 8  # shorter side of the coarsest level, pixels


class Registration(NamedTuple):
  """What `register` found.

  Attributes:
    parameters: of the warp from `fixed` to `moving`, [P].
    losses: the difference before each step, [num_steps of all levels], coarse
      levels first.
  """

  parameters: jax.Array
  losses: jax.Array


def absolute_difference(
  seen: jax.Array, fixed: jax.Array, inside: jax.Array
) -> jax.Array:
  """Mean absolute difference of what both images show.

  Args:
    seen: the moving image through the warp, [H, W, C].
    fixed: the other image, [H, W, C].
    inside: share of each pixel that the moving image covers, [H, W, 1].

  Returns:
    Scalar, in units of the images.

  Example:
    >>> from vision_jax.systems import registration
    >>> ones = jnp.ones((2, 2, 1))
    >>> print(registration.absolute_difference(0.5 * ones, ones, ones))
    0.5

  Source:
    Definition.
  """
  weight = inside / jnp.maximum(inside.sum() * fixed.shape[-1], 1.0)
  # Not covered, `seen` is faded to zero, so is the other.
  return jnp.abs(weight * (seen - inside * fixed)).sum()


def correlation_distance(
  seen: jax.Array, fixed: jax.Array, inside: jax.Array
) -> jax.Array:
  """1 minus the correlation of what both images show.

  Does not depend on the brightness or the contrast of either.

  Args:
    seen: the moving image through the warp, [H, W, C].
    fixed: the other image, [H, W, C].
    inside: share of each pixel that the moving image covers, [H, W, 1].

  Returns:
    Scalar from 0 to 2; 1 where an image is constant.

  Example:
    >>> from vision_jax.systems import registration
    >>> image = jnp.arange(4.0).reshape(2, 2, 1)
    >>> inside = jnp.ones((2, 2, 1))
    >>> distance = registration.correlation_distance(
    ...     0.3 * image + 5, image, inside)
    >>> print(np.asarray(distance).round(5) + 0.0)
    0.0

  Source:
    Definition: Pearson's correlation.
  """
  weight = jnp.broadcast_to(inside, fixed.shape)
  weight = weight / jnp.maximum(weight.sum(), 1.0)

  def centred(image: jax.Array) -> jax.Array:
    return image - (weight * image).sum()

  a, b = centred(seen / jnp.maximum(inside, 1e-3)), centred(fixed)
  product = (weight * a * b).sum()
  size = (weight * a * a).sum() * (weight * b * b).sum()
  return 1 - product / jnp.sqrt(jnp.maximum(size, 1e-12))


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _descend(
  parameters: jax.Array,
  moving: jax.Array,
  fixed: jax.Array,
  family: str,
  difference: Difference,
  num_steps: int,
  learning_rate: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Descent at one level; parameters and the loss before each step."""
  size = fixed.shape[:-1]
  # The image and its coverage are read at once.
  source = jnp.concatenate([moving, jnp.ones_like(moving[..., :1])], -1)

  def loss(p: jax.Array) -> jax.Array:
    read = ops.grid_sample(source, ops.transform_grid(family, p, size))
    return difference(read[..., :-1], fixed, read[..., -1:])

  optimizer = optax.scale_by_adam(b1=0.9, b2=0.99)

  def step(carry, k):
    p, state = carry
    value, gradient = jax.value_and_grad(loss)(p)
    update, state = optimizer.update(gradient, state)
    rate = learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * k / num_steps))
    return (p - rate * update, state), value

  carry = (parameters, optimizer.init(parameters))
  (parameters, _), losses = jax.lax.scan(step, carry, jnp.arange(num_steps))
  return parameters, losses


def _pyramid(image: jax.Array, num_levels: int) -> list[jax.Array]:
  """The image and halves of it."""
  size = image.shape[:-1]
  levels = [image]
  for level in range(1, num_levels):
    smaller = tuple(max(round(side / 2**level), 1) for side in size)
    if min(smaller) < _SMALLEST:
      break
    levels.append(ops.resize(image, smaller, antialias=True))
  return levels


def register(
  moving: jax.Array,
  fixed: jax.Array,
  *,
  family: str = "projective",
  difference: Difference = correlation_distance,
  num_levels: int = 5,
  num_steps: int = 100,
  learning_rate: float = 0.02,
  initial: jax.Array | None = None,
) -> Registration:
  """Finds the warp of `moving` that looks like `fixed`.

  Convention:
    The warp maps places of `fixed` to places of `moving`, both in the ndc
    frame. For all but splines `ops.theta_to_matrix(theta, moving size, fixed
    size)`, theta being `ops.TRANSFORMS[family].to_theta(parameters)`, is the
    matrix that `ops.warp` takes.

  Args:
    moving: image, float [H, W, C].
    fixed: image, float [h, w, C].
    family: a two-dimensional one of `ops.TRANSFORMS`.
    difference: what is made small, a function (seen, fixed, inside) -> scalar
      as `correlation_distance`.
    num_levels: levels of the pyramid, each half the one before; those with a
      side below 8 pixels are left out.
    num_steps: steps of Adam at each level.
    learning_rate: of the first step at the coarsest level, in ndc, where an
      image is 2 wide; halved from level to level, and at each it falls to 0
      along a cosine.
    initial: parameters to start at, [P]; those of the identity if None.

  Returns:
    Parameters and losses.

  Raises:
    ValueError: if the images do not fit each other, the family is unknown or
      not of two dimensions, or a number is not positive.

  Example:
    >>> from vision_jax.systems import registration
    >>> y, x = jnp.mgrid[:32, :32] / 32.0
    >>> fixed = jnp.sin(7 * x + 3 * y)[..., None]
    >>> moving = jnp.sin(7 * (x - 2 / 32) + 3 * y)[..., None]
    >>> found = registration.register(
    ...     moving, fixed, family="rotation_translation", num_levels=1)
    >>> bool(found.losses[-1] < 0.01 * found.losses[0])
    True

  Source:
    Interface of this library; the derivative is that of Jaderberg et al., 2015,
    equations 6 and 7.
  """
  transform = warp_families.find_transform("register", family)
  if transform.num_dims != 2:
    raise ValueError(
      f"register: `family` must warp images, got {family!r}, which warps "
      "volumes."
    )
  moving, fixed = jnp.asarray(moving), jnp.asarray(fixed)
  if moving.ndim != 3 or fixed.ndim != 3 or moving.shape[2] != fixed.shape[2]:
    raise ValueError(
      "register: `moving` and `fixed` must be [H, W, C] with the same C, got "
      f"{moving.shape} and {fixed.shape}; use jax.vmap for several pairs."
    )
  if num_levels < 1 or num_steps < 1 or not learning_rate > 0:
    raise ValueError(
      "register: `num_levels`, `num_steps` and `learning_rate` must be "
      f"positive, got {num_levels}, {num_steps} and {learning_rate}."
    )
  start = transform.identity if initial is None else initial
  parameters = jnp.asarray(start, jnp.float32)
  if parameters.shape != (len(transform.identity),):
    raise ValueError(
      f"register: `initial` must be [{len(transform.identity)}] for "
      f"{family!r}, got {parameters.shape}."
    )
  pyramids = (_pyramid(image, num_levels) for image in (fixed, moving))
  # As deep as the smaller of both allows.
  pairs = list(zip(*pyramids, strict=False))[::-1]
  losses = []
  for level, (still, other) in enumerate(pairs):
    parameters, values = _descend(
      parameters,
      other,
      still,
      family,
      difference,
      num_steps,
      jnp.float32(learning_rate / 2**level),
    )
    losses.append(values)
  return Registration(parameters, jnp.concatenate(losses))
