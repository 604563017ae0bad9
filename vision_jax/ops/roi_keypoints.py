"""Key points of regions as cells of a heatmap, and back."""

import jax
import jax.numpy as jnp
from jax import lax

from vision_jax.ops.interpolation import cubic_weights
from vision_jax.ops.matrix_tools import as_float, as_shape

__all__ = ["decode_roi_keypoints", "encode_roi_keypoints"]

_TILE = 32  # pixels of a box looked at together, along both axes


def encode_roi_keypoints(
  keypoints: jax.Array,
  boxes: jax.Array,
  size: tuple[int, int],
  *,
  visible: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """The cell of a box's heatmap that each key point falls into.

  Convention:
    Key points (x, y) and boxes (x1, y1, x2, y2) in the continuous frame. Cell
    floor((x - x1) w / (x2 - x1)); a point on the right or lower edge belongs to
    the last cell.

  Args:
    keypoints: [..., R, K, 2].
    boxes: [..., R, 4].
    size: (h, w) of the heatmap.
    visible: bool [..., R, K]; False points have no target.

  Returns:
    index int32 [..., R, K], row w + column, 0 where not valid; valid bool
    [..., R, K]: visible and inside its box.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> points = jnp.array([[[3.0, 1.0], [4.0, 4.0], [5.0, 1.0]]])
    >>> index, valid = ops.encode_roi_keypoints(
    ...   points, jnp.array([[0.0, 0, 4, 4]]), (8, 8))
    >>> print(index, valid)
    [[22 63  0]] [[ True  True False]]

  Source:
    He et al., Mask R-CNN, 2017, section 5; torchvision's keypoints_to_heatmap.
  """
  keypoints = as_shape("encode_roi_keypoints", "keypoints", keypoints, 2)
  boxes = as_shape("encode_roi_keypoints", "boxes", boxes, 4)
  if keypoints.shape[:-2] != boxes.shape[:-1]:
    raise ValueError(
      "encode_roi_keypoints: `keypoints` must be [..., R, K, 2] and `boxes` "
      f"[..., R, 4], got {keypoints.shape} and {boxes.shape}."
    )
  height, width = size
  cells = jnp.asarray([width, height], keypoints.dtype)
  low, high = boxes[..., None, :2], boxes[..., None, 2:]
  sides = high - low
  proper = (sides > 0).all(-1)
  scale = cells.reshape(*[1] * (boxes.ndim), 2) / jnp.where(sides > 0, sides, 1)
  cell = jnp.floor((keypoints - low) * scale)
  last = jnp.broadcast_to(cells - 1, cell.shape)
  cell = jnp.where(keypoints == high, last, cell)
  valid = ((cell >= 0) & (cell <= last)).all(-1) & proper
  if visible is not None:
    valid &= visible
  cell = jnp.where(valid[..., None], cell, 0).astype(jnp.int32)
  return cell[..., 1] * width + cell[..., 0], valid


def _cubic_matrix(pixel: jax.Array, side: jax.Array, cells: int) -> jax.Array:
  """Weights of cells in the pixels of a line resized to `side`, [n, cells]."""
  position = (pixel + 0.5) * (cells / side) - 0.5
  base = jnp.floor(position)
  place = jnp.arange(cells, dtype=position.dtype)[None]
  total = jnp.zeros((pixel.shape[0], cells), position.dtype)
  for k, weight in enumerate(cubic_weights(position - base), -1):
    tap = jnp.clip(base + k, 0, cells - 1)[:, None]
    total += jnp.where(tap == place, weight[:, None], 0)
  return total


def _best_pixel(heatmap, height, width):
  """Row-major place and value of the maximum at height x width pixels.

  The resized map is made tile by tile, so that any size will do.
  """
  tall, wide, joints = heatmap.shape
  columns = jnp.ceil(width / _TILE).astype(jnp.int32)
  tiles = columns * jnp.ceil(height / _TILE).astype(jnp.int32)
  line = jnp.arange(_TILE, dtype=heatmap.dtype)

  def look(state):
    k, value, y, x = state
    row, column = line + k // columns * _TILE, line + k % columns * _TILE
    lines = jnp.einsum(
      "ph,hwk->pwk",
      _cubic_matrix(row, height, tall),
      heatmap,
      precision="highest",
    )
    tile = jnp.einsum(
      "qw,pwk->pqk",
      _cubic_matrix(column, width, wide),
      lines,
      precision="highest",
    )
    inside = (row < height)[:, None] & (column < width)[None]
    tile = jnp.where(inside[..., None], tile, -jnp.inf)
    tile = tile.reshape(_TILE * _TILE, joints)
    place = jnp.argmax(tile, 0)
    found = jnp.take_along_axis(tile, place[None], 0)[0]
    new_y, new_x = row[place // _TILE], column[place % _TILE]
    first = (new_y < y) | ((new_y == y) & (new_x < x))
    better = (found > value) | ((found == value) & first)
    return (
      k + 1,
      jnp.where(better, found, value),
      jnp.where(better, new_y, y),
      jnp.where(better, new_x, x),
    )

  zero = jnp.zeros(joints, heatmap.dtype)
  start = (jnp.int32(0), zero - jnp.inf, zero, zero)
  return lax.while_loop(lambda state: state[0] < tiles, look, start)[1:]


def decode_roi_keypoints(
  heatmaps: jax.Array, boxes: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Key points from the heatmaps of boxes.

  The heatmap is resized to the pixels of its box, by cubic interpolation, and
  the best pixel taken.

  Convention:
    Boxes (x1, y1, x2, y2) and points (x, y) in the continuous frame. A side is
    ceil(max(side, 1)) pixels; pixel i lies at x1 + (i + 0.5) side / ceil(side).

  Args:
    heatmaps: logits [R, h, w, K].
    boxes: [R, 4].

  Returns:
    Positions [R, K, 2] and the logits there [R, K]. No derivative.

  Raises:
    ValueError: if the shapes do not belong together.

  Example:
    >>> from vision_jax import ops
    >>> heatmaps = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(5.0)
    >>> xy, logits = ops.decode_roi_keypoints(
    ...   heatmaps, jnp.array([[10.0, 10, 14, 14]]))
    >>> print(xy[0, 0], logits[0, 0])
    [12.5 11.5] 5.0

  Source:
    He et al., Mask R-CNN, 2017, section 5; torchvision's heatmaps_to_keypoints.
  """
  heatmaps = lax.stop_gradient(as_float(heatmaps))
  boxes = lax.stop_gradient(as_shape("decode_roi_keypoints", "boxes", boxes, 4))
  if heatmaps.ndim != 4 or boxes.shape != (heatmaps.shape[0], 4):
    raise ValueError(
      "decode_roi_keypoints: `heatmaps` must be [R, h, w, K] and `boxes` "
      f"[R, 4], got {heatmaps.shape} and {boxes.shape}."
    )

  def one(inputs):
    heatmap, box = inputs
    width = jnp.maximum(box[2] - box[0], 1)
    height = jnp.maximum(box[3] - box[1], 1)
    pixels_x, pixels_y = jnp.ceil(width), jnp.ceil(height)
    value, y, x = _best_pixel(heatmap, pixels_y, pixels_x)
    x = (x + 0.5) * (width / pixels_x) + box[0]
    y = (y + 0.5) * (height / pixels_y) + box[1]
    return jnp.stack([x, y], -1), value

  return lax.map(one, (heatmaps, boxes))
