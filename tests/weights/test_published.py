"""Tests of published weights: download, check, convert. No network is used."""

import hashlib
import os
import pathlib
import tempfile
import urllib.error
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from tests.weights import torch_files as tf
from vision_jax import weights
from vision_jax.nn import backbones
from vision_jax.weights import catalog, published


def _pth(state):
  """The bytes of a .pth file with the arrays of a state dict."""
  content, storages = {}, {}
  for key, (name, array) in enumerate(state.items()):
    content[name] = tf.tensor(str(key), "float32", array.size, array.shape)
    storages[str(key)] = array.tobytes()
  return tf.zip_file(content, storages)


class _Base(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)
    self.cache = self.folder / "cache"
    self.remote = self.folder / "remote"
    self.remote.mkdir()
    environment = {
      "VISION_JAX_CACHE": str(self.cache),
      "TORCH_HOME": str(self.folder / "torch"),
    }
    self.enterContext(mock.patch.dict(os.environ, environment))
    self.enterContext(
      mock.patch.object(catalog, "BASE_URL", self.remote.as_uri() + "/")
    )

  def publish(self, raw, *, model="resnet_small", digits=None, **fields):
    """Puts a file where downloads come from, and into the catalog."""
    digits = digits or hashlib.sha256(raw).hexdigest()[:8]
    entry = catalog.Entry(f"{model}-{digits}.pth", 50.0, **fields)
    (self.remote / entry.file).write_bytes(raw)
    entries = {"IMAGENET1K_V1": entry}
    self.enterContext(
      mock.patch.dict(catalog.CATALOG, {model: entries}, clear=False)
    )
    return entry


def _small_state(**kwargs):
  return weights.random_state_dict(
    weights.torch_shapes(backbones.resnet_small(**kwargs))
  )


class FromTorchvisionTest(_Base):
  def test_mapping_file_and_download_agree(self):
    state = _small_state(num_classes=4)
    raw = _pth(state)
    path = self.folder / "mine.pth"
    path.write_bytes(raw)
    entry = self.publish(raw)
    results = [
      weights.from_torchvision("resnet_small", source)
      for source in (state, path, str(path), "IMAGENET1K_V1", "DEFAULT")
    ]
    for module, variables in results:
      self.assertEqual(module.num_classes, 4)
      back = weights.variables_to_state_dict(module, variables)
      self.assertEqual(set(back), set(state))
      for name in state:
        np.testing.assert_array_equal(back[name], state[name])
    self.assertTrue((self.cache / entry.file).exists())
    self.assertLen(list(self.cache.iterdir()), 1)

  def test_number_of_classes(self):
    state = _small_state(num_classes=7)
    module, _ = weights.from_torchvision("resnet_small", state, num_classes=7)
    self.assertEqual(module.num_classes, 7)
    with self.assertRaises(weights.WeightsMismatchError) as context:
      weights.from_torchvision("resnet_small", state, num_classes=8)
    self.assertEqual(
      dict(context.exception.shapes),
      {"fc.weight": ((7, 128), (8, 128)), "fc.bias": ((7,), (8,))},
    )
    module, variables = weights.from_torchvision(
      "resnet_small", state, num_classes=0, output_stride=16
    )
    self.assertIsNone(module.num_classes)
    self.assertEqual(module.output_stride, 16)
    self.assertNotIn("fc", variables["params"])
    np.testing.assert_array_equal(
      variables["params"]["conv1"]["kernel"][:, :, 1, 2],
      state["conv1.weight"][2, 1],
    )

  def test_weights_of_another_architecture(self):
    state = _small_state(num_classes=7)
    with self.assertRaises(weights.WeightsMismatchError) as context:
      weights.from_torchvision("resnet34", state)
    self.assertIn("layer1.2.conv1.weight", context.exception.missing)
    self.assertEmpty(context.exception.unused)
    with self.assertRaises(weights.WeightsMismatchError) as context:
      weights.from_torchvision("vgg11", state, num_classes=0)
    self.assertIn("features.0.weight", context.exception.missing)
    self.assertIn("conv1.weight", context.exception.unused)
    with self.assertRaisesRegex(KeyError, "from_torchvision.'resnet50'"):
      weights.from_torchvision("resnet50", state)

  def test_not_a_number_is_named(self):
    state = _small_state(num_classes=7)
    state["layer3.0.bn2.running_var"][5] = np.nan
    with self.assertRaisesRegex(
      weights.WeightsError, "'layer3.0.bn2.running_var' holds 1 values"
    ):
      weights.from_torchvision("resnet_small", state)

  def test_features_only_weights_give_no_classifier(self):
    module = backbones.vgg11(num_classes=2, hidden=3)
    state = weights.random_state_dict(weights.torch_shapes(module))
    for name, array in state.items():
      if name.startswith("classifier."):
        array[:] = np.nan
    self.publish(_pth(state), model="vgg11", features_only=True)
    module, variables = weights.from_torchvision("vgg11", "DEFAULT")
    self.assertIsNone(module.num_classes)
    self.assertEqual(list(variables["params"]), ["features"])
    with self.assertRaisesRegex(weights.WeightsError, "'classifier.0.bias'"):
      weights.from_torchvision("vgg11", "DEFAULT", num_classes=2, hidden=3)

  def test_unknown_models_and_weights(self):
    with self.assertRaisesRegex(weights.WeightsError, "got 'resnet19'"):
      weights.from_torchvision("resnet19", {})
    with self.assertRaisesRegex(weights.WeightsError, "IMAGENET1K_V9"):
      weights.from_torchvision("resnet18", "IMAGENET1K_V9")
    with self.assertRaisesRegex(weights.WeightsError, "no published weights"):
      weights.from_torchvision("vgg_small", "DEFAULT")
    with self.assertRaisesRegex(FileNotFoundError, "no such file"):
      weights.from_torchvision("resnet_small", "resnet18.pth")


class DownloadTest(_Base):
  def test_no_network_says_how_to_place_the_file(self):
    entry = self.publish(b"something")
    error = urllib.error.URLError("Name or service not known")
    with mock.patch.object(
      published.urllib.request, "urlopen", side_effect=error
    ):
      with self.assertRaises(weights.WeightsError) as context:
        weights.from_torchvision("resnet_small", "DEFAULT")
    text = str(context.exception)
    self.assertIn(entry.url, text)
    self.assertIn(str(self.cache / entry.file), text)
    self.assertIn("place it at", text)
    self.assertIn("Name or service not known", text)
    self.assertNotIn("\n", text)
    self.assertEmpty(list(self.cache.iterdir()))

  def test_a_changed_download_is_refused_and_leaves_nothing(self):
    self.publish(b"changed on the way", digits="00000000")
    with self.assertRaisesRegex(weights.WeightsError, "expected 00000000"):
      weights.from_torchvision("resnet_small", "DEFAULT")
    self.assertEmpty(list(self.cache.iterdir()))

  def test_a_truncated_file_in_the_cache_is_noticed(self):
    raw = b"a long file of weights"
    entry = self.publish(raw)
    path = published.fetch(entry)
    self.assertEqual(path.read_bytes(), raw)
    path.write_bytes(raw[:-3])
    with self.assertRaisesRegex(weights.WeightsError, "truncated or changed"):
      published.fetch(entry)

  def test_files_placed_by_hand_or_by_torch_are_used(self):
    raw = b"placed by hand"
    entry = self.publish(raw)
    (self.remote / entry.file).unlink()
    torch_path = self.folder / "torch" / "hub" / "checkpoints" / entry.file
    torch_path.parent.mkdir(parents=True)
    torch_path.write_bytes(raw)
    self.assertEqual(published.fetch(entry), torch_path)
    self.cache.mkdir()
    (self.cache / entry.file).write_bytes(raw)
    self.assertEqual(published.fetch(entry), self.cache / entry.file)

  def test_a_cache_that_cannot_be_written(self):
    entry = self.publish(b"x")
    self.cache.write_text("a file, not a folder")
    with self.assertRaisesRegex(weights.WeightsError, "VISION_JAX_CACHE"):
      published.fetch(entry)


class CacheDirTest(absltest.TestCase):
  def test_environment(self):
    with mock.patch.dict(os.environ, {"VISION_JAX_CACHE": "/a/b"}):
      self.assertEqual(weights.cache_dir(), pathlib.Path("/a/b"))
    clean = {"VISION_JAX_CACHE": "", "XDG_CACHE_HOME": "/c"}
    with mock.patch.dict(os.environ, clean):
      self.assertEqual(weights.cache_dir(), pathlib.Path("/c/vision_jax"))
    clean = {"VISION_JAX_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}
    with mock.patch.dict(os.environ, clean):
      self.assertEqual(
        weights.cache_dir(), pathlib.Path("/h/.cache/vision_jax")
      )


if __name__ == "__main__":
  absltest.main()
