import jax.numpy as jnp
import numpy as np
from absl.testing import absltest

from vision_jax import ops
from vision_jax.systems import retrieval


class SourcesTest(absltest.TestCase):
  def test_grids(self):
    np.testing.assert_array_equal(
      retrieval.full_image((30, 40)).boxes, [[0, 0, 40, 30]]
    )
    grid = retrieval.rmac_grid((48, 64))
    np.testing.assert_array_equal(grid.boxes, ops.rmac_regions((48, 64)))
    self.assertTrue(np.asarray(grid.valid).all())

  def test_cam_boxes_equal_the_loop(self):
    rng = np.random.default_rng(0)
    maps = rng.uniform(size=(3, 5, 7)) ** 4
    maps[2] = 0
    found = retrieval.cam_boxes(
      jnp.asarray(maps, jnp.float32), stride=8, size=(38, 56), levels=(0.1, 0.5)
    )
    boxes = np.asarray(found.boxes).reshape(3, 2, 4)
    for n in range(2):
      for k, level in enumerate((0.1, 0.5)):
        y, x = np.nonzero(maps[n] >= level)
        expected = [
          x.min() * 8, y.min() * 8,
          min((x.max() + 1) * 8, 56), min((y.max() + 1) * 8, 38),
        ]  # fmt: skip
        np.testing.assert_array_equal(boxes[n, k], expected)
    self.assertEqual(np.asarray(found.valid).tolist(), [True] * 4 + [False] * 2)

  def test_joined(self):
    both = retrieval.concatenate_regions(
      retrieval.full_image((8, 9)), retrieval.oracle(np.ones((2, 4)))
    )
    self.assertEqual(both.boxes.shape, (3, 4))
    self.assertIsNone(both.masks)
