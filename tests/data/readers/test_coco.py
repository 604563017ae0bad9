"""The COCO reader, beside pycocotools, on made files and the real sample."""

import contextlib
import io
import json
import os
import pathlib
import pickle
import tempfile
import unittest

import numpy as np
from absl.testing import absltest, parameterized
from pycocotools import coco as coco_api

from vision_jax import data

# Four photographs of COCO val2017 with people, kept outside the project.
_SAMPLE = os.environ.get("VISION_JAX_COCO_SAMPLE", "")

_UNCOMPRESSED = {"size": [40, 60], "counts": [400, 30, 10, 35, 1925]}


def _content():
  """A file with every kind of annotation; ids and order are not ours."""
  return {
    "info": {"year": 2017},
    "images": [
      {"id": 9, "file_name": "b.png", "height": 40, "width": 60},
      {"id": 2, "file_name": "sub/a.png", "height": 20, "width": 30},
      {"id": 11, "file_name": "empty.png", "height": 8, "width": 9},
    ],
    "categories": [
      {"id": 44, "name": "bottle"},
      {
        "id": 1,
        "name": "person",
        "keypoints": ["nose", "eye", "ear"],
        "skeleton": [[1, 2], [2, 3]],
      },
    ],
    "annotations": [
      {  # two polygons
        "id": 5,
        "image_id": 9,
        "category_id": 44,
        "bbox": [3.25, 4.5, 20.1, 10.7],
        "area": 123.5,
        "iscrowd": 0,
        "segmentation": [
          [3.25, 4.5, 23.35, 5.1, 20.3, 15.2, 4.7, 14.9],
          [30.2, 20.1, 39.9, 20.7, 35.5, 33.3],
        ],
      },
      {  # a crowd, uncompressed
        "id": 6,
        "image_id": 9,
        "category_id": 1,
        "bbox": [10, 0, 3, 40],
        "area": 65,
        "iscrowd": 1,
        "segmentation": _UNCOMPRESSED,
        "keypoints": [0] * 9,
        "num_keypoints": 0,
      },
      {  # keypoints, a compressed mask
        "id": 3,
        "image_id": 2,
        "category_id": 1,
        "bbox": [1, 2, 8, 9],
        "area": 20,
        "iscrowd": 0,
        "segmentation": data.mask_to_rle(np.eye(20, 30)),
        "keypoints": [4, 5, 2, 7, 8, 1, 3, 3, 0],
      },
    ],
  }


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.file = self.folder / "instances_x.json"
    (self.folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    self.images = {}
    for entry in _content()["images"]:
      shape = entry["height"], entry["width"], 3
      image = rng.integers(0, 256, shape, np.uint8)
      data.write_image(self.folder / entry["file_name"], image)
      self.images[entry["id"]] = image

  def _open(self, content=None, **settings):
    self.file.write_text(json.dumps(content or _content()))
    return data.open_coco(self.folder, self.file, **settings)

  def _reference(self):
    with contextlib.redirect_stdout(io.StringIO()):
      return coco_api.COCO(str(self.file))


class ReadingTest(_Case):
  def test_what_the_source_knows(self):
    source = self._open()
    self.assertLen(source, 3)
    self.assertEqual(source.name, "instances_x")
    self.assertEqual(source.class_names, ("person", "bottle"))
    self.assertEqual(source.category_ids, (1, 44))
    self.assertEqual(source.image_ids, (2, 9, 11))
    self.assertEqual(source.keypoint_names, ("nose", "eye", "ear"))
    self.assertEqual(source.skeleton, ((0, 1), (1, 2)))
    self.assertEqual(source.dropped, {"boxes": 0, "polygons": 0})

  def test_every_feature(self):
    first, second, _ = self._open()
    for example, key in ((first, 2), (second, 9)):
      np.testing.assert_array_equal(example["image"], self.images[key])
    np.testing.assert_array_equal(first["boxes"], [[1, 2, 9, 11]])
    np.testing.assert_allclose(
      second["boxes"], [[3.25, 4.5, 23.35, 15.2], [10, 0, 13, 40]], rtol=1e-6
    )
    self.assertEqual(second["labels"].tolist(), [1, 0])
    self.assertEqual(second["crowd"].tolist(), [False, True])
    self.assertEqual(second["area"].tolist(), [123.5, 65])
    # COCO's numbers are kept; where nothing is labelled, the row is 0.
    expected = [[[4, 5, 2], [7, 8, 1], [0, 0, 0]]]
    np.testing.assert_array_equal(first["keypoints"], expected)
    np.testing.assert_array_equal(second["keypoints"], np.zeros((2, 3, 3)))
    np.testing.assert_array_equal(first["masks"], [np.eye(20, 30)])
    self.assertEqual([len(rings) for rings in first["polygons"]], [0])
    self.assertEqual([len(rings) for rings in second["polygons"]], [2, 0])
    np.testing.assert_array_equal(
      second["polygons"][0][1],
      np.array([[30.2, 20.1], [39.9, 20.7], [35.5, 33.3]], np.float32),
    )

  def test_masks_are_those_of_pycocotools(self):
    source = self._open()
    reference = self._reference()
    count = 0
    for example, key in zip(source, source.image_ids, strict=True):
      annotations = reference.loadAnns(reference.getAnnIds(key))
      for mask, entry in zip(example["masks"], annotations, strict=True):
        np.testing.assert_array_equal(mask, reference.annToMask(entry))
        self.assertGreater(mask.sum(), 10)
        count += 1
    self.assertEqual(count, 3)

  def test_corners_on_the_rounding_of_the_rasteriser(self):
    # In float32 some of these corners fall on the other side.
    content = _content()
    rng = np.random.default_rng(1)
    rings = [
      np.round(rng.uniform(2, 38, 8) * 10) / 10 + 0.0 for _ in range(400)
    ]
    content["annotations"] = [
      {
        "id": i + 1,
        "image_id": 9,
        "category_id": 1,
        "bbox": [1, 1, 30, 30],
        "segmentation": [ring.tolist()],
      }
      for i, ring in enumerate(rings)
    ]
    source = self._open(content)
    reference = self._reference()
    for mask, entry in zip(
      source[1]["masks"], reference.loadAnns(range(1, 401)), strict=True
    ):
      np.testing.assert_array_equal(mask, reference.annToMask(entry))
    small = [
      data.polygons_to_mask(rings, (40, 60)) for rings in source[1]["polygons"]
    ]
    self.assertFalse(np.array_equal(small, source[1]["masks"]))

  def test_types_and_empty_pictures(self):
    for example, count in zip(self._open(), (1, 2, 0), strict=True):
      height, width, _ = example["image"].shape
      for name, shape, dtype in (
        ("boxes", (count, 4), np.float32),
        ("labels", (count,), np.int32),
        ("crowd", (count,), np.bool_),
        ("area", (count,), np.float32),
        ("keypoints", (count, 3, 3), np.float32),
        ("masks", (count, height, width), np.uint8),
        ("index", (), np.int64),
      ):
        self.assertEqual(example[name].shape, shape, name)
        self.assertEqual(example[name].dtype, dtype, name)
      self.assertLen(example["polygons"], count)
    self.assertEqual(self._open(skip_empty=True).image_ids, (2, 9))

  def test_only_what_the_file_has(self):
    content = _content()
    for annotation in content["annotations"]:
      del annotation["segmentation"]
      annotation.pop("keypoints", None)
    for category in content["categories"]:
      category.pop("keypoints", None)
    source = self._open(content)
    self.assertEqual(
      set(source[0]), {"image", "boxes", "labels", "crowd", "area", "index"}
    )
    with self.assertRaisesRegex(
      KeyError, "features of the file, got masks; it has image boxes labels"
    ):
      self._open(content, features=("boxes", "masks"))
    # Pictures of a test set have no annotations at all.
    del content["annotations"]
    self.assertEqual([len(e["boxes"]) for e in self._open(content)], [0, 0, 0])

  def test_only_what_is_wanted_is_decoded(self):
    (self.folder / "b.png").unlink()
    source = self._open(features=("boxes", "labels"))
    self.assertEqual(set(source[1]), {"boxes", "labels", "index"})

  def test_keypoints_without_names(self):
    content = _content()
    for category in content["categories"]:
      category.pop("keypoints", None)
    source = self._open(content)
    self.assertEqual(source.keypoint_names, ("0", "1", "2"))
    self.assertEqual(source[0]["keypoints"].shape, (1, 3, 3))

  def test_an_example_is_the_callers(self):
    source = self._open()
    source[0]["boxes"][:] = 7
    self.assertEqual(source[0]["boxes"].tolist(), [[1, 2, 9, 11]])

  def test_a_source_travels_to_a_worker(self):
    source = self._open()
    other = pickle.loads(pickle.dumps(source))
    self.assertEqual(other.category_ids, source.category_ids)
    np.testing.assert_array_equal(other[1]["masks"], source[1]["masks"])


class DegenerateTest(_Case):
  @parameterized.parameters(
    ([3, 4, 0, 5],),
    ([3, 4, 5, 0],),
    ([3, 4, -2, 5],),
    ([3, 4, float("nan"), 5],),
    ([float("inf"), 4, 5, 5],),
    ([60, 4, 5, 5],),
    ([3, 40, 5, 5],),
    ([-8, 4, 8, 5],),
    ([3, -9, 8, 5],),
  )
  def test_boxes_without_pixels_are_counted(self, box):
    content = _content()
    content["annotations"][0]["bbox"] = box
    source = self._open(content)
    self.assertEqual(source.dropped, {"boxes": 1, "polygons": 0})
    self.assertEqual(source[1]["labels"].tolist(), [0])
    for name in ("boxes", "masks", "polygons", "keypoints", "area"):
      self.assertLen(source[1][name], 1)

  def test_boxes_across_the_border_stay(self):
    content = _content()
    content["annotations"][0]["bbox"] = [-3, -4, 5, 90]
    source = self._open(content)
    self.assertEqual(source.dropped["boxes"], 0)
    self.assertEqual(source[1]["boxes"][0].tolist(), [-3, -4, 2, 86])

  def test_polygons_that_are_none_are_counted(self):
    content = _content()
    good = content["annotations"][0]["segmentation"][0]
    content["annotations"][0]["segmentation"] = [
      [1, 2, 3, 4],
      good,
      [1, 2, 3, 4, 5, 6, 7],
      [],
      ["a"],
    ]
    source = self._open(content)
    self.assertEqual(source.dropped, {"boxes": 0, "polygons": 4})
    self.assertEqual([len(rings) for rings in source[1]["polygons"]], [1, 0])
    # Without any polygon left, the object stays, with an empty mask.
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    source = self._open(content)
    self.assertEqual(source[1]["masks"].sum((1, 2)).tolist(), [0, 65])


class DamageTest(_Case):
  def _change(self, path, value):
    content = _content()
    *steps, last = path
    part = content
    for step in steps:
      part = part[step]
    if value is None:
      del part[last]
    else:
      part[last] = value
    return content

  @parameterized.parameters(
    (("annotations", 1, "image_id"), 77, r"annotations\[1\], got 77; remove"),
    (("annotations", 1, "category_id"), 7, r"\[1\], got 7; add the category"),
    (("annotations", 2, "bbox"), [1, 2, 3], "`bbox` of four numbers in"),
    (("annotations", 2, "bbox"), None, "`bbox` of four numbers in"),
    (("annotations", 2, "bbox"), [1, 2, 3, "x"], "`bbox` of four numbers in"),
    (("annotations", 2, "keypoints"), [1, 2, 2], "`keypoints` of 9 finite"),
    (("annotations", 2, "keypoints"), [5] * 9, "visibilities 0, 1 or 2 in"),
    (("annotations", 0, "segmentation"), "x", "polygons or run lengths in"),
    (("images", 0, "height"), None, r"in images\[0\], got .*; add them"),
    (("images", 0, "id"), 2, r"an `id` of its own in images\[1\], got 2"),
    (("categories", 0, "id"), 1, r"of its own in categories\[1\], got 1"),
    (("categories", 0, "name"), None, r"`id` and `name` in categories\[0\]"),
    (
      ("categories", 0, "keypoints"),
      ["cap"],
      r"the 1 keypoints of the others in categories\[1\]",
    ),
    (("images",), None, "must hold lists `images`, `annotations` and"),
    (("annotations",), {}, "must hold lists `images`, `annotations` and"),
  )
  def test_files_that_contradict_themselves(self, path, value, text):
    with self.assertRaisesRegex(
      data.DataError, f"open_coco: `annotation_file` .*{text}"
    ):
      self._open(self._change(path, value))

  def test_files_that_are_none(self):
    for content, text in (
      ("{", "must be a JSON file, got '.*' \\(Expecting"),
      ("[1]", "results of a detector are no annotations"),
    ):
      self.file.write_text(content)
      with self.assertRaisesRegex(data.DataError, text):
        data.open_coco(self.folder, self.file)
    with self.assertRaisesRegex(data.DataError, "No such file"):
      data.open_coco(self.folder, self.folder / "none.json")
    with self.assertRaisesRegex(data.DataError, "`image_folder` must be a fol"):
      data.open_coco(self.folder / "none", self.file)

  def test_pictures_that_cannot_be_read_are_named(self):
    source = self._open()
    picture = self.folder / "b.png"
    whole = picture.read_bytes()
    for content, text in (
      (whole[: len(whole) // 2], "truncated or damaged"),
      (b"", "empty"),
      ((self.folder / "empty.png").read_bytes(), "has 9 x 8 pixels .* 60 x 40"),
      (None, "No such file"),
    ):
      if content is None:
        picture.unlink()
      else:
        picture.write_bytes(content)
      with self.assertRaisesRegex(
        data.DataError, f"example 1 of instances_x .*b.png.*{text}"
      ):
        source[1]
      self.assertEqual(source[0]["index"], 0)

  @parameterized.parameters(
    ({"size": [40, 60], "counts": [3, 5]}, "runs that fill 40 x 60 pixels"),
    ({"size": [20, 30], "counts": [600]}, "a mask of 20 x 30 pixels on a"),
    ({"size": [40, 60], "counts": "zz"}, "a character that the code"),
    ({"counts": [2400]}, "must hold `size` and `counts`"),
    ([[1e9, 0, 5, 5, 0, 5]], "within 100,000 pixels"),
  )
  def test_masks_that_cannot_be_decoded_are_named(self, code, text):
    source = self._open(self._change(("annotations", 1, "segmentation"), code))
    with self.assertRaisesRegex(
      data.DataError, f"example 1 of instances_x .*object 1 of .*{text}"
    ):
      source[1]
    self.assertEqual(source[0]["masks"].sum(), 20)


@unittest.skipUnless(_SAMPLE, "VISION_JAX_COCO_SAMPLE names no folder")
class SampleTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.file = pathlib.Path(_SAMPLE, "annotations.json")
    self.source = data.open_coco(_SAMPLE, self.file)
    with contextlib.redirect_stdout(io.StringIO()):
      self.reference = coco_api.COCO(str(self.file))

  def test_every_number(self):
    count = 0
    for example, key in zip(self.source, self.source.image_ids, strict=True):
      entries = self.reference.loadAnns(self.reference.getAnnIds(key))
      self.assertLen(example["boxes"], len(entries))
      for row, entry in enumerate(entries):
        expected = self.reference.annToMask(entry)
        np.testing.assert_array_equal(example["masks"][row], expected)
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose(
          example["boxes"][row], [x, y, x + width, y + height], rtol=1e-6
        )
        points = np.reshape(entry["keypoints"], (17, 3))
        np.testing.assert_array_equal(example["keypoints"][row], points)
        self.assertAlmostEqual(example["area"][row], entry["area"], places=2)
        count += 1
    self.assertEqual(count, 14)
    self.assertEqual(self.source.dropped, {"boxes": 0, "polygons": 0})

  def test_masks_and_areas_agree(self):
    # The files' areas are those of the polygons, not of pixels.
    for example in self.source:
      pixels = example["masks"].sum((1, 2))
      np.testing.assert_allclose(pixels, example["area"], rtol=0.06)

  @parameterized.parameters("rle", "polygons")
  def test_there_and_back(self, segmentation):
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder, "a.json")
      data.write_coco(
        self.source, file, image_folder=folder, segmentation=segmentation
      )
      other = data.open_coco(folder, file)
      self.assertEqual(other.image_ids, self.source.image_ids)
      self.assertEqual(other.skeleton, self.source.skeleton)
      for ours, theirs in zip(self.source, other, strict=True):
        for name in set(ours) - {"polygons"}:
          np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


if __name__ == "__main__":
  absltest.main()
