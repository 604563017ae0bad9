"""Names of the classes of detectors; the rest is tested by the command."""

from absl.testing import absltest

from vision_jax import data
from vision_jax.cli import detectors


class ClassesTest(absltest.TestCase):
  def test_names_by_their_number(self):
    names, ids = detectors._classes(80, "yolov3", "random", None)
    self.assertEqual((names[0], ids[79]), ("person", 90))
    names, ids = detectors._classes(20, "yolov3", "random", None)
    self.assertEqual((names, ids), (data.VOC_CLASSES, tuple(range(1, 21))))
    names, ids = detectors._classes(90, "yolov3", "random", None)
    self.assertEqual((names[0], names[11], names[12]),
                     ("person", "12", "stop sign"))  # fmt: skip
    self.assertEqual(ids, tuple(range(1, 91)))
    names, ids = detectors._classes(3, "yolov3", "random", None)
    self.assertEqual((names, ids), (("1", "2", "3"), (1, 2, 3)))


if __name__ == "__main__":
  absltest.main()
