import chex
from absl.testing import parameterized

from vision_jax import nn
from vision_jax.nn import backbones


class XceptionTest(chex.TestCase):
  def test_shapes_at_480_by_640_and_number_of_parameters(self):
    rows = nn.layer_table(backbones.xception(), image_size=(480, 640))
    shapes = {row.name: row.output_shape[1:] for row in rows}
    for name, shape in (
      ("block1_conv2_act", (237, 317, 64)),
      ("block2_sepconv2_act", (237, 317, 128)),
      ("block2_add", (119, 159, 128)),
      ("block4_add", (30, 40, 728)),
      ("block12_add", (30, 40, 728)),
      ("block13_add", (15, 20, 1024)),
      ("block14_sepconv2_act", (15, 20, 2048)),
      ("predictions", (1000,)),
    ):
      self.assertEqual(shapes[name], shape, name)
    # keras.io: 22,910,480, of which 54,528 are not trained.
    trained = sum(row.parameters for row in rows)
    self.assertEqual(trained, 22_910_480 - 54_528)

  @parameterized.parameters(
    # A pool over an even side pads one row below, over an odd one both sides.
    (256, 11.0, 27.0),
    (299, 7.0, 7.0),
  )
  def test_offsets_depend_on_the_size(self, side, block4, block13):
    net = backbones.xception(num_classes=None)
    info = nn.endpoint_info(net, image_size=(side, side))
    self.assertEqual(info["block1"][:2], (2, 3.0))
    self.assertEqual(info["block2_sepconv1"][:3], (2, 3.0, 128))
    self.assertEqual(info["block4"][:2], (16, block4))
    self.assertEqual(info["block13"][:2], (32, block13))
    self.assertEqual(info["block14"].channels, 2048)
