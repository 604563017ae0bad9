"""Retrieval sets read from small folders in the layout of the real ones."""

import json
import os
import pathlib
import pickle
import tempfile

import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import data


class _Evil:
  def __reduce__(self):
    return (os.mkdir, ("opened",))


class RetrievalSetTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.enterContext(tempfile.TemporaryDirectory())
    self.root = pathlib.Path(folder)

  def write(self, name, content=""):
    path = self.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      path.write_text(content)

  def pictures(self, folder, *stems):
    for stem in stems:
      self.write(f"{folder}/{stem}.jpg")

  def names(self, paths):
    return [pathlib.Path(p).stem for p in paths]


class BuildingsTest(RetrievalSetTest):
  def oxford(self, **changes):
    self.pictures("jpg", "all_souls_1", "all_souls_2", "worcester_1", "z_3")
    for kind, text in {
      "query": "oxc1_all_souls_1 136.5 34.1 648.5 955.7\n",
      "good": "all_souls_1\n",
      "ok": "all_souls_2\n",
      "junk": "z_3\n",
    }.items():
      self.write(f"gt/all_souls_1_{kind}.txt", changes.get(kind, text))

  def test_oxford(self):
    self.oxford()
    found = data.open_buildings(self.root)
    self.assertEqual(
      self.names(found.database),
      ["all_souls_1", "all_souls_2", "worcester_1", "z_3"],
    )
    (query,) = found.queries
    np.testing.assert_allclose(query.box, [136.5, 34.1, 648.5, 955.7])
    self.assertEqual(query.relevant["good"].tolist(), [0, 1])
    self.assertEqual(query.junk.tolist(), [3])
    self.assertTrue(query.path.endswith("all_souls_1.jpg"))

  def test_damaged_pictures_are_left_out(self):
    self.oxford()
    found = data.open_buildings(self.root, leave_out=["z_3"])
    self.assertEqual(len(found.database), 3)
    self.assertEqual(len(found.queries[0].junk), 0)

  def test_errors(self):
    for changes, pattern in (
      ({"ok": "no_such"}, "names 'no_such'"),
      ({"query": "all_souls_1 1 2 3"}, "lines of 4 numbers"),
    ):
      self.oxford(**changes)
      with pytest.raises(data.DataError, match=pattern):
        data.open_buildings(self.root)
    (self.root / "gt" / "all_souls_1_junk.txt").unlink()
    self.oxford()
    (self.root / "gt" / "all_souls_1_junk.txt").unlink()
    with pytest.raises(data.DataError, match="cannot be read"):
      data.open_buildings(self.root)
    with pytest.raises(data.DataError, match="must hold pictures"):
      data.open_buildings(self.root / "gt")


class RevisitedTest(RetrievalSetTest):
  def truth(self, **changes):
    gnd = {
      "bbx": [1.5, 2.0, 30.0, 40.0],
      "easy": np.array([2]),
      "hard": [0],
      "junk": [1],
    }
    return {"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": [gnd | changes]}

  def test_pickle_and_distractors(self):
    self.pictures("jpg", "a", "b", "c", "q")
    self.pictures("r1m", "x", "y")
    self.write("gnd_roxford5k.pkl", pickle.dumps(self.truth(), protocol=2))
    found = data.open_revisited(self.root, distractors=self.root / "r1m")
    self.assertEqual(self.names(found.database), ["a", "b", "c", "x", "y"])
    (query,) = found.queries
    self.assertEqual(
      {k: v.tolist() for k, v in query.relevant.items()},
      {"easy": [2], "hard": [0]},
    )
    self.assertEqual(query.junk.tolist(), [1])
    self.assertEqual(query.box.tolist(), [1.5, 2, 30, 40])

  def test_errors(self):
    self.pictures("jpg", "a", "b", "c", "q")
    for content, pattern in (
      (pickle.dumps(_Evil()), "not allowed"),
      (b"damaged", "must be a file of ground truth"),
      (pickle.dumps({"imlist": []}), "'qimlist'"),
      (pickle.dumps(self.truth(easy=[7])), "must be below 3, got 7"),
      (pickle.dumps(self.truth() | {"imlist": ["a", "q"]}), "queries must not"),
      (pickle.dumps(self.truth() | {"imlist": ["a", "z"]}), "z.jpg"),
    ):
      self.write("gnd_roxford5k.pkl", content)
      with pytest.raises(data.DataError, match=pattern):
        data.open_revisited(self.root)
    self.assertFalse(pathlib.Path("opened").exists())


class OtherSetsTest(RetrievalSetTest):
  def test_holidays(self):
    self.pictures(".", "100000", "100001", "100002", "100100", "100101")
    found = data.open_holidays(self.root)
    self.assertEqual(len(found.queries), 2)
    self.assertEqual(found.queries[0].relevant["good"].tolist(), [1, 2])
    self.assertEqual(found.queries[0].junk.tolist(), [0])
    self.pictures(".", "100200")
    with pytest.raises(data.DataError, match="100200 alone"):
      data.open_holidays(self.root)
    self.pictures(".", "cat")
    with pytest.raises(data.DataError, match="'cat'"):
      data.open_holidays(self.root)

  def test_json_truth(self):
    self.pictures("jpg", "a", "q")
    truth = {"bbx": [0, 0, 1, 1], "easy": [0], "hard": [], "junk": []}
    self.write(
      "gnd_rparis6k.json",
      json.dumps({"imlist": ["a"], "qimlist": ["q"], "gnd": [truth]}),
    )
    found = data.open_revisited(self.root, name="rparis6k")
    self.assertEqual(found.queries[0].relevant["hard"].tolist(), [])
