"""Tests of the reader of darknet's files, beside OpenCV's."""

import struct
from unittest import mock

import cv2
import jax
import numpy as np
from absl.testing import absltest, parameterized

from tests.systems.yolo import darknet_files
from tests.weights import file_case
from vision_jax import weights
from vision_jax.nn import backbones

CONV = """[convolutional]
batch_normalize=1
filters={filters}
size={size}
stride={stride}
pad=1
activation=leaky
"""
SHORTCUT = "[shortcut]\nfrom=-3\nactivation=linear\n"
HEAD = """[avgpool]
[convolutional]
filters={filters}
size=1
stride=1
pad=1
activation=linear
"""


def _config(blocks, width, classes, side):
  """The configuration file of a small Darknet."""
  text = f"[net]\nheight={side[0]}\nwidth={side[1]}\nchannels=3\n"
  text += CONV.format(filters=width, size=3, stride=1)
  for count in blocks:
    width *= 2
    text += CONV.format(filters=width, size=3, stride=2)
    for _ in range(count):
      text += CONV.format(filters=width // 2, size=1, stride=1)
      text += CONV.format(filters=width, size=3, stride=1)
      text += SHORTCUT
  return text + HEAD.format(filters=classes)


def _shapes(blocks, width, classes):
  """(out, in, size, normalised) of the convolutions, by the configuration."""
  shapes = [(width, 3, 3, True)]
  for count in blocks:
    shapes.append((2 * width, width, 3, True))
    width *= 2
    shapes += [
      (width // 2, width, 1, True),
      (width, width // 2, 3, True),
    ] * count
  return [*shapes, (classes, width, 1, False)]


def _stream(shapes, *, version=(0, 2, 0), seed=0):
  """The bytes of a file: header and arrays."""
  rng = np.random.default_rng(seed)
  counter = "<q" if 10 * version[0] + version[1] >= 2 else "<i"
  raw = struct.pack("<3i", *version) + struct.pack(counter, 123)
  for out, inputs, size, normalised in shapes:
    arrays = [rng.uniform(-0.2, 0.2, out)]
    if normalised:
      arrays += [rng.uniform(0.7, 1.3, out) for _ in range(1)]
      arrays += [rng.uniform(-0.2, 0.2, out), rng.uniform(0.5, 1.5, out)]
    bound = (3 / (inputs * size**2)) ** 0.5
    arrays.append(rng.uniform(-bound, bound, out * inputs * size**2))
    raw += b"".join(a.astype("<f4").tobytes() for a in arrays)
  return raw


BLOCKS, WIDTH, CLASSES = (1, 2, 1, 1, 1), 4, 6
SHAPES = _shapes(BLOCKS, WIDTH, CLASSES)


def _tiny(num_classes=1000):
  return backbones.Darknet(BLOCKS, WIDTH, num_classes)


class ReadDarknetTest(file_case.FileCase):
  def test_the_network_equals_opencv(self):
    path = self.write(_stream(SHAPES), "tiny.weights")
    config = self.folder() / "tiny.cfg"
    side = (64, 96)
    config.write_text(_config(BLOCKS, WIDTH, CLASSES, side))
    net = cv2.dnn.readNetFromDarknet(str(config), str(path))
    image = np.random.default_rng(1).normal(size=(1, *side, 3))
    image = image.astype(np.float32)
    net.setInput(image.transpose(0, 3, 1, 2))
    expected = net.forward().reshape(-1)

    module = _tiny(CLASSES)
    layers = weights.darknet_layers(module)
    self.assertEqual([layer.shape[:3] for layer in layers],
                     [shape[:3] for shape in SHAPES])  # fmt: skip
    state = weights.read_darknet(path, layers)
    variables = weights.state_dict_to_variables(module, state)
    logits, _ = jax.jit(module.apply)(variables, image)
    self.assertGreater(expected.std(), 1e-2)
    np.testing.assert_allclose(
      logits[0], expected, atol=1e-4 * np.abs(expected).max()
    )

  def test_arrays_by_name(self):
    layers = weights.darknet_layers(_tiny(CLASSES))
    raw = _stream(SHAPES)
    state = weights.read_darknet(self.write(raw), layers)
    values = np.frombuffer(raw, "<f4", offset=20)
    np.testing.assert_array_equal(state["conv0.norm.bias"], values[:4])
    np.testing.assert_array_equal(state["conv0.norm.weight"], values[4:8])
    np.testing.assert_array_equal(
      state["conv0.norm.running_mean"], values[8:12]
    )
    np.testing.assert_array_equal(
      state["conv0.norm.running_var"], values[12:16]
    )
    kernel = state["conv0.conv.weight"]
    self.assertEqual(kernel.shape, (4, 3, 3, 3))
    self.assertEqual(kernel[1, 2, 0, 1], values[16 + 27 + 18 + 1])
    np.testing.assert_array_equal(
      state["fc.weight"].reshape(-1), values[-6 * 128 :]
    )
    np.testing.assert_array_equal(state["fc.bias"], values[-6 * 129 : -6 * 128])

  @parameterized.parameters((0, 1, 0), (0, 2, 5), (1, 0, 0))
  def test_both_headers(self, *version):
    layers = weights.darknet_layers(_tiny(CLASSES))
    path = self.write(_stream(SHAPES, version=version))
    state = weights.read_darknet(path, layers)
    expected = weights.read_darknet(self.write(_stream(SHAPES)), layers)
    for name, array in expected.items():
      np.testing.assert_array_equal(state[name], array)

  @parameterized.parameters(
    (b"", "is empty"),
    (b"\0\0\0\0\2", "is truncated .5 bytes."),
    (b"PK\x03\x04" + bytes(60), "is not a file of darknet: its version"),
    (struct.pack("<3i", 0, 2000, 0) + bytes(60), "would be 0.2000.0"),
  )
  def test_not_such_a_file(self, raw, message):
    layers = weights.darknet_layers(_tiny(CLASSES))
    with self.assertRaisesRegex(weights.WeightsError, message):
      weights.read_darknet(self.write(raw), layers)

  def test_the_size_must_be_exact(self):
    layers = weights.darknet_layers(_tiny(CLASSES))
    raw = _stream(SHAPES)
    first = 4 * layers[0].size
    for cut, message in (
      (raw + b"\0\0\0\0", "4 bytes are left over, of another model"),
      (raw[:-1], "inside number 19, 'fc', truncated"),
      (raw[: 20 + first + 8], "inside number 2, 'stage1.down.conv'"),
      (raw[: 20 + first], "ends after 1 of them, a part"),
      (raw[:20], "inside number 1, 'conv0.conv'"),
    ):
      with self.assertRaisesRegex(weights.WeightsError, message) as context:
        weights.read_darknet(self.write(cut), layers)
      self.assertIn(f"has {len(cut)} bytes, expected {len(raw)} for the 19",
                    str(context.exception))  # fmt: skip
    # A part is read by its own layers.
    state = weights.read_darknet(self.write(raw[: 20 + first]), layers[:1])
    self.assertLen(state, 5)


class FromDarknetTest(file_case.FileCase):
  def setUp(self):
    super().setUp()
    patched = {"darknet53": _tiny}
    self.enterContext(mock.patch.dict(backbones.MODELS, patched))
    self.enterContext(mock.patch.object(backbones, "darknet53", _tiny))

  def test_the_size_tells_the_number_of_classes(self):
    raw = _stream(SHAPES)
    path = self.write(raw, "a.weights")
    module, variables = weights.from_darknet("darknet53", path)
    self.assertEqual(module.num_classes, CLASSES)
    self.assertEqual(variables["params"]["fc"]["kernel"].shape, (1, 1, 128, 6))
    cut = self.write(raw[: len(raw) - 4 * 6 * 129], "darknet53.conv.74")
    for source, options in ((cut, {}), (path, {"num_classes": 0})):
      features, others = weights.from_darknet("darknet53", source, **options)
      self.assertIsNone(features.num_classes)
      self.assertNotIn("fc", others["params"])
      np.testing.assert_array_equal(
        others["params"]["stage5"]["down"]["conv"]["kernel"],
        variables["params"]["stage5"]["down"]["conv"]["kernel"],
      )

  def test_wrong_sizes(self):
    raw = _stream(SHAPES)
    path = self.write(raw)
    expected = len(raw) + 4 * 129
    with self.assertRaisesRegex(weights.WeightsError, f"expected {expected}"):
      weights.from_darknet("darknet53", path, num_classes=7)
    for cut in (raw[:-4], raw[:3000]):
      with self.assertRaisesRegex(weights.WeightsError, "truncated or of"):
        weights.from_darknet("darknet53", self.write(cut))

  def test_values_that_are_no_numbers(self):
    raw = bytearray(_stream(SHAPES))
    raw[20:24] = struct.pack("<f", np.nan)
    with self.assertRaisesRegex(weights.WeightsError, "'conv0.norm.bias'"):
      weights.from_darknet("darknet53", self.write(raw))

  def test_other_models_and_other_readers(self):
    path = self.write(_stream(SHAPES), "x.weights")
    with self.assertRaisesRegex(weights.WeightsError, "got 'resnet18'"):
      weights.from_darknet("resnet18", path)
    with self.assertRaisesRegex(weights.WeightsError, "by `from_darknet`"):
      weights.from_torchvision("darknet53", path)
    with self.assertRaisesRegex(FileNotFoundError, "no such file"):
      weights.from_darknet("darknet53", path.with_name("none"))

  def test_resolve_takes_the_content_for_the_kind(self):
    path = self.write(_stream(SHAPES), "named.anything")
    module, _, preprocess = weights.resolve("darknet53", str(path))
    self.assertEqual(module.num_classes, CLASSES)
    self.assertEqual(preprocess.mean, (0.0, 0.0, 0.0))
    self.assertEqual(weights.preprocessing("darknet53.weights"), preprocess)
    self.assertEqual(weights.preprocessing("darknet53"), preprocess)
    with self.assertRaisesRegex(weights.WeightsError, "got 'vgg11'"):
      weights.resolve("vgg11", str(path))


class WriteDarknetTest(file_case.FileCase):
  @parameterized.parameters((0, 1, 0), (0, 2, 5), (1, 0, 0))
  def test_round_trip_is_bit_exact(self, *version):
    raw = _stream(SHAPES, version=version)
    path = self.write(raw)
    module = _tiny(CLASSES)
    layers = weights.darknet_layers(module)
    header = weights.read_darknet_header(path)
    self.assertEqual(header, (*version, 123))
    state = weights.read_darknet(path, layers)
    # By way of the variables: nothing is lost in Flax's layout either.
    variables = weights.state_dict_to_variables(module, state)
    again = weights.variables_to_state_dict(module, variables)
    for given in (state, again):
      copy = path.with_name("copy.weights")
      weights.write_darknet(copy, given, layers, header=header)
      self.assertEqual(copy.read_bytes(), raw)
    self.assertEqual({p.name for p in path.parent.iterdir()},
                     {path.name, "copy.weights"})  # fmt: skip

  def test_arrays_must_fit(self):
    layers = [weights.DarknetLayer("fc", None, (2, 3, 1, 1))]
    state = {"fc.bias": np.ones(2), "fc.weight": np.ones((2, 3))}
    path = self.folder() / "x.weights"
    with self.assertRaisesRegex(weights.WeightsError, "'?fc.weight'?"):
      weights.write_darknet(path, state, layers)
    with self.assertRaisesRegex(weights.WeightsError, "fc.bias"):
      weights.write_darknet(path, {"fc.weight": state["fc.weight"]}, layers)
    self.assertFalse(path.exists())


class YoloTest(file_case.FileCase):
  @parameterized.parameters("yolov3", "yolov3_spp")
  def test_the_size_tells_the_number_of_classes(self, name):
    spp = name == "yolov3_spp"
    config = darknet_files.yolov3(
      (64, 64), blocks=(1, 0, 1), width=2, classes=7, num_heads=2, spp=spp
    )
    raw = config.stream(seen=5)
    path = self.write(raw, "x.weights")
    anchors = (((9, 9),) * 2 + ((8, 8),), ((4, 4), (3, 3), (2, 2)))
    settings = {"num_blocks": (1, 0, 1), "width": 2, "anchors": anchors}
    module, variables = weights.from_darknet(name, path, **settings)
    self.assertEqual((module.num_classes, module.spp), (7, spp))
    state = weights.variables_to_state_dict(module, variables)
    layers = weights.darknet_layers(module)
    copy = path.with_name("copy.weights")
    weights.write_darknet(
      copy, state, layers, header=weights.read_darknet_header(path)
    )
    self.assertEqual(copy.read_bytes(), raw)
    with self.assertRaisesRegex(weights.WeightsError, f"has {len(raw)} bytes"):
      weights.from_darknet(name, path, num_classes=8, **settings)
    with self.assertRaisesRegex(weights.WeightsError, "of another model"):
      weights.from_darknet(name, self.write(raw[:-4]), **settings)


class SizeTest(absltest.TestCase):
  def test_the_published_features_have_this_size(self):
    layers = weights.darknet_layers(backbones.darknet53())
    size = 20 + 4 * sum(layer.size for layer in layers[:-1])
    self.assertEqual(size, 162_482_580)  # darknet53.conv.74


if __name__ == "__main__":
  absltest.main()
