"""Detectors as files of weights."""

import pathlib
import tempfile

import numpy as np
from absl.testing import absltest

from vision_jax import weights
from vision_jax.systems import yolo


class DetectorsTest(absltest.TestCase):
  def test_a_detector_is_saved_and_found_again(self):
    arguments = {
      "num_classes": 2,
      "num_blocks": [0, 1],
      "width": 2,
      "anchors": [[[9, 9]], [[4, 5]]],
      "image_size": [32, 48],
    }
    module = yolo.yolov3(**arguments)
    variables = weights.random_variables(module)
    path = pathlib.Path(
      self.enterContext(tempfile.TemporaryDirectory()), "net.safetensors"
    )
    metadata = weights.WeightsMetadata("yolov3", arguments)
    weights.save_weights(path, variables, metadata=metadata)
    loaded, values, _ = weights.load_model(path)
    self.assertEqual(loaded, module)
    np.testing.assert_array_equal(
      values["params"]["head1"]["out"]["kernel"],
      variables["params"]["head1"]["out"]["kernel"],
    )
    again, _, _ = weights.resolve("yolov3", str(path))
    self.assertEqual(again, module)
    with self.assertRaisesRegex(weights.WeightsError, "use --model yolov3"):
      weights.resolve("vgg11", str(path))

  def test_random_detectors_take_unit_images(self):
    module, _, preprocess = weights.resolve("yolo_small", "random")
    self.assertEqual(module.num_classes, 12)
    self.assertEqual((preprocess.mean, preprocess.resize), ((0.0,) * 3, None))


if __name__ == "__main__":
  absltest.main()
