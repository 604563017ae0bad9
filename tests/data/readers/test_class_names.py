from absl.testing import absltest

from vision_jax import data


class ClassNamesTest(absltest.TestCase):
  def test_places_that_are_known(self):
    names = dict(zip(data.COCO_CATEGORY_IDS, data.COCO_CLASSES, strict=True))
    self.assertLen(set(data.COCO_CLASSES), 80)
    known = {1: "person", 11: "fire hydrant", 13: "stop sign", 27: "backpack",
             44: "bottle", 46: "wine glass", 67: "dining table", 70: "toilet",
             82: "refrigerator", 84: "book", 90: "toothbrush"}  # fmt: skip
    self.assertEqual({k: names[k] for k in known}, known)


if __name__ == "__main__":
  absltest.main()
