"""Backbones and weights against torch and torchvision, live.

Run with `make parity`. Both sides get the same random weights, by name.
"""

import functools
import pathlib
import re
import tempfile

import jax
import numpy as np
import torch
from absl.testing import absltest, parameterized

from tests.parity import torch_backbones
from tests.parity.torchvision_shim import torchvision
from vision_jax import nn, weights
from vision_jax.nn import backbones

models = torchvision.models
NAMES = tuple(n for n in weights.CATALOG if n in backbones.MODELS)
ALL_NAMES = (*NAMES, *(n for n in weights.FOREIGN if n in backbones.MODELS))

# Every name once; the sizes are (height, width). One small member per family
# sees the standard size, others odd ones.
CASES = (
  ("alexnet", (224, 224)),
  ("alexnet", (225, 160)),
  ("vgg11", (224, 224)),
  ("vgg11", (64, 97)),
  ("vgg11_bn", (224, 224)),
  ("vgg11_bn", (225, 160)),
  ("vgg13", (64, 97)),
  ("vgg13_bn", (97, 64)),
  ("vgg16", (225, 160)),
  ("vgg16_bn", (64, 97)),
  ("vgg19", (97, 64)),
  ("vgg19_bn", (64, 97)),
  ("resnet18", (224, 224)),
  ("resnet18", (225, 160)),
  ("resnet34", (64, 97)),
  ("resnet50", (225, 160)),
  ("resnet101", (97, 64)),
  ("resnet152", (64, 97)),
  ("resnext50_32x4d", (224, 224)),
  ("resnext101_32x8d", (64, 97)),
  ("resnext101_64x4d", (97, 64)),
  ("wide_resnet50_2", (224, 224)),
  ("wide_resnet101_2", (64, 97)),
  ("densenet121", (224, 224)),
  ("densenet161", (97, 64)),
  ("densenet169", (64, 97)),
  ("densenet201", (97, 64)),
  # Partial windows of the pools: at 225 in one, at 231 in others of the three.
  ("squeezenet1_0", (225, 231)),
  ("squeezenet1_0", (224, 224)),
  ("squeezenet1_1", (225, 231)),
  ("mobilenet_v2", (224, 224)),
  ("mobilenet_v2", (97, 64)),
  ("mobilenet_v3_large", (225, 160)),
  ("mobilenet_v3_small", (64, 97)),
  ("darknet53", (96, 160)),
  ("darknet53", (97, 75)),
  # Pools over odd and even sides, and over both at once.
  ("xception", (299, 299)),
  ("xception", (128, 160)),
  ("xception", (113, 131)),
)


def _images(size, batch=1):
  rng = np.random.default_rng(sum(size))
  images = rng.normal(size=(batch, *size, 3)).astype(np.float32)
  # Smooth and textured parts, so that pooling sees ties of both kinds.
  images[:, : size[0] // 3] = images[:, :1, :1]
  return images


def _relative(got, expected):
  assert got.shape == expected.shape, (got.shape, expected.shape)
  return np.abs(got - expected).max() / np.abs(expected).max()


@functools.lru_cache(maxsize=1)
def _reference(name):
  draw = functools.partial(weights.random_state_dict, seed=7)
  return torch_backbones.random_model(name, draw)


def _compare(test, name, size, *, module=None, reference=None, tolerance=1e-4):
  model, state = reference or _reference(name)
  if module is None:
    module, variables = weights.from_torchvision(name, state)
  else:
    variables = weights.state_dict_to_variables(module, state)
  images = _images(size)
  logits, found = jax.jit(module.apply)(variables, images)
  expected_logits, expected = torch_backbones.endpoints(model, images)
  test.assertEqual(set(found), set(expected))
  worst = _relative(np.asarray(logits), expected_logits)
  for key, value in expected.items():
    test.assertGreater(value.std(), 1e-3 * np.abs(value).max(), key)
    rms = float(np.sqrt(np.mean(np.square(value))))
    test.assertBetween(rms, 0.05, 100, key)
    worst = max(worst, _relative(np.asarray(found[key]), value))
  test.assertGreater(expected_logits.std(), 1e-2)
  print(f"{name} {size}: worst relative difference {worst:.1e}")
  test.assertLess(worst, tolerance)


class ActivationsTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_logits_and_every_endpoint(self, name, size):
    _compare(self, name, size)

  def test_every_name_is_covered(self):
    self.assertEqual({name for name, _ in CASES}, set(ALL_NAMES))

  @parameterized.parameters(("resnet50", 8), ("resnet50", 16))
  def test_output_stride(self, name, stride):
    replace = {8: [False, True, True], 16: [False, False, True]}[stride]
    draw = functools.partial(weights.random_state_dict, seed=7)
    reference = torch_backbones.random_model(
      name, draw, replace_stride_with_dilation=replace
    )
    module = backbones.MODELS[name](output_stride=stride)
    _compare(self, name, (97, 64), module=module, reference=reference)
    images = _images((97, 64))
    _, found = jax.eval_shape(
      module.apply,
      jax.eval_shape(module.init, jax.random.key(0), images),
      images,
    )
    self.assertEqual(
      found["layer4"].shape[1:3], (-(-97 // stride), -(-64 // stride))
    )

  @parameterized.parameters(
    ("mobilenet_v3_large", 16), ("mobilenet_v3_small", 16), ("mobilenet_v2", 8)
  )
  def test_output_stride_of_a_mobilenet(self, name, stride):
    draw = functools.partial(weights.random_state_dict, seed=7)
    options = {"dilated": True} if "v3" in name else {}
    model, state = torch_backbones.random_model(name, draw, **options)
    if not options:
      torch_backbones.dilate_mobilenet_v2(model)
    module = backbones.MODELS[name](output_stride=stride)
    _compare(self, name, (97, 64), module=module, reference=(model, state))
    info = nn.endpoint_info(module)
    last = [e for e in info if e.startswith("conv")][-1]
    self.assertEqual(info[last].stride, stride)


class CatalogTest(parameterized.TestCase):
  @parameterized.parameters(*NAMES)
  def test_table_agrees_with_torchvision(self, name):
    ours = weights.CATALOG[name]
    theirs = models.get_model_weights(name)
    self.assertEqual({*ours, "DEFAULT"}, set(theirs.__members__))
    self.assertEqual(weights.find_entry(name).url, theirs.DEFAULT.url)
    shapes = weights.torch_shapes(backbones.MODELS[name]())
    parameters = sum(
      int(np.prod(shape))
      for key, shape in shapes.items()
      if not re.search(r"running_(mean|var)$", key)
    )
    for enum, entry in ours.items():
      other = theirs[enum]
      self.assertEqual(entry.url, other.url)
      self.assertEqual(parameters, other.meta["num_params"])
      accuracy = other.meta["_metrics"]["ImageNet-1K"]["acc@1"]
      np.testing.assert_equal(entry.accuracy, accuracy)
      transform = other.transforms()
      ours_pre = weights.preprocessing(f"{name}/{enum}")
      self.assertEqual([ours_pre.resize], transform.resize_size)
      self.assertEqual([ours_pre.crop], transform.crop_size)
      self.assertEqual(list(ours_pre.mean), transform.mean)
      self.assertEqual(list(ours_pre.std), transform.std)
      self.assertEqual(ours_pre.antialias, transform.antialias)
      self.assertEqual(transform.interpolation.value, "bilinear")
    theirs = torch_backbones.state_shapes(torch_backbones.create(name))
    theirs = {
      k: v for k, v in theirs.items() if not k.endswith("batches_tracked")
    }
    self.assertEqual(shapes, theirs)


class PreprocessTest(parameterized.TestCase):
  @parameterized.product(
    size=((300, 451), (451, 300), (180, 200), (256, 300)),
    name=(
      "resnet50/IMAGENET1K_V1",
      "resnet50/IMAGENET1K_V2",
      "vgg16/IMAGENET1K_FEATURES",
    ),
  )
  def test_same_pixels(self, size, name):
    image = np.random.default_rng(0).random((*size, 3)).astype(np.float32)
    model, enum = name.split("/")
    transform = models.get_model_weights(model)[enum].transforms()
    expected = transform(torch.from_numpy(image.transpose(2, 0, 1).copy()))
    preprocess = weights.preprocessing(name)
    got = weights.preprocess_image(image, preprocess)
    np.testing.assert_allclose(
      got,
      expected.numpy().transpose(1, 2, 0),
      atol=2e-5 / min(preprocess.std),
    )


class FilesOfTorchTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.path = pathlib.Path(folder.name) / "file.pth"

  def check(self, content, expected, **options):
    torch.save(content, self.path, **options)
    got = weights.read_state_dict(self.path)
    self.assertEqual(list(got), list(expected))
    for name, tensor in expected.items():
      tensor = tensor.detach()
      self.assertEqual(got[name].shape, tuple(tensor.shape))
      self.assertEqual(str(got[name].dtype), str(tensor.dtype)[6:])
      self.assertEqual(
        got[name].tobytes(),
        tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        if tensor.numel()
        else b"",
      )

  @parameterized.parameters(True, False)
  def test_a_whole_model(self, new_format):
    state = models.resnet18(weights=None).state_dict()
    self.check(state, state, _use_new_zipfile_serialization=new_format)
    module, variables = weights.from_torchvision("resnet18", self.path)
    back = weights.variables_to_state_dict(module, variables)
    for name, array in back.items():
      np.testing.assert_array_equal(array, state[name].numpy())

  @parameterized.parameters(True, False)
  def test_types_views_and_parameters(self, new_format):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
      "float16": base.half(),
      "bfloat16": base.bfloat16(),
      "float64": base.double(),
      "int64": base.long(),
      "int32": base.int(),
      "int16": base.short(),
      "int8": base.char(),
      "uint8": base.byte(),
      "bool": base % 2 == 0,
      "complex": torch.complex(base, -base),
      "base": base,
      "transposed": base.t(),
      "slice": base[1:, ::2],
      "expanded": base[:1].expand(5, 6),
      "scalar": base[2, 3],
      "empty": torch.zeros(0, 3),
      "parameter": torch.nn.Parameter(base[1]),
    }
    self.check(tensors, tensors, _use_new_zipfile_serialization=new_format)

  @parameterized.parameters(True, False)
  def test_checkpoint(self, new_format):
    net = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(3, 2)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    content = {
      "epoch": 3,
      "best": np.float64(0.5),
      "model": net.state_dict(),
      "optimizer": optimizer.state_dict(),
      "size": torch.Size([1, 2]),
    }
    expected = net.module.state_dict()
    self.check(content, expected, _use_new_zipfile_serialization=new_format)

  @parameterized.parameters(True, False)
  def test_a_module_is_refused(self, new_format):
    torch.save(
      torch.nn.Linear(2, 2),
      self.path,
      _use_new_zipfile_serialization=new_format,
    )
    with self.assertRaisesRegex(weights.WeightsError, "refused|state_dict"):
      weights.read_state_dict(self.path)

  def test_torch_reads_what_we_save(self):
    import safetensors.torch

    module = backbones.vgg11(num_classes=4, hidden=6)
    variables = weights.random_variables(module)
    arguments = {"num_classes": 4, "hidden": 6}
    path = self.path.with_suffix(".safetensors")
    weights.save_weights(
      path, variables, metadata=weights.WeightsMetadata("vgg11", arguments)
    )
    state = safetensors.torch.load_file(path)
    expected = weights.variables_to_state_dict(module, variables)
    self.assertEqual(set(state), set(expected))
    for name, tensor in state.items():
      np.testing.assert_array_equal(tensor.numpy(), expected[name])


if __name__ == "__main__":
  absltest.main()
