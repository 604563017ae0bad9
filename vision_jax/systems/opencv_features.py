"""The classical baselines: SIFT, ORB and AKAZE of OpenCV.

They return the same `Keypoints` as the learned methods, so that matching,
evaluation and drawing are shared.

Note:
  Two of OpenCV's detectors are biased by default, and a comparison would be
  unfair to them. SIFT doubles the image without minding pixel centres, which
  moves all points by +0.25 pixels; here its precise upscaling is switched on.
  ORB scales points of pyramid levels by `x * s` where `(x + 0.5) * s - 0.5` is
  right, an error of up to 1.3 pixels at level 7; here it is undone.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.structures import Keypoints

__all__ = ["OPENCV_METHODS", "detect_opencv"]

OPENCV_METHODS = ("sift", "orb", "akaze")

_ORB_SCALE = 1.2
_SMALLEST = 8  # OpenCV's pyramids fail below; there is nothing to find either


def detect_opencv(
  image: Any, *, method: str = "sift", max_keypoints: int = 500
) -> Keypoints:
  """Detects and describes key points by a classical method.

  Binary descriptors come as vectors of +-1/sqrt(D), D bits, so that their dot
  product, 1 - 2 * distance / D, orders pairs as the Hamming distance does.

  Convention:
    Layout [H, W, 3], RGB; points (x, y), index frame; sorted by response,
    descending, then row-major by position. Not for jit: runs on the host.

  Args:
    image: uint8, or float in [0, 1], [H, W, 3] or grey [H, W].
    method: "sift", "orb" or "akaze".
    max_keypoints: K; the strongest are kept.

  Returns:
    Keypoints: xy [K, 2], scores [K], valid [K], descriptors
    [K, D] with D = 128, 256 or 488, scale [K] (diameter in pixels), angle [K]
    (radians). Padding rows are 0.

  Raises:
    ValueError: if `image`, `method` or `max_keypoints` is not as above, or a
      pixel is not finite.

  Example:
    >>> from vision_jax.systems import opencv_features
    >>> image = np.zeros((64, 80), np.float32)
    >>> image[28:36, 36:44] = 1.0
    >>> found = opencv_features.detect_opencv(image, max_keypoints=4)
    >>> found.descriptors.shape
    (4, 128)

  Source:
    Lowe, IJCV 2004; Rublee et al., ICCV 2011; Alcantarilla et al., BMVC 2013;
    implementations of OpenCV.
  """
  if max_keypoints < 1:
    raise ValueError(
      f"detect_opencv: `max_keypoints` must be at least 1, got {max_keypoints}."
    )
  grey = _grey(image)
  detector: cv2.Feature2D
  if method == "sift":
    detector = cv2.SIFT.create(
      nfeatures=max_keypoints, enable_precise_upscale=True
    )
    length = 128
  elif method == "orb":
    detector = cv2.ORB.create(
      nfeatures=max_keypoints, scaleFactor=_ORB_SCALE, nlevels=8
    )
    length = 256
  elif method == "akaze":
    detector = cv2.AKAZE.create()
    length = 488
  else:
    raise ValueError(
      f"detect_opencv: `method` must be one of {', '.join(OPENCV_METHODS)},"
      f" got '{method}'."
    )
  found: Sequence[Any] = ()
  codes: Any = None
  if min(grey.shape) >= _SMALLEST:
    found, codes = detector.detectAndCompute(grey, None)
  xy = np.array([point.pt for point in found], np.float64).reshape(-1, 2)
  if method == "orb":
    levels = np.array([point.octave for point in found], np.int64)
    xy = _undo_orb_shift(xy, levels, grey.shape)
  scores = np.array([point.response for point in found], np.float32)
  angle = np.array([point.angle for point in found], np.float64)
  order = np.lexsort((angle, xy[:, 0], xy[:, 1], -scores))[:max_keypoints]
  descriptors = np.zeros((0, length), np.float32)
  if codes is not None:
    descriptors = _unit_vectors(codes[order])
  scale = np.array([point.size for point in found], np.float32)
  return Keypoints(
    xy=_padded(xy[order].astype(np.float32), max_keypoints),
    scores=_padded(scores[order], max_keypoints),
    valid=_padded(np.ones(len(order), bool), max_keypoints),
    descriptors=_padded(descriptors, max_keypoints),
    scale=_padded(scale[order], max_keypoints),
    angle=_padded(np.deg2rad(angle[order]).astype(np.float32), max_keypoints),
  )


def _grey(image: Any) -> np.ndarray:
  """Image as uint8 [H, W]."""
  array = np.asarray(image)
  is_grey = array.ndim == 2
  if 0 in array.shape or not (
    is_grey or (array.ndim == 3 and array.shape[-1] == 3)
  ):
    raise ValueError(
      "detect_opencv: `image` must be [H, W, 3] or [H, W] with no empty axis,"
      f" got {array.shape}."
    )
  if array.dtype != np.uint8:
    if not np.isfinite(array).all():
      raise ValueError(
        "detect_opencv: `image` must be finite, got NaN or infinity."
      )
    array = np.clip(array.astype(np.float32), 0.0, 1.0)
    array = np.floor(array * 255.0 + 0.5).astype(np.uint8)
  array = np.ascontiguousarray(array)
  return array if is_grey else cv2.cvtColor(array, cv2.COLOR_RGB2GRAY)


def _undo_orb_shift(
  xy: np.ndarray, levels: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
  """Index-frame positions of ORB's points, which it scales from the corner."""
  size = np.array([shape[1], shape[0]], np.float64)
  scale = np.power(np.float32(_ORB_SCALE), levels).astype(np.float64)[:, None]
  # Levels have whole sizes, so that their true scale differs a little.
  level_size = np.rint(size / scale)
  return (xy / scale + 0.5) * (size / level_size) - 0.5


def _unit_vectors(codes: np.ndarray) -> np.ndarray:
  """Unit vectors of float or packed binary descriptors, [N, D]."""
  if codes.dtype == np.uint8:
    bits = np.unpackbits(codes, axis=1).astype(np.float32)
    return (2.0 * bits - 1.0) / np.float32(np.sqrt(bits.shape[1]))
  norms = np.linalg.norm(codes, axis=1, keepdims=True)
  return (codes / np.maximum(norms, 1e-12)).astype(np.float32)


def _padded(values: np.ndarray, rows: int) -> jax.Array:
  """Array with rows of 0 appended."""
  padding = [(0, rows - len(values))] + [(0, 0)] * (values.ndim - 1)
  return jnp.asarray(np.pad(values, padding))
