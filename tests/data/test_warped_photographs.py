"""Tests of the evaluation pairs: the truth must be true to 0.1 pixel."""

import functools
import hashlib

import numpy as np
import pytest
import scipy.ndimage

from vision_jax import data, metrics
from vision_jax.data import photographs


def _warp(homography, xy):
  moved = np.concatenate([xy, np.ones((len(xy), 1))], 1) @ homography.T
  return moved[:, :2] / moved[:, 2:]


@functools.lru_cache(maxsize=1)
def _dots(shape, spacing=48, sigma=2.5):
  """Grey picture with bright dots; their centres (x, y), off the grid."""
  height, width = shape
  rng = np.random.default_rng(0)
  x, y = np.meshgrid(
    np.arange(spacing // 2, width, spacing),
    np.arange(spacing // 2, height, spacing),
  )
  xy = np.stack([x.ravel(), y.ravel()], -1) + rng.uniform(
    -0.5, 0.5, (x.size, 2)
  )
  grid_y, grid_x = np.mgrid[:height, :width]
  image = np.full(shape, 0.3)
  for cx, cy in xy:
    image += 0.6 * np.exp(
      -((grid_x - cx) ** 2 + (grid_y - cy) ** 2) / (2 * sigma**2)
    )
  return np.repeat(image[..., None], 3, -1).astype(np.float32), xy


def _find(image, smooth, near):
  """Centre of the bright dot around a rough position."""
  x, y = np.rint(near).astype(int)
  window = smooth[y - 8 : y + 9, x - 8 : x + 9]
  dy, dx = np.unravel_index(window.argmax(), window.shape)
  x, y = x + dx - 8, y + dy - 8
  patch = image[y - 12 : y + 13, x - 12 : x + 13]
  patch = patch - np.percentile(patch, 20)
  grid_y, grid_x = np.mgrid[y - 12 : y + 13, x - 12 : x + 13]
  for _ in range(15):  # Gaussian-weighted centroid, to its fixed point
    mass = patch * np.exp(-((grid_x - x) ** 2 + (grid_y - y) ** 2) / 50)
    x, y = (
      (mass * grid_x).sum() / mass.sum(),
      (mass * grid_y).sum() / mass.sum(),
    )
  return np.array([x, y])


@pytest.mark.parametrize("photometric", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_dots_are_found_where_the_homography_says(
  monkeypatch, index, photometric
):
  image, xy = _dots((480, 640))
  monkeypatch.setattr(photographs, "load_photograph", lambda name: image)
  pair = data.homography_pair("coins.png", index, photometric=photometric)
  expected = _warp(pair.homography_0to1, xy)
  inside = (
    (expected[:, 0] > 20)
    & (expected[:, 0] < 619)
    & (expected[:, 1] > 20)
    & (expected[:, 1] < 459)
  )
  assert inside.sum() > 40
  grey = pair.image1.mean(-1).astype(float)
  smooth = scipy.ndimage.gaussian_filter(grey, 1.5)
  points = expected[inside]
  # The search starts a pixel off, so that it cannot just return its start.
  found = [
    _find(grey, smooth, point + np.array([1.0, -1.0])) for point in points
  ]
  errors = np.array(found) - points
  # Noise of up to 6/255 moves single dots; the mean shows the frame.
  assert np.abs(errors.mean(0)).max() < 0.02
  limit = 0.1 if not photometric else 0.35
  assert np.hypot(*errors.T).max() < limit


def test_second_picture_equals_scipy():
  pair = data.homography_pair(
    "chelsea.png", 2, size=(120, 200), photometric=False
  )
  y, x = np.mgrid[:120, :200]
  source = _warp(
    np.linalg.inv(pair.homography_0to1), np.stack([x.ravel(), y.ravel()], -1)
  )
  for channel in range(3):
    expected = scipy.ndimage.map_coordinates(
      pair.image0[..., channel].astype(float),
      [source[:, 1], source[:, 0]],
      order=1,
      mode="mirror",
    ).reshape(120, 200)
    difference = np.abs(pair.image1[..., channel] - expected)
    assert difference.mean() < 0.004
    assert np.quantile(difference, 0.999) < 0.03


def test_default_set():
  pairs = list(data.homography_pairs(size=(120, 160)))
  assert len(pairs) == 70
  assert [p.name for p in pairs[::10]] == list(data.EVALUATION)
  assert [p.index for p in pairs[:10]] == list(range(10))
  corners = np.array([[0.0, 0], [159, 0], [159, 119], [0, 119]])
  scales, turns = [], []
  for pair in pairs:
    for image in (pair.image0, pair.image1):
      assert image.shape == (120, 160, 3)
      assert image.dtype == np.float32
      assert image.min() >= 0
      assert image.max() <= 1
      np.testing.assert_allclose(image * 255, np.rint(image * 255), atol=1e-4)
    assert pair.homography_0to1.dtype == np.float64
    assert pair.homography_0to1[2, 2] == 1
    moved = _warp(pair.homography_0to1, corners)
    side = moved[[1, 2]].mean(0) - moved[[0, 3]].mean(0)
    turns.append(np.rad2deg(np.arctan2(side[1], side[0])))
    scales.append(np.hypot(*side) / 159)
  assert max(np.abs(turns)) < 20 + 10
  assert max(np.abs(turns)) > 15
  assert min(scales) > 0.75 * 0.8
  assert max(scales) < 1.35 * 1.2
  assert np.std(np.log(scales)) > 0.1


def test_most_of_the_first_picture_is_seen_in_the_second():
  y, x = np.mgrid[:480:16, :640:16]
  xy = np.stack([x.ravel(), y.ravel()], -1)
  shares = []
  for pair in data.homography_pairs(num_per_image=4, names=["moon.png"]):
    truth = metrics.homography_ground_truth(
      pair.homography_0to1, (480, 640), (480, 640)
    )
    shares.append(metrics.covisible(xy, xy, truth)[0].mean())
  assert min(shares) > 0.4
  assert np.mean(shares) > 0.65


def test_chance_level():
  """Random points and descriptors score as GENERATED.md says."""
  rng = np.random.default_rng(0)
  size = (480, 640)
  repeated, matched = [], []
  for pair in data.homography_pairs(num_per_image=10, names=["coins.png"]):
    truth = metrics.homography_ground_truth(pair.homography_0to1, size, size)
    xy0, xy1 = rng.random((2, 500, 2)) * [640, 480]
    descriptors = rng.standard_normal((2, 500, 32))
    repeated.append(metrics.repeatability(xy0, xy1, truth))
    matched.append(metrics.matching_score(xy0, xy1, *descriptors, truth))
  assert 0.10 < np.mean(repeated) < 0.16
  assert np.mean(matched) < 0.003


def test_an_example_depends_on_its_address_only():
  whole = list(data.homography_pairs(num_per_image=3, size=(60, 80)))
  alone = data.homography_pair("page.png", 1, size=(60, 80))
  from_set = next(p for p in whole if (p.name, p.index) == ("page.png", 1))
  np.testing.assert_array_equal(alone.homography_0to1, from_set.homography_0to1)
  np.testing.assert_array_equal(alone.image1, from_set.image1)
  matrices = {p.homography_0to1.tobytes() for p in whole}
  assert len(matrices) == len(whole)
  other = data.homography_pair("page.png", 1, size=(60, 80), seed=1)
  assert np.abs(other.homography_0to1 - alone.homography_0to1).max() > 1e-3


def test_homography_is_a_share_of_the_sides():
  small = data.homography_pair("moon.png", 0, size=(60, 80)).homography_0to1
  large = data.homography_pair("moon.png", 0, size=(120, 160)).homography_0to1
  # x' = 2 (x + 0.5) - 0.5
  double = np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
  carried = double @ small @ np.linalg.inv(double)
  np.testing.assert_allclose(carried / carried[2, 2], large, atol=1e-3)


def test_frozen_homographies():
  """Version 1: changing a homography needs a new version."""
  assert data.HOMOGRAPHY_PAIRS_VERSION == 1
  pairs = data.homography_pairs(size=(120, 160))
  matrices, means = [], []
  for pair in pairs:
    matrices.append(pair.homography_0to1)
    if pair.index == 0:
      means.append(255 * pair.image1.mean())
  text = " ".join(f"{value:.5f}" for value in np.ravel(matrices))
  assert hashlib.sha256(text.encode()).hexdigest()[:16] == _FROZEN_HASH
  np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)


_FROZEN_HASH = "4062784a607aa89d"
_FROZEN_MEANS = [114.1, 117.2, 139.8, 108.8, 170.7, 113.7, 106.5]


def test_errors():
  with pytest.raises(ValueError, match="evaluation photograph, got 'brick"):
    data.homography_pair("brick.png", 0)
  with pytest.raises(ValueError, match="homography_pairs: `name` must be"):
    data.homography_pairs(names=["brick.png"])  # at once, not when iterated
  with pytest.raises(KeyError, match=r"lena\.png"):
    data.homography_pair("lena.png", 0)
  with pytest.raises(ValueError, match="`index` must be in"):
    data.homography_pair("moon.png", -1)
  with pytest.raises(ValueError, match="`size` must be"):
    data.homography_pair("moon.png", 0, size=(1, 5))
  with pytest.raises(ValueError, match="`num_per_image` must be"):
    data.homography_pairs(num_per_image=0)
