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


def _dot_errors(pair, xy):
  """Where the dots of the second picture are, less where they should be."""
  expected = _warp(pair.homography_0to1, xy)
  inside = (
    (expected[:, 0] > 20)
    & (expected[:, 0] < 619)
    & (expected[:, 1] > 20)
    & (expected[:, 1] < 459)
  )
  grey = pair.image1.mean(-1).astype(float)
  smooth = scipy.ndimage.gaussian_filter(grey, 1.5)
  points = expected[inside]
  # The search starts a pixel off, so that it cannot just return its start.
  found = [
    _find(grey, smooth, point + np.array([1.0, -1.0])) for point in points
  ]
  return np.array(found) - points


@pytest.mark.parametrize("photometric", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_dots_are_found_where_the_homography_says(
  monkeypatch, index, photometric
):
  image, xy = _dots((480, 640))
  monkeypatch.setattr(photographs, "load_photograph", lambda name: image)
  pair = data.homography_pair("coins.png", index, photometric=photometric)
  errors = _dot_errors(pair, xy)
  assert len(errors) > 40
  # Noise of up to 6/255 moves single dots; the mean shows the frame.
  assert np.abs(errors.mean(0)).max() < 0.02
  limit = 0.1 if not photometric else 0.35
  assert np.hypot(*errors.T).max() < limit


@pytest.mark.parametrize("kind", ["rotation", "zoom"])
def test_dots_of_rotations_and_zooms_are_found_too(monkeypatch, kind):
  image, xy = _dots((480, 640))
  monkeypatch.setattr(photographs, "load_photograph", lambda name: image)
  pairs = getattr(data, f"{kind}_pairs")(names=["coins.png"])
  for pair in pairs:
    errors = _dot_errors(pair, xy)
    assert len(errors) > 20
    assert np.abs(errors.mean(0)).max() < 0.02
    assert np.hypot(*errors.T).max() < 0.1


def _one_of_each(size):
  """A pair of every set, without photometric change."""
  yield data.homography_pair("chelsea.png", 2, size=size, photometric=False)
  yield from data.rotation_pairs(
    angles=(50, -200), size=size, names=["chelsea.png"]
  )
  yield from data.zoom_pairs(zooms=(1.3, 2.7), size=size, names=["chelsea.png"])


@pytest.mark.parametrize("place", range(5))
def test_second_picture_equals_scipy(place):
  pair = list(_one_of_each((120, 200)))[place]
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


def test_rotation_and_zoom_by_complex_numbers():
  """About the middle of 480 x 640 pixels, x to y, in another arithmetic."""
  middle = 319.5 + 239.5j
  points = np.array([[0.0, 0], [639, 0], [12.5, 400], [319.5, 239.5]])
  z = points @ [1, 1j]

  def check(pairs, factors):
    for pair, factor in zip(pairs, factors, strict=True):
      expected = middle + factor * (z - middle)
      got = _warp(pair.homography_0to1, points) @ [1, 1j]
      np.testing.assert_allclose(got, expected, atol=1e-10)
      np.testing.assert_array_equal(pair.homography_0to1[2], [0, 0, 1])

  name = ["moon.png"]
  check(
    data.rotation_pairs(names=name),
    [np.exp(1j * np.pi * a / 180) for a in range(10, 211, 40)],
  )
  check(data.zoom_pairs(names=name), [1.25, 1.5, 1.75, 2])


def test_quarter_turns_and_no_zoom_are_exact():
  options = {"size": (90, 90), "names": ["page.png"]}
  turned = data.rotation_pairs(angles=(0, 90, 180, 270, -90), **options)
  for quarters, pair in zip((0, 1, 2, 3, -1), turned, strict=True):
    clockwise = np.rot90(pair.image0, -quarters)
    np.testing.assert_array_equal(pair.image1, clockwise)
  (pair,) = data.zoom_pairs(zooms=(1,), **options)
  np.testing.assert_array_equal(pair.image1, pair.image0)


def test_zoom_shows_the_middle():
  (pair,) = data.zoom_pairs(zooms=(3,), size=(90, 120), names=["moon.png"])
  # Every third pixel of the second picture is a pixel of the first.
  np.testing.assert_array_equal(
    pair.image1[1::3, 1::3], pair.image0[30:60, 40:80]
  )


@pytest.mark.parametrize(
  ("make", "count"), [(data.rotation_pairs, 6), (data.zoom_pairs, 4)]
)
def test_default_rotations_and_zooms(make, count):
  pairs = list(make(size=(120, 160)))
  assert len(pairs) == 7 * count
  assert [p.name for p in pairs[::count]] == list(data.EVALUATION)
  assert [p.index for p in pairs] == 7 * list(range(count))
  for pair in pairs:
    for image in (pair.image0, pair.image1):
      assert image.shape == (120, 160, 3)
      assert image.dtype == np.float32
      np.testing.assert_allclose(image * 255, np.rint(image * 255), atol=1e-4)
    np.testing.assert_array_equal(
      pair.homography_0to1, pairs[pair.index].homography_0to1
    )
  (alone,) = (
    p for p in make(size=(120, 160), names=["page.png"]) if p.index == 2
  )
  from_set = next(p for p in pairs if (p.name, p.index) == ("page.png", 2))
  np.testing.assert_array_equal(alone.image1, from_set.image1)
  first = next(data.homography_pairs(size=(120, 160)))
  np.testing.assert_array_equal(first.image0, pairs[0].image0)


def _shares_and_chance(make):
  """What is seen of the first picture; scores of random points."""
  rng = np.random.default_rng(0)
  size = (480, 640)
  y, x = np.mgrid[:480:8, :640:8]
  grid = np.stack([x.ravel(), y.ravel()], -1)
  rows = []
  for pair in make(names=["coins.png"]):
    truth = metrics.homography_ground_truth(pair.homography_0to1, size, size)
    share = metrics.covisible(grid, grid, truth)[0].mean()
    for _ in range(4):
      xy0, xy1 = rng.random((2, 500, 2)) * [640, 480]
      descriptors = rng.standard_normal((2, 500, 32))
      repeated = metrics.repeatability(xy0, xy1, truth)
      matched = metrics.matching_score(xy0, xy1, *descriptors, truth)
      rows.append((share, repeated, matched))
  return np.array(rows).reshape(-1, 4, 3).mean(1)


def test_chance_level_of_rotations_and_zooms():
  """What GENERATED.md says of both sets."""
  for make, shares in (
    (data.rotation_pairs, [0.92, 0.80, 0.75, 0.80, 0.92, 0.83]),
    (data.zoom_pairs, [0.64, 0.44, 0.33, 0.25]),
  ):
    share, repeated, matched = _shares_and_chance(make).T
    np.testing.assert_allclose(share, shares, atol=0.006)
    assert 0.09 < repeated.min()
    assert repeated.max() < 0.14
    assert matched.mean() < 0.002


def test_frozen_rotations_and_zooms():
  """Version 1: changing a picture needs a new version."""
  assert data.ROTATION_PAIRS_VERSION == data.ZOOM_PAIRS_VERSION == 1
  for make, frozen_hash, frozen_means in (
    (data.rotation_pairs, _ROTATION_HASH, _ROTATION_MEANS),
    (data.zoom_pairs, _ZOOM_HASH, _ZOOM_MEANS),
  ):
    pairs = list(make(size=(120, 160)))
    text = " ".join(
      f"{value:.5f}" for p in pairs for value in p.homography_0to1.ravel()
    )
    means = [255 * p.image1.mean() for p in pairs if p.index == 1]
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == frozen_hash
    np.testing.assert_allclose(means, frozen_means, atol=0.5)


_ROTATION_HASH = "b5b1b1e9f9be40ad"
_ROTATION_MEANS = [125.1, 111.4, 126.7, 114.7, 171.0, 110.6, 94.2]
_ZOOM_HASH = "a9c56203bf3b38a2"
_ZOOM_MEANS = [119.9, 109.9, 111.3, 99.5, 174.3, 110.6, 89.8]


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
  for make in (data.rotation_pairs, data.zoom_pairs):
    with pytest.raises(ValueError, match=f"{make.__name__}: `name` must be"):
      make(names=["brick.png"])
    with pytest.raises(ValueError, match=f"{make.__name__}: `size` must be"):
      make(size=(1, 5))
    with pytest.raises(KeyError, match=r"lena\.png"):
      make(names=["lena.png"])
  for bad in ((), (10, np.nan), (np.inf,)):
    with pytest.raises(ValueError, match="`angles` must be finite"):
      data.rotation_pairs(angles=bad)
  for bad in ((), (1.5, 0.99), (np.nan,), (np.inf,), (-2,)):
    with pytest.raises(ValueError, match="`zooms` must be finite factors"):
      data.zoom_pairs(zooms=bad)
