"""Tests of what stands between a command line and a network."""

import importlib.resources
import os
import pathlib
import tempfile
from unittest import mock

import jax
import numpy as np
import safetensors.numpy
from absl.testing import absltest, parameterized

from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.weights import constructors

PREPROCESS = weights.Preprocess(mean=(0.4, 0.5, 0.6), crop=96, resize=None)


def _save(path, model, **arguments):
  module = constructors.find_constructor(model)(**arguments)
  variables = weights.random_variables(module, seed=8)
  metadata = weights.WeightsMetadata(
    model, arguments, preprocessing=PREPROCESS, card="A card."
  )
  weights.save_weights(path, variables, metadata=metadata)
  return module, variables


class _Base(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)

  def bundle(self):
    """Puts small files where the package keeps its assets."""
    root = self.folder / "package"
    (root / "assets").mkdir(parents=True)
    self.enterContext(
      mock.patch.object(importlib.resources, "files", return_value=root)
    )
    return root / "assets"


class LoadModelTest(_Base):
  def test_from_a_file(self):
    path = self.folder / "net.safetensors"
    module, variables = _save(path, "resnet_small", num_classes=6)
    got, values, metadata = weights.load_model(path)
    self.assertEqual(got, module)
    jax.tree.map(np.testing.assert_array_equal, values, variables)
    self.assertEqual(metadata.preprocessing, PREPROCESS)

  def test_foreign_files(self):
    path = self.folder / "net.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(2)}, path)
    with self.assertRaisesRegex(weights.WeightsError, "no metadata"):
      weights.load_model(path)
    with self.assertRaises(weights.WeightsNotFoundError):
      weights.load_model(self.folder / "none.safetensors")


class LoadBundledTest(_Base):
  def test_every_name_has_a_constructor(self):
    for name in weights.BUNDLED:
      self.assertIsNotNone(constructors.find_constructor(name), name)

  @parameterized.parameters(*[(name,) for name in weights.BUNDLED])
  def test_reads_the_asset(self, name):
    _, variables = _save(self.bundle() / weights.BUNDLED[name]["bundled"], name)
    for module, values, metadata in (
      weights.load_bundled(name),
      weights.load_model(name),
    ):
      self.assertEqual(module, constructors.find_constructor(name)())
      jax.tree.map(np.testing.assert_array_equal, values, variables)
      self.assertEqual(metadata.card, "A card.")
    self.assertEqual(weights.preprocessing(name), PREPROCESS)
    _, values, preprocess = weights.resolve(name, "bundled")
    jax.tree.map(np.testing.assert_array_equal, values, variables)
    self.assertEqual(preprocess, PREPROCESS)

  def test_other_weights_of_a_model(self):
    file = weights.BUNDLED["resnet_small"]["textures"]
    _, variables = _save(self.bundle() / file, "resnet_small")
    _, values, _ = weights.load_bundled("resnet_small", weights="textures")
    jax.tree.map(np.testing.assert_array_equal, values, variables)
    _, values, preprocess = weights.resolve("resnet_small", "textures")
    jax.tree.map(np.testing.assert_array_equal, values, variables)
    self.assertEqual(preprocess, PREPROCESS)
    self.assertEqual(weights.preprocessing("resnet_small/textures"), PREPROCESS)
    with self.assertRaisesRegex(
      weights.WeightsError, r"one of \['bundled', .*'instances'\], got 'faces'"
    ):
      weights.load_bundled("resnet_small", weights="faces")

  def test_missing(self):
    self.bundle()
    with self.assertRaisesRegex(weights.WeightsError, "install vision_jax"):
      weights.load_bundled("vgg_small")
    with self.assertRaisesRegex(weights.WeightsError, "no bundled weights"):
      weights.resolve("vgg16", "bundled")


class PreprocessingTest(_Base):
  @parameterized.parameters(
    ("vgg16", 256),
    ("vgg16/IMAGENET1K_V1", 256),
    ("resnet50", 232),
    ("resnet50/IMAGENET1K_V1", 256),
    ("resnet50/DEFAULT", 232),
    ("resnext101_64x4d", 232),
  )
  def test_published(self, name, resize):
    got = weights.preprocessing(name)
    self.assertEqual((got.resize, got.crop, got.antialias), (resize, 224, True))
    self.assertEqual(got.mean, (0.485, 0.456, 0.406))
    self.assertEqual(got.std, (0.229, 0.224, 0.225))
    self.assertEqual((got.scale, got.channel_order), (1.0, "RGB"))

  def test_files(self):
    path = self.folder / "net.safetensors"
    _save(path, "resnet_small")
    self.assertEqual(weights.preprocessing(path), PREPROCESS)
    self.assertEqual(weights.preprocessing(str(path)), PREPROCESS)
    known = self.folder / "resnet50-11ad3fa6.pth"
    self.assertEqual(weights.preprocessing(known).resize, 232)
    unknown = self.folder / "mine.pth"
    unknown.write_bytes(b"PK\x03\x04")
    with self.assertRaisesRegex(weights.WeightsError, "says nothing about"):
      weights.preprocessing(unknown)

  def test_unknown(self):
    with self.assertRaises(weights.WeightsNotFoundError):
      weights.preprocessing("vgg99")
    with self.assertRaisesRegex(weights.WeightsError, "IMAGENET1K_V7"):
      weights.preprocessing("vgg16/IMAGENET1K_V7")


class ResolveTest(_Base):
  def test_random(self):
    module, a, preprocess = weights.resolve("resnet_small", "random", seed=3)
    b = weights.random_variables(module, seed=3)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    self.assertEqual(preprocess.resize, 256)

  def test_our_file(self):
    path = self.folder / "net.safetensors"
    module, variables = _save(path, "resnet_small", num_classes=4)
    got, values, preprocess = weights.resolve("resnet_small", str(path))
    self.assertEqual(got, module)
    self.assertEqual(preprocess, PREPROCESS)
    jax.tree.map(np.testing.assert_array_equal, values, variables)
    with self.assertRaisesRegex(weights.WeightsError, "--model resnet_small"):
      weights.resolve("vgg_small", str(path))

  def test_foreign_files(self):
    module = backbones.resnet_small(num_classes=4)
    state = weights.random_state_dict(weights.torch_shapes(module))
    for name in ("net.npz", "resnet50-11ad3fa6.npz", "net.safetensors"):
      path = self.folder / name
      if path.suffix == ".npz":
        np.savez(path, **state)
      else:
        safetensors.numpy.save_file(state, path)
      got, values, preprocess = weights.resolve("resnet_small", str(path))
      self.assertEqual(got, module)
      self.assertEqual(preprocess.resize, 256)
      np.testing.assert_array_equal(
        values["params"]["fc"]["kernel"], state["fc.weight"].T
      )

  def test_published_weights_need_a_network_or_the_cache(self):
    environment = {
      "VISION_JAX_CACHE": str(self.folder),
      "TORCH_HOME": str(self.folder),
    }
    offline = mock.patch("urllib.request.urlopen", side_effect=OSError("off"))
    with mock.patch.dict(os.environ, environment), offline:
      with self.assertRaisesRegex(weights.WeightsError, "cannot download"):
        weights.resolve("resnet18", "IMAGENET1K_V1")
    with self.assertRaisesRegex(weights.WeightsError, "with published weights"):
      weights.resolve("resnet_small", "IMAGENET1K_V1")

  def test_unknown(self):
    with self.assertRaisesRegex(weights.WeightsError, "got 'vgg99'"):
      weights.resolve("vgg99", "random")
    with self.assertRaisesRegex(FileNotFoundError, "none.pth"):
      weights.resolve("vgg16", str(self.folder / "none.pth"))


if __name__ == "__main__":
  absltest.main()
