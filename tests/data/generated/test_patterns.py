"""Tests of the patterns and outlines."""

import cv2
import numpy as np
import pytest

from vision_jax import data


@pytest.mark.parametrize("name", data.PATTERNS)
@pytest.mark.parametrize("period", [2.0, 7.3, 40.0])
def test_pattern_is_a_share(name, period):
  for seed in range(3):
    share = data.draw_pattern(
      np.random.default_rng(seed), name, (33, 50), period=period, angle=seed
    )
    assert share.shape == (33, 50)
    assert share.dtype == np.float32
    assert np.isfinite(share).all()
    assert share.min() >= -1e-6
    assert share.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", data.PATTERNS)
def test_pattern_shows_both_colours(name):
  share = data.draw_pattern(
    np.random.default_rng(1), name, (64, 96), period=12.0, angle=0.4
  )
  assert share.max() - share.min() > 0.6
  assert 0.05 < share.mean() < 0.95


@pytest.mark.parametrize("name", data.PATTERNS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1)])
def test_pattern_of_any_shape(name, shape):
  assert data.draw_pattern(np.random.default_rng(0), name, shape).shape == shape


def test_stripes_have_their_period_and_angle():
  """The peak of the spectrum lies at 1 / period along the u axis."""
  height, width = 96, 120
  for period, angle in ((8.0, 0.0), (10.0, 0.7), (6.0, 2.0)):
    share = data.draw_pattern(
      np.random.default_rng(0),
      "stripes",
      (height, width),
      period=period,
      angle=angle,
    )
    power = np.abs(np.fft.fft2(share - share.mean()))
    row, column = np.unravel_index(power.argmax(), power.shape)
    frequency = np.array(
      [np.fft.fftfreq(width)[column], np.fft.fftfreq(height)[row]]
    )
    expected = np.array([np.cos(angle), np.sin(angle)]) / period
    error = min(
      np.abs(frequency - expected).max(), np.abs(frequency + expected).max()
    )
    assert error < 1 / height


def test_grid_and_checks_repeat():
  """A shift by one period along an axis changes nothing."""
  for name in ("checks", "grid", "stripes"):
    share = data.draw_pattern(
      np.random.default_rng(2), name, (64, 64), period=8.0
    )
    np.testing.assert_allclose(share[:, 8:], share[:, :-8], atol=1e-4)


def test_triangles_are_half_and_half():
  share = data.draw_pattern(
    np.random.default_rng(0), "triangles", (300, 400), period=20.0
  )
  assert abs(share.mean() - 0.5) < 0.02
  assert np.mean((share < 0.05) | (share > 0.95)) > 0.75


@pytest.mark.parametrize("name", data.OUTLINES)
def test_outline_stays_in_its_circle(name):
  for seed in range(8):
    mask = data.draw_outline(
      np.random.default_rng(seed),
      name,
      (61, 81),
      centre=(40.5, 30.25),
      radius=25.0,
      angle=seed,
    )
    assert mask.dtype == np.float32
    y, x = np.mgrid[:61, :81]
    distance = np.hypot(x - 40.5, y - 30.25)
    assert mask[distance > 27.5].max() == 0
    assert mask[distance > 26.5].max() < 0.2
    assert mask[distance < 4].min() > 0.99
    area = mask.sum() / (np.pi * 25**2)
    assert 0.25 < area < 1.06


def test_disk_is_centred_in_the_index_frame():
  for centre in ((20.0, 15.0), (20.5, 15.25), (17.3, 14.9)):
    mask = data.draw_outline(
      np.random.default_rng(0), "disk", (31, 45), centre=centre, radius=10.0
    )
    y, x = np.mgrid[:31, :45]
    got = np.array([(mask * x).sum(), (mask * y).sum()]) / mask.sum()
    np.testing.assert_allclose(got, centre, atol=0.1)


def test_square_turns_from_x_to_y():
  mask = data.draw_outline(
    np.random.default_rng(0),
    "triangle",
    (61, 61),
    centre=(30, 30),
    radius=25,
    angle=np.pi / 2,
  )
  assert mask[50, 30] > 0.99  # the first corner points down, along y
  assert mask[10, 30] == 0


def test_hole_is_cut_out():
  ring = data.draw_outline(
    np.random.default_rng(0),
    "disk",
    (41, 41),
    centre=(20, 20),
    radius=18,
    hole=0.5,
  )
  assert ring[20, 20] == 0
  assert ring[20, 34] == 1
  contours, _ = cv2.findContours(
    (ring > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
  )
  assert len(contours) == 2


def test_errors():
  rng = np.random.default_rng(0)
  with pytest.raises(KeyError, match="`name` must be one of ramp"):
    data.draw_pattern(rng, "paisley", (4, 5))
  with pytest.raises(KeyError, match="`name` must be one of disk"):
    data.draw_outline(rng, "heart", (4, 5), centre=(1, 1), radius=2)
  with pytest.raises(ValueError, match="`period` must be"):
    data.draw_pattern(rng, "dots", (4, 5), period=1.0)
  with pytest.raises(ValueError, match="`shape` must be"):
    data.draw_pattern(rng, "dots", (0, 5))
