import numpy as np
import skimage.data
from absl.testing import absltest

from vision_jax.systems import retrieval


class RootSiftTest(absltest.TestCase):
  def test_rows_are_roots_of_distributions(self):
    image = skimage.data.astronaut()[:160, 100:300] / 255.0
    xy, descriptors = retrieval.root_sift(image, max_keypoints=50)
    self.assertGreater(len(xy), 20)
    self.assertEqual(len(xy), len(descriptors))
    np.testing.assert_allclose((descriptors**2).sum(1), 1, atol=1e-4)
    self.assertGreaterEqual(descriptors.min(), 0)

  def test_nothing_to_find(self):
    xy, descriptors = retrieval.root_sift(np.zeros((40, 50, 3)))
    self.assertEqual((xy.shape, descriptors.shape), ((0, 2), (0, 128)))
