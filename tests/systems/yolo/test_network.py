"""The networks beside OpenCV's reader of darknet's files."""

import pathlib
import tempfile

import cv2
import jax
import numpy as np
from absl.testing import absltest, parameterized

from tests.systems.yolo import darknet_files
from vision_jax import nn, weights
from vision_jax.systems import yolo


class NetworkTest(parameterized.TestCase):
  @parameterized.parameters(
    # (constructor, classes, parameters, bytes of darknet's file)
    (yolo.yolov3, 80, 61_949_149, 248_007_048),
    (yolo.yolov3, 20, None, 246_714_648),
    (yolo.yolov3_spp, 80, None, 252_209_544),
    (yolo.yolov3_tiny, 80, 8_852_366, 35_434_956),
  )
  def test_published_sizes(self, constructor, classes, parameters, size):
    module = constructor(classes)
    layers = weights.darknet_layers(module)
    self.assertEqual(20 + 4 * sum(layer.size for layer in layers), size)
    if parameters is not None:
      rows = nn.layer_table(module)
      self.assertEqual(sum(row.parameters for row in rows), parameters)

  def test_layers_in_the_order_of_the_configuration(self):
    for module, config in (
      (
        yolo.yolov3(80),
        darknet_files.yolov3(
          (64, 64), blocks=(1, 2, 8, 8, 4), width=32, classes=80
        ),
      ),
      (yolo.yolov3_tiny(20), darknet_files.tiny((64, 64), classes=20)),
    ):
      found = [
        (*layer.shape[:3], layer.norm is not None)
        for layer in weights.darknet_layers(module)
      ]
      self.assertEqual(found, config.shapes)
    self.assertLen(found, 13)

  @parameterized.parameters("yolov3", "spp", "tiny")
  def test_equal_to_opencv(self, kind):
    side, classes = (64, 96), 3
    size = {"blocks": (1, 1, 1), "width": 4, "classes": classes}
    if kind == "tiny":
      module = yolo.yolov3_tiny(classes)
      config = darknet_files.tiny(side, classes=classes)
    else:
      spp = kind == "spp"
      module = yolo.yolov3(classes, num_blocks=(1, 1, 1), width=4, spp=spp)
      config = darknet_files.yolov3(side, spp=spp, **size)
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    (folder / "net.cfg").write_text(config.text)
    (folder / "net.weights").write_bytes(config.stream())
    net = cv2.dnn.readNetFromDarknet(
      str(folder / "net.cfg"), str(folder / "net.weights")
    )
    image = np.random.default_rng(1).normal(size=(1, *side, 3))
    image = image.astype(np.float32)
    net.setInput(image.transpose(0, 3, 1, 2))
    expected = net.forward(net.getUnconnectedOutLayersNames())
    state = weights.read_darknet(
      folder / "net.weights", weights.darknet_layers(module)
    )
    variables = weights.state_dict_to_variables(module, state)
    maps, _ = jax.jit(module.apply)(variables, image)
    self.assertLen(maps, len(expected))
    self.assertGreater(len({m.shape for m in maps}), 1)
    for ours, theirs in zip(maps, expected, strict=True):
      theirs = theirs[0].transpose(1, 2, 0).reshape(ours.shape[1:])
      self.assertGreater(theirs.std(), 1e-2)
      np.testing.assert_allclose(
        ours[0], theirs, atol=1e-4 * np.abs(theirs).max()
      )

  def test_sides_that_do_not_divide(self):
    module = yolo.yolo_small()
    with self.assertRaisesRegex(ValueError, "sides that 16 divides"):
      jax.eval_shape(
        module.init, jax.random.key(0), np.zeros((1, 40, 64, 3), np.float32)
      )

  def test_arguments_from_json(self):
    given = [[[9, 8], [7, 6]], [[5, 4]]]
    for make in (yolo.yolov3, yolo.yolov3_tiny):
      module = make(2, anchors=given, image_size=[64, 32])
      self.assertEqual(module.anchors, (((9, 8), (7, 6)), ((5, 4),)))
      self.assertEqual(hash(module), hash(module.clone()))


if __name__ == "__main__":
  absltest.main()
