"""The section itself runs in `make demo`; here: its rows, on small pairs."""

import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from vision_jax import data, ops
from vision_jax.demo import local_feature_scores as scores

CENTRES = np.float32([[20, 20], [60, 25], [40, 60], [90, 70], [70, 50]])


def _pair(shift):
  matrix = np.array([[1.0, 0, shift], [0, 1, 0], [0, 0, 1]])
  images = np.zeros((96, 120, 3), np.float32), np.ones((96, 120, 3), np.float32)
  return data.HomographyPair(*images, matrix, "test", 0)


class ScoreRowsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.calls = 0

  def _extract(self, image):
    """Picture 1 (white) shows the points moved by 5 pixels."""
    self.calls += 1
    xy = jnp.asarray(CENTRES) + jnp.array([[5.0, 0.0]]) * image[0, 0, 0]
    return ops.Keypoints(
      xy, jnp.ones(5), jnp.arange(5) < 4, jnp.eye(5).at[4].set(0.0)
    )

  def test_plain_and_refined(self):
    def refine(image0, image1, k0, k1, matches):
      del k1
      self.assertLess(image0.max(), image1.min())
      xy0 = k0.xy[matches.index0]
      return xy0, xy0 + jnp.array([[3.0, 0.0]])

    rows = {
      "plain": scores._Row(self._extract),
      "refined": scores._Row(self._extract, refine),
    }
    means = scores.score_rows(rows, [_pair(3.0), _pair(3.0)])
    self.assertEqual(self.calls, 4)  # each picture once, for both rows
    self.assertEqual(means["plain"].num_pairs, 2)
    self.assertEqual(means["plain"].num_matches, 4)
    # Two pixels beside the truth without the refinement, none with it.
    self.assertEqual(means["plain"].mma[:3], (0.0, 1.0, 1.0))
    self.assertEqual(means["refined"].mma[:3], (1.0, 1.0, 1.0))
    self.assertEqual(means["refined"].mha, (1.0, 1.0, 1.0))
    self.assertEqual(means["plain"].matching_score, 1.0)


if __name__ == "__main__":
  absltest.main()
