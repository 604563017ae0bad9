"""Tests of the classical baselines."""

import chex
import numpy as np
import skimage.data
from absl.testing import parameterized

from vision_jax.systems import opencv_features


def _photograph():
  return skimage.data.astronaut()[:300, :380]


def _blob(x, y, sigma, shape=(96, 120)):
  """A bright Gaussian spot with its centre at (x, y), index frame."""
  rows, columns = np.mgrid[: shape[0], : shape[1]]
  squared = (columns - x) ** 2 + (rows - y) ** 2
  return 0.1 + 0.8 * np.exp(-squared / (2.0 * sigma**2))


class DetectOpencvTest(parameterized.TestCase):
  @parameterized.product(
    method=("sift", "akaze"),
    center=((50.0, 40.0), (61.3, 47.7), (70.5, 33.25)),
  )
  def test_blob_is_found_where_it_is(self, method, center):
    found = opencv_features.detect_opencv(_blob(*center, 3.0), method=method)
    self.assertTrue(found.valid[0])
    np.testing.assert_allclose(found.xy[0], center, atol=0.05)

  @parameterized.parameters("sift", "orb", "akaze")
  def test_half_turn_of_the_image_turns_the_points(self, method):
    # A detector whose frame is shifted by b disagrees by 2 b.
    image = _photograph()
    size = np.array([image.shape[1], image.shape[0]])
    first = opencv_features.detect_opencv(
      image, method=method, max_keypoints=2000
    )
    second = opencv_features.detect_opencv(
      image[::-1, ::-1], method=method, max_keypoints=2000
    )
    xy0 = np.asarray(first.xy)[np.asarray(first.valid)]
    xy1 = size - 1 - np.asarray(second.xy)[np.asarray(second.valid)]
    self.assertGreater(len(xy0), 100)
    distance = np.linalg.norm(xy0[:, None] - xy1[None], axis=-1)
    near = distance.min(1) < 2.0
    self.assertGreater(near.mean(), 0.8)
    shift = (xy0 - xy1[distance.argmin(1)])[near] / 2.0
    np.testing.assert_allclose(np.median(shift, axis=0), 0.0, atol=5e-3)
    np.testing.assert_allclose(shift.mean(0), 0.0, atol=0.05)

  @parameterized.parameters(("sift", 128), ("orb", 256), ("akaze", 488))
  def test_shapes_order_and_unit_descriptors(self, method, length):
    found = opencv_features.detect_opencv(
      _photograph(), method=method, max_keypoints=60
    )
    chex.assert_shape(found.xy, (60, 2))
    chex.assert_shape(found.descriptors, (60, length))
    self.assertTrue(bool(found.valid.all()))
    self.assertTrue(bool((np.diff(found.scores) <= 0).all()))
    norms = np.linalg.norm(found.descriptors, axis=-1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)
    self.assertTrue(bool((np.abs(found.angle) <= 2 * np.pi).all()))

  def test_the_strongest_are_kept(self):
    many = opencv_features.detect_opencv(_photograph(), max_keypoints=3000)
    few = opencv_features.detect_opencv(_photograph(), max_keypoints=40)
    np.testing.assert_allclose(few.scores, many.scores[:40])
    self.assertFalse(bool(many.valid.all()))

  @parameterized.parameters("orb", "akaze")
  def test_dot_products_are_hamming_distances(self, method):
    import cv2

    detector = cv2.ORB_create(50) if method == "orb" else cv2.AKAZE_create()
    grey = cv2.cvtColor(_photograph(), cv2.COLOR_RGB2GRAY)
    _, codes = detector.detectAndCompute(grey, None)
    codes = codes[:30]
    vectors = opencv_features._unit_vectors(codes)
    bits = vectors.shape[1]
    for i in range(0, 30, 3):
      for j in range(30):
        hamming = cv2.norm(codes[i], codes[j], cv2.NORM_HAMMING)
        self.assertAlmostEqual(
          float(vectors[i] @ vectors[j]), 1.0 - 2.0 * hamming / bits, places=5
        )

  @parameterized.product(
    method=("sift", "orb", "akaze"),
    shape=((64, 80), (64, 80, 3), (3, 5), (1, 1, 3)),
  )
  def test_nothing_to_find_gives_only_padding(self, method, shape):
    found = opencv_features.detect_opencv(
      np.full(shape, 0.5, np.float32), method=method, max_keypoints=7
    )
    self.assertFalse(bool(found.valid.any()))
    for field in found:
      self.assertEqual(float(np.abs(field).max()), 0.0)
    self.assertEqual(found.xy.shape, (7, 2))

  def test_bytes_and_floats_agree(self):
    image = _photograph()
    first = opencv_features.detect_opencv(image, max_keypoints=50)
    second = opencv_features.detect_opencv(
      image.astype(np.float32) / 255.0, max_keypoints=50
    )
    chex.assert_trees_all_equal(first, second)

  def test_bad_input(self):
    image = np.zeros((16, 20, 3), np.float32)
    with self.assertRaisesRegex(ValueError, "`method` must be one of sift"):
      opencv_features.detect_opencv(image, method="surf")
    with self.assertRaisesRegex(ValueError, "`max_keypoints` must be"):
      opencv_features.detect_opencv(image, max_keypoints=0)
    with self.assertRaisesRegex(ValueError, r"`image` must be \[H, W, 3\]"):
      opencv_features.detect_opencv(np.zeros((4, 5, 4), np.float32))
    with self.assertRaisesRegex(ValueError, "must be finite"):
      opencv_features.detect_opencv(np.full((9, 8, 3), np.nan, np.float32))
