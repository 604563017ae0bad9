"""Instance sets read from small folders in the layout of the real ones."""

import pathlib
import tempfile

import numpy as np
import pytest
import scipy.io
from absl.testing import parameterized

from vision_jax import data


class InstanceSetsTest(parameterized.TestCase):
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

  def test_instre(self):
    for folder, text in (
      ("INSTRE-S1/01a_cup", "10 20 30 40\n"),
      ("INSTRE-M/03_pair", "0 0 5 5\n10 10 4 2\n"),
    ):
      self.pictures(folder, "001", "002", "003")
      for view in ("001", "002", "003"):
        self.write(f"{folder}/{view}.txt", text)
    found = data.open_instre(self.root, num_queries=1)
    self.assertEqual(len(found.database), 4)
    self.assertEqual(len(found.queries), 3)  # two objects of the pair
    boxes = {tuple(q.box) for q in found.queries}
    self.assertEqual(boxes, {(10, 20, 40, 60), (0, 0, 5, 5), (10, 10, 14, 12)})
    for query in found.queries:
      own = pathlib.Path(query.path).parent
      for place in query.relevant["good"]:
        self.assertEqual(pathlib.Path(found.database[place]).parent, own)
        np.testing.assert_array_equal(query.boxes[int(place)], [query.box])
    only = data.open_instre(self.root, num_queries=1, parts=["INSTRE-S1"])
    self.assertEqual(len(only.queries), 1)
    for call, pattern in (
      (lambda: data.open_instre(self.root), "more than 5 pictures"),
      (lambda: data.open_instre(self.root / "INSTRE-M"), r"folders INSTRE-\*"),
    ):
      with pytest.raises(data.DataError, match=pattern):
        call()
    self.write("INSTRE-S1/01a_cup/002.txt", "1 2 3")
    with pytest.raises(data.DataError, match="lines of 4 numbers"):
      data.open_instre(self.root, num_queries=1)

  def split(self, base, cup=(0, 1), bbx=(1, 2, 30, 40)):
    """Two classes, three pictures each, the first one asked for."""
    for folder in ("INSTRE-S1/01a_cup", "INSTRE-S1/02b_dog"):
      self.pictures(folder, "001", "002", "003")
    self.write("INSTRE-S1/02b_dog/003.txt", "5 6 10 20\n")
    names = [
      f"INSTRE-S1/{name}/00{k}.jpg"
      for name in ("01a_cup", "02b_dog")
      for k in (1, 2, 3)
    ]
    gnd = np.zeros(2, [("ok", object), ("bbx", object)])
    gnd["ok"][0], gnd["ok"][1] = np.add(cup, base), np.add([2, 3], base)
    gnd["bbx"][0] = gnd["bbx"][1] = np.array(bbx, float)
    lists = {"imlist": names[1:3] + names[4:], "qimlist": names[::3]}
    content = {k: np.array(v, object) for k, v in lists.items()}
    path = self.root / "gnd_instre.mat"
    scipy.io.savemat(path, {**content, "gnd": gnd})
    return data.open_instre_split(self.root, path)

  def test_instre_split(self):
    for base in (0, 1):
      found = self.split(base)
      self.assertEqual(len(found.database), 4)
      cup, dog = found.queries
      self.assertEqual(cup.relevant["good"].tolist(), [0, 1])
      self.assertEqual(dog.relevant["good"].tolist(), [2, 3])
      self.assertEqual(cup.box.tolist(), [1, 2, 30, 40])
      self.assertIsNone(cup.boxes)
      np.testing.assert_array_equal(dog.boxes[3], [[5, 6, 15, 26]])
    with pytest.raises(data.DataError, match="from 0 and from 1"):
      self.split(0, cup=(0, 2))
    with pytest.raises(data.DataError, match=r"must be gnd_instre\.mat"):
      self.split(0, bbx=(1, 2))
    self.split(0)
    (self.root / "INSTRE-S1/02b_dog/001.jpg").unlink()
    with pytest.raises(data.DataError, match="001"):
      data.open_instre_split(self.root, self.root / "gnd_instre.mat")

  def videos(self, truth="cat_1 2 cat_2 dog_7"):
    self.pictures("Images/cat", "cat_1", "cat_2")
    self.pictures("Images/dog", "dog_7")
    self.write("q.txt", "cat_1 5 6 10 20\n")
    self.write("r.txt", truth)
    return data.open_instance_videos(
      self.root, queries=self.root / "q.txt", relevant=self.root / "r.txt"
    )

  def test_instance_videos(self):
    found = self.videos()
    self.assertEqual(self.names(found.database), ["cat_2", "dog_7"])
    self.assertEqual(found.queries[0].box.tolist(), [5, 6, 15, 26])
    self.assertEqual(found.queries[0].relevant["good"].tolist(), [0, 1])
    for truth, pattern in (
      ("cat_1 3 cat_2 dog_7", "must name 3 pictures, got 2"),
      ("cat_1 1 cow_1", "names 'cow_1'"),
      ("dog_7 0", "must have a line for 'cat_1'"),
    ):
      with pytest.raises(data.DataError, match=pattern):
        self.videos(truth)

  def test_folders(self):
    self.pictures("cup", "1", "2", "3")
    self.pictures("noise", "1")
    self.write("cup/1.txt", "1,2,30,40")
    found = data.open_retrieval_folders(self.root)
    self.assertEqual(len(found.database), 3)
    (query,) = found.queries
    self.assertEqual(query.box.tolist(), [1, 2, 30, 40])
    self.assertEqual(query.relevant["good"].tolist(), [0, 1])
    with pytest.raises(data.DataError, match="must be a folder"):
      data.open_retrieval_folders(self.root / "none")
    (self.root / "cup" / "2.jpg").unlink()
    (self.root / "cup" / "3.jpg").unlink()
    with pytest.raises(data.DataError, match="two pictures or more"):
      data.open_retrieval_folders(self.root)
