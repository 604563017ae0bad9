"""Tests of random access to files, and of its errors."""

import pickle

import numpy as np
import PIL.Image
import pytest

from vision_jax import data
from vision_jax.data.readers import file_sources


def _load(item):
  if item < 0:
    raise ValueError(f"'/set/{item}.png': no such file")
  return {"label": np.asarray(item, np.int32)}


def _source(items=(3, 5, 7), split="val"):
  return data.FileSource(
    "open_numbers", "numbers", split, items, _load, class_names=["a", "b"]
  )


def test_random_access():
  source = _source()
  assert len(source) == 3
  assert (source.name, source.split) == ("numbers", "val")
  assert source.class_names == ("a", "b")
  assert [int(e["label"]) for e in source] == [3, 5, 7]
  assert int(source[-1]["label"]) == 7
  for place, example in enumerate(source):
    assert example["index"] == place
    assert example["index"].dtype == np.int64
    assert example["index"].shape == ()
  assert int(source[np.int64(1)]["label"]) == 5
  assert int(source[-1]["index"]) == 2


def test_it_can_be_pickled():
  again = pickle.loads(pickle.dumps(_source()))
  assert int(again[2]["label"]) == 7
  assert again.class_names == ("a", "b")


def test_no_such_example():
  for index in (3, -4):
    with pytest.raises(
      IndexError, match=f"`index` must be below 3, got {index}"
    ):
      _source()[index]
  with pytest.raises(IndexError):
    _source(())[0]


def test_a_damaged_example_is_named_and_the_others_are_read():
  source = _source((3, -1, 7))
  assert int(source[2]["label"]) == 7
  with pytest.raises(data.DataError) as caught:
    source[1]
  text = str(caught.value)
  assert text.startswith("open_numbers: example 1 of split 'val' of numbers")
  assert "'/set/-1.png': no such file" in text
  assert "\n" not in text
  with pytest.raises(data.DataError, match="example 0 of numbers is damaged"):
    _source((-2,), None)[0]


def test_other_errors_are_not_hidden():
  source = data.FileSource("f", "n", None, [None], lambda item: item.missing)
  with pytest.raises(AttributeError):
    source[0]


def test_pictures_and_maps(tmp_path):
  rng = np.random.default_rng(0)
  picture = rng.integers(0, 256, (5, 7, 3), np.uint8)
  data.write_image(tmp_path / "a.png", picture)
  np.testing.assert_array_equal(
    file_sources.read_picture(tmp_path / "a.png"), picture
  )
  kinds = rng.integers(0, 20, (5, 7), np.uint8)
  image = PIL.Image.fromarray(kinds, mode="P")
  image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
  image.save(tmp_path / "b.png")
  np.testing.assert_array_equal(
    file_sources.read_map(tmp_path / "b.png"), kinds
  )
  for read in (file_sources.read_picture, file_sources.read_map):
    with pytest.raises(ValueError, match=r"no\.png': No such file"):
      read(tmp_path / "no.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(data.ImageError, match=r"c\.png': "):
      read(tmp_path / "c.png")
  with pytest.raises(data.ImageError, match=r"a\.png': a map of mode 'RGB'"):
    file_sources.read_map(tmp_path / "a.png")


def test_missing_files_are_counted(tmp_path):
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "1.txt").write_text("")
  paths = [tmp_path / "a" / f"{k}.txt" for k in (1, 2, 3)]
  file_sources.check_files("open_x", "texts", paths[:1])
  file_sources.check_files("open_x", "texts", [])
  paths.append(tmp_path / "no" / "4.txt")
  with pytest.raises(data.DataError) as caught:
    file_sources.check_files("open_x", "texts", iter(paths))
  assert "must hold 4 texts, got 3 fewer" in str(caught.value)
  assert "a/2.txt' is missing" in str(caught.value)


def test_folders(tmp_path):
  for name in ("b", "a", ".git"):
    (tmp_path / name).mkdir()
  (tmp_path / "c").write_text("")
  assert file_sources.folder_names(tmp_path) == ["a", "b"]
  assert file_sources.check_root("f", str(tmp_path), "look") == tmp_path
  for bad in (tmp_path / "c", tmp_path / "no"):
    with pytest.raises(data.DataError, match=r"must be a folder.*; look"):
      file_sources.check_root("f", bad, "look")
