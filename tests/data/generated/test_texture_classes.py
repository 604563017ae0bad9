"""Tests of the generated texture classes and of their trivial baselines."""

import collections
import functools
import hashlib
import time

import cv2
import numpy as np
import pytest

from vision_jax import data
from vision_jax.data.generated import texture_classes


@functools.lru_cache(maxsize=1)
def _sets():
  """2000 examples of seed 0 to learn from, 500 of seed 1 to be asked."""
  return data.texture_batch(0, range(2000)), data.texture_batch(1, range(500))


def _nearest(describe):
  """Accuracy of the nearest neighbour under a description of pictures."""
  (images0, labels0), (images1, labels1) = _sets()
  a = np.stack([describe(image) for image in images0]).reshape(2000, -1)
  b = np.stack([describe(image) for image in images1]).reshape(500, -1)
  a, b = a.astype(np.float32), b.astype(np.float32)
  distance = (a * a).sum(1) - 2 * b @ a.T
  return np.mean(labels0[distance.argmin(1)] == labels1)


def test_shapes_and_classes():
  image, label = data.textures(0, 0)
  assert image.shape == (64, 64, 3)
  assert image.dtype == np.uint8
  assert isinstance(label, int)
  assert len(set(data.TEXTURE_NAMES)) == 20
  assert set(data.TEXTURE_NAMES) <= set(data.PATTERNS)
  for size in (32, 48, 96):
    assert data.textures(0, 3, size=size)[0].shape == (size, size, 3)


def test_batch_equals_the_loop():
  images, labels = data.texture_batch(5, [7, 3, 7], size=32)
  assert images.dtype == np.uint8
  assert labels.dtype == np.int32
  for place, index in enumerate([7, 3, 7]):
    image, label = data.textures(5, index, size=32)
    np.testing.assert_array_equal(images[place], image)
    assert labels[place] == label
  images, labels = data.texture_batch(5, [], size=32)
  assert images.shape == (0, 32, 32, 3)
  assert labels.shape == (0,)


def test_classes_are_balanced_in_every_block():
  for block in (0, 1, 50):
    labels = [data.texture_label(0, 20 * block + i) for i in range(20)]
    assert sorted(labels) == list(range(20))
  orders = {
    tuple(data.texture_label(0, 20 * block + i) for i in range(20))
    for block in range(20)
  }
  assert len(orders) == 20


def test_frozen_labels():
  """Version 1: changing a label needs a new version."""
  assert data.TEXTURE_VERSION == 1
  labels = bytes(data.texture_label(s, i) for s in (0, 1) for i in range(500))
  assert hashlib.sha256(labels).hexdigest()[:16] == _FROZEN_HASH
  counts = collections.Counter(labels)
  assert set(counts.values()) == {50}


def test_frozen_pictures():
  means = data.texture_batch(0, range(20))[0].mean((1, 2, 3))
  np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)


_FROZEN_HASH = "f98b3eee1db1ba8d"
_FROZEN_MEANS = [
  163.4,
  140.1,
  153.3,
  102.5,
  118.6,
  108.3,
  112.7,
  163.5,
  168.6,
  117.5,
  118.3,
  159.2,
  139.3,
  125.4,
  94.1,
  138.2,
  94.7,
  152.4,
  116.2,
  106.9,
]


def test_background_and_object_do_not_depend_on_the_class(monkeypatch):
  """The same address with another class differs inside the object only."""
  pictures = []
  monkeypatch.setattr(texture_classes, "_photometric", lambda rng, image: image)
  for label in range(20):
    monkeypatch.setattr(
      texture_classes, "texture_label", lambda seed, index, k=label: k
    )
    pictures.append(data.textures(0, 11)[0].astype(int))
  differs = (np.ptp(np.stack(pictures), axis=0) > 0).any(-1)
  rows, columns = np.nonzero(differs)
  side = 1 + max(np.ptp(rows), np.ptp(columns))
  assert 0.2 * 64 < side < 0.85 * 64
  assert differs.sum() < 0.5 * 64 * 64
  # The differing pixels fill one outline: few pixels in it are the same.
  contours, _ = cv2.findContours(
    differs.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
  )
  assert len(contours) == 1
  assert differs.sum() > 0.9 * cv2.contourArea(contours[0])


def test_every_class_is_visible():
  """Inside the object all classes have contrast, on average."""
  (images, labels), _ = _sets()
  for label in range(20):
    grey = images[labels == label].mean(-1)[:, 16:48, 16:48]
    assert grey.std((1, 2)).mean() > 15


# Trivial baselines, as GENERATED.md states them. Chance is 5 %.


def test_nearest_neighbour_on_pixels_is_poor():
  assert _nearest(lambda image: image) < 0.10


def test_nearest_neighbour_on_grey_pixels_is_poor():
  def describe(image):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (grey - grey.mean()) / grey.std()

  assert _nearest(describe) < 0.10


def test_colour_does_not_give_the_class():
  assert _nearest(lambda image: image.mean((0, 1))) < 0.10

  def histogram(image):
    return np.stack(
      [np.histogram(image[..., c], 16, (0, 256))[0] for c in range(3)]
    )

  assert _nearest(histogram) < 0.12


def test_nearest_neighbour_on_spectra_is_poor_but_above_chance():
  def describe(image):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / np.float32(255)
    return np.log1p(np.abs(np.fft.rfft2(grey - grey.mean())))

  accuracy = _nearest(describe)
  assert accuracy < 0.30
  assert accuracy > 0.08  # the class is in the picture


def test_speed():
  data.texture_batch(0, range(20))
  start = time.process_time()
  data.texture_batch(0, range(100))
  rate = 100 / (time.process_time() - start)
  assert rate > 100  # over 300 on an idle core; a loaded machine is slower


def test_errors():
  with pytest.raises(ValueError, match="`size` must be"):
    data.textures(0, 0, size=16)
  with pytest.raises(ValueError, match="`index` must be"):
    data.textures(0, -1)
  with pytest.raises(ValueError, match="`seed` must be"):
    data.textures(-1, 0)
