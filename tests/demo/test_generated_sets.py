"""The section itself runs in `make demo`; here: what it draws and counts."""

import numpy as np
from absl.testing import absltest

from vision_jax import data
from vision_jax.demo import generated_sets


class GeneratedSetsTest(absltest.TestCase):
  def test_labels_are_drawn(self):
    example = data.shapes(0, 1, size=96)
    picture = generated_sets._objects(example)
    self.assertEqual(picture.shape, (96, 96, 3))
    changed = (picture != example["image"]).any(-1)
    x1, y1, _, _ = example["boxes"][0].astype(int)
    self.assertTrue(changed[y1, x1])

  def test_augmented_examples_differ(self):
    shown = generated_sets._augmented(data.shapes(0, 1, size=256))
    self.assertLen({picture.tobytes() for picture in shown}, 4)

  def test_the_share_of_right_answers_is_that_of_the_titles(self):
    images, titles, right = generated_sets._classified(40)
    self.assertLen(images, 40)
    wrong = np.mean(["(not " in title for title in titles])
    self.assertAlmostEqual(right, 1 - wrong)
    self.assertGreater(right, 0.4)  # chance is 0.05


if __name__ == "__main__":
  absltest.main()
