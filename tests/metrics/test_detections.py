"""Average precision against cases computed by hand, and against files."""

import json
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data, metrics
from vision_jax.ops import Detections


def _truth(boxes, labels, **more):
  return {
    "boxes": np.array(boxes, np.float32).reshape(-1, 4),
    "labels": np.array(labels, np.int32),
    **{name: np.array(value) for name, value in more.items()},
  }


def _found(boxes, labels, scores, **more):
  return {
    **_truth(boxes, labels, **more),
    "scores": np.array(scores, np.float32),
  }


A, B, C = [0, 0, 40, 40], [50, 50, 90, 90], [100, 0, 140, 40]
FAR = [200, 200, 240, 240]


class CocoTest(parameterized.TestCase):
  def _scores(self, truths, found, num_classes=1, **settings):
    return metrics.coco_average_precision(
      truths, found, num_classes=num_classes, **settings
    )

  def test_a_curve_by_hand(self):
    # Right, wrong, right; 2 of 3 objects: precision 1 up to recall 1/3, then
    # 2/3 up to 2/3, of 101 recalls.
    scores = self._scores(
      [_truth([A, B, C], [0, 0, 0])],
      [_found([A, FAR, B], [0, 0, 0], [0.9, 0.8, 0.7])],
    )
    expected = (34 * 1 + 33 * 2 / 3) / 101
    for name in ("AP", "AP50", "AP75"):
      np.testing.assert_allclose(scores.summary[name], expected, atol=1e-12)
    np.testing.assert_allclose(scores.per_class, [expected])
    np.testing.assert_allclose(scores.summary["AR1"], 1 / 3)
    np.testing.assert_allclose(scores.summary["AR10"], 2 / 3)
    # All are of 40 x 40 pixels: medium.
    np.testing.assert_allclose(scores.summary["AP_medium"], expected)
    self.assertTrue(np.isnan(scores.summary["AP_small"]))
    self.assertLen(scores.summary, 12)

  def test_thresholds_by_hand(self):
    # IoU 36 / 44 = 0.818: right at 0.5, ..., 0.8, 7 of 10 thresholds.
    shifted = [4, 0, 44, 40]
    scores = self._scores([_truth([A], [0])], [_found([shifted], [0], [0.5])])
    np.testing.assert_allclose(scores.summary["AP"], 0.7)
    self.assertAlmostEqual(scores.summary["AP75"], 1)

  def test_area_and_crowd_of_the_truth_count(self):
    truth = _truth([A, B], [0, 0], area=[900.0, 9300.0], crowd=[False, True])
    # The two in the crowd are ignored, also the second.
    inside = [60, 60, 80, 80], [65, 65, 75, 75]
    found = _found([*inside, A], [0, 0, 0], [0.9, 0.8, 0.7])
    scores = self._scores([truth], [found])
    self.assertAlmostEqual(scores.summary["AP"], 1)
    self.assertAlmostEqual(scores.summary["AP_small"], 1)
    self.assertTrue(np.isnan(scores.summary["AP_medium"]))

  def test_classes_and_pictures_are_kept_apart(self):
    truths = [_truth([A], [0]), _truth([B], [2])]
    found = [
      _found([A, B], [0, 2], [0.5, 0.9]),  # B is in the other picture
      _found([B], [2], [0.3]),
    ]
    scores = self._scores(truths, found, num_classes=3)
    np.testing.assert_allclose(scores.per_class, [1, np.nan, 0.5])
    np.testing.assert_allclose(scores.summary["AP"], 0.75)

  def test_masks(self):
    whole, half = np.zeros((2, 1, 60, 80), np.uint8)
    whole[0, :40, :40] = 1
    half[0, :30, :40] = 1  # IoU 0.75, in a box like that of the truth
    truth = _truth([A], [0], masks=whole)
    for masks in (half.astype(bool), half * 0.9 + 0.05):
      found = _found([A], [0], [0.5], masks=masks)
      scores = self._scores([truth], [found], kind="masks")
      np.testing.assert_allclose(scores.summary["AP"], 0.6)
      boxes = self._scores([truth], [found])
      self.assertAlmostEqual(boxes.summary["AP"], 1)

  def test_boundaries(self):
    """Rings of 3 pixels (2 % of the diagonal), one moved by 2 pixels."""
    masks, rings = np.zeros((2, 2, 100, 100), bool)
    for k, left in enumerate((20, 22)):
      masks[k, 30:70, left : left + 40] = True
      rings[k] = masks[k]
      rings[k, 33:67, left + 3 : left + 37] = False
    shared = [np.sum(m[0] & m[1]) / np.sum(m[0] | m[1]) for m in (masks, rings)]
    self.assertGreater(shared[0], 0.9)
    self.assertLess(shared[1], 0.7)
    boxes = [20, 30, 60, 70], [22, 30, 62, 70]
    truth = _truth([boxes[0]], [0], masks=masks[:1])
    found = _found([boxes[1]], [0], [0.9], masks=masks[1:])
    for kind, overlap in zip(("masks", "boundaries"), shared, strict=True):
      scores = self._scores([truth], [found], kind=kind)
      expected = np.mean(np.arange(0.5, 0.96, 0.05) <= overlap)
      np.testing.assert_allclose(scores.summary["AP"], expected, atol=1e-9)
    # Against a crowd the overlap is that of the masks.
    crowd = _truth([boxes[0]] * 2, [0, 0], masks=masks[[0, 0]], crowd=[0, 1])
    twice = _found([boxes[0], boxes[1]], [0, 0], [0.9, 0.8], masks=masks)
    scores = self._scores([crowd], [twice], kind="boundaries")
    np.testing.assert_allclose(scores.summary["AP"], 1)

  def test_keypoints(self):
    points = np.array([[[10.0, 10, 2], [30, 20, 1], [0, 0, 0]]])
    truth = _truth([A], [0], keypoints=points, area=[1600.0])
    moved = points + np.array([3.0, 4.0, 0.0])
    found = _found([A], [0], [0.5], keypoints=moved)
    # OKS: exp(-d^2 / (2 area (2 sigma)^2)) = exp(-25 / (3200 * 0.04)).
    similarity = np.exp(-25 / (3200 * 0.04))
    expected = (np.linspace(0.5, 0.95, 10) <= similarity).mean()
    scores = self._scores(
      [truth], [found], kind="keypoints", sigmas=(0.1, 0.1, 0.1)
    )
    self.assertBetween(expected, 0.6, 0.8)
    np.testing.assert_allclose(scores.summary["AP"], expected)
    self.assertLen(scores.summary, 10)

  def test_nothing_found_and_nothing_there(self):
    empty = _found([], [], [])
    scores = self._scores([_truth([A], [0])], [empty])
    self.assertEqual(scores.summary["AP"], 0)
    scores = self._scores([_truth([], [])], [_found([A], [0], [0.5])])
    self.assertTrue(np.isnan(scores.summary["AP"]))
    self.assertTrue(np.isnan(scores.per_class).all())

  def test_files_give_the_same(self):
    rng = np.random.default_rng(0)
    truths, found, detections = [], [], []
    for _ in range(12):
      corner = rng.uniform(0, 80, (6, 2))
      boxes = np.concatenate([corner, corner + rng.uniform(8, 40, (6, 2))], 1)
      labels = rng.integers(0, 3, 6)
      truths.append(_truth(boxes, labels))
      moved = boxes + rng.normal(0, 3, boxes.shape)
      scores = rng.choice([0.25, 0.5, 0.75], 6)  # ties
      found.append(_found(moved, labels, scores))
      detections.append(
        Detections(
          np.pad(found[-1]["boxes"], ((0, 2), (0, 0))),
          np.pad(found[-1]["scores"], (0, 2)),
          np.pad(labels, (0, 2)),
          np.arange(8) < 6,
        )
      )
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    data.write_coco(
      [{**t, "image": np.zeros((120, 120, 3), np.uint8)} for t in truths],
      folder / "truth.json",
      class_names=["a", "b", "c"],
      category_ids=[3, 5, 9],
      image_ids=range(10, 22),
    )
    data.write_coco_detections(
      detections,
      folder / "found.json",
      image_ids=range(10, 22),
      category_ids=[3, 5, 9],
    )
    ours = self._scores(truths, found, num_classes=3)
    files = metrics.coco_file_average_precision(
      folder / "truth.json", folder / "found.json"
    )
    self.assertBetween(ours.summary["AP"], 0.2, 0.8)
    for name, value in ours.summary.items():
      np.testing.assert_allclose(files.summary[name], value, atol=1e-12)
    np.testing.assert_allclose(files.per_class, ours.per_class, atol=1e-12)
    (folder / "found.json").write_text(json.dumps([]))
    files = metrics.coco_file_average_precision(
      folder / "truth.json", folder / "found.json"
    )
    self.assertEqual(files.summary["AP"], 0)

  @parameterized.parameters(
    ({"kind": "box"}, [{}], "`kind` must be one of boxes, masks"),
    ({}, [], "`found` must have one entry for each of the 1 truths, got 0"),
    ({}, [{"boxes": [], "labels": []}], "got picture 0 without scores"),
    ({}, [{"boxes": [A], "labels": [0], "scores": []}], "one row for each"),
    (
      {},
      [_found([A], [1], [0.5])],
      r"labels of `found` must be in 0..0, got 1",
    ),
    ({}, [_found([A], [0], [np.nan])], "`scores` must be finite"),
    ({"kind": "masks"}, [_found([A], [0], [0.5])], "without masks"),
  )
  def test_bad_input(self, settings, found, message):
    with self.assertRaisesRegex(ValueError, message):
      self._scores([_truth([A], [0])], found, **settings)


class VocTest(parameterized.TestCase):
  @parameterized.parameters(
    # recall, precision, 11 points, all points; by hand
    ([], [], 0, 0),
    ([1.0], [1.0], 1, 1),
    ([0.25, 0.25, 0.5], [1.0, 0.5, 2 / 3], (3 + 3 * 2 / 3) / 11, 5 / 12),
    ([0.5, 1.0, 1.0], [0.5, 1.0, 2 / 3], 1, 1),
  )
  def test_curves(self, recall, precision, points, area):
    curve = np.array(recall), np.array(precision)
    for method, expected in (("11_points", points), ("all_points", area)):
      found = metrics.precision_average(*curve, method=method)
      np.testing.assert_allclose(found, expected, atol=1e-12)

  def test_a_scene_by_hand(self):
    truths = [
      _truth([A, B, C], [0, 0, 0], difficult=[False, True, False]),
      _truth([A, A], [1, 0], difficult=[False, False]),
    ]
    found = [
      # Right; difficult, ignored; a second one of A, wrong.
      _found([A, B, [1, 0, 40, 40]], [0, 0, 0], [0.9, 0.8, 0.7]),
      # Right, and one of class 1 on too little: IoU exactly 0.5.
      _found([A, [0, 0, 40, 20]], [0, 1], [0.6, 0.9]),
    ]
    # Class 0: 3 objects; 1/1, 1/2 (wrong), 2/3.
    scores = metrics.voc_average_precision(truths, found, num_classes=3)
    np.testing.assert_allclose(
      scores.per_class, [1 / 3 + 1 / 3 * 2 / 3, 0, np.nan]
    )
    np.testing.assert_allclose(scores.mean, 5 / 18)
    scores = metrics.voc_average_precision(
      truths, found, num_classes=3, method="11_points"
    )
    np.testing.assert_allclose(scores.per_class[0], (4 + 3 * 2 / 3) / 11)

  def test_the_best_object_decides_even_if_it_is_taken(self):
    # As in VOC: the second detection overlaps the taken object most.
    truths = [_truth([A, [0, 12, 40, 52]], [0, 0])]
    found = [_found([A, [0, 5, 40, 45]], [0, 0], [0.9, 0.8])]
    scores = metrics.voc_average_precision(truths, found, num_classes=1)
    np.testing.assert_allclose(scores.mean, 0.5)

  def test_pixels_of_voc_in_the_continuous_frame(self):
    # Pixels 1..10 and 3..12, both ends inside: 8 of 12 columns, + 1 and all.
    def continuous(x1, x2):
      return [x1 - 1, 0, x2, 10]

    for threshold, expected in ((8 / 12 - 1e-6, 1), (8 / 12 + 1e-6, 0)):
      scores = metrics.voc_average_precision(
        [_truth([continuous(1, 10)], [0])],
        [_found([continuous(3, 12)], [0], [1.0])],
        num_classes=1,
        iou_threshold=threshold,
      )
      self.assertEqual(scores.mean, expected)

  def test_nothing(self):
    nothing = [_truth([], [])], [_found([], [], [])]
    scores = metrics.voc_average_precision(*nothing, num_classes=2)
    self.assertTrue(np.isnan(scores.mean))

  def test_unknown_method(self):
    with self.assertRaisesRegex(ValueError, "`method` must be one of"):
      metrics.voc_average_precision([], [], num_classes=1, method="07")


if __name__ == "__main__":
  absltest.main()
