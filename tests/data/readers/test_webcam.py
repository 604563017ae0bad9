"""Tests of the Webcam reader on small folders of the real layout."""

import numpy as np
import pytest

from vision_jax import data


def _write_scene(root, scene, names, size=(5, 7)):
  place = root / scene / "test" / "image_color"
  place.mkdir(parents=True)
  for name in names:
    value = int(name.removesuffix(".png")[-2:])
    data.write_image(place / name, np.full((*size, 3), value, np.uint8))
  return place


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "WebcamRelease"
  for scene in reversed(data.WEBCAM_SCENES):
    # Written out of order, so that a listing would not be sorted.
    _write_scene(folder, scene, ["c_30.png", "a_10.png", "b_20.png"])
    grey = folder / scene / "test" / "image_gray"
    grey.mkdir()
    data.write_image(grey / "a_10.png", np.zeros((5, 7)))
    training = folder / scene / "train" / "image_color"
    training.mkdir(parents=True)
    data.write_image(training / "a_10.png", np.zeros((5, 7)))
  return folder


def test_first_picture_with_all_others_sorted_by_name(root):
  reader = data.webcam_pairs(root)
  pairs = list(reader)
  assert reader.skipped == []
  assert len(reader.files) == 12
  assert [(p.name, p.index) for p in pairs] == [
    (scene, index)
    for scene in (
      "Chamonix",
      "Courbevoie",
      "Frankfurt",
      "Mexico",
      "Panorama",
      "StLouis",
    )
    for index in (1, 2)
  ]
  for pair in pairs:
    assert pair.kind == "i"
    assert pair.path0.name == "a_10.png"
    assert (pair.image0 == 10).all()
    assert (pair.image1 == 10 * (pair.index + 1)).all()
    np.testing.assert_array_equal(pair.homography_0to1, np.eye(3))


def test_other_files_are_no_pictures(root):
  place = root / "Mexico" / "test" / "image_color"
  (place / "Thumbs.db").write_bytes(b"x")
  (place / "._a_10.png").write_bytes(b"x")
  reader = data.webcam_pairs(root, scenes=["Mexico"])
  assert [pair.path1.name for pair in reader] == ["b_20.png", "c_30.png"]


def test_what_is_missing_is_named_and_the_rest_is_read(tmp_path):
  place = _write_scene(tmp_path, "Mexico", ["a_10.png", "b_20.png"])
  (place / "c_30.png").write_bytes(b"no picture")
  data.write_image(place / "d_40.png", np.zeros((5, 8)))
  _write_scene(tmp_path, "Panorama", ["a_10.png"])
  _write_scene(tmp_path, "StLouis", [])
  reader = data.webcam_pairs(tmp_path)
  (pair,) = reader
  assert (pair.name, pair.index) == ("Mexico", 1)
  assert [(s.name, s.index) for s in reader.skipped] == [
    ("Chamonix", 0),
    ("Courbevoie", 0),
    ("Frankfurt", 0),
    ("Panorama", 0),
    ("StLouis", 0),
    ("Mexico", 2),
    ("Mexico", 3),
  ]
  reasons = [s.reason for s in reader.skipped]
  assert "Chamonix/test/image_color" in reasons[0]
  assert "two pictures" in reasons[3]
  assert "without any" in reasons[4]
  assert "c_30.png" in reasons[5]
  assert "one size" in reasons[6]


def test_wrong_folder(root, tmp_path):
  with pytest.raises(ValueError, match="`root` must be a folder"):
    data.webcam_pairs(tmp_path / "no")
  with pytest.raises(ValueError, match="one of the folders Chamonix"):
    data.webcam_pairs(root / "Mexico")
