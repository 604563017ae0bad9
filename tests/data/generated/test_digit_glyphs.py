"""Tests of the generated digits and of their trivial baselines."""

import functools
import hashlib
import time

import numpy as np
import pytest

from vision_jax import data
from vision_jax.data.generated import digit_glyphs


@functools.lru_cache(maxsize=1)
def _sets():
  """2000 examples of seed 0 to learn from, 500 of seed 1 to be asked."""
  return data.digit_batch(0, range(2000)), data.digit_batch(1, range(500))


def _nearest(describe):
  """Accuracy of the nearest neighbour under a description of pictures."""
  (images0, labels0), (images1, labels1) = _sets()
  a, b = (
    np.stack([np.ravel(describe(image)) for image in images / 255.0])
    for images in (images0, images1)
  )
  distance = (a * a).sum(1) - 2 * b @ a.T
  return np.mean(labels0[distance.argmin(1)] == labels1)


def test_shapes_and_types():
  image, label = data.digits(0, 0)
  assert image.shape == (28, 28, 1)
  assert image.dtype == np.uint8
  assert isinstance(label, int)
  for size in (8, 20, 57):
    assert data.digits(0, 3, size=size)[0].shape == (size, size, 1)
  with pytest.raises(
    ValueError, match="digits: `size` must be at least 8, got"
  ):
    data.digits(0, 0, size=7)


def test_batch_equals_the_loop():
  images, labels = data.digit_batch(5, [7, 3, 7], size=20)
  assert labels.dtype == np.int32
  for place, index in enumerate([7, 3, 7]):
    image, label = data.digits(5, index, size=20)
    np.testing.assert_array_equal(images[place], image)
    assert labels[place] == label
  assert data.digit_batch(5, [])[0].shape == (0, 28, 28, 1)


def test_frozen_labels():
  """Version 1: changing a label needs a new version."""
  assert data.DIGITS_VERSION == 1
  labels = bytes(data.digit_label(s, i) for s in (0, 1) for i in range(500))
  assert hashlib.sha256(labels).hexdigest()[:16] == "ddf2d2e7261e9a17"
  for block in (0, 1, 49):
    assert sorted(labels[10 * block : 10 * block + 10]) == list(range(10))


def test_frozen_pictures():
  means = data.digit_batch(0, range(20))[0].mean((1, 2, 3))
  np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)


_FROZEN_MEANS = [
  30.5,
  30.9,
  41.6,
  43.6,
  18.7,
  27.0,
  33.3,
  15.1,
  12.6,
  8.8,
  20.7,
  40.8,
  22.5,
  28.8,
  30.5,
  47.7,
  34.6,
  14.2,
  28.9,
  20.3,
]


def test_the_size_changes_the_resolution_alone():
  small, large = (data.digits(0, 4, size=s)[0].astype(float) for s in (28, 84))
  means = large.reshape(28, 3, 28, 3).mean((1, 3))
  assert np.abs(means - small[..., 0]).mean() < 4
  assert np.corrcoef(means.ravel(), small.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("face", data.DIGIT_FACES)
def test_every_face_has_ten_glyphs(face):
  """Each as high as the frame says, in its middle, and unlike the others."""
  glyphs = [digit_glyphs._distances(face, label) for label in range(10)]
  edge = -1.5 if face.startswith("hershey") else 0.0
  for glyph in glyphs:
    rows, columns = np.nonzero(glyph > edge)
    assert 68 <= np.ptp(rows) + 1 <= 76
    for places in (rows, columns):
      assert abs((places.min() + places.max()) / 2 - 63.5) < 2
  signs = np.stack(glyphs) > -3
  for i in range(10):
    for j in range(i):
      assert (signs[i] != signs[j]).sum() > 150, (i, j)


def test_digits_are_inside_and_visible():
  images = _sets()[0][0]
  border = np.concatenate(
    [
      images[:, [0, -1]].reshape(2000, -1),
      images[:, :, [0, -1]].reshape(2000, -1),
    ],
    axis=1,
  )
  assert np.mean((border > 60).any(1)) < 0.06
  assert images.max((1, 2, 3)).min() > 100


# Trivial baselines, as GENERATED.md states them. Chance is 10 %.


def test_nearest_neighbour_on_pixels():
  assert 0.80 < _nearest(lambda image: image) < 0.95


def test_nearest_neighbour_on_what_is_not_shape():
  """Amount of ink, place and extent say little."""

  def describe(image):
    rows, columns = np.nonzero(image[..., 0] > 0.3)
    return (image.mean() * 5, *(np.ptp(p) / 28 for p in (rows, columns)))

  assert _nearest(describe) < 0.30


def test_time():
  began = time.process_time()
  data.digit_batch(3, range(200))
  assert (time.process_time() - began) / 200 < 0.01
