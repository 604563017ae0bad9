"""Where the regions of an image come from: functions of one interface.

A source is a function image [H, W, 3] -> `ops.Detections`. DASR
(`systems.dasr.find_regions`), a detector's boxes or masks, and the functions
here fit; the rest of a search does not know which it was.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops

__all__ = [
  "cam_boxes",
  "concatenate_regions",
  "full_image",
  "oracle",
  "rmac_grid",
]


def _regions(boxes: np.ndarray | jax.Array) -> ops.Detections:
  boxes = jnp.asarray(boxes, jnp.float32).reshape(-1, 4)
  count = len(boxes)
  return ops.Detections(
    boxes,
    jnp.ones(count, jnp.float32),
    jnp.zeros(count, jnp.int32),
    jnp.ones(count, bool),
  )


def full_image(size: tuple[int, int]) -> ops.Detections:
  """The whole image as one region.

  Args:
    size: (height, width), pixels.

  Returns:
    One region.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> print(retrieval.full_image((30, 40)).boxes)
    [[ 0.  0. 40. 30.]]

  Source:
    Definition.
  """
  return _regions(np.array([[0, 0, size[1], size[0]]]))


def rmac_grid(size: tuple[int, int], *, levels: int = 3) -> ops.Detections:
  """The squares of R-MAC, in pixels.

  Args:
    size: (height, width), pixels.
    levels: of the pyramid.

  Returns:
    14 regions or more.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> len(retrieval.rmac_grid((256, 256)).boxes)
    14

  Source:
    `ops.rmac_regions`.
  """
  return _regions(ops.rmac_regions(size, levels=levels))


def oracle(boxes: np.ndarray) -> ops.Detections:
  """True boxes as regions: what the descriptor could do at best.

  Args:
    boxes: [N, 4], continuous frame.

  Returns:
    N regions.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.oracle(np.zeros((3, 4))).valid.shape
    (3,)

  Source:
    Definition.
  """
  return _regions(boxes)


def cam_boxes(
  maps: jax.Array,
  *,
  stride: int,
  size: tuple[int, int],
  levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4),
) -> ops.Detections:
  """Boxes around what class activation maps hold above a share of their top.

  Args:
    maps: from `cam_maps`, [N, h, w] in [0, 1].
    stride: input pixels per cell.
    size: (height, width) of the image, pixels.
    levels: shares of the maximum.

  Returns:
    N x number of levels regions; those of empty maps are not valid.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> maps = jnp.zeros((1, 4, 4)).at[0, 1:3, 2].set(1.0)
    >>> found = retrieval.cam_boxes(maps, stride=8, size=(32, 32),
    ...                             levels=(0.5,))
    >>> print(found.boxes)
    [[16.  8. 24. 24.]]

  Source:
    Jimenez et al. (arXiv 1707.02581), sec. 3.4, with the extent of all cells
    in place of the largest contour.
  """
  limits = jnp.array(levels).reshape(1, -1, 1, 1)
  above = (maps[:, None] >= limits) & (maps[:, None] > 0)
  sides = []
  for axis, length in ((-2, size[1]), (-1, size[0])):
    line = above.any(axis)
    first = jnp.argmax(line, -1)
    last = line.shape[-1] - jnp.argmax(line[..., ::-1], -1)
    sides.append((first * stride, jnp.minimum(last * stride, length)))
  boxes = jnp.stack(
    [sides[0][0], sides[1][0], sides[0][1], sides[1][1]], -1
  ).reshape(-1, 4)
  valid = above.any((-2, -1)).reshape(-1)
  found = _regions(jnp.where(valid[:, None], boxes, 0))
  return found._replace(valid=valid, scores=valid.astype(jnp.float32))


def concatenate_regions(
  first: ops.Detections, second: ops.Detections
) -> ops.Detections:
  """Regions of two sources as one list; masks are dropped.

  Args:
    first: regions.
    second: regions of the same image.

  Returns:
    Both.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> whole = retrieval.full_image((8, 8))
    >>> len(retrieval.concatenate_regions(whole, whole).boxes)
    2

  Source:
    Interface of this library.
  """
  joined = [
    jnp.concatenate([a, b]) for a, b in zip(first[:4], second[:4], strict=True)
  ]
  return ops.Detections(*joined)
