"""Tests of the table of photographs and of the split."""

import importlib.util
import subprocess
import sys

import cv2
import numpy as np
import pytest

from vision_jax import data


def test_training_and_evaluation_share_nothing():
  training = set(data.TRAINING)
  assert not training & {*data.EVALUATION, *data.STEREO}
  assert len(training) == 8
  assert len(set(data.EVALUATION)) == 7


def test_table_agrees_with_the_split():
  used = {"training": set(), "evaluation": set()}
  for name, row in data.PHOTOGRAPHS.items():
    assert name == row.name
    used[row.use].add(name)
  assert used["training"] == set(data.TRAINING)
  assert used["evaluation"] == {*data.EVALUATION, *data.STEREO[:2]}


def test_training_photographs_are_free():
  for name in data.TRAINING:
    assert data.PHOTOGRAPHS[name].licence.startswith(
      ("CC0", "public domain", "no known copyright restrictions")
    )


@pytest.mark.parametrize("name", sorted(data.PHOTOGRAPHS))
def test_every_photograph_loads(name):
  image = data.load_photograph(name)
  assert image.dtype == np.float32
  assert image.ndim == 3
  assert image.shape[-1] == 3
  assert min(image.shape[:2]) >= 150
  assert image.min() >= 0
  assert image.max() <= 1
  assert image.std() > 0.02


def test_sizes_and_scales():
  assert data.load_photograph("coffee.png").shape == (400, 600, 3)
  assert data.load_photograph("retina.jpg").shape == (706, 706, 3)
  assert data.load_photograph("hubble_deep_field.jpg").shape == (610, 700, 3)


def test_no_two_photographs_are_the_same():
  small = [
    cv2.resize(data.load_photograph(name), (16, 16))
    for name in data.PHOTOGRAPHS
  ]
  for i, a in enumerate(small):
    for b in small[:i]:
      assert np.abs(a - b).mean() > 0.02


def test_disparity_maps_left_to_right():
  """Of the four possible readings only one makes the pictures agree."""
  left, right, disparity = data.stereo_motorcycle()
  assert left.shape == right.shape == (*disparity.shape, 3) == (500, 741, 3)
  assert 0.05 < np.isnan(disparity).mean() < 0.10
  assert not np.isinf(disparity).any()
  y, x = np.mgrid[:500, :741].astype(np.float32)

  def difference(first, second, sign):
    moved = x + sign * np.nan_to_num(disparity)
    known = np.isfinite(disparity) & (moved >= 0) & (moved <= 740)
    seen = cv2.remap(second, moved, y, cv2.INTER_LINEAR)
    return np.abs(seen - first)[known].mean()

  assert difference(left, right, -1) < 0.035
  for wrong in ((left, right, 1), (right, left, -1), (right, left, 1)):
    assert difference(*wrong) > 0.05


def test_scikit_image_is_read_but_not_imported():
  program = (
    "import sys; from vision_jax import data;"
    " data.load_photograph('coins.png'); sys.exit('skimage' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(KeyError, match=r"one of coffee.png .* got 'lena.png'"):
    data.load_photograph("lena.png")


def test_missing_package_and_missing_file(monkeypatch, tmp_path):
  with monkeypatch.context() as patch:
    patch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.ImageError, match="pip install scikit-image"):
      data.load_photograph("coins.png")

  class Spec:
    submodule_search_locations = (str(tmp_path),)

  monkeypatch.setattr(importlib.util, "find_spec", lambda name: Spec)
  with pytest.raises(data.ImageError, match=r"must hold data/coins\.png"):
    data.load_photograph("coins.png")
  with pytest.raises(data.ImageError, match=r"motorcycle_disp\.npz"):
    data.stereo_motorcycle()
