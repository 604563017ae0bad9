import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones


class EndpointInfoTest(chex.TestCase):
  @parameterized.parameters(
    ("vgg16", "pool2", 4, 1.5, 128),
    ("vgg16", "pool3", 8, 3.5, 256),
    ("vgg16", "pool4", 16, 7.5, 512),
    ("alexnet", "pool1", 8, 7.0, 64),
    ("alexnet", "pool2", 16, 15.0, 192),
    ("resnet50", "layer3", 16, 0.0, 1024),
  )
  def test_published_registration(self, name, layer, stride, offset, channels):
    info = nn.endpoint_info(backbones.MODELS[name](num_classes=None))[layer]
    self.assertEqual(info[:3], (stride, offset, channels))

  def test_dilation_keeps_the_stride(self):
    info = nn.endpoint_info(backbones.resnet18(output_stride=8))
    self.assertEqual([info[f"layer{k}"].stride for k in (2, 3, 4)], [8, 8, 8])

  @parameterized.parameters("pool1", "pool2", "pool3", "relu4_2")
  def test_receptive_field_is_what_the_gradient_sees(self, layer):
    """Of a cell in the middle, and where it lies."""
    net = backbones.vgg_small()
    info = nn.endpoint_info(net)[layer]
    variables = weights.random_variables(net)
    row, col = 64 // info.stride, 80 // info.stride
    touched = np.zeros((160, 176), bool)
    grad = jax.jit(
      jax.grad(
        lambda v, i: jnp.abs(
          i @ net.apply(variables, v)[1][layer][0, row, col]
        ).sum()
      )
    )
    rng = np.random.default_rng(0)
    for _ in range(6):
      noise = rng.normal(size=(1, 160, 176, 3)).astype(np.float32)
      weight = rng.normal(size=info.channels).astype(np.float32)
      touched |= np.asarray(jnp.abs(grad(noise, weight)[0]).sum(-1) > 0)
    ys, xs = np.nonzero(touched)
    half = (info.receptive_field - 1) / 2
    for places, cell in ((ys, row), (xs, col)):
      center = cell * info.stride + info.offset
      self.assertGreaterEqual(places.min(), center - half)
      self.assertLessEqual(places.max(), center + half)
      self.assertLessEqual(places.min(), center - half + info.stride)
      self.assertGreaterEqual(places.max(), center + half - info.stride)

  def test_padding_that_depends_on_the_size(self):
    """Against the gradient: where the cell in the middle looks."""

    class Net(flax.linen.Module):
      @flax.linen.compact
      def __call__(self, images, train=False):
        x = nn.Conv(2, 3, 2, 0, use_bias=False, name="a")(images)
        x = nn.LeakyRelu(0.5, name="leaky")(x)
        x = nn.MaxPool(3, 2, "SAME", name="pool")(x)
        x = nn.SqueezeExcitation(1, name="gates")(x)
        return None, {"end": x}

    net = Net()
    rng = np.random.default_rng(0)
    for side, offset in ((19, 1.0), (17, 3.0)):
      images = rng.normal(size=(1, side, side, 3)).astype(np.float32)
      variables = net.init(jax.random.key(0), images)
      info = nn.endpoint_info(net, image_size=(side, side))["end"]
      self.assertEqual(info, (4, offset, 2, 7))

      def cell(v, variables=variables):
        with flax.linen.intercept_methods(_without_gates):
          return net.apply(variables, v)[1]["end"][0, 2, 2]

      touched = np.zeros((side, side), bool)
      run = jax.jit(jax.jacrev(cell))
      for _ in range(30):
        images = rng.normal(size=images.shape).astype(np.float32)
        jacobian = run(images)[:, 0]
        touched |= np.asarray(jnp.abs(jacobian).sum((0, -1)) > 0)
      ys, xs = np.nonzero(touched)
      middle = 2 * info.stride + info.offset
      for places in (ys, xs):
        self.assertEqual(places.min(), middle - 3)
        self.assertEqual(places.max(), middle + 3)
    with self.assertRaisesRegex(ValueError, "'end' one offset"):
      nn.endpoint_info(net, image_size=(17, 19))
    rows = nn.layer_table(net, image_size=(17, 19))
    self.assertEqual((rows[-1].kind, rows[-1].stride), ("Multiply", 4))
    self.assertIsNone(rows[-1].offset)


def _without_gates(next_fun, args, kwargs, context):
  """The map alone, where it is multiplied by gates."""
  if isinstance(context.module, nn.Multiply):
    return args[0]
  return next_fun(*args, **kwargs)


class LayerTableTest(chex.TestCase):
  def test_rows_of_vgg16(self):
    rows = nn.layer_table(backbones.vgg16())
    first = rows[0]
    self.assertEqual((first.name, first.parameters), ("features.0", 1792))
    self.assertEqual(first.flops, 2 * 27 * 64 * 224 * 224)
    self.assertEqual(sum(r.parameters for r in rows), 138_357_544)
    self.assertEqual(rows[-1].name, "classifier.6")
    self.assertIsNone(rows[-1].stride)
    # torchvision states 15.47 billion multiply-adds.
    convs = sum(r.flops for r in rows if r.kind in ("Conv", "Dense"))
    np.testing.assert_allclose(convs / 2e9, 15.47, atol=0.01)

  def test_resnet50_multiply_adds(self):
    rows = nn.layer_table(backbones.resnet50())
    convs = sum(r.flops for r in rows if r.kind in ("Conv", "Dense"))
    np.testing.assert_allclose(convs / 2e9, 4.09, atol=0.01)

  @parameterized.parameters(("mobilenet_v2", 0.301), ("squeezenet1_0", 0.819))
  def test_multiply_adds_of_depthwise_and_partial_windows(self, name, expected):
    rows = nn.layer_table(backbones.MODELS[name]())
    convs = sum(r.flops for r in rows if r.kind in ("Conv", "Dense"))
    np.testing.assert_allclose(convs / 2e9, expected, atol=0.001)
