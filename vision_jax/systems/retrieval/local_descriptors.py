"""RootSIFT of an image by OpenCV, for SIFT+VLAD and bags of SIFT words."""

import cv2
import numpy as np

__all__ = ["root_sift"]


def root_sift(
  image: np.ndarray, *, max_keypoints: int = 2000
) -> tuple[np.ndarray, np.ndarray]:
  """SIFT descriptors under the Hellinger kernel, with their positions.

  Convention:
    Positions (x, y) in the index frame.

  Args:
    image: RGB in [0, 1], float [H, W, 3].
    max_keypoints: the strongest are kept.

  Returns:
    Positions float32 [N, 2] and unit vectors float32 [N, 128].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> image = np.random.default_rng(0).uniform(size=(64, 64, 3))
    >>> retrieval.root_sift(image)[1].shape[1]
    128

  Source:
    Arandjelović, Zisserman, "Three things everyone should know to improve
    object retrieval", CVPR 2012, sec. 3.
  """
  pixels = np.clip(np.rint(255 * np.asarray(image)), 0, 255).astype(np.uint8)
  gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
  sift = cv2.SIFT.create(nfeatures=max_keypoints)
  keypoints, descriptors = sift.detectAndCompute(gray, None)
  if descriptors is None:
    return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
  total = np.maximum(np.abs(descriptors).sum(1, keepdims=True), 1e-12)
  xy = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)
  return xy, np.sqrt(descriptors / total).astype(np.float32)
