"""Tests of the generated instance search: plans, pictures, truth, baselines."""

import functools
import hashlib
import itertools

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data
from vision_jax.data.generated import instance_art, instances


@functools.lru_cache(maxsize=1)
def _drawn():
  """A set of 40 + 40 + 10 pictures, drawn: (records, examples)."""
  records = data.instance_set(
    num_instances=10, sides=(32, 96), num_distractors=40
  )
  return records, [data.draw_instance_image(record) for record in records]


def _random_average_precision(relevant, total):
  """Expected average precision of a random ranking."""
  share = (relevant - 1) / (total - 1)
  harmonic = (1 / np.arange(1, total + 1)).sum()
  return share + (1 - share) * harmonic / total


def _average_precision(ranked):
  """Mean precision at the hits of a ranking (true where relevant)."""
  hits = np.flatnonzero(ranked) + 1
  return np.mean(np.arange(1, len(hits) + 1) / hits)


def histogram(image):
  counts = [np.histogram(image[..., c], 16, (0, 256))[0] for c in range(3)]
  vector = np.concatenate(counts).astype(float)
  return vector / np.linalg.norm(vector)


def pixels(image):
  small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
  vector = small.astype(float).ravel()
  vector -= vector.mean()
  return vector / np.linalg.norm(vector)


def _crop(image, box):
  x1, y1, x2, y2 = box.astype(int)
  return image[y1:y2, x1:x2]


def ranking_scores(describe, *, oracle=False, drawn=None):
  """Mean AP of ranking by description, and that of a random ranking.

  Queries are cropped to their boxes; with `oracle` the database too, and a
  picture has the score of its best box. `drawn` is (records, examples).
  """
  records, examples = drawn or _drawn()
  kinds = [record.kind for record in records]
  database = [e for e, k in zip(examples, kinds, strict=True) if k != "query"]
  queries = [e for e, k in zip(examples, kinds, strict=True) if k == "query"]
  whole = [np.array([0, 0, 256, 256])]
  parts = [
    [
      describe(_crop(e["image"], box))
      for box in (list(e["boxes"]) if oracle and len(e["boxes"]) else whole)
    ]
    for e in database
  ]
  found, chance = [], []
  for query in queries:
    vector = describe(_crop(query["image"], query["boxes"][0]))
    scores = np.array([max(vector @ p for p in part) for part in parts])
    relevant = np.array([query["labels"][0] in e["labels"] for e in database])
    ranked = relevant[np.argsort(-scores, kind="stable")]
    found.append(_average_precision(ranked))
    chance.append(_random_average_precision(relevant.sum(), len(relevant)))
  return np.mean(found), np.mean(chance)


class PlanTest(parameterized.TestCase):
  def test_counts(self):
    records = data.instance_set()
    kinds = [record.kind for record in records]
    self.assertEqual(kinds.count("database"), 560)
    self.assertEqual(kinds.count("distractor"), 1000)
    self.assertEqual(kinds.count("query"), 40)
    self.assertEqual(
      data.instance_set(**data.INSTANCE_PRESETS["full"]), records
    )
    tiny = data.instance_set(**data.INSTANCE_PRESETS["tiny"])
    self.assertLen(tiny, 60 + 8)
    self.assertEqual({record.size for record in tiny}, {160})
    self.assertEqual({r.sides for r in tiny if r.kind == "query"}, {(100,)})

  def test_every_instance_and_side_twice(self):
    records = data.instance_set()
    asked = [(r.instances[0], r.sides[0]) for r in records[:560]]
    for pair in itertools.product(range(40), data.INSTANCE_SIDES):
      self.assertEqual(asked.count(pair), 2)
    queries = records[-40:]
    self.assertEqual([r.instances for r in queries], [(i,) for i in range(40)])
    self.assertEqual({r.sides for r in queries}, {(160,)})
    for record in records[560:1560]:
      self.assertEqual((record.instances, record.sides), ((), ()))

  def test_further_instances_are_no_twins(self):
    more = []
    for record in data.instance_set()[:560]:
      pairs = [instance // 2 for instance in record.instances]
      self.assertLen(set(pairs), len(pairs))
      self.assertLen(record.sides, len(record.instances))
      more.append(len(pairs) - 1)
    share = np.bincount(more, minlength=3) / 560
    np.testing.assert_allclose(share, [0.5, 0.25, 0.25], atol=0.07)

  def test_more_distractors_extend_the_list(self):
    few = data.instance_set(num_distractors=300)
    many = data.instance_set(num_distractors=3000)
    self.assertEqual(few[:860], many[:860])
    self.assertEqual(few[860:], many[3560:])

  @parameterized.parameters(
    ({"num_instances": 7}, "`num_instances` must be even"),
    ({"num_instances": 0}, "`num_instances` must be even"),
    ({"num_distractors": -1}, "`num_distractors` must be at least 0"),
    ({"size": 63}, "`size` must be at least 64"),
    ({"sides": (24, 255)}, "`sides` must be from 8 to `size` - 2 = 254"),
    ({"sides": (4,)}, "`sides` must be .* got 4"),
    ({"query_side": 300}, "`query_side` must be from 8"),
  )
  def test_errors(self, change, message):
    with self.assertRaisesRegex(ValueError, message):
      data.instance_set(**change)

  def test_unknown_kind(self):
    record = data.InstanceRecord("holiday", 0, (), ())
    with self.assertRaisesRegex(ValueError, "one of database distractor query"):
      data.draw_instance_image(record)


class PictureTest(parameterized.TestCase):
  def test_truth(self):
    records, examples = _drawn()
    for record, example in zip(records, examples, strict=True):
      count = len(example["labels"])
      self.assertEqual(example["image"].shape, (256, 256, 3))
      self.assertEqual(example["image"].dtype, np.uint8)
      self.assertEqual(example["boxes"].shape, (count, 4))
      self.assertEqual(example["masks"].shape, (count, 256, 256))
      for name in ("boxes", "visible", "side"):
        self.assertEqual(example[name].dtype, np.float32)
      self.assertEqual(example["labels"].dtype, np.int32)
      asked = dict(zip(record.instances, record.sides, strict=True))
      self.assertEqual(count > 0, record.kind != "distractor")
      if count:
        self.assertEqual(example["labels"][0], record.instances[0])
      for label, side, visible, box, mask in zip(
        example["labels"],
        example["side"],
        example["visible"],
        example["boxes"],
        example["masks"],
        strict=True,
      ):
        self.assertEqual(asked[int(label)], side)
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(box, tight)
        self.assertBetween(visible, 0.55, 1.0)
        if visible == 1.0:
          self.assertAlmostEqual((box[2:] - box[:2]).max(), side, delta=1.5)

  def test_most_items_find_a_place_and_a_quarter_is_covered(self):
    records, examples = _drawn()
    asked = sum(len(record.instances) for record in records)
    visible = np.concatenate([example["visible"] for example in examples])
    self.assertGreater(len(visible), 0.9 * asked)
    self.assertBetween(np.mean(visible < 1), 0.1, 0.45)

  def test_each_picture_alone(self):
    records, examples = _drawn()
    for number in (3, 39, 60, 85):
      again = data.draw_instance_image(records[number])
      for name, value in examples[number].items():
        np.testing.assert_array_equal(again[name], value)

  def test_pictures_differ(self):
    _, examples = _drawn()
    for one, two in itertools.combinations(examples[38:44], 2):
      difference = one["image"].astype(float) - two["image"]
      self.assertGreater(np.abs(difference).mean(), 20)

  def test_overlap_against_whole_masks(self):
    rng = np.random.default_rng(0)
    positive = 0
    for _ in range(100):
      items, masks = [], []
      for _ in range(2):
        top, left, height, width = rng.integers((0, 0, 3, 3), (20, 15, 20, 25))
        window = (slice(top, top + height), slice(left, left + width))
        mask = rng.random((height, width)) < 0.7
        whole = np.zeros((40, 40), bool)
        whole[window] = mask
        items.append(instances._Item(window, mask, int(mask.sum())))
        masks.append(whole)
      expected = (masks[0] & masks[1]).sum() / min(m.sum() for m in masks)
      self.assertAlmostEqual(instances._overlap(*items), expected)
      positive += expected > 0
    self.assertGreater(positive, 20)

  @parameterized.parameters(24, 64, 150)
  def test_texture_lies_where_the_mask_says(self, side):
    """A white silhouette on black, warped: the same shape as its polygon."""
    offsets = []
    for instance in range(12):
      _, polygon = instance_art.draw_instance(0, instance)
      white = np.zeros((384, 384, 3), np.uint8)
      cv2.fillPoly(white, [np.rint(polygon - 0.5).astype(np.int32)], (255,) * 3)
      canvas = np.zeros((512, 512, 3), np.uint8)
      item = instances._paste(
        np.random.default_rng(instance), canvas, [], (white, polygon), side
      )
      image = cv2.resize(canvas, (256, 256), interpolation=cv2.INTER_AREA)
      mask = np.zeros((256, 256), bool)
      mask[item.window] = item.mask
      bright = image[..., 0] > image[..., 0].max() / 2
      offsets.append(np.argwhere(bright).mean(0) - np.argwhere(mask).mean(0))
      overlap = (bright & mask).sum() / (bright | mask).sum()
      self.assertGreater(overlap, 0.85 if side < 32 else 0.95)
    # A pixel's half would show: both edges are soft, but alike all around.
    np.testing.assert_allclose(np.mean(offsets, 0), [0, 0], atol=0.07)
    self.assertLess(np.abs(offsets).max(), 0.35)

  def test_items_turn_by_at_most_thirty_degrees(self):
    _, polygon = instance_art.draw_instance(0, 0)
    turns = []
    for seed in range(200):
      rng = np.random.default_rng(seed)
      matrix, moved = instances._transform(rng, polygon, 50)
      again = cv2.perspectiveTransform(polygon[None], matrix)[0]
      np.testing.assert_allclose(again, moved, atol=1e-6)
      self.assertAlmostEqual(np.ptp(moved, axis=0).max(), 100, places=4)
      self.assertGreaterEqual(moved.min(), 0)
      self.assertLess(moved.min(0).max(), 2)
      # The best rotation between the two, by the polar angle of a sum.
      a, b = polygon - polygon.mean(0), moved - moved.mean(0)
      cross = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
      turns.append(np.degrees(np.arctan2(cross, (a * b).sum())))
    self.assertLess(np.max(np.abs(turns)), 42)  # the corners move too
    self.assertGreater(np.std(turns), 13)

  def test_cover_hides_at_most_the_share(self):
    rng = np.random.default_rng(0)
    hidden = []
    for _ in range(60):
      owner = np.full((80, 80), -1, np.int8)
      owner[20:60, 10:70] = 0
      window = (slice(20, 60), slice(10, 70))
      items = [instances._Item(window, np.ones((40, 60), bool), 2400)]
      canvas = np.zeros((160, 160, 3), np.uint8)
      instances._hide(rng, canvas, owner, items, [9, 200, 9], 60)
      hidden.append(1 - np.count_nonzero(owner == 0) / 2400)
      painted = cv2.resize(canvas, (80, 80), interpolation=cv2.INTER_AREA)
      gone = (owner < 0)[20:60, 10:70]
      green = painted[20:60, 10:70, 1] > 100
      self.assertGreater((gone == green).mean(), 0.93)
    self.assertLessEqual(max(hidden), 0.3)
    self.assertGreater(np.mean(hidden), 0.08)

  def test_noise(self):
    """A picture and its noise-free form differ by a Gaussian of 4."""
    record = data.InstanceRecord("distractor", 0, (), ())
    noisy = data.draw_instance_image(record)["image"].astype(float)
    smooth = cv2.medianBlur(noisy.astype(np.uint8), 5).astype(float)
    middle = (smooth > 20) & (smooth < 235)
    spread = 1.4826 * np.median(np.abs(noisy - smooth)[middle])
    self.assertBetween(spread, 3.0, 6.0)


class FrozenTest(parameterized.TestCase):
  def test_integers(self):
    """Version 1: changing what is drawn needs a new version."""
    self.assertEqual(data.INSTANCES_VERSION, 1)
    digest = hashlib.sha256()
    for record in data.instance_set():
      digest.update(repr(tuple(record)).encode())
    for example in _drawn()[1]:
      digest.update(example["labels"].astype("<i4").tobytes())
      digest.update(np.rint(example["boxes"]).astype("<i4").tobytes())
      area = example["masks"].sum((1, 2))
      digest.update(area.astype("<i4").tobytes())
    self.assertEqual(digest.hexdigest()[:16], _FROZEN_HASH)

  def test_pictures(self):
    _, examples = _drawn()
    means = [examples[i]["image"].mean((0, 1)) for i in (0, 20, 50, 70, 80, 89)]
    np.testing.assert_allclose(means, _FROZEN_MEANS, atol=0.5)


class BaselineTest(parameterized.TestCase):
  """Trivial baselines, as GENERATED.md states them."""

  def test_expectation_of_a_random_ranking(self):
    rng = np.random.default_rng(0)
    relevant = np.arange(30) < 4
    found = [_average_precision(rng.permutation(relevant)) for _ in range(4000)]
    expected = _random_average_precision(4, 30)
    self.assertAlmostEqual(np.mean(found), expected, delta=0.006)

  @parameterized.parameters(histogram, pixels)
  def test_ranking_whole_pictures_is_near_chance(self, describe):
    score, chance = ranking_scores(describe)
    self.assertBetween(chance, 0.12, 0.17)
    self.assertLess(score, chance + 0.08)

  def test_the_instance_is_in_the_picture(self):
    """With the true boxes at hand, pixels find it."""
    score, _ = ranking_scores(pixels, oracle=True)
    self.assertGreater(score, 0.6)


_FROZEN_HASH = "501a92078a42dbde"
_FROZEN_MEANS = [
  [111.3, 115.7, 119.1],
  [83.5, 87.5, 134.8],
  [127.1, 89.5, 74.9],
  [144.5, 145.9, 99.7],
  [104.9, 100.0, 132.7],
  [118.3, 105.3, 90.5],
]


if __name__ == "__main__":
  absltest.main()
