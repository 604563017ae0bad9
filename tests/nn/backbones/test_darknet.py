import chex
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import nn, weights
from vision_jax.nn import backbones


class DarknetTest(chex.TestCase):
  def test_table_1_of_the_paper(self):
    rows = nn.layer_table(backbones.darknet53(), image_size=(256, 256))
    convs = [row for row in rows if row.kind == "Conv"]
    self.assertLen(convs, 53)
    shapes = [row.output_shape[1:] for row in convs]
    self.assertEqual(shapes[:4], [(256, 256, 32), (128, 128, 64),
                                  (128, 128, 32), (128, 128, 64)])  # fmt: skip
    self.assertEqual(shapes[-2], (8, 8, 1024))
    self.assertEqual(convs[-1].name, "fc")
    # Table 2: 18.7 billion operations.
    np.testing.assert_allclose(
      sum(row.flops for row in rows) / 1e9, 18.7, atol=0.15
    )

  def test_strides_that_yolo_reads(self):
    info = nn.endpoint_info(backbones.darknet53(num_classes=None))
    found = [info[f"stage{k}"][:3] for k in (3, 4, 5)]
    self.assertEqual(found, [(8, 0, 256), (16, 0, 512), (32, 0, 1024)])

  def test_padding_is_symmetric_at_odd_sides(self):
    net = backbones.Darknet((1, 1, 1, 1, 1), 8, num_classes=3)
    variables = weights.random_variables(net)
    images = np.random.default_rng(0).normal(size=(1, 38, 65, 3))
    images = jnp.asarray(images, jnp.float32)
    run = jax.jit(net.apply)
    logits, ends = run(variables, images)
    self.assertEqual(ends["stage1"].shape, (1, 19, 33, 16))
    self.assertEqual(logits.shape, (1, 3))
    # A mirrored picture through mirrored kernels gives mirrored maps, where
    # all widths are odd: 65, 33, 17, 9, 5, 3.
    mirrored = jax.tree.map(
      lambda a: a[:, ::-1] if a.ndim == 4 else a, variables
    )
    _, others = run(mirrored, images[:, :, ::-1])
    for name in ("conv0", "stage1", "stage3", "stage5"):
      np.testing.assert_allclose(
        others[name], ends[name][:, :, ::-1], rtol=1e-4, atol=1e-4
      )
    self.assertLess(float(ends["stage5"].min()), 0)  # leaky
