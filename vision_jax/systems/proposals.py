"""Regions that may hold an object, found without learning.

For Fast R-CNN, which takes its proposals from elsewhere: selective search,
which OpenCV's contributed modules have, and a lattice of boxes, which needs
nothing.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["grid_proposals", "selective_search"]

_MODES = ("fast", "quality")


def selective_search(
  image: np.ndarray,
  *,
  mode: str = "fast",
  max_proposals: int = 2000,
  min_side: int = 1,
) -> np.ndarray:
  """Boxes of regions that grow together by colour, texture, size and fill.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame: x2 is behind the last
    column. Large boxes first: they stand for late steps of the growth, as in
    OpenCV's order, which is random and another in each run.

  Args:
    image: RGB, float [H, W, 3] in [0, 1].
    mode: "fast" or "quality": one start and two ways to join, or many.
    max_proposals: most boxes, the largest.
    min_side: boxes with a shorter side are left out, pixels.

  Returns:
    float32 [N, 4].

  Raises:
    ValueError: if the image is not [H, W, 3] with at least one pixel, or `mode`
      is unknown.
    TypeError: if the image is not floating.
    ImportError: if OpenCV lacks its contributed modules.

  Example:
    >>> from vision_jax.systems import proposals
    >>> image = np.full((40, 60, 3), 0.2)
    >>> image[10:30, 20:50] = (0.9, 0.1, 0.1)
    >>> boxes = proposals.selective_search(image)
    >>> bool((np.abs(boxes - [20, 10, 50, 30]).max(1) <= 2).any())
    True

  Source:
    J. Uijlings and others, "Selective search for object recognition", IJCV
    2013, as OpenCV has it.
  """
  image = np.asarray(image)
  if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
    raise ValueError(
      "selective_search: `image` must be [H, W, 3] with at least one pixel, "
      f"got shape {image.shape}."
    )
  if image.dtype.kind != "f":
    raise TypeError(
      f"selective_search: `image` must be floating, in [0, 1], got "
      f"{image.dtype}; divide bytes by 255."
    )
  if mode not in _MODES:
    raise ValueError(
      f"selective_search: `mode` must be one of {', '.join(_MODES)}, got "
      f"{mode!r}."
    )
  import cv2

  if not hasattr(cv2, "ximgproc"):
    raise ImportError(
      "selective_search: needs OpenCV with its contributed modules: pip "
      "install opencv-contrib-python-headless."
    )
  pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
  search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
  search.setBaseImage(np.ascontiguousarray(pixels[..., ::-1]))
  if mode == "fast":
    search.switchToSelectiveSearchFast()
  else:
    search.switchToSelectiveSearchQuality()
  found = np.asarray(search.process(), np.float32).reshape(-1, 4)
  found = np.unique(found[(found[:, 2:] >= min_side).all(-1)], axis=0)
  order = np.argsort(-found[:, 2:].prod(-1), kind="stable")
  found = found[order[:max_proposals]]
  return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)


def grid_proposals(
  size: tuple[int, int],
  *,
  sides: Sequence[float] = (0.15, 0.3, 0.6),
  ratios: Sequence[float] = (0.5, 1.0, 2.0),
  step: float = 0.5,
) -> np.ndarray:
  """Boxes of some sizes and aspects on a regular lattice.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame, cut at the image.

  Args:
    size: (height, width) of the image, pixels.
    sides: root of the area of a box, shares of the shorter side.
    ratios: height over width.
    step: distance of middles, share of the width and height of the box.

  Returns:
    float32 [N, 4].

  Raises:
    ValueError: if the size or a setting is not positive.

  Example:
    >>> from vision_jax.systems import proposals
    >>> proposals.grid_proposals((60, 80), sides=(0.5,), ratios=(1.0,),
    ...                          step=1.0)[:2]
    array([[10.,  0., 40., 30.],
           [40.,  0., 70., 30.]], dtype=float32)

  Source:
    A lower bound for proposals that look at the image.
  """
  if min(*size, step, *sides, *ratios) <= 0:
    raise ValueError(
      "grid_proposals: `size`, `sides`, `ratios` and `step` must be positive, "
      f"got {size}, {tuple(sides)}, {tuple(ratios)} and {step}."
    )
  height, width = size
  boxes = []
  for side in sides:
    for ratio in ratios:
      area = (side * min(size)) ** 2
      sides_of_box = np.sqrt([area / ratio, area * ratio])
      middles = [
        (np.arange(count) + 0.5 * (length / every - count + 1)) * every
        for length, every in zip(
          (width, height), step * sides_of_box, strict=True
        )
        for count in (max(1, int(length // every)),)
      ]
      middle = np.stack(np.meshgrid(*middles), -1).reshape(-1, 2)
      half = sides_of_box / 2
      boxes.append(np.concatenate([middle - half, middle + half], 1))
  return np.clip(
    np.concatenate(boxes), 0, np.array([width, height] * 2)
  ).astype(np.float32)
