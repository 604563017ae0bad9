"""Masks of regions: pasted into an image, and cut out of one.

Both are products with two matrices of weights, one for each axis.
"""

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.boxes import Size
from vision_jax.ops.matrix_tools import as_float, as_shape
from vision_jax.ops.roi_samples import axis_bins, axis_matrix

__all__ = ["crop_masks", "paste_masks", "paste_masks_integer"]


def _hat(position: jax.Array, inside: jax.Array, count: int) -> jax.Array:
  """Bilinear weights of `count` cells at positions [n], [n, count]."""
  cell = jnp.arange(count, dtype=position.dtype)[None]
  weight = jnp.maximum(1 - jnp.abs(position[:, None] - cell), 0)
  return jnp.where(inside[:, None], weight, 0)


def _check(
  function: str, masks: jax.Array, boxes: jax.Array, size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  masks, boxes = as_float(masks), as_shape(function, "boxes", boxes, 4)
  if masks.ndim != 3 or boxes.shape != (masks.shape[0], 4):
    raise ValueError(
      f"{function}: `masks` must be [N, m, m] and `boxes` [N, 4], got "
      f"{masks.shape} and {boxes.shape}."
    )
  if len(size) != 2 or min(size) < 1:
    raise ValueError(
      f"{function}: `size` must be (height, width), both at least 1, got "
      f"{tuple(size)}."
    )
  return masks, boxes


def _paste(masks, boxes, size, weights, threshold, batch_size):
  """Rows @ mask @ columns^T of each; `weights(low, high, cells, pixels)`."""

  def one(inputs):
    mask, box = inputs
    rows = weights(box[1], box[3], mask.shape[0], size[0])
    columns = weights(box[0], box[2], mask.shape[1], size[1])
    lines = jnp.matmul(rows, mask, precision="highest")
    whole = jnp.matmul(lines, columns.T, precision="highest")
    return whole if threshold is None else whole > threshold

  return lax.map(one, (masks, boxes), batch_size=batch_size)


def paste_masks(
  masks: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  threshold: float | None = None,
  batch_size: int = 8,
) -> jax.Array:
  """Masks of boxes as masks of the image, without rounding.

  The centre of a pixel is looked up in its mask, between the centres of the
  mask's cells; half a cell beyond the outermost centres it falls to 0.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame.

  Args:
    masks: probabilities [N, m, m], from edge to edge of the box.
    boxes: [N, 4]; one without positive sides gives an empty mask.
    size: (height, width) of the image.
    threshold: None for probabilities, a number for bool, p > `threshold`
      (which needs a quarter of the memory).
    batch_size: masks worked on at once.

  Returns:
    [N, height, width].

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> mask, box = jnp.ones((1, 2, 2)), jnp.array([[1.0, 0, 3, 2]])
    >>> print(ops.paste_masks(mask, box, (2, 4))[0])
    [[0. 1. 1. 0.]
     [0. 1. 1. 0.]]

  Source:
    He et al., Mask R-CNN, 2017, section 3.1; Detectron2's paste_masks_in_image.
  """
  masks, boxes = _check("paste_masks", masks, boxes, size)

  def weights(low, high, cells, pixels):
    side = high - low
    proper = side > 0
    pixel = jnp.arange(pixels, dtype=low.dtype) + 0.5
    position = (pixel - low) / jnp.where(proper, side, 1) * cells - 0.5
    return _hat(position, jnp.broadcast_to(proper, position.shape), cells)

  return _paste(masks, boxes, size, weights, threshold, batch_size)


def paste_masks_integer(
  masks: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  threshold: float | None = None,
  batch_size: int = 8,
) -> jax.Array:
  """Masks of boxes as masks of the image, with torchvision's rounding.

  A rim of one cell of 0 is put around the mask and the box enlarged by as much;
  its corners lose their fractions, and the mask is resized to the pixels from
  corner to corner, both included.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame. Carries no derivative to boxes.

  Args:
    masks: probabilities [N, m, m].
    boxes: [N, 4].
    size: (height, width) of the image.
    threshold: as in `paste_masks`.
    batch_size: as in `paste_masks`.

  Returns:
    [N, height, width].

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> mask, box = jnp.ones((1, 2, 2)), jnp.array([[2.0, 2, 4, 4]])
    >>> print(ops.paste_masks_integer(mask, box, (5, 6), threshold=0.5)[0] * 1)
    [[0 0 0 0 0 0]
     [0 0 0 0 0 0]
     [0 0 0 1 0 0]
     [0 0 1 1 1 0]
     [0 0 0 1 0 0]]

  Source:
    torchvision, models/detection/roi_heads.py (behaviour).
  """
  masks, boxes = _check("paste_masks_integer", masks, boxes, size)

  def weights(low, high, cells, pixels):
    half = (high - low) * 0.5 * ((cells + 2) / cells)
    center = (high + low) * 0.5
    first, last = jnp.trunc(center - half), jnp.trunc(center + half)
    side = jnp.maximum(last - first + 1, 1)
    pixel = jnp.arange(pixels, dtype=low.dtype)
    position = (pixel - first + 0.5) * ((cells + 2) / side) - 0.5
    inside = (pixel >= first) & (pixel <= last)
    # On the mask with its rim; borders repeat, but they are 0.
    return _hat(jnp.clip(position, 0, cells + 1) - 1, inside, cells)

  boxes = lax.stop_gradient(boxes)
  return _paste(masks, boxes, size, weights, threshold, batch_size)


def crop_masks(
  masks: jax.Array,
  boxes: jax.Array,
  index: jax.Array,
  size: tuple[int, int],
  *,
  sampling_ratio: int = 0,
  aligned: bool = False,
  max_samples: int = 48,
  extent: Size | None = None,
  batch_size: int = 8,
) -> jax.Array:
  """Boxes cut out of masks by RoIAlign: the targets of a mask head.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame of the masks; rules as `roi_align`.

  Args:
    masks: of the objects, [G, H, W], bool or numbers.
    boxes: [R, 4].
    index: which mask each box is cut out of, int [R]; a negative one gives 0.
    size: (height, width) of the crops.
    sampling_ratio: as in `roi_align`; 0 as torchvision and Detectron2.
    aligned: as in `roi_align`; Detectron2 True, and its targets are >= 0.5.
    max_samples: as in `roi_align`; 48 serves 28 bins on 1344 pixels, fewer
      bins need more.
    extent: as in `roi_align`.
    batch_size: boxes worked on at once.

  Returns:
    [R, height, width] in [0, 1] for bool masks.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> masks = jnp.zeros((1, 4, 4)).at[:, :, 2:].set(1.0)
    >>> crop = ops.crop_masks(masks, jnp.array([[0.0, 0, 4, 4]]),
    ...                       jnp.array([0]), (1, 2), aligned=True)
    >>> print(crop)
    [[[0. 1.]]]

  Source:
    He et al., Mask R-CNN, 2017, section 3; torchvision's
    project_masks_on_boxes.
  """
  boxes = as_shape("crop_masks", "boxes", boxes, 4)
  masks, index = jnp.asarray(masks), jnp.asarray(index)
  if masks.ndim != 3 or boxes.ndim != 2 or index.shape != boxes.shape[:1]:
    raise ValueError(
      "crop_masks: `masks` must be [G, H, W], `boxes` [R, 4] and `index` [R], "
      f"got {masks.shape}, {boxes.shape} and {index.shape}."
    )
  if not masks.shape[0]:
    return jnp.zeros((*index.shape, *size), boxes.dtype)
  limits = masks.shape[1:] if extent is None else extent
  limit = sampling_ratio or max_samples

  def one(inputs):
    box, place = inputs
    mask = masks[jnp.maximum(place, 0)].astype(boxes.dtype)

    def weights(axis):
      bins = axis_bins(
        box[None, 1 - axis],
        box[None, 3 - axis],
        jnp.asarray(limits[axis], box.dtype)[None],
        size[axis],
        sampling_ratio=sampling_ratio,
        max_samples=max_samples,
        aligned=aligned,
      )
      return axis_matrix(bins, mask.shape[axis], limit)[0]

    lines = jnp.matmul(weights(0), mask, precision="highest")
    crop = jnp.matmul(lines, weights(1).T, precision="highest")
    return jnp.where(place >= 0, crop, 0)

  return lax.map(one, (boxes, index), batch_size=batch_size)
