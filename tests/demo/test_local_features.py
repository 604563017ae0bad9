"""The section itself runs in `make demo`; here: its scores, on a small pair."""

import chex
import numpy as np

from vision_jax import metrics, ops
from vision_jax.demo import local_features


class RunTest(chex.TestCase):
  def test_scores_against_the_truth(self):
    xy = np.float32([[10, 10], [40, 20], [30, 35], [0, 0]])
    descriptors = np.eye(4, dtype=np.float32)
    valid = np.array([True, True, True, False])

    def extract(image):
      moved = xy + (
        np.float32([[3, 0], [3, 0], [30, 0], [0, 0]]) if image.any() else 0
      )
      return ops.Keypoints(moved, np.ones(4, np.float32), valid, descriptors)

    truth = metrics.homography_ground_truth(
      np.array([[1, 0, 3], [0, 1, 0], [0, 0, 1.0]]), (48, 64), (48, 64)
    )
    method = local_features.Method("test", extract)
    result = local_features._run(
      method, np.zeros((48, 64, 3)), np.ones((48, 64, 3)), truth
    )
    # The third point moved by 30 instead of 3.
    np.testing.assert_array_equal(result.correct, [True, True, False])
    self.assertEqual(result.row[1:5], [3, 3, 2, "67 %"])
