"""Descriptors of regions of a feature map, as one product.

A region is a row of weights over the cells of the map, which sums to 1; its
descriptor is ``weights [R, h w] @ features [h w, C]``. Boxes and masks become
such rows by `box_weights` and `mask_weights`.
"""

import jax
import jax.numpy as jnp

__all__ = [
  "box_weights",
  "mask_weights",
  "pool_regions",
  "unit_rows",
]

_TINY = 1e-12


def unit_rows(x: jax.Array) -> jax.Array:
  """Vectors of length 1; zeros stay zeros.

  Args:
    x: [..., D].

  Returns:
    [..., D].

  Example:
    >>> from vision_jax import ops
    >>> print(ops.unit_rows(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    [[0.6 0.8]
     [0.  0. ]]

  Source:
    Definition.
  """
  square = (x * x).sum(-1, keepdims=True)
  zero = square <= _TINY**2
  return jnp.where(zero, 0, x * jax.lax.rsqrt(jnp.where(zero, 1, square)))


def _normalized(weights: jax.Array, valid: jax.Array | None) -> jax.Array:
  """Rows [..., h, w] that sum to 1, or are 0."""
  if valid is not None:
    weights = jnp.where(valid[..., None, None], weights, 0)
  total = weights.sum((-2, -1), keepdims=True)
  return weights / jnp.where(total > 0, total, 1)


def box_weights(
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  stride: float,
  valid: jax.Array | None = None,
) -> jax.Array:
  """Weights of the mean over the cells that boxes touch.

  Cells floor(x1 / stride) up to ceil(x2 / stride), half-open, clipped to the
  map; likewise in y.

  Convention:
    Boxes in the continuous frame of the image.

  Args:
    boxes: float [..., 4].
    size: (h, w) of the feature map.
    stride: input pixels per cell.
    valid: bool [...]; other rows are 0.

  Returns:
    [..., h, w]; rows sum to 1, or to 0 where a box is empty or outside.

  Raises:
    ValueError: if `boxes` is not [..., 4].

  Example:
    >>> from vision_jax import ops
    >>> box = jnp.array([3.0, 0.0, 9.0, 4.0])
    >>> print(ops.box_weights(box, (2, 3), stride=4))
    [[0.33333334 0.33333334 0.33333334]
     [0.         0.         0.        ]]

  Source:
    wlzhao22/MSAR (region pooling); checked against a loop.
  """
  if boxes.shape[-1:] != (4,):
    raise ValueError(
      f"box_weights: `boxes` must be [..., 4], got {boxes.shape}."
    )
  inside = []
  for axis, length in ((1, size[0]), (0, size[1])):
    cells = jnp.arange(length).reshape(*[1] * (boxes.ndim - 1), -1)
    first = jnp.floor(boxes[..., axis] / stride)[..., None]
    last = jnp.ceil(boxes[..., axis + 2] / stride)[..., None]
    inside.append((cells >= first) & (cells < last))
  weights = inside[0][..., :, None] & inside[1][..., None, :]
  exists = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
  if valid is not None:
    exists &= valid
  return _normalized(weights.astype(boxes.dtype), exists)


def mask_weights(
  masks: jax.Array,
  size: tuple[int, int],
  *,
  stride: int,
  valid: jax.Array | None = None,
) -> jax.Array:
  """Weights of cells by the number of pixels of a mask that they hold.

  Args:
    masks: bool or float [..., H, W].
    size: (h, w) of the feature map; pixels beyond it are left out.
    stride: input pixels per cell.
    valid: bool [...]; other rows are 0.

  Returns:
    [..., h, w]; rows sum to 1, or to 0 where a mask is empty.

  Raises:
    ValueError: if `masks` has fewer than two axes.

  Example:
    >>> from vision_jax import ops
    >>> mask = jnp.zeros((4, 4)).at[0, 1:].set(1.0)
    >>> print(3 * ops.mask_weights(mask, (2, 2), stride=2))
    [[1. 2.]
     [0. 0.]]

  Source:
    wlzhao22/MSAR (`mask_roi`), with shares in place of a threshold.
  """
  if masks.ndim < 2:
    raise ValueError(
      f"mask_weights: `masks` must be [..., H, W], got {masks.shape}."
    )
  masks = masks.astype(jnp.float32)
  pads = [(0, 0)] * (masks.ndim - 2)
  for have, want in zip(masks.shape[-2:], size, strict=True):
    pads.append((0, max(want * stride - have, 0)))
  masks = jnp.pad(masks, pads)[..., : size[0] * stride, : size[1] * stride]
  cells = masks.reshape(*masks.shape[:-2], size[0], stride, size[1], stride)
  return _normalized(cells.sum((-3, -1)), valid)


def pool_regions(
  features: jax.Array, weights: jax.Array, *, power: float = 1.0
) -> jax.Array:
  """Weighted means of features, or of their powers (GeM).

  Args:
    features: [h, w, C].
    weights: [..., h, w], rows that sum to 1.
    power: p; (sum w x^p)^(1 / p), for features above 0. 1 is the mean.

  Returns:
    [..., C], not normalised.

  Raises:
    ValueError: if the maps differ in size.

  Example:
    >>> from vision_jax import ops
    >>> features = jnp.arange(8.0).reshape(2, 2, 2)
    >>> print(ops.pool_regions(features, jnp.full((1, 2, 2), 0.25)))
    [[3. 4.]]

  Source:
    Interface of this library; GeM: Radenović et al. (arXiv 1711.02512), eq. 3.
  """
  if features.ndim != 3 or weights.shape[-2:] != features.shape[:2]:
    raise ValueError(
      "pool_regions: `weights` must be [..., h, w] for features [h, w, C], got "
      f"{weights.shape} and {features.shape}."
    )
  if power != 1.0:
    features = jnp.maximum(features, 1e-6) ** power
  pooled = jnp.einsum("...yx,yxc->...c", weights, features, precision="highest")
  if power == 1.0:
    return pooled
  zero = pooled <= 0
  return jnp.where(zero, 0, jnp.where(zero, 1, pooled) ** (1 / power))
