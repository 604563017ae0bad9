"""Tests of the Cityscapes reader on small folders of the real layout."""

import json
import pickle
import shutil

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from vision_jax import data

# name: number in the files; what is not evaluated is among them.
_IDS = {
  "unlabeled": 0,
  "road": 7,
  "parking": 9,
  "building": 11,
  "sky": 23,
  "person": 24,
  "car": 26,
  "caravan": 29,
  "bicycle": 33,
}
_HEIGHT, _WIDTH = 40, 64
_SCENE = [
  ("sky", [(0, 0), (63, 0), (63, 15), (0, 15)]),
  ("road", [(0, 16), (63, 16), (63, 39), (0, 39)]),
  ("parking", [(50, 30), (63, 30), (63, 39), (50, 39)]),
  ("car", [(4, 10), (20, 10), (22, 20), (4, 20)]),
  ("cargroup", [(30, 14), (44, 14), (44, 19), (30, 19)]),
  ("person", [(30, 22), (34, 22), (35, 36), (29, 36)]),
  ("car", [(12, 14), (27, 14), (27, 27), (12, 27)]),
  ("cargroup", [(50, 14), (56, 14), (56, 19), (50, 19)]),
  ("caravan", [(2, 30), (9, 30), (9, 36), (2, 36)]),
]


def _draw(scene):
  """Maps as the set's own program draws them: one after the other."""
  maps = [PIL.Image.new("I", (_WIDTH, _HEIGHT), 0) for _ in range(2)]
  counts = dict.fromkeys(_IDS, 0)
  for name, points in scene:
    kind = _IDS[name.removesuffix("group")]
    number = kind
    if kind >= 24 and not name.endswith("group"):
      number = 1000 * kind + counts[name]
      counts[name] += 1
    PIL.ImageDraw.Draw(maps[0]).polygon(points, fill=kind)
    PIL.ImageDraw.Draw(maps[1]).polygon(points, fill=number)
  kinds, numbers = (np.asarray(m) for m in maps)
  return kinds.astype(np.uint8), numbers.astype(np.uint16)


def _write(root, split, city, name, scene, value=0):
  pictures = root / "leftImg8bit" / split / city
  truth = root / "gtFine" / split / city
  pictures.mkdir(parents=True, exist_ok=True)
  truth.mkdir(parents=True, exist_ok=True)
  data.write_image(
    pictures / f"{name}_leftImg8bit.png",
    np.full((_HEIGHT, _WIDTH, 3), value, np.uint8),
  )
  kinds, numbers = _draw(scene)
  stem = f"{name}_gtFine"
  PIL.Image.fromarray(kinds).save(truth / f"{stem}_labelIds.png")
  PIL.Image.fromarray(numbers).save(truth / f"{stem}_instanceIds.png")
  objects = [
    {"label": label, "polygon": [list(p) for p in points], "deleted": 0}
    for label, points in scene
  ]
  content = {"imgHeight": _HEIGHT, "imgWidth": _WIDTH, "objects": objects}
  (truth / f"{stem}_polygons.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "cityscapes"
  # Written out of order, so that a listing would not be sorted.
  _write(folder, "val", "munster", "munster_000000_000019", _SCENE, 30)
  _write(folder, "val", "aachen", "aachen_000001_000019", _SCENE[:2], 20)
  _write(folder, "val", "aachen", "aachen_000000_000019", [], 10)
  _write(folder, "train", "ulm", "ulm_000000_000019", _SCENE, 40)
  (folder / "leftImg8bit/val/aachen/Thumbs.db").write_bytes(b"x")
  return folder


_MUNSTER = 2  # its position
_STEM = "gtFine/val/munster/munster_000000_000019_gtFine"


def test_classes_are_the_train_ids():
  assert len(data.CITYSCAPES_CLASSES) == 19
  for name, number in {
    "road": 0,
    "building": 2,
    "sky": 10,
    "person": 11,
    "car": 13,
    "train": 16,
    "bicycle": 18,
  }.items():
    assert data.CITYSCAPES_CLASSES[number] == name


def test_pictures_and_semantic_maps(root):
  source = data.open_cityscapes(root, "val")
  assert (source.name, source.split) == ("cityscapes", "val")
  assert source.class_names == data.CITYSCAPES_CLASSES
  assert [int(e["image"][0, 0, 0]) for e in source] == [10, 20, 30]
  assert len(data.open_cityscapes(root, "train")) == 1
  example = source[_MUNSTER]
  assert set(example) == {"image", "semantic", "index"}
  assert example["semantic"].dtype == np.uint8
  kinds, _ = _draw(_SCENE)
  names = {number: name for name, number in _IDS.items()}
  for y in range(_HEIGHT):
    for x in range(_WIDTH):
      name = names[kinds[y, x]]
      expected = 255
      if name in data.CITYSCAPES_CLASSES:
        expected = data.CITYSCAPES_CLASSES.index(name)
      assert example["semantic"][y, x] == expected
  assert (example["semantic"] == 255).sum() > 50  # parking and caravan
  assert (source[0]["semantic"] == 255).all()


def test_all_numbers_of_the_files(root):
  """The published table: 19 of the numbers 0 to 33 are evaluated."""
  path = root / f"{_STEM}_labelIds.png"
  numbers = np.full((_HEIGHT, _WIDTH), 255, np.uint8)
  numbers[0, :34] = np.arange(34)
  PIL.Image.fromarray(numbers).save(path)
  semantic = data.open_cityscapes(root, "val")[_MUNSTER]["semantic"]
  # fmt: off
  expected = [
    255, 255, 255, 255, 255, 255, 255, 0, 1, 255, 255, 2, 3, 4, 255, 255, 255,
    5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18,
  ]
  # fmt: on
  np.testing.assert_array_equal(semantic[0, :34], expected)
  assert (semantic[1:] == 255).all()


def test_instances(root):
  source = data.open_cityscapes(root, "val", instances=True)
  example = source[_MUNSTER]
  _, numbers = _draw(_SCENE)
  expected = [26, 24000, 26000, 26001]  # groups first; no caravan
  names = ["car", "person", "car", "car"]
  assert [data.CITYSCAPES_CLASSES[k] for k in example["labels"]] == names
  np.testing.assert_array_equal(example["crowd"], [True, False, False, False])
  assert example["masks"].shape == (4, _HEIGHT, _WIDTH)
  for place, number in enumerate(expected):
    pixels = numbers == number
    np.testing.assert_array_equal(example["masks"][place], pixels)
    assert example["area"][place] == pixels.sum() > 0
    y, x = np.nonzero(pixels)
    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    np.testing.assert_array_equal(example["boxes"][place], box)
  kinds = {name: example[name].dtype for name in set(example) - {"index"}}
  assert kinds == {
    "image": np.uint8,
    "semantic": np.uint8,
    "boxes": np.float32,
    "labels": np.int32,
    "masks": np.uint8,
    "crowd": bool,
    "area": np.float32,
  }
  # Semantic and instance maps tell of the same classes.
  for label, mask in zip(example["labels"], example["masks"], strict=True):
    assert (example["semantic"][mask > 0] == label).all()


def test_a_picture_without_objects(root):
  for index in (0, 1):
    source = data.open_cityscapes(root, "val", instances=True, polygons=True)
    example = source[index]
    assert example["boxes"].shape == (0, 4)
    assert example["masks"].shape == (0, _HEIGHT, _WIDTH)
    assert example["labels"].shape == example["area"].shape == (0,)
    assert example["polygons"] == []


def test_polygons_are_those_of_the_objects(root):
  """Drawn again, they give the masks, but for what stands before."""
  source = data.open_cityscapes(root, "val", instances=True, polygons=True)
  example = pickle.loads(pickle.dumps(source))[_MUNSTER]
  assert [len(rings) for rings in example["polygons"]] == [2, 1, 1, 1]
  for rings, mask in zip(example["polygons"], example["masks"], strict=True):
    drawn = PIL.Image.new("L", (_WIDTH, _HEIGHT))
    for ring in rings:
      assert ring.dtype == np.float32
      points = [tuple(map(float, p)) for p in ring - 0.5]
      PIL.ImageDraw.Draw(drawn).polygon(points, fill=1)
    drawn = np.asarray(drawn)
    assert (drawn >= mask).all()
    covered = (drawn > mask).sum()
    assert covered == 0 or mask[10, 4]  # the first car, behind the second
  first_car = example["polygons"][2][0]
  np.testing.assert_array_equal(first_car[0], [4.5, 10.5])


def test_deleted_objects_are_not_counted(root):
  path = root / f"{_STEM}_polygons.json"
  content = json.loads(path.read_text())
  gone = {"label": "car", "polygon": [[0, 0], [3, 0], [3, 3]], "deleted": 1}
  content["objects"].insert(0, gone)
  path.write_text(json.dumps(content))
  source = data.open_cityscapes(root, "val", instances=True, polygons=True)
  np.testing.assert_array_equal(
    source[_MUNSTER]["polygons"][2][0][0], [4.5, 10.5]
  )


def test_missing_folders(root, tmp_path):
  with pytest.raises(data.DataError, match="must be a folder"):
    data.open_cityscapes(tmp_path / "no", "val")
  with pytest.raises(
    data.DataError, match="without leftImg8bit gtFine; unpack"
  ):
    data.open_cityscapes(root / "gtFine", "val")
  with pytest.raises(
    data.DataError, match=r"must be one of train val in .*, got 'test'"
  ):
    data.open_cityscapes(root, "test")
  shutil.rmtree(root / "gtFine")
  with pytest.raises(data.DataError, match="without gtFine; unpack"):
    data.open_cityscapes(root, "val")


def test_an_empty_split(root):
  shutil.rmtree(root / "leftImg8bit/train/ulm")
  with pytest.raises(data.DataError, match="leftImg8bit/train' without any"):
    data.open_cityscapes(root, "train")


@pytest.mark.parametrize(
  ("ending", "settings"),
  [
    ("labelIds.png", {}),
    ("instanceIds.png", {"instances": True}),
    ("polygons.json", {"instances": True, "polygons": True}),
  ],
)
def test_missing_and_damaged_files_are_named(root, ending, settings):
  path = root / f"{_STEM}_{ending}"
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) - 40])
  source = data.open_cityscapes(root, "val", **settings)
  with pytest.raises(data.DataError) as caught:
    source[_MUNSTER]
  text = str(caught.value)
  assert text.startswith("open_cityscapes: example 2 of split 'val' of citysc")
  assert path.name in text
  assert "\n" not in text
  assert int(source[1]["image"][0, 0, 0]) == 20
  path.unlink()
  with pytest.raises(
    data.DataError, match=rf"3 files \*_{ending}, got 1 fewer.*munster"
  ):
    data.open_cityscapes(root, "val", **settings)


@pytest.mark.parametrize("content", [[], {}, {"objects": [{"label": "car"}]}])
def test_other_json_is_named(root, content):
  (root / f"{_STEM}_polygons.json").write_text(json.dumps(content))
  source = data.open_cityscapes(root, "val", instances=True, polygons=True)
  with pytest.raises(data.DataError, match=r"polygons\.json': no polygons"):
    source[_MUNSTER]


def test_maps_of_other_sizes_and_kinds(root):
  source = data.open_cityscapes(root, "val", instances=True)
  path = root / f"{_STEM}_instanceIds.png"
  PIL.Image.fromarray(np.zeros((5, 6), np.uint16)).save(path)
  with pytest.raises(data.DataError, match="6 x 5 pixels in place of 64 x 40"):
    source[_MUNSTER]
  data.write_image(path, np.zeros((_HEIGHT, _WIDTH, 3), np.uint8))
  with pytest.raises(data.DataError, match="mode 'RGB', not of 16 bits"):
    source[_MUNSTER]
  path = root / f"{_STEM}_labelIds.png"
  PIL.Image.fromarray(np.zeros((5, 6), np.uint8)).save(path)
  with pytest.raises(data.DataError, match=r"labelIds\.png' has 6 x 5 pixels"):
    source[_MUNSTER]


def test_polygons_need_instances(root):
  with pytest.raises(
    ValueError, match="`polygons` must go with instances=True"
  ):
    data.open_cityscapes(root, "val", polygons=True)
