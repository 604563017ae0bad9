"""Anchors, which of them belong to which object, and a sample of them.

Anchors are boxes (x1, y1, x2, y2) in the continuous frame of the image. Nothing
here carries a derivative but the anchors themselves.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vision_jax.ops.matrix_tools import as_shape

__all__ = [
  "cell_anchors",
  "grid_anchors",
  "match_boxes",
  "sample_match_indices",
  "sample_matches",
]

NEGATIVE, IGNORED = -1, -2


def cell_anchors(
  sizes: Sequence[float], ratios: Sequence[float], *, rounded: bool = True
) -> np.ndarray:
  """The anchors of one cell, around the origin.

  Convention:
    Boxes (x1, y1, x2, y2); width size / sqrt(ratio), height size sqrt(ratio).
    Order: all sizes of the first ratio, then of the next.

  Args:
    sizes: square roots of the areas, pixels of the image.
    ratios: heights over widths.
    rounded: corners to whole pixels, halves to the even one, as torchvision;
      Detectron2 does not round.

  Returns:
    float32 [A, 4], A = len(sizes) len(ratios).

  Raises:
    ValueError: if there is none, or one is not positive.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.cell_anchors((32,), (0.5, 1.0, 2.0)))
    [[-23. -11.  23.  11.]
     [-16. -16.  16.  16.]
     [-11. -23.  11.  23.]]

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.1; torchvision's
    AnchorGenerator.
  """
  for name, values in (("sizes", sizes), ("ratios", ratios)):
    if not len(values) or min(values) <= 0:
      raise ValueError(
        f"cell_anchors: `{name}` must be positive numbers, got {values!r}."
      )
  # In float32, like the reference, so that halves round alike.
  tall = np.sqrt(np.asarray(ratios, np.float32))[:, None]
  side = np.asarray(sizes, np.float32)[None, :]
  width, height = (1 / tall * side).ravel(), (tall * side).ravel()
  boxes = np.stack([-width, -height, width, height], -1) / 2
  return np.round(boxes) if rounded else boxes


def grid_anchors(
  cell: jax.Array | np.ndarray,
  feature_size: tuple[int, int],
  stride: tuple[jax.Array | float, jax.Array | float],
  *,
  offset: float = 0.0,
) -> jax.Array:
  """Anchors of every cell of a feature map.

  Convention:
    Boxes (x1, y1, x2, y2), continuous frame of the image. The anchors of cell
    (row, column) surround ((column + offset) stride_x, (row + offset)
    stride_y). Order: row, column, anchor.

  Args:
    cell: anchors of one cell, [A, 4].
    feature_size: (h, w) of the map.
    stride: (stride_y, stride_x), pixels of the image per cell, numbers or
      scalar arrays; torchvision: image side // feature side.
    offset: 0 puts them on the corner of a cell, 0.5 on its middle.

  Returns:
    float32 [h w A, 4].

  Raises:
    ValueError: if `cell` is not [A, 4].

  Example:
    >>> from vision_jax import ops
    >>> cell = ops.cell_anchors((4,), (1.0,))
    >>> print(ops.grid_anchors(cell, (1, 2), (8, 8)))
    [[-2. -2.  2.  2.]
     [ 6. -2. 10.  2.]]

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.1; torchvision's
    AnchorGenerator.
  """
  cell = as_shape("grid_anchors", "cell", cell, 4)
  if cell.ndim != 2:
    raise ValueError(
      f"grid_anchors: `cell` must be [A, 4], got shape {cell.shape}."
    )
  height, width = feature_size
  y, x = (
    (jnp.arange(n, dtype=cell.dtype) + offset) * jnp.asarray(step, cell.dtype)
    for n, step in zip(feature_size, stride, strict=True)
  )
  y = jnp.broadcast_to(y[:, None], (height, width))
  x = jnp.broadcast_to(x[None, :], (height, width))
  shift = jnp.stack([x, y, x, y], -1)[:, :, None, :]
  return (shift + cell[None, None]).reshape(-1, 4)


def match_boxes(
  iou: jax.Array,
  *,
  low: float,
  high: float,
  allow_low_quality: bool = False,
  valid: jax.Array | None = None,
) -> jax.Array:
  """The object that each anchor or proposal belongs to, if any.

  An IoU of at least `high` with its best object is a match, below `low` is
  background, between is neither.

  Convention:
    Rows are objects, columns anchors. Equal overlaps: the lowest object.

  Args:
    iou: [G, N] from `box_iou(objects, anchors)`.
    low: background below this.
    high: a match from here on.
    allow_low_quality: an anchor that overlaps some object as much as the best
      anchor does (ties included, and more than 0) is a match too, with the
      object that it overlaps most.
    valid: bool [G], False on padding rows.

  Returns:
    int32 [N]: row of the object, -1 for background, -2 for neither.

  Raises:
    ValueError: if a shape is wrong or `low` exceeds `high`.

  Example:
    >>> from vision_jax import ops
    >>> iou = jnp.array([[0.8, 0.5, 0.1], [0.0, 0.4, 0.2]])
    >>> print(ops.match_boxes(iou, low=0.3, high=0.7))
    [ 0 -2 -1]
    >>> print(ops.match_boxes(iou, low=0.3, high=0.7, allow_low_quality=True))
    [ 0  0 -1]

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.2; torchvision's Matcher, but
    that an object which overlaps nothing claims nothing.
  """
  iou = jnp.asarray(iou)
  if iou.ndim != 2 or (valid is not None and valid.shape != iou.shape[:1]):
    raise ValueError(
      "match_boxes: `iou` must be [G, N] and `valid` [G], got "
      f"{iou.shape} and {None if valid is None else valid.shape}."
    )
  if low > high:
    raise ValueError(
      f"match_boxes: `low` must not exceed `high`, got {low} and {high}."
    )
  if 0 in iou.shape:
    return jnp.full(iou.shape[1], NEGATIVE, jnp.int32)
  if valid is not None:
    iou = jnp.where(valid[:, None], iou, -1)
  best = iou.max(0)
  match = jnp.argmax(iou, 0).astype(jnp.int32)
  result = jnp.where(best >= high, match, IGNORED)
  result = jnp.where(best < low, NEGATIVE, result)
  if allow_low_quality:
    most = iou.max(1, keepdims=True)
    claimed = ((iou == most) & (most > 0)).any(0)
    result = jnp.where(claimed, match, result)
  return result


def _draw(
  key: jax.Array, candidates: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
  """Up to `count` candidates in random order, and how many there are."""
  # Numbers, since that is what a CPU finds the largest of fast.
  order = jax.random.uniform(key, candidates.shape)
  _, index = lax.top_k(jnp.where(candidates, order, -1.0), count)
  return index, jnp.minimum(candidates.sum(dtype=jnp.int32), count)


def sample_match_indices(
  key: jax.Array,
  matches: jax.Array,
  *,
  size: int,
  positive_fraction: float,
  valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """A random sample of matches and background, as a list of fixed length.

  Convention:
    Positives first, then negatives, then padding.

  Args:
    key: random key; decides the draw alone.
    matches: int [N] from `match_boxes`: >= 0 positive, -1 negative.
    size: length S of the list.
    positive_fraction: at most this share of S is positive; what positives
      leave free is filled with negatives.
    valid: bool [N]; False rows are never drawn.

  Returns:
    index int32 [S] (-1 on padding), positive bool [S], valid bool [S].

  Raises:
    ValueError: if `matches` is not [N], or a setting is out of range.

  Example:
    >>> from vision_jax import ops
    >>> matches = jnp.array([-1, 3, -2, -1])
    >>> index, positive, valid = ops.sample_match_indices(
    ...   jax.random.key(0), matches, size=4, positive_fraction=0.5)
    >>> print(index[0], positive, valid)
    1 [ True False False False] [ True  True  True False]

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.3; torchvision's
    BalancedPositiveNegativeSampler.
  """
  if matches.ndim != 1 or (valid is not None and valid.shape != matches.shape):
    raise ValueError(
      "sample_match_indices: `matches` and `valid` must be [N], got "
      f"{matches.shape} and {None if valid is None else valid.shape}."
    )
  if size < 1 or not 0 <= positive_fraction <= 1:
    raise ValueError(
      "sample_match_indices: `size` must be >= 1 and `positive_fraction` in "
      f"[0, 1], got {size} and {positive_fraction}."
    )
  free = jnp.ones(matches.shape, bool) if valid is None else valid
  total = matches.shape[0]
  key0, key1 = jax.random.split(key)
  wanted = min(int(size * positive_fraction), total)
  chosen, positives = _draw(key0, (matches >= 0) & free, wanted)
  others, negatives = _draw(
    key1, (matches == NEGATIVE) & free, min(size, total)
  )
  slot = jnp.arange(size, dtype=jnp.int32)
  positive = slot < positives
  found = slot < jnp.minimum(positives + negatives, size)
  index = jnp.where(
    positive,
    _at(chosen, slot),
    _at(others, slot - positives),
  )
  return jnp.where(found, index, -1), positive, found


def _at(values: jax.Array, place: jax.Array) -> jax.Array:
  """Values at places, -1 outside."""
  inside = (place >= 0) & (place < values.shape[0])
  if not values.shape[0]:
    return jnp.full(place.shape, -1, jnp.int32)
  return jnp.where(inside, values[jnp.where(inside, place, 0)], -1)


def sample_matches(
  key: jax.Array,
  matches: jax.Array,
  *,
  size: int,
  positive_fraction: float,
  valid: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """A random sample of matches and background, as masks.

  Convention:
    The draw of `sample_match_indices` with the same key.

  Args:
    key: random key; decides the draw alone.
    matches: int [N] from `match_boxes`: >= 0 positive, -1 negative.
    size: number of samples, or as many as there are.
    positive_fraction: at most this share of `size` is positive; what positives
      leave free is filled with negatives.
    valid: bool [N]; False rows are never drawn.

  Returns:
    positive bool [N] and negative bool [N].

  Raises:
    ValueError: if `matches` is not [N], or a setting is out of range.

  Example:
    >>> from vision_jax import ops
    >>> positive, negative = ops.sample_matches(
    ...   jax.random.key(0), jnp.array([-1, 3, -2, -1]), size=4,
    ...   positive_fraction=0.5)
    >>> print(positive, negative)
    [False  True False False] [ True False False  True]

  Source:
    Ren et al., Faster R-CNN, 2015, section 3.1.3.
  """
  index, positive, found = sample_match_indices(
    key,
    matches,
    size=size,
    positive_fraction=positive_fraction,
    valid=valid,
  )
  none = jnp.zeros(matches.shape, bool)
  beyond = matches.shape[0]

  def mark(chosen):
    return none.at[jnp.where(chosen, index, beyond)].set(True, mode="drop")

  return mark(positive & found), mark(found & ~positive)
