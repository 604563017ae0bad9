"""Tests of folders of pictures, with and without classes."""

import pickle

import numpy as np
import pytest

from vision_jax import data


def _write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  data.write_image(path, np.full((4, 6, 3), value, np.uint8))


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "birds"
  # Written out of order, so that a listing would not be sorted.
  _write(folder / "wren" / "b.png", 30)
  _write(folder / "wren" / "a.png", 20)
  _write(folder / "crow" / "deep" / "er" / "z.PNG", 10)
  (folder / "wren" / "notes.txt").write_text("x")
  (folder / "wren" / "._a.png").write_bytes(b"x")
  (folder / ".cache").mkdir()
  (folder / "README").write_text("x")
  return folder


def test_a_folder_per_class(root):
  source = data.open_image_folder(root)
  assert source.class_names == ("crow", "wren")
  assert (source.name, source.split) == ("birds", None)
  assert len(source) == 3
  found = [(int(e["label"]), int(e["image"][0, 0, 0])) for e in source]
  assert found == [(0, 10), (1, 20), (1, 30)]
  example = source[1]
  assert set(example) == {"image", "label", "index"}
  assert (example["image"].shape, example["image"].dtype) == (
    (4, 6, 3),
    np.uint8,
  )
  assert (example["label"].shape, example["label"].dtype) == ((), np.int32)
  again = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(again[2]["image"], source[2]["image"])


def test_a_relative_path(root, monkeypatch):
  monkeypatch.chdir(root)
  source = data.open_image_folder(".")
  assert source.name == "birds"
  assert len(list(source)) == 3


def test_given_classes(root):
  names = ["wren", "owl", "crow"]
  source = data.open_image_folder(root, class_names=names)
  assert source.class_names == ("wren", "owl", "crow")
  assert [int(e["label"]) for e in source] == [0, 0, 2]
  with pytest.raises(data.DataError, match="got owl crow without wren"):
    data.open_image_folder(root, class_names=["owl", "crow"])


def test_a_flat_folder_has_no_labels(root):
  source = data.open_image_folder(root / "wren")
  assert source.class_names == ()
  assert [int(e["image"][0, 0, 0]) for e in source] == [20, 30]
  assert set(source[0]) == {"image", "index"}


def test_missing_and_half_present_folders(root, tmp_path):
  with pytest.raises(data.DataError, match=r"must be a folder.*'.*no'"):
    data.open_image_folder(tmp_path / "no")
  with pytest.raises(data.DataError, match="must be a folder"):
    data.open_image_folder(root / "README")
  (root / "owl").mkdir()
  with pytest.raises(data.DataError, match=r"every class.*birds/owl' without"):
    data.open_image_folder(root)
  with pytest.raises(data.DataError, match="owl' without any; known suffixes"):
    data.open_image_folder(root / "owl")
  _write(root / "loose.png", 1)
  with pytest.raises(
    data.DataError, match=r"with both \('loose.png', 'crow'\)"
  ):
    data.open_image_folder(root)


def test_splits_are_no_classes(tmp_path):
  for name in ("train", "val"):
    _write(tmp_path / name / "cat" / "1.png", 1)
  with pytest.raises(
    data.DataError, match=r"splits train val; name one.*/train'"
  ):
    data.open_image_folder(tmp_path)
  assert data.open_image_folder(tmp_path / "val").class_names == ("cat",)


def test_a_pipeline_over_a_truncated_jpeg(root):
  for name in ("b.png", "a.png"):
    (root / "wren" / name).unlink()
  for name in ("a.jpg", "b.jpg"):
    _write(root / "wren" / name, 90)
  path = root / "wren" / "a.jpg"
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  settings = {"batch_size": 3, "shuffle": False, "seed": 0, "epochs": 1}
  source = data.open_image_folder(root)
  with pytest.raises(
    data.DataError,
    match=r"example 1 of 'birds' must be readable, got: .*wren/a\.jpg'",
  ):
    list(data.make_pipeline(source, **settings))
  batches = iter(data.make_pipeline(source, on_error="skip", **settings))
  (batch,) = batches
  assert batch["valid"].tolist() == [True, False, True]
  drawn = batch["image"].any((1, 2, 3)).tolist()
  assert drawn == batch["valid"].tolist()
  assert "wren/a.jpg" in batches.skipped[1]


def test_a_truncated_picture_is_named(root):
  path = root / "wren" / "a.png"
  path.write_bytes(path.read_bytes()[:-40])
  source = data.open_image_folder(root)
  with pytest.raises(data.DataError, match=r"example 1 of birds.*wren/a\.png'"):
    source[1]
  (root / "wren" / "b.png").unlink()
  with pytest.raises(
    data.DataError, match=r"example 2 .*b\.png': No such file"
  ):
    source[2]
  assert int(source[0]["label"]) == 0
