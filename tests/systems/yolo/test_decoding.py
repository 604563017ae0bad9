import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from tests.systems.yolo import reference
from vision_jax.systems import yolo

SIZE = (64, 96)
ANCHORS = (((40, 36), (60, 50)), ((10, 12), (20, 16)))
SHAPES = ((2, 3, 2, 8), (4, 6, 2, 8))


def _maps(seed=0):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=s).astype(np.float32) for s in SHAPES]


def _loop(maps):
  """(box in pixels, scores of the classes) of all cells, in order."""
  found = []
  for values, group in zip(maps, ANCHORS, strict=True):
    rows, columns, number, _ = values.shape
    for j in range(rows):
      for i in range(columns):
        for n in range(number):
          value = values[j, i, n].astype(np.float64)
          x, y, w, h = reference.decode(
            value, j, i, (rows, columns), SIZE, group[n]
          )
          box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
          scores = reference.sigmoid(value[4]) * reference.sigmoid(value[5:])
          found.append((box * (SIZE[::-1] * 2), scores))
  return found


def _greedy(maps, score, overlap):
  """do_nms_sort: [(score, class, box)], strongest first."""
  kept = []
  pairs = [(scores[c], c, box) for box, scores in _loop(maps) for c in range(3)]
  for value, label, box in sorted(pairs, key=lambda p: -p[0]):
    own = reference.shares([box], (1, 1))[0]
    if value > score and all(
      reference.iou(own, reference.shares([b], (1, 1))[0]) <= overlap
      for _, c, b in kept
      if c == label
    ):
      kept.append((value, label, box))
  return kept


class DecodeTest(chex.TestCase):
  def test_equal_to_a_loop(self):
    maps = _maps()
    batch = [np.stack([m, 2 * m]) for m in maps]
    found = yolo.decode_maps(batch, image_size=SIZE, anchors=ANCHORS)
    for k in (0, 1):
      expected = _loop([m[k] for m in batch])
      np.testing.assert_allclose(
        found.boxes[k], [b for b, _ in expected], rtol=1e-5, atol=1e-4
      )
      scores = found.objectness[k][:, None] * found.classes[k]
      np.testing.assert_allclose(scores, [s for _, s in expected], rtol=1e-5)

  def test_maps_of_other_anchors(self):
    with self.assertRaisesRegex(ValueError, "`maps` must be"):
      yolo.decode_maps(_maps(), image_size=SIZE, anchors=(ANCHORS[0],) * 1
                       + (((1, 1),),))  # fmt: skip


class DetectTest(chex.TestCase):
  def _detect(self, **settings):
    return jax.jit(
      functools.partial(
        yolo.detect, image_size=SIZE, anchors=ANCHORS, **settings
      )
    )

  def test_equal_to_greedy_suppression(self):
    detect = self._detect(score_threshold=0.25, iou_threshold=0.3)
    total, labels = 0, set()
    for seed in range(3):
      maps = _maps(seed)
      expected = _greedy(maps, 0.25, 0.3)
      found, exact = detect(maps)
      self.assertTrue(exact)
      count = int(found.valid.sum())
      self.assertEqual(count, len(expected))
      scores, classes, boxes = zip(*expected, strict=True)
      np.testing.assert_allclose(found.scores[:count], scores, rtol=1e-5)
      np.testing.assert_array_equal(found.labels[:count], classes)
      np.testing.assert_allclose(
        found.boxes[:count], boxes, rtol=1e-5, atol=1e-3
      )
      for field in (found.boxes, found.scores, found.labels):
        self.assertFalse(np.any(field[count:]))
      total += count
      labels |= set(classes)
    self.assertGreater(total, 20)
    self.assertLen(labels, 3)

  def test_few_candidates_are_the_strongest_and_reported(self):
    maps = _maps()
    expected = _greedy(maps, 0.005, 0.45)
    found, exact = self._detect(max_candidates=12)(maps)
    self.assertFalse(exact)
    count = int(found.valid.sum())
    self.assertBetween(count, 3, 12)
    np.testing.assert_allclose(
      found.scores[:count], [e[0] for e in expected[:count]], rtol=1e-5
    )
    # Enough of them: what is weaker is not asked for.
    found, exact = self._detect(max_candidates=12, max_detections=3)(maps)
    self.assertTrue(exact)
    self.assertTrue(found.valid.all())

  def test_values_that_are_no_numbers(self):
    maps = _maps()
    detect = self._detect()
    maps[0][0, 0, 0, 4] = np.nan
    maps[1][0, 0, 0, 2] = np.inf
    maps[1][1, 0, 0, 5] = np.nan
    found, _ = detect(maps)
    chex.assert_tree_all_finite(found)
    self.assertGreater(int(found.valid.sum()), 10)
    found, exact = detect([jnp.full(s, jnp.nan) for s in SHAPES])
    self.assertFalse(found.valid.any())
    self.assertTrue(exact)
