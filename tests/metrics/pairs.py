"""Pairs of pictures for the tests of scores."""

import numpy as np

from vision_jax import metrics

SIZE = (480, 640)


def identity(size=SIZE):
  return metrics.homography_ground_truth(np.eye(3), size, size)


def random_pair(seed):
  """Points, descriptors and a homography of two pictures, not square."""
  rng = np.random.default_rng(seed)
  angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.7, 1.4)
  c, s = scale * np.cos(angle), scale * np.sin(angle)
  homography = np.array(
    [
      [c, -s, rng.uniform(-40, 40)],
      [s, c, rng.uniform(-40, 40)],
      [rng.uniform(-3e-4, 3e-4), rng.uniform(-3e-4, 3e-4), 1.0],
    ]
  ) * rng.choice([-2.0, 1.0])  # the factor of a homography is free
  size0, size1 = (120, 200), (150, 170)
  xy0 = rng.random((60, 2)) * [200, 120]
  warped = np.array([loop_warp(homography, p) for p in xy0])
  xy1 = np.concatenate(
    [
      warped[:40] + rng.normal(0, 3, (40, 2)),
      rng.random((25, 2)) * [170, 150],
    ]
  )
  xy1 = np.round(xy1)  # ties
  descriptors0 = rng.standard_normal((60, 8))
  descriptors1 = rng.standard_normal((65, 8))
  descriptors1[:40] = descriptors0[:40] + rng.normal(0, 0.6, (40, 8))
  return xy0, xy1, descriptors0, descriptors1, homography, size0, size1


def loop_warp(h, p):
  x, y = (float(v) for v in p)
  w = h[2][0] * x + h[2][1] * y + h[2][2]
  return (
    (h[0][0] * x + h[0][1] * y + h[0][2]) / w,
    (h[1][0] * x + h[1][1] * y + h[1][2]) / w,
  )
