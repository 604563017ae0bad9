"""Tests of the HPatches reader on small folders of the real layout."""

import os
import shutil

import numpy as np
import pytest

from vision_jax import data, metrics

# Three of each kind, of which two are in the standard subset.
_SEQUENCES = ("i_ajuntament", "i_dc", "i_zion", "v_abstract", "v_talent", "v_w")


def _matrix(sequence, number):
  if sequence.startswith("i_"):
    return np.eye(3)
  return np.array([[1, 0.01 * number, number], [0, 1, -2], [1e-5, 0, 1]])


def _write_sequence(folder, sequence):
  """Six pictures and five homographies, formatted as the release has them."""
  place = folder / sequence
  place.mkdir(parents=True)
  for number in range(1, 7):
    image = np.full((5, 7, 3), 10 * number, np.uint8)
    data.write_image(place / f"{number}.ppm", image)
  for number in range(2, 7):
    rows = _matrix(sequence, number)
    text = "\n".join("  ".join(f"{v:.10g}" for v in row) for row in rows)
    (place / f"H_1_{number}").write_text(f"{text} \n")


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "hpatches-sequences-release"
  for sequence in _SEQUENCES:
    _write_sequence(folder, sequence)
  (folder / "README").write_text("no sequence")
  (folder / "i_notes.txt").write_text("no folder")
  (folder / "cache").mkdir()
  return folder


def test_all_pairs_in_order(root):
  reader = data.hpatches_pairs(root, subset="all")
  assert len(reader.files) == 30
  pairs = list(reader)
  assert reader.skipped == []
  assert [(p.name, p.index) for p in pairs] == [
    (name, index) for name in sorted(_SEQUENCES) for index in range(2, 7)
  ]
  for pair in pairs:
    assert pair.kind == pair.name[0]
    assert (pair.image0 == 10).all()
    assert (pair.image1 == 10 * pair.index).all()
    np.testing.assert_array_equal(
      pair.homography_0to1, _matrix(pair.name, pair.index)
    )
    assert pair.path0 == root / pair.name / "1.ppm"
    assert pair.path1 == root / pair.name / f"{pair.index}.ppm"


def test_standard_subset_leaves_out_the_large_ones(root):
  reader = data.hpatches_pairs(str(root))  # the default
  names = list(dict.fromkeys(pair.name for pair in reader))
  assert names == ["i_ajuntament", "i_zion", "v_abstract", "v_w"]
  assert len(reader.files) == 20


def test_counts_of_the_complete_release(tmp_path):
  """57 and 59 folders give 580 pairs, without the eight large ones 540."""
  large = data.HPATCHES_LARGE
  kinds = {kind: [n for n in large if n[0] == kind] for kind in "iv"}
  assert {kind: len(names) for kind, names in kinds.items()} == {"i": 5, "v": 3}
  for kind, count in (("i", 57), ("v", 59)):
    others = [f"{kind}_{k}" for k in range(count - len(kinds[kind]))]
    for name in (*kinds[kind], *others):
      (tmp_path / name).mkdir()
  for subset in ("all", "standard"):
    reader = data.hpatches_pairs(tmp_path, subset=subset)
    assert len(reader.files) == data.HPATCHES_NUM_PAIRS[subset]
  kinds = [files.kind for files in reader.files]
  assert (kinds.count("i"), kinds.count("v")) == (52 * 5, 56 * 5)


def test_damaged_pairs_are_named_and_counted(root):
  os.remove(root / "i_zion" / "4.ppm")
  os.remove(root / "v_abstract" / "H_1_2")
  (root / "v_abstract" / "3.ppm").write_bytes(b"P6\n7 5\n255\n...")
  (root / "v_abstract" / "H_1_5").write_text("1 0 0\n0 1 0\n")
  (root / "v_abstract" / "H_1_6").write_text("1 0 0\n1 0 0\n0 0 1\n")
  os.remove(root / "v_w" / "1.ppm")
  reader = data.hpatches_pairs(root)
  pairs = list(reader)
  assert len(pairs) + len(reader.skipped) == len(reader.files) == 20
  assert [(s.name, s.index) for s in reader.skipped] == [
    ("i_zion", 4),
    *[("v_abstract", index) for index in (2, 3, 5, 6)],
    *[("v_w", index) for index in range(2, 7)],
  ]
  for skipped, word in zip(
    reader.skipped,
    ("4.ppm", "H_1_2", "3.ppm", "3 + 3", "not invertible", "1.ppm"),
    strict=False,
  ):
    assert word in skipped.reason


def test_an_empty_sequence_counts_five_skipped_pairs(root):
  (root / "v_empty").mkdir()
  reader = data.hpatches_pairs(root)
  assert len(list(reader)) == 20
  assert [s.name for s in reader.skipped] == ["v_empty"] * 5


def test_pairs_go_into_the_metrics(root):
  pairs = [p for p in data.hpatches_pairs(root) if p.kind == "v"]
  for pair in pairs:
    truth = metrics.homography_ground_truth(
      pair.homography_0to1, pair.image0.shape[:2], pair.image1.shape[:2]
    )
    x, y, w = pair.homography_0to1 @ [3, 2, 1]
    np.testing.assert_allclose(
      truth.warp0to1(np.array([[3.0, 2.0]])), [[x / w, y / w]]
    )


def _write_patches(place):
  place.mkdir(parents=True)
  column = np.zeros((65 * 2, 65), np.float32)
  for name in ("ref", "e1", "h1", "t1"):
    data.write_image(place / f"{name}.png", column)
  (place / "H_ref_1").write_text("1,0,0\n0,1,0\n0,0,1\n")


def test_patches_release_says_what_to_get(tmp_path):
  for name in ("i_ajuntament", "v_wall"):
    _write_patches(tmp_path / name)
  with pytest.raises(
    ValueError, match=r"got the patches release .*sequences-release\.tar\.gz"
  ) as caught:
    data.hpatches_pairs(tmp_path)
  assert "i_ajuntament" in str(caught.value)
  os.remove(tmp_path / "i_ajuntament" / "ref.png")  # either sign will do
  os.remove(tmp_path / "v_wall" / "H_ref_1")
  with pytest.raises(ValueError, match="patches release"):
    data.hpatches_pairs(tmp_path, subset="all")


def test_one_folder_of_patches_among_sequences_is_skipped(root):
  _write_patches(root / "v_wall")
  reader = data.hpatches_pairs(root)
  assert len(list(reader)) == 20
  assert {s.name for s in reader.skipped} == {"v_wall"}


def test_wrong_folder_says_which_one(root, tmp_path):
  with pytest.raises(ValueError, match=r"`root` must be a folder, got '.*/no'"):
    data.hpatches_pairs(tmp_path / "no")
  with pytest.raises(ValueError, match="`root` must be a folder"):
    data.hpatches_pairs(root / "README")
  with pytest.raises(ValueError, match=r"name '.*hpatches-sequences-release'"):
    data.hpatches_pairs(tmp_path)  # one level too high
  with pytest.raises(
    ValueError, match=r"one sequence, name '.*hpatches-sequences-release'"
  ):
    data.hpatches_pairs(root / "v_w")
  with pytest.raises(ValueError, match="unpacks to"):
    data.hpatches_pairs(root / "cache")


def test_only_large_sequences(root):
  for sequence in _SEQUENCES:
    if sequence not in data.HPATCHES_LARGE:
      shutil.rmtree(root / sequence)
  with pytest.raises(ValueError, match='i_dc v_talent only; use subset="all"'):
    data.hpatches_pairs(root)
  assert len(data.hpatches_pairs(root, subset="all").files) == 10


def test_unknown_subset(root):
  with pytest.raises(ValueError, match='`subset` must be "standard" or "all"'):
    data.hpatches_pairs(root, subset="v")
