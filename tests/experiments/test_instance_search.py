"""Scores and rows of the experiment on hand-made pictures."""

import numpy as np
import pytest
from absl.testing import absltest

from experiments.instance_search import (
  benchmark,
  describe,
  evaluate,
  methods,
  published,
  reports,
  scores,
)
from vision_jax import weights
from vision_jax.systems import rcnn


def _truth():
  box = np.array([[0, 0, 4, 4]], np.float32)
  return benchmark.Truth(
    boxes=[box, box, np.concatenate([box, box + 8]), box[:0]],
    labels=[np.array([0]), np.array([1]), np.array([1, 0]), np.array([], int)],
    sides=[np.array([96.0]), np.array([96.0]), np.array([48.0, 32.0]),
           np.array([])],
    num_distractors=1,
  )  # fmt: skip


class ScoresTest(absltest.TestCase):
  def test_positives_and_groups(self):
    good, junk = _truth().positives(0)
    self.assertEqual((sorted(good), junk), ([0, 2], []))
    np.testing.assert_array_equal(good[2], [[8, 8, 12, 12]])
    good, junk = _truth().positives(0, "easy")
    self.assertEqual((sorted(good), junk), ([0], [2]))

  def test_numbers_by_hand(self):
    box = np.array([0, 0, 4, 4], np.float32)
    # Instance 0: hits at ranks 0 and 2, the second with a wrong box; the twin
    # comes first among the wrong.
    ranked = methods.Ranked(np.array([0, 1, 2, 3]), np.tile(box, (4, 1)))
    found = scores.score([ranked], _truth())
    self.assertAlmostEqual(found["all"], (1 + 2 / 3) / 2)
    self.assertAlmostEqual(found["iou"], 0.5)
    self.assertAlmostEqual(found["corloc"], 0.5)
    self.assertAlmostEqual(found["map_loc"], 0.5)
    self.assertEqual(found["twin"], 1.0)
    late = methods.Ranked(np.array([3, 0, 1, 2]), np.tile(box, (4, 1)))
    without = scores.score([late], _truth(), num_distractors=0)
    self.assertAlmostEqual(without["all"], found["all"])

  def test_seeds_of_the_variants(self):
    boxes = np.zeros((1, 1, 3, 4), np.float32)
    boxes[0, 0] = [[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]]
    described = describe.Described(
      features={}, logits=np.zeros((1, 2)), boxes=boxes,
      cells=np.zeros((1, 3, 2, 2)), scores=np.array([[3.0, 2.0, 1.0]]),
      valid=np.ones((1, 3), bool),
      above_mean=np.array([[True, True, False]]), truth=_truth(),
      detections={}, side=16,
    )  # fmt: skip
    cuts = (describe.PAPER,)
    plain = methods.dasr_regions(described, cuts=cuts)
    star = methods.dasr_regions(described, cuts=cuts, beta=0.3)
    self.assertEqual(plain.valid.tolist(), [[True, True, False]])
    self.assertEqual(star.valid.tolist(), [[True, False, True]])

  def test_published_numbers_are_the_decks(self):
    self.assertEqual(published.INSTANCE_SEARCH["DASR*"][2], 0.724)
    self.assertEqual(published.IMAGE_SEARCH["DASR*+VLAD"][0], 0.873)

  def test_report(self):
    row = {
      k: 0.5
      for k in ("top50", "top100", "all", "trapezoid", "random", "map_loc",
                "twin", "regions", "best_region_iou", "best_region_hull")
    } | {
      "dims": 8, "curve": [0.5, 0.25],
      **{k: [0.1, 0.2, 0.3] for k in ("by_size", "iou_by_size",
                                      "corloc_by_size")},
    }  # fmt: skip
    run = {"SPoC": row, "DASR": row, "DASR+VLAD": row}
    text = reports.report_tables([run, run], (0, 3))
    self.assertIn("| DASR | 8 | 0.500 ± 0.000 |", text)
    self.assertIn("0.419 / 0.558 / 0.699 / 0.629", text)
    self.assertIn("| DASR | 0.500 | 0.250 |", text)


def test_what_is_measured_is_kept(tmp_path):
  calls = []

  def measure():
    calls.append(1)
    return {"DASR": {"all": 0.5}}

  def run(name="tables_0", first=True, **changes):
    options = evaluate.Options(**({"out": tmp_path} | changes))
    before = len(calls)
    record = evaluate.measured(options, name, measure, first=first)
    assert record["found"] == {"DASR": {"all": 0.5}}
    return len(calls) - before

  assert run() == 1
  assert run(seeds=(0, 2), parts=("tables",), write_readme=True) == 0
  assert run(num_seeds=8) == 1
  assert run() == 1
  # SIFT and the curve are for the first set alone.
  assert run("tables_2", seeds=(2,), sift=False) == 1
  assert run("tables_2", first=False, seeds=(0, 2), curve=(0, 9)) == 0


@pytest.mark.parametrize("layers", [(), (8,)])
def test_detections_as_regions(layers, quick_compile):
  del quick_compile
  module = rcnn.rcnn_small(3, min_size=64, max_size=64, mask_layers=layers)
  image = np.random.default_rng(0).uniform(size=(64, 64, 3)).astype("f")
  detector = module, weights.random_variables(module)
  boxes, valid, cells = describe.detect(detector, image, 4)
  (found,) = rcnn.predict(*detector, [image], mask_threshold=0.5)
  count = min(len(found["boxes"]), describe.NUM_DETECTIONS)
  assert count == valid.sum() > 0
  np.testing.assert_array_equal(boxes[:count], found["boxes"][:count])
  if not layers:
    np.testing.assert_array_equal(cells, 1)
    return
  masks = found["masks"][:count]
  assert 0.01 < masks.mean() < 0.99
  for y in range(4):
    for x in range(4):
      part = masks[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
      np.testing.assert_allclose(
        cells[:count, y, x], part.mean((1, 2)), atol=1e-3
      )


def test_attention_learns_which_regions_matter():
  """A loud clutter of its own channels hides what names the instance."""
  rng = np.random.default_rng(0)
  names = rng.uniform(0, 1, (6, 12)).astype(np.float32)

  def maps(labels):
    found = rng.uniform(0, 0.05, (len(labels), 8, 8, 24)).astype(np.float32)
    for row, label in zip(found, labels, strict=True):
      y, x = rng.integers(0, 5, 2)
      row[y : y + 3, x : x + 3, :12] += names[label]
      y, x = rng.integers(0, 6, (2, 6))
      row[y, x, 12:] += rng.uniform(0, 3, (6, 12))
    return found

  labels = np.arange(72) % 6
  sets = {"learn": maps(labels), "query": maps(labels[:12])}
  sets["database"] = maps(labels[:48])

  def right(num_steps):
    query, database = methods.attention_vectors(
      sets, labels, num_steps=num_steps
    )
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, atol=1e-5)
    order = np.argsort(-query @ database.T, 1)[:, :8]
    return (labels[order] == labels[:12, None]).mean()

  assert right(200) > right(0) + 0.1
  assert right(200) > 0.8


if __name__ == "__main__":
  absltest.main()
