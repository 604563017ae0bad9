"""Tests of the VOC reader on small folders of the real layout."""

import pickle
import shutil

import numpy as np
import PIL.Image
import pytest

from vision_jax import data

_OBJECT = """
  <object>
    <name>{name}</name>
    <pose>Left</pose>
    <truncated>{truncated}</truncated>
    <difficult>{difficult}</difficult>
    <part>
      <name>head</name>
      <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
    </part>
    <bndbox>
      <xmax>{box[2]}</xmax><xmin>{box[0]}</xmin>
      <ymax>{box[3]}</ymax><ymin>{box[1]}</ymin>
    </bndbox>
  </object>"""


def _annotation(objects, width=30, height=20):
  body = "".join(
    _OBJECT.format(name=name, box=box, truncated=truncated, difficult=difficult)
    for name, box, truncated, difficult in objects
  )
  size = f"<size><width>{width}</width><height>{height}</height></size>"
  return f"<annotation><folder>VOC</folder>{size}{body}\n</annotation>"


def _write_map(path, numbers):
  """A map as the set has them: with a palette."""
  image = PIL.Image.fromarray(numbers.astype(np.uint8), mode="P")
  palette = np.random.default_rng(0).integers(0, 256, 768, np.uint8)
  image.putpalette(palette.tobytes())
  image.save(path)


@pytest.fixture
def root(tmp_path):
  """Pictures 000001 to 000003; the last has no object, the first two maps."""
  folder = tmp_path / "VOCdevkit" / "VOC2007"
  for name in (
    "Annotations",
    "JPEGImages",
    "ImageSets/Main",
    "ImageSets/Segmentation",
    "SegmentationClass",
    "SegmentationObject",
  ):
    (folder / name).mkdir(parents=True)
  annotations = {
    "000001": [
      ("dog", (4, 3, 12, 20), 0, 0),
      ("person", (15, 1, 30, 9), 1, 1),
    ],
    "000002": [("tvmonitor", (2.5, 1, 9.25, 7), 0, 1)],
    "000003": [],
  }
  for number, (name, objects) in enumerate(annotations.items()):
    (folder / "Annotations" / f"{name}.xml").write_text(_annotation(objects))
    data.write_image(
      folder / "JPEGImages" / f"{name}.jpg",
      np.full((20, 30, 3), 40 * (number + 1), np.uint8),
    )
  main = folder / "ImageSets" / "Main"
  (main / "trainval.txt").write_text("000003\n000001\n000002\n")
  (main / "test.txt").write_text("000002\n")
  (main / "dog_trainval.txt").write_text("000001  1\n000002 -1\n")
  (folder / "ImageSets/Segmentation/val.txt").write_text("000001\n000002\n")
  kinds, objects = np.zeros((2, 20, 30), np.uint8)
  kinds[2:20, 3:12], objects[2:20, 3:12] = 12, 1  # dog
  kinds[0:9, 14:30], objects[0:9, 14:30] = 15, 2  # person
  kinds[0:9, 14], objects[0:9, 14] = 255, 255
  _write_map(folder / "SegmentationClass" / "000001.png", kinds)
  _write_map(folder / "SegmentationObject" / "000001.png", objects)
  empty = np.zeros((20, 30), np.uint8)
  _write_map(folder / "SegmentationClass" / "000002.png", empty)
  _write_map(folder / "SegmentationObject" / "000002.png", empty)
  return folder


def test_classes_are_those_of_the_challenge():
  assert len(data.VOC_CLASSES) == 20
  assert list(data.VOC_CLASSES) == sorted(data.VOC_CLASSES)
  assert data.VOC_CLASSES.index("person") + 1 == 15


def test_objects_in_the_order_of_the_list(root):
  source = data.open_voc(root, "trainval")
  assert (source.name, source.split, len(source)) == ("VOC2007", "trainval", 3)
  assert source.class_names == data.VOC_CLASSES
  empty, two, one = source
  assert [int(e["index"]) for e in (empty, two, one)] == [0, 1, 2]
  assert [round(e["image"].mean()) for e in (empty, two, one)] == [120, 40, 80]
  # 1-based, inclusive -> continuous.
  np.testing.assert_array_equal(two["boxes"], [[3, 2, 12, 20], [14, 0, 30, 9]])
  np.testing.assert_array_equal(one["boxes"], [[1.5, 0, 9.25, 7]])
  assert [data.VOC_CLASSES[k] for k in two["labels"]] == ["dog", "person"]
  np.testing.assert_array_equal(two["truncated"], [False, True])
  np.testing.assert_array_equal(two["difficult"], [False, True])
  np.testing.assert_array_equal(one["difficult"], [True])
  assert empty["boxes"].shape == (0, 4)
  assert empty["labels"].shape == (0,)
  for example in (empty, two, one):
    kinds = {name: value.dtype for name, value in example.items()}
    assert kinds == {
      "image": np.uint8,
      "boxes": np.float32,
      "labels": np.int32,
      "difficult": bool,
      "truncated": bool,
      "index": np.int64,
    }
    assert example["image"].shape == (20, 30, 3)


def test_a_box_covers_the_pixels_it_names(root):
  """The area of a box is the number of its pixels."""
  path = root / "Annotations" / "000002.xml"
  path.write_text(_annotation([("cat", (7, 5, 7, 9), 0, 0)]))
  (box,) = data.open_voc(root, "test")[0]["boxes"]
  columns = [x for x in range(30) if box[0] <= x + 0.5 < box[2]]
  rows = [y for y in range(20) if box[1] <= y + 0.5 < box[3]]
  assert columns == [6]  # pixel 7 counted from 1
  assert rows == [4, 5, 6, 7, 8]


def test_list_of_a_class_and_pickle(root):
  source = data.open_voc(root, "dog_trainval")
  assert [len(e["labels"]) for e in source] == [2, 1]
  again = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(again[0]["boxes"], source[0]["boxes"])


def test_maps(root):
  source = data.open_voc(root, "val", segmentation=True)
  first, second = source
  assert first["semantic"].dtype == first["masks"].dtype == np.uint8
  assert first["masks"].shape == (2, 20, 30)
  for label, mask, area in zip(
    first["labels"], first["masks"], first["area"], strict=True
  ):
    np.testing.assert_array_equal(mask, first["semantic"] == label + 1)
    assert area == (first["semantic"] == label + 1).sum()
  assert (first["semantic"] == 255).sum() == 9
  np.testing.assert_array_equal(first["masks"][0, 2:20, 3:12], 1)
  assert second["masks"].shape == (1, 20, 30)
  assert not second["masks"].any()  # a difficult object without a mask
  assert set(first) == {
    *("image", "boxes", "labels", "difficult", "truncated", "index"),
    *("semantic", "masks", "area"),
  }


def test_other_classes(root):
  source = data.open_voc(root, "test", class_names=["car", "tvmonitor"])
  assert source.class_names == ("car", "tvmonitor")
  np.testing.assert_array_equal(source[0]["labels"], [1])


def test_missing_folders(root, tmp_path):
  with pytest.raises(data.DataError, match="must be a folder"):
    data.open_voc(tmp_path / "no", "test")
  for wrong in (tmp_path, tmp_path / "VOCdevkit"):
    with pytest.raises(
      data.DataError,
      match=r"without Annotations JPEGImages ImageSets/Main; name '.*/VOC2007'",
    ):
      data.open_voc(wrong, "test")
  shutil.rmtree(root / "SegmentationObject")
  assert len(data.open_voc(root, "test")) == 1
  with pytest.raises(
    data.DataError, match="without SegmentationObject; unpack"
  ):
    data.open_voc(root, "val", segmentation=True)
  shutil.rmtree(root / "JPEGImages")
  with pytest.raises(data.DataError, match="without JPEGImages"):
    data.open_voc(root, "test")


def test_unknown_and_empty_splits(root):
  with pytest.raises(
    data.DataError, match=r"`split` must be one of test trainval in.*got 'val'"
  ):
    data.open_voc(root, "val")
  with pytest.raises(data.DataError, match="must be one of val in"):
    data.open_voc(root, "test", segmentation=True)
  (root / "ImageSets/Main/test.txt").write_text("\n")
  with pytest.raises(data.DataError, match=r"the empty '.*test\.txt'"):
    data.open_voc(root, "test")


@pytest.mark.parametrize(
  "name",
  ["Annotations/000001.xml", "JPEGImages/000001.jpg"],
)
def test_missing_files(root, name):
  (root / name).unlink()
  assert len(data.open_voc(root, "test")) == 1  # does not need them
  with pytest.raises(
    data.DataError,
    match=f"must hold 3 files in {name.split('/')[0]}, got 1 fewer.*{name}'",
  ):
    data.open_voc(root, "trainval")


def test_missing_maps(root):
  (root / "SegmentationClass/000002.png").unlink()
  with pytest.raises(
    data.DataError, match="2 files in SegmentationClass, got 1"
  ):
    data.open_voc(root, "val", segmentation=True)


def _fails(source, index, pattern):
  with pytest.raises(data.DataError, match=pattern) as caught:
    source[index]
  text = str(caught.value)
  assert text.startswith(f"open_voc: example {index} of split")
  assert "VOC2007" in text
  assert "\n" not in text


def test_damaged_pictures_and_maps_are_named(root):
  path = root / "JPEGImages" / "000001.jpg"
  path.write_bytes(path.read_bytes()[:-30])
  source = data.open_voc(root, "trainval")
  _fails(source, 1, r"JPEGImages/000001\.jpg': truncated")
  assert len(source[2]["labels"]) == 1
  path = root / "SegmentationObject" / "000002.png"
  path.write_bytes(path.read_bytes()[:60])
  _fails(
    data.open_voc(root, "val", segmentation=True),
    1,
    r"SegmentationObject/000002\.png': ",
  )


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("<annotation>", "no XML: "),
    ("", "no XML: "),
    (_annotation([("unicorn", (1, 1, 2, 2), 0, 0)]), "class 'unicorn'; known"),
    (_annotation([("cat", (5, 1, 4, 2), 0, 0)]), "'cat' has the empty box"),
    (_annotation([("cat", (5, 1, "x", 2), 0, 0)]), "<bndbox> has <xmax> 'x'"),
    (_annotation([("cat", (5, 1, "nan", 2), 0, 0)]), "empty box"),
    (
      "<annotation><object><name>cat</name></object></annotation>",
      "'cat' has no <bndbox>",
    ),
    (
      "<annotation><object><name>cat</name><bndbox><xmin>1</xmin></bndbox>"
      "</object></annotation>",
      "<bndbox> has <ymin> None",
    ),
    (_annotation([], width=31), "30 x 20 pixels in place of 31 x 20"),
  ],
)
def test_damaged_annotations_are_named(root, text, reason):
  (root / "Annotations" / "000002.xml").write_text(text)
  source = data.open_voc(root, "trainval")
  _fails(source, 2, rf"000002\.(xml|jpg).*{reason}")
  assert len(source[1]["labels"]) == 2


def test_a_size_of_zero_is_no_size(root):
  text = _annotation([], width=0, height=0)
  (root / "Annotations" / "000002.xml").write_text(text)
  assert data.open_voc(root, "test")[0]["boxes"].shape == (0, 4)


def test_maps_that_do_not_fit(root):
  source = data.open_voc(root, "val", segmentation=True)
  kinds, objects = np.zeros((2, 20, 30), np.uint8)
  objects[3:5, 3:5] = 2
  _write_map(root / "SegmentationObject" / "000002.png", objects)
  _fails(source, 1, "has 2 objects in place of 1")
  objects[3:5, 3:5], kinds[3:5, 3:5] = 1, 7
  _write_map(root / "SegmentationObject" / "000002.png", objects)
  _write_map(root / "SegmentationClass" / "000002.png", kinds)
  _fails(source, 1, "object 1 of .* is of class 7 in place of 20")
  _write_map(root / "SegmentationClass" / "000002.png", kinds[:19])
  _fails(source, 1, r"SegmentationClass/000002.png has 30 x 19 pixels")
