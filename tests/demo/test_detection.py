"""The section itself runs in `make demo`; here: what it shows is right."""

import numpy as np
from absl.testing import absltest

from vision_jax.demo import detection


class DetectionTest(absltest.TestCase):
  def test_pictures_and_proposals(self):
    examples = detection._examples(4)
    self.assertLen({e["image"].tobytes() for e in examples}, 4)
    example = examples[0]
    plain = example["image"].repeat(3, 0).repeat(3, 1)
    drawn = detection._drawn(example["image"], example)
    x1, y1 = np.floor(3 * example["boxes"][0, :2]).astype(int)
    self.assertGreater(np.abs(drawn[y1, x1] / 255 - plain[y1, x1]).max(), 0.02)
    weak = {**example, "scores": np.full(len(example["labels"]), 0.1)}
    np.testing.assert_allclose(
      detection._drawn(example["image"], weak) / 255, plain, atol=0.01
    )
    rows = {row[0]: float(row[2]) for row in detection._proposals(examples)}
    self.assertGreater(rows["selective search"], 0.3)

  def test_recall(self):
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    boxes = np.array([[0, 0, 10, 19], [20, 20, 30, 41]], np.float32)
    np.testing.assert_array_equal(
      detection._recall(boxes, truth), [True, False]
    )
    self.assertFalse(detection._recall(boxes[:0], truth).any())

  def test_one_box_for_a_place(self):
    found = {
      "boxes": np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 9]], "f"),
      "labels": np.array([3, 3, 1]),
    }
    kept = detection._strongest(found)
    np.testing.assert_array_equal(kept["boxes"], found["boxes"][:2])
    np.testing.assert_array_equal(kept["labels"], [3, 3])
    empty = {name: value[:0] for name, value in found.items()}
    self.assertLen(detection._strongest(empty)["labels"], 0)


if __name__ == "__main__":
  absltest.main()
