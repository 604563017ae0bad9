"""COCO files that we write, read by us and by pycocotools."""

import contextlib
import io
import json
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized
from pycocotools import coco as coco_api
from pycocotools import cocoeval

from vision_jax import data
from vision_jax.ops import structures


class _Examples(list):
  """A source in memory."""

  class_names = data.SHAPE_NAMES


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    self.file = self.folder / "new" / "annotations.json"

  def _reference(self):
    with contextlib.redirect_stdout(io.StringIO()):
      return coco_api.COCO(str(self.file))


class WriteCocoTest(_Case):
  @parameterized.parameters("rle", "polygons")
  def test_shapes_come_back_bit_by_bit(self, segmentation):
    examples = _Examples(data.shapes(0, i, size=64) for i in range(4))
    data.write_coco(
      examples,
      self.file,
      image_folder=self.folder / "images",
      segmentation=segmentation,
    )
    source = data.open_coco(self.folder / "images", self.file)
    self.assertEqual(source.class_names, data.SHAPE_NAMES)
    self.assertEqual(source.category_ids, tuple(range(1, 13)))
    self.assertEqual(source.image_ids, (0, 1, 2, 3))
    for example, expected in zip(source, examples, strict=True):
      for name in ("image", "boxes", "labels", "masks", "area", "crowd"):
        np.testing.assert_array_equal(
          example[name], expected[name], err_msg=name
        )
        self.assertEqual(example[name].dtype, expected[name].dtype)
      if segmentation == "polygons":
        for rings, others in zip(
          example["polygons"], expected["polygons"], strict=True
        ):
          for ring, other in zip(rings, others, strict=True):
            np.testing.assert_array_equal(ring, other)

  @parameterized.parameters("rle", "polygons")
  def test_pycocotools_reads_the_same(self, segmentation):
    examples = _Examples(data.shapes(0, i, size=64) for i in range(3))
    data.write_coco(examples, self.file, segmentation=segmentation)
    reference = self._reference()
    self.assertEqual(sorted(reference.getImgIds()), [0, 1, 2])
    names = [c["name"] for c in reference.loadCats(reference.getCatIds())]
    self.assertEqual(names, list(data.SHAPE_NAMES))
    for key, example in enumerate(examples):
      entries = reference.loadAnns(reference.getAnnIds(key))
      self.assertLen(entries, len(example["boxes"]))
      for row, entry in enumerate(entries):
        np.testing.assert_array_equal(
          reference.annToMask(entry), example["masks"][row]
        )
        x1, y1, x2, y2 = example["boxes"][row]
        self.assertEqual(entry["bbox"], [x1, y1, x2 - x1, y2 - y1])
        self.assertEqual(entry["category_id"], example["labels"][row] + 1)
        self.assertEqual(entry["area"], example["masks"][row].sum())
    # 0 would be taken for no annotation.
    self.assertEqual(min(reference.getAnnIds()), 1)

  def test_keypoints(self):
    examples = [data.stick_pose_multi(0, i) for i in range(3)]
    data.write_coco(
      examples,
      self.file,
      image_folder=self.folder,
      class_names=["person"],
      keypoint_names=data.STICK_JOINTS,
      skeleton=data.STICK_LIMBS,
    )
    source = data.open_coco(self.folder, self.file)
    self.assertEqual(source.keypoint_names, data.STICK_JOINTS)
    self.assertEqual(source.skeleton, tuple(data.STICK_LIMBS))
    for example, expected in zip(source, examples, strict=True):
      for name in ("keypoints", "boxes", "area"):
        np.testing.assert_array_equal(example[name], expected[name])
    reference = self._reference()
    category = reference.loadCats(1)[0]
    self.assertEqual(category["skeleton"][0], [2, 1])  # counted from 1
    entries = reference.loadAnns(reference.getAnnIds())
    visible = np.concatenate([e["keypoints"][..., 2] > 0 for e in examples])
    self.assertEqual(
      [entry["num_keypoints"] for entry in entries], visible.sum(1).tolist()
    )

  def test_any_float32_corner_comes_back(self):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 600, (200, 2, 2)).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], -1)
    image = np.zeros((600, 640, 3), np.uint8)
    polygons = [[rng.uniform(0, 600, (5, 2)).astype(np.float32)] for _ in boxes]
    example = {"image": image, "boxes": boxes, "polygons": polygons}
    data.write_coco([example], self.file, image_folder=self.folder)
    got = data.open_coco(self.folder, self.file, features=("boxes", "polygons"))
    np.testing.assert_array_equal(got[0]["boxes"], boxes)
    for rings, others in zip(got[0]["polygons"], polygons, strict=True):
      np.testing.assert_array_equal(rings[0], others[0])

  def test_padding_is_left_out(self):
    example = {
      "image": np.zeros((8, 9, 3), np.uint8),
      "boxes": np.array([[1, 1, 3, 4], [0, 0, 0, 0], [2, 2, 8, 8]], np.float32),
      "labels": np.array([1, 0, 0]),
      "valid": np.array([True, False, True]),
    }
    data.write_coco([example], self.file, class_names=["a", "b"])
    entries = json.loads(self.file.read_text())["annotations"]
    self.assertEqual([entry["category_id"] for entry in entries], [2, 1])
    self.assertEqual([entry["area"] for entry in entries], [6, 36])

  def test_crowds_are_run_lengths_always(self):
    masks = np.zeros((2, 8, 9), np.uint8)
    masks[:, 2:5, 3:7] = 1
    example = {
      "image": np.zeros((8, 9, 3), np.uint8),
      "boxes": np.array([[3, 2, 7, 5]] * 2, np.float32),
      "masks": masks,
      "crowd": np.array([True, False]),
    }
    data.write_coco([example], self.file, segmentation="polygons")
    first, second = json.loads(self.file.read_text())["annotations"]
    self.assertEqual(first["iscrowd"], 1)
    self.assertEqual(first["segmentation"], data.mask_to_rle(masks[0]))
    self.assertEqual(second["iscrowd"], 0)
    self.assertLen(second["segmentation"][0], 8)

  def test_ids_of_a_coco_file_are_kept(self):
    example = {
      "image": np.zeros((8, 9, 3), np.uint8),
      "boxes": np.array([[3, 2, 7, 5]], np.float32),
      "labels": np.array([1]),
    }
    data.write_coco(
      [example, example],
      self.file,
      image_folder=self.folder,
      class_names=["person", "bottle"],
      category_ids=[1, 44],
      image_ids=[785, 40083],
    )
    source = data.open_coco(self.folder, self.file)
    other = self.folder / "again.json"
    data.write_coco(source, other)
    self.assertEqual(other.read_text(), self.file.read_text())
    self.assertTrue((self.folder / "000000040083.png").is_file())

  def test_a_set_without_objects(self):
    data.write_coco([], self.file)
    self.assertEqual(self._reference().getImgIds(), [])
    empty = {
      "image": np.zeros((8, 9, 3), np.uint8),
      "boxes": np.zeros((0, 4), np.float32),
      "labels": np.zeros(0, np.int32),
      "masks": np.zeros((0, 8, 9), np.uint8),
    }
    data.write_coco([empty], self.file)
    self.assertEqual(self._reference().getImgIds(), [0])

  @parameterized.parameters(
    ({"segmentation": "png"}, {}, "one of rle polygons, got 'png'"),
    ({}, {"image": None}, "`image` and `boxes`, got example 0 without image"),
    ({}, {"labels": None}, "must have `labels` where there are 2 classes"),
    ({}, {"labels": np.array([2])}, r"in 0..1, got \[2\] in example 0; give"),
    ({}, {"labels": np.array([-1])}, r"in 0..1, got \[-1\] in example 0"),
    (
      {},
      {"image": np.zeros((4, 8, 9, 3), np.uint8)},
      r"`image` must be \[H, W, 3\], got shape \(4, 8, 9, 3\) in example 0",
    ),
  )
  def test_what_cannot_be_written(self, settings, change, text):
    example = {
      "image": np.zeros((8, 9, 3), np.uint8),
      "boxes": np.array([[3, 2, 7, 5]], np.float32),
      "labels": np.array([0]),
      **change,
    }
    example = {k: v for k, v in example.items() if v is not None}
    with self.assertRaisesRegex(ValueError, f"write_coco: .*{text}"):
      data.write_coco([example], self.file, class_names=["a", "b"], **settings)
    self.assertFalse(self.file.exists())


class WriteDetectionsTest(_Case):
  def _evaluate(self, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
      reference = coco_api.COCO(str(self.file))
      found = reference.loadRes(str(results))
      evaluation = cocoeval.COCOeval(reference, found, kind)
      evaluation.evaluate()
      evaluation.accumulate()
      evaluation.summarize()
    return evaluation.stats[0]

  def test_the_truth_scores_one_and_less_scores_less(self):
    examples = _Examples(data.shapes(0, i, size=64) for i in range(4))
    data.write_coco(examples, self.file)
    results = self.folder / "results.json"
    for shift, low, high in ((0.0, 0.999, 1.001), (3.0, 0.0, 0.8)):
      detections = [
        structures.Detections(
          np.concatenate([e["boxes"] + shift, np.ones((2, 4))]),
          np.linspace(0.9, 0.5, len(e["boxes"]) + 2, dtype=np.float32),
          np.concatenate([e["labels"], [0, 0]]),
          np.arange(len(e["boxes"]) + 2) < len(e["boxes"]),
          np.concatenate(
            [np.roll(e["masks"], int(shift), 2), np.zeros((2, 64, 64))]
          ),
        )
        for e in examples
      ]
      data.write_coco_detections(
        detections,
        results,
        image_ids=range(4),
        category_ids=range(1, 13),
      )
      for kind in ("bbox", "segm"):
        score = self._evaluate(results, kind)
        self.assertBetween(score, low, high, (shift, kind))

  def test_keypoints_and_types(self):
    found = structures.Detections(
      np.array([[1, 2, 4, 8]], np.float32),
      np.array([0.25], np.float32),
      np.array([0]),
      np.array([True]),
      keypoints=np.array([[[1.5, 2.25, 0.5], [3, 4, 1]]], np.float32),
    )
    file = self.folder / "results.json"
    data.write_coco_detections([found], file, image_ids=[7], category_ids=[1])
    self.assertEqual(
      json.loads(file.read_text()),
      [
        {
          "image_id": 7,
          "category_id": 1,
          "bbox": [1.0, 2.0, 3.0, 6.0],
          "score": 0.25,
          "keypoints": [1.5, 2.25, 0.5, 3.0, 4.0, 1.0],
        }
      ],
    )

  def test_a_picture_without_an_id(self):
    with self.assertRaises(ValueError):
      data.write_coco_detections(
        [], self.folder / "r.json", image_ids=[7], category_ids=[1]
      )


if __name__ == "__main__":
  absltest.main()
