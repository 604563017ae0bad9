"""Tests of the pair reader: order, sharing, and every kind of damage."""

import os

import numpy as np
import pytest

from vision_jax import data

_MATRIX = np.array([[1.0, 0.5, 3], [-0.25, 2, 4], [1e-4, 0, 1]])


def _picture(seed, size=(6, 9)):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def _files(folder, index=2, *, homography="H"):
  return data.PairFiles(
    "scene",
    index,
    "v",
    folder / "1.ppm",
    folder / f"{index}.ppm",
    None if homography is None else folder / homography,
  )


@pytest.fixture
def scene(tmp_path):
  for number in (1, 2, 3):
    data.write_image(tmp_path / f"{number}.ppm", _picture(number))
  np.savetxt(tmp_path / "H", _MATRIX)
  return tmp_path


class TestReadHomography:
  @pytest.mark.parametrize(
    "text",
    [
      "1 0.5 3\n-0.25 2 4\n0.0001 0 1",
      "1.0  0.5   3.0 \n -2.5e-1\t2 4\n1e-4 0  1\n\n",
      "\n1 .5 3\r\n-.25 2 4\r\n1E-4 0 1\r\n",
    ],
  )
  def test_any_white_space(self, tmp_path, text):
    (tmp_path / "H").write_bytes(text.encode())
    matrix = data.read_homography(tmp_path / "H")
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix, _MATRIX)
    np.testing.assert_array_equal(
      data.read_homography(str(tmp_path / "H")), _MATRIX
    )

  def test_matrix_is_not_rescaled(self, tmp_path):
    np.savetxt(tmp_path / "H", -3 * _MATRIX)
    np.testing.assert_allclose(
      data.read_homography(tmp_path / "H"), -3 * _MATRIX, rtol=1e-15
    )

  @pytest.mark.parametrize(
    ("text", "reason"),
    [
      ("", "values in its lines: none"),
      ("1 0 0\n0 1 0\n", r"values in its lines: 3 \+ 3"),
      ("1 0 0 0\n0 1 0 0\n0 0 1 0\n", r"values in its lines: 4 \+ 4 \+ 4"),
      ("1 0 0 0 1 0 0 0 1", "values in its lines: 9"),
      ("1,0,0\n0,1,0\n0,0,1\n", r"values in its lines: 1 \+ 1 \+ 1"),
      ("1 0 0\n0 one 0\n0 0 1\n", "a value is no number"),
      ("1 0 0\n0 nan 0\n0 0 1\n", "a value is not finite"),
      ("1 0 0\n0 inf 0\n0 0 1\n", "a value is not finite"),
      ("1 2 3\n2 4 6\n0 0 1\n", "the matrix is not invertible"),
      ("0 0 0\n0 0 0\n0 0 0\n", "the matrix is not invertible"),
      ("\xff\xfe\x00\n", "values in its lines: 1"),
    ],
  )
  def test_damaged(self, tmp_path, text, reason):
    path = tmp_path / "H_1_2"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"H_1_2' \({reason}") as caught:
      data.read_homography(path)
    assert "\n" not in str(caught.value)

  def test_missing_or_a_folder(self, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
      data.read_homography(tmp_path / "H")
    with pytest.raises(ValueError, match=r"read_homography: `path` must"):
      data.read_homography(tmp_path)


class TestPairReader:
  def test_pictures_and_matrix_are_those_of_the_files(self, scene):
    reader = data.PairReader([_files(scene, 2), _files(scene, 3)])
    pairs = list(reader)
    assert len(reader.files) == len(pairs) == 2
    assert reader.skipped == []
    for pair, index in zip(pairs, (2, 3), strict=True):
      assert pair.image0.dtype == pair.image1.dtype == np.uint8
      np.testing.assert_array_equal(pair.image0, _picture(1))
      np.testing.assert_array_equal(pair.image1, _picture(index))
      np.testing.assert_array_equal(pair.homography_0to1, _MATRIX)
      assert (pair.name, pair.index, pair.kind) == ("scene", index, "v")
      assert pair.path0 == scene / "1.ppm"
      assert pair.path1 == scene / f"{index}.ppm"

  def test_reads_when_asked_and_the_first_picture_once(
    self, scene, monkeypatch
  ):
    opened = []
    read = data.images.read_image
    monkeypatch.setattr(
      data.images, "read_image", lambda p: opened.append(p.name) or read(p)
    )
    reader = data.PairReader(_files(scene, i) for i in (2, 3))
    assert opened == []
    first = next(reader)
    assert opened == ["1.ppm", "2.ppm"]
    second = next(reader)
    assert opened == ["1.ppm", "2.ppm", "3.ppm"]
    assert second.image0 is first.image0
    with pytest.raises(StopIteration):
      next(reader)

  def test_damaged_pairs_are_skipped_and_the_rest_is_read(self, scene):
    (scene / "empty.ppm").write_bytes(b"")
    whole = (scene / "2.ppm").read_bytes()
    (scene / "4.ppm").write_bytes(whole[:-20])  # truncated
    (scene / "5.ppm").write_text("this is no picture")
    (scene / "6.ppm").mkdir()
    np.savetxt(scene / "flat", np.ones((3, 3)))
    files = [
      _files(scene, 7),
      _files(scene, 2, homography="none"),
      _files(scene, 2),
      _files(scene, 2, homography="flat"),
      _files(scene, 4),
      _files(scene, 5),
      _files(scene, 6),
      _files(scene, 3)._replace(path0=scene / "empty.ppm"),
      _files(scene, 3),
    ]
    reader = data.PairReader(files)
    assert [pair.index for pair in reader] == [2, 3]
    assert len(reader.skipped) == len(files) - 2
    for skipped, (index, file, reason) in zip(
      reader.skipped,
      [
        (7, "7.ppm", "no such file"),
        (2, "none", "no such file"),
        (2, "flat", "not invertible"),
        (4, "4.ppm", "truncated"),
        (5, "5.ppm", "not a known image format"),
        (6, "6.ppm", "it is a folder"),
        (3, "empty.ppm", "the file is empty"),
      ],
      strict=True,
    ):
      assert (skipped.name, skipped.index) == ("scene", index)
      assert file in skipped.reason
      assert reason in skipped.reason
      assert "\n" not in skipped.reason

  def test_a_damaged_first_picture_skips_each_of_its_pairs(self, scene):
    os.remove(scene / "1.ppm")
    reader = data.PairReader([_files(scene, 2), _files(scene, 3)])
    assert list(reader) == []
    assert [s.index for s in reader.skipped] == [2, 3]
    assert all("1.ppm" in s.reason for s in reader.skipped)

  def test_without_homography_the_camera_stands_still(self, scene):
    data.write_image(scene / "4.ppm", _picture(4, (6, 8)))
    reader = data.PairReader(
      [_files(scene, i, homography=None) for i in (2, 4)]
    )
    (pair,) = reader
    np.testing.assert_array_equal(pair.homography_0to1, np.eye(3))
    (skipped,) = reader.skipped
    assert skipped.index == 4
    assert "got 9 x 6 in" in skipped.reason
    assert "and 8 x 6 in" in skipped.reason

  def test_sizes_may_differ_with_a_homography(self, scene):
    data.write_image(scene / "4.ppm", _picture(4, (7, 5)))
    (pair,) = data.PairReader([_files(scene, 4)])
    assert pair.image1.shape == (7, 5, 3)

  def test_scenes_known_to_be_missing_are_listed_first(self, scene):
    missing = data.SkippedPair("gone", 0, "no folder")
    reader = data.PairReader([_files(scene, 9)], skipped=[missing])
    assert list(reader) == []
    assert reader.skipped[0] == missing
    assert len(reader.skipped) == 2

  def test_other_errors_are_not_swallowed(self, scene, monkeypatch):
    def broken(path):
      raise MemoryError

    monkeypatch.setattr(data.images, "read_image", broken)
    with pytest.raises(MemoryError):
      next(data.PairReader([_files(scene)]))
