"""Tests of the dead-leaves canvases."""

import time

import cv2
import numpy as np
import pytest

from vision_jax import data


def test_shape_and_range():
  canvas = data.dead_leaves(0, 0)
  assert canvas.shape == (512, 512, 3)
  assert canvas.dtype == np.uint8
  assert canvas.min() == 0
  assert canvas.max() == 255


def test_address_fixes_the_canvas():
  a = data.dead_leaves(1, 4, size=96)
  np.testing.assert_array_equal(a, data.dead_leaves(1, 4, size=96))
  for other in ((1, 5), (2, 4)):
    b = data.dead_leaves(*other, size=96)
    assert np.abs(a.astype(float) - b).mean() > 20


def test_frozen():
  """Version 1: the means of 16 blocks of one canvas."""
  assert data.DEAD_LEAVES_VERSION == 1
  canvas = data.dead_leaves(0, 7, size=128).mean(-1)
  blocks = canvas.reshape(4, 32, 4, 32).mean((1, 3))
  np.testing.assert_allclose(blocks.ravel(), _FROZEN, atol=0.7)


_FROZEN = [
  134.3,
  118.3,
  90.9,
  106.7,
  139.7,
  119.4,
  98.9,
  111.0,
  131.8,
  128.2,
  120.3,
  106.8,
  128.3,
  134.0,
  128.5,
  105.9,
]


def test_statistics():
  """Every colour and place alike, structure at all scales, noise of 3."""
  canvases = np.stack([data.dead_leaves(2, i) for i in range(3)])
  mean = canvases.mean((1, 2))
  assert np.all(np.abs(mean - 127.5) < 30)
  assert canvases.std() > 50
  quarters = canvases.reshape(3, 2, 256, 2, 256, 3).mean((0, 2, 4, 5))
  assert np.ptp(quarters) < 30
  # The spectrum falls like that of photographs, 1 / f in amplitude or so.
  grey = canvases.mean(-1)
  window = np.outer(np.hanning(512), np.hanning(512))
  power = np.zeros((512, 512))
  for image in grey:
    power += np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
  fy, fx = np.meshgrid(np.fft.fftfreq(512), np.fft.fftfreq(512), indexing="ij")
  radius = np.hypot(fx, fy)
  bands = [(0.01, 0.02), (0.02, 0.04), (0.04, 0.08), (0.08, 0.16), (0.16, 0.32)]
  level = [
    np.log2(power[(radius >= a) & (radius < b)].mean()) for a, b in bands
  ]
  slopes = np.diff(level)
  assert np.all(slopes < 0)
  assert -3.5 < slopes.mean() < -1.0


def test_most_patches_have_structure():
  """The recipe draws 64-pixel patches whose deviation exceeds 15."""
  canvas = cv2.cvtColor(data.dead_leaves(3, 0), cv2.COLOR_RGB2GRAY)
  patches = canvas.reshape(8, 64, 8, 64).std((1, 3))
  assert np.mean(patches > 15) > 0.9


def test_speed():
  data.dead_leaves(0, 0, size=64)
  times = []
  for index in range(3):
    start = time.process_time()
    data.dead_leaves(0, index)
    times.append(time.process_time() - start)
  assert min(times) < 1.0  # 0.2 s on an idle core; a loaded machine is slower


def test_errors():
  with pytest.raises(ValueError, match="`size` must be"):
    data.dead_leaves(0, 0, size=16)
  with pytest.raises(ValueError, match="`index` must be"):
    data.dead_leaves(0, -1, size=64)
