"""Tests of the generated shapes, of their truth and of trivial baselines."""

import collections
import contextlib
import functools
import hashlib
import io
import time

import cv2
import numpy as np
from absl.testing import absltest, parameterized
from pycocotools import coco, cocoeval
from pycocotools import mask as coco_mask

from vision_jax import data
from vision_jax.data.generated import generated_shapes, streams


@functools.lru_cache(maxsize=2)
def _crops(seed, count):
  """Crops of boxes [N, 24, 24, 3], their classes, and (boxes, classes)."""
  crops, labels, objects = [], [], []
  for index in range(count):
    example = data.shapes(seed, index)
    objects.append((example["boxes"], example["labels"]))
    for box, label in zip(*objects[-1], strict=True):
      x1, y1, x2, y2 = box.astype(int)
      crop = example["image"][y1:y2, x1:x2]
      crops.append(cv2.resize(crop, (24, 24), interpolation=cv2.INTER_AREA))
      labels.append(label)
  return np.stack(crops), np.array(labels), objects


def nearest(describe, *, learnt=400, asked=100):
  """Accuracy of the nearest neighbour, by numbers of pictures."""
  crops0, labels0, _ = _crops(0, learnt)
  crops1, labels1, _ = _crops(1, asked)
  a = np.stack([describe(crop) for crop in crops0]).reshape(len(crops0), -1)
  b = np.stack([describe(crop) for crop in crops1]).reshape(len(crops1), -1)
  a, b = a.astype(np.float32), b.astype(np.float32)
  distance = (a * a).sum(1) - 2 * b @ a.T
  return np.mean(labels0[distance.argmin(1)] == labels1)


def colours(crop):
  """Histograms of the three channels [3, 16]."""
  return np.stack(
    [np.histogram(crop[..., c], 16, (0, 256))[0] for c in range(3)]
  )


def _coco_file(objects):
  """Ground truth of pictures as pycocotools holds it."""
  annotations = []
  for image_id, (boxes, labels) in enumerate(objects):
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels, strict=True):
      annotations.append(
        {
          "id": len(annotations) + 1,
          "image_id": image_id,
          "category_id": int(label),
          "bbox": [x1, y1, x2 - x1, y2 - y1],
          "area": (x2 - x1) * (y2 - y1),
          "iscrowd": 0,
        }
      )
  truth = coco.COCO()
  truth.dataset = {
    "images": [{"id": i} for i in range(len(objects))],
    "annotations": annotations,
    "categories": [{"id": i} for i in range(12)],
  }
  truth.createIndex()
  return truth


def _ap50(objects, found):
  """AP at IoU 0.5 by pycocotools; `found` are its result dictionaries."""
  with contextlib.redirect_stdout(io.StringIO()):
    truth = _coco_file(objects)
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(found), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
  return evaluation.stats[1]


class TruthTest(parameterized.TestCase):
  @parameterized.parameters(32, 64, 100, 128, 256)
  def test_every_form_of_the_truth_agrees(self, size):
    for index in range(12):
      example = data.shapes(3, index, size=size)
      image, masks = example["image"], example["masks"]
      count = len(example["labels"])
      self.assertEqual(image.shape, (size, size, 3))
      self.assertEqual(image.dtype, np.uint8)
      self.assertBetween(count, 1, 8)
      self.assertEqual(masks.shape, (count, size, size))
      self.assertEqual(masks.dtype, np.uint8)
      self.assertLessEqual(masks.sum(0).max(), 1)
      semantic = np.zeros((size, size), np.uint8)
      for mask, label, box, area, polygons in zip(
        masks,
        example["labels"],
        example["boxes"],
        example["area"],
        example["polygons"],
        strict=True,
      ):
        rows, columns = np.nonzero(mask)
        self.assertEqual(area, rows.size)
        self.assertGreaterEqual(area, 4)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(box, tight)
        semantic[mask > 0] = label + 1
        flat = [polygon.ravel().tolist() for polygon in polygons]
        parts = coco_mask.frPyObjects(flat, size, size)
        filled = coco_mask.decode(coco_mask.merge(parts))
        np.testing.assert_array_equal(filled, mask)
      np.testing.assert_array_equal(example["semantic"], semantic)
      self.assertEqual(example["crowd"].tolist(), [False] * count)
      kinds = {
        "boxes": np.float32,
        "labels": np.int32,
        "area": np.float32,
        "semantic": np.uint8,
        "crowd": bool,
      }
      for name, kind in kinds.items():
        self.assertEqual(example[name].dtype, kind, name)

  def test_polygons_filled_by_opencv(self):
    """Another rasteriser, on a grid eight times as fine: IoU over 0.95."""
    checked = 0
    for index in range(40):
      example = data.shapes(4, index)
      for mask, box, polygons in zip(
        example["masks"], example["boxes"], example["polygons"], strict=True
      ):
        if (box[2:] - box[:2]).max() < 16:
          continue
        fine = np.zeros((1024, 1024), np.uint8)
        fixed = [np.rint(p * 8 - 0.5).astype(np.int32) for p in polygons]
        cv2.fillPoly(fine, fixed, 255)
        filled = cv2.resize(fine, (128, 128), interpolation=cv2.INTER_AREA)
        filled = filled >= 128
        union = np.count_nonzero(filled | (mask > 0))
        overlap = np.count_nonzero(filled & (mask > 0)) / union
        self.assertGreater(overlap, 0.95)
        checked += 1
    self.assertGreater(checked, 80)

  def test_two_fifths_of_every_object_are_visible(self):
    """Painted again here from back to front, beyond the picture too."""
    hidden = []
    for index in range(60):
      rng = streams.random_stream(streams.Domain.SHAPES, 5, index)
      labels = np.arange(8) % 12
      pieces, owner = generated_shapes._place(rng, labels, 128)
      again = np.full((128, 128), -1)
      for number, piece in enumerate(pieces):
        again[piece.window][piece.coverage >= 128] = number
      np.testing.assert_array_equal(again, owner)
      for number, piece in enumerate(pieces):
        visible = np.count_nonzero(again == number) / piece.total
        self.assertGreaterEqual(visible, 0.4)
        hidden.append(1 - visible)
    self.assertGreater(np.quantile(hidden, 0.95), 0.4)  # it does happen
    self.assertLess(np.median(hidden), 0.15)

  def test_total_counts_what_lies_outside(self):
    """A silhouette across the border has the pixels it has inside."""
    whole = []
    for size in (128, 512):
      for seed in range(20):
        rng = np.random.default_rng(seed)
        piece = generated_shapes._draw_piece(rng, 0, size)
        whole.append(piece.total / (np.pi / 4 * piece.diameter**2))
    # Disks, stretched by 0.8 to 1.
    self.assertGreater(min(whole), 0.7)
    self.assertLess(max(whole), 1.2)

  def test_scales(self):
    _, _, objects = _crops(0, 400)
    longest = [(b[:, 2:] - b[:, :2]).max(1) for b, _ in objects]
    longest = np.concatenate(longest) / 128
    self.assertLess(longest.max(), 0.72)
    self.assertGreater(np.mean(longest > 0.5), 0.03)
    self.assertGreater(np.mean(longest < 0.12), 0.1)


class DrawTest(parameterized.TestCase):
  def test_address_fixes_the_example(self):
    one, two = data.shapes(6, 4, size=96), data.shapes(6, 4, size=96)
    for name, value in one.items():
      if name != "polygons":
        np.testing.assert_array_equal(value, two[name])
    for other in ((6, 5), (7, 4)):
      image = data.shapes(*other, size=96)["image"]
      self.assertGreater(np.abs(image.astype(float) - one["image"]).mean(), 15)

  def test_lengths_scale_with_the_side(self):
    """The same scene at other sides, but for the rounding of pixels."""
    same = 0
    for index in range(20):
      small = data.shapes(8, index, size=128)
      large = data.shapes(8, index, size=512)
      if small["labels"].tolist() == large["labels"].tolist():
        error = np.abs(4 * small["boxes"] - large["boxes"]).max()
        same += error < 12
    self.assertGreaterEqual(same, 15)

  def test_classes_are_drawn_first_and_all_are_placed(self):
    """The classes of an example are those of its own stream, in order."""
    for index in range(100):
      rng = streams.random_stream(streams.Domain.SHAPE_LABELS, 0, index)
      labels = rng.integers(12, size=int(rng.integers(1, 9)))
      example = _crops(0, 400)[2][index]
      np.testing.assert_array_equal(example[1], labels)

  def test_classes_and_counts_are_equally_likely(self):
    _, labels, objects = _crops(0, 400)
    counts = np.bincount(labels, minlength=12)
    expected = len(labels) / 12
    self.assertLess(((counts - expected) ** 2 / expected).sum(), 31.3)  # 0.1 %
    counts = np.bincount([len(boxes) for boxes, _ in objects], minlength=9)
    self.assertEqual(counts[0], 0)
    self.assertLess(((counts[1:] - 50) ** 2 / 50).sum(), 24.3)

  def test_background_does_not_depend_on_the_classes(self):
    """Other classes under the same address change nothing behind them."""
    kept = generated_shapes._photometric
    pictures, taken = [], np.zeros((128, 128), bool)
    real = streams.random_stream
    try:
      generated_shapes._photometric = lambda rng, canvas: canvas
      for shift in range(3):

        def shifted(domain, seed, index, *, item=0, shift=shift):
          if domain == streams.Domain.SHAPE_LABELS:
            index += 1000 * shift
          return real(domain, seed, index, item=item)

        streams.random_stream = shifted
        example = data.shapes(0, 9)
        pictures.append(example["image"].astype(int))
        around = cv2.dilate(example["masks"].max(0), np.ones((5, 5)))
        taken |= around > 0
    finally:
      generated_shapes._photometric = kept
      streams.random_stream = real
    differs = (np.ptp(np.stack(pictures), axis=0) > 0).any(-1)
    self.assertTrue(differs.any())
    self.assertFalse((differs & ~taken).any())
    self.assertGreater(np.mean(~taken), 0.2)

  def test_noise_has_the_spread_it_says(self):
    flat = np.full((200, 300, 3), 120, np.uint8)
    for seed in range(4):
      rng = np.random.default_rng(seed)
      draws = np.random.default_rng(seed)
      draws.random(3)
      blurred = draws.random() < 0.5
      if blurred:
        draws.random()
      sigma = 255 * 0.04 * draws.random()
      image = generated_shapes._photometric(rng, flat)
      self.assertAlmostEqual(image.std(), np.hypot(sigma, 0.29), delta=0.1)

  def test_objects_stand_out(self):
    """Inside and around an object the mean colours differ, mostly."""
    apart = []
    for index in range(40):
      example = data.shapes(9, index)
      image = example["image"].astype(float)
      for mask in example["masks"]:
        around = cv2.dilate(mask, np.ones((7, 7))) - mask
        inside = image[mask > 0].mean(0)
        apart.append(np.abs(inside - image[around > 0].mean(0)).max())
    self.assertGreater(np.median(apart), 40)
    self.assertGreater(np.mean(np.array(apart) > 10), 0.95)

  def test_speed(self):
    start = time.process_time()
    for index in range(60):
      data.shapes(10, index)
    rate = 60 / (time.process_time() - start)
    self.assertGreater(rate, 50)  # over 200 on an idle core

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`size` must be at least 32"):
      data.shapes(0, 0, size=31)
    with self.assertRaisesRegex(ValueError, "`index` must be"):
      data.shapes(0, -1)
    with self.assertRaisesRegex(ValueError, "`seed` must be"):
      data.shapes(-1, 0)


class FrozenTest(parameterized.TestCase):
  def test_integers(self):
    """Version 1: changing what is drawn needs a new version."""
    self.assertEqual(data.SHAPES_VERSION, 1)
    digest = hashlib.sha256()
    for seed, index, size in _ADDRESSES:
      example = data.shapes(seed, index, size=size)
      digest.update(example["labels"].astype("<i4").tobytes())
      digest.update(np.rint(example["boxes"]).astype("<i4").tobytes())
      digest.update(np.rint(example["area"]).astype("<i4").tobytes())
    self.assertEqual(digest.hexdigest()[:16], _FROZEN_HASH)

  def test_pictures(self):
    """Means of the four quarters of pictures."""
    means = []
    for index in range(6):
      image = data.shapes(1, index)["image"].mean(-1)
      means.append(image.reshape(2, 64, 2, 64).mean((1, 3)).ravel())
    np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)

  def test_names(self):
    self.assertEqual(
      data.SHAPE_NAMES,
      tuple(
        "disk triangle square star cross hourglass bar angle ring frame"
        " crescent blob".split()
      ),
    )


class BaselineTest(parameterized.TestCase):
  """Trivial baselines, as GENERATED.md states them. Chance is 8.3 %."""

  def test_raw_pixels_are_poor(self):
    self.assertLess(nearest(lambda crop: crop), 0.22)

  def test_colour_does_not_give_the_class(self):
    self.assertLess(nearest(colours), 0.13)
    self.assertLess(nearest(lambda crop: crop.mean((0, 1))), 0.13)

  def test_normalised_pixels_show_the_shape(self):
    """With the true box at hand, the class is in the picture."""

    def describe(crop):
      grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
      return (grey - grey.mean()) / (grey.std() + 1e-3)

    accuracy = nearest(describe)
    self.assertGreater(accuracy, 0.35)
    self.assertLess(accuracy, 0.65)

  def test_a_constant_box_finds_nothing(self):
    """The mean box of each class, in every picture."""
    _, labels, learn = _crops(0, 400)
    objects = _crops(1, 100)[2]
    boxes = np.concatenate([boxes for boxes, _ in learn])
    counts = collections.Counter(labels.tolist())
    found = []
    for label in range(12):
      x1, y1, x2, y2 = boxes[labels == label].mean(0).tolist()
      found += [
        {
          "image_id": image_id,
          "category_id": label,
          "bbox": [x1, y1, x2 - x1, y2 - y1],
          "score": counts[label] / len(labels),
        }
        for image_id in range(len(objects))
      ]
    self.assertLess(_ap50(objects, found), 0.01)
    # The same evaluation of the truth itself.
    perfect = [
      {
        "image_id": image_id,
        "category_id": int(label),
        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        "score": 1.0,
      }
      for image_id, (boxes, labels) in enumerate(objects)
      for box, label in zip(boxes.tolist(), labels, strict=True)
    ]
    self.assertGreater(_ap50(objects, perfect), 0.999)


_ADDRESSES = (
  *((0, index, 128) for index in range(20)),
  *((1, index, 128) for index in range(10)),
  *((0, index, size) for size in (64, 256, 512) for index in range(3)),
)
_FROZEN_HASH = "8903593b3862659f"
_FROZEN_MEANS = [
  [152.1, 145.8, 148.0, 138.9],
  [111.4, 39.3, 129.2, 42.6],
  [104.1, 114.2, 101.3, 103.2],
  [169.1, 189.3, 146.5, 155.3],
  [118.6, 101.1, 107.2, 116.5],
  [88.3, 118.5, 89.4, 76.9],
]


if __name__ == "__main__":
  absltest.main()
