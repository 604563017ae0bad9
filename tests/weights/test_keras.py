"""Tests of the reader of Keras' files."""

import h5py
import numpy as np
from absl.testing import absltest, parameterized

from tests.weights import file_case
from vision_jax import weights
from vision_jax.weights import keras

SHORTCUTS = {2: (64, 128), 3: (128, 256), 4: (256, 728), 13: (728, 1024)}


def _network(classes):
  """Layers of the network in Keras' order: name -> shapes of its arrays."""
  layers = {}

  def add(name, *kernels):
    layers[name] = kernels
    layers[f"{name}_bn"] = ((kernels[-1][-1],),) * 4

  def separable(name, inputs, outputs):
    add(name, (3, 3, inputs, 1), (1, 1, inputs, outputs))

  add("block1_conv1", (3, 3, 3, 32))
  layers["block1_conv1_act"] = ()
  add("block1_conv2", (3, 3, 32, 64))
  counted = 0
  for k in range(2, 14):
    if k in SHORTCUTS:
      inputs, outputs = SHORTCUTS[k]
      first = 728 if k == 13 else outputs
      separable(f"block{k}_sepconv1", inputs, first)
      separable(f"block{k}_sepconv2", first, outputs)
      suffix = f"_{counted}" if counted else ""
      layers[f"conv2d{suffix}"] = ((1, 1, inputs, outputs),)
      layers[f"batch_normalization{suffix}"] = ((outputs,),) * 4
      counted += 1
    else:
      for n in (1, 2, 3):
        separable(f"block{k}_sepconv{n}", 728, 728)
  separable("block14_sepconv1", 1024, 1536)
  separable("block14_sepconv2", 1536, 2048)
  if classes:
    layers["predictions"] = ((2048, classes), (classes,))
  return layers


def _fill(layers, seed=0):
  """Arrays whose values tell layer and place."""
  rng = np.random.default_rng(seed)
  return {
    name: [rng.random(shape, np.float32) + 0.5 for shape in shapes]
    for name, shapes in layers.items()
  }


def _write(path, arrays, *, group=None, split=False):
  """A file in the layout of Keras 2."""
  with h5py.File(path, "w") as file:
    root = file if group is None else file.create_group(group)
    names = [name.encode() for name in arrays]
    if split:  # as Keras does where the attribute would be too long
      root.attrs["layer_names0"] = names[:40]
      root.attrs["layer_names1"] = names[40:]
    else:
      root.attrs["layer_names"] = names
    for name, values in arrays.items():
      layer = root.create_group(name)
      inner = [f"{name}/array_{k}:0" for k in range(len(values))]
      layer.attrs["weight_names"] = [text.encode() for text in inner]
      for text, value in zip(inner, values, strict=True):
        layer[text] = value
  return path


class FromKerasTest(file_case.FileCase):
  def test_every_array_finds_its_place(self):
    arrays = _fill(_network(5))
    path = _write(self.folder() / "x.h5", arrays)
    module, variables = weights.from_keras("xception", path)
    self.assertEqual(module.num_classes, 5)
    params, stats = variables["params"], variables["batch_stats"]
    same = np.testing.assert_array_equal
    same(params["block1_conv2"]["kernel"], arrays["block1_conv2"][0])
    depthwise = params["block7_sepconv2"]["depthwise"]["kernel"]
    self.assertEqual(depthwise.shape, (3, 3, 1, 728))
    same(depthwise[:, :, 0], arrays["block7_sepconv2"][0][..., 0])
    pointwise = params["block7_sepconv2"]["pointwise"]["kernel"]
    same(pointwise, arrays["block7_sepconv2"][1])
    gamma, beta, mean, var = arrays["block14_sepconv1_bn"]
    same(params["block14_sepconv1_bn"]["scale"], gamma)
    same(params["block14_sepconv1_bn"]["bias"], beta)
    same(stats["block14_sepconv1_bn"]["mean"], mean)
    same(stats["block14_sepconv1_bn"]["var"], var)
    for number, block in enumerate(SHORTCUTS):
      suffix = f"_{number}" if number else ""
      kernel = params[f"block{block}_shortcut"]["kernel"]
      same(kernel, arrays[f"conv2d{suffix}"][0])
      moved = stats[f"block{block}_shortcut_bn"]["mean"]
      same(moved, arrays[f"batch_normalization{suffix}"][2])
    same(params["predictions"]["kernel"], arrays["predictions"][0])
    same(params["predictions"]["bias"], arrays["predictions"][1])

  def test_no_classifier(self):
    whole = _write(self.folder() / "x.h5", _fill(_network(3)))
    cut = _write(
      self.folder() / "notop.h5",
      _fill(_network(0)),
      group="model_weights",
      split=True,
    )
    for source, options in ((cut, {}), (whole, {"num_classes": 0})):
      module, variables = weights.from_keras("xception", source, **options)
      self.assertIsNone(module.num_classes)
      self.assertNotIn("predictions", variables["params"])
    module, _, preprocess = weights.resolve("xception", str(whole))
    self.assertEqual(module.num_classes, 3)
    self.assertEqual(preprocess.mean, (0.5, 0.5, 0.5))
    self.assertEqual(preprocess.crop, 299)
    # [0, 1] -> [-1, 1].
    ends = np.float32([[[0, 0, 0], [1, 1, 1]]])
    got = weights.normalize(ends, preprocess)
    np.testing.assert_allclose(got, 2 * ends - 1, atol=1e-6)

  def test_weights_of_another_network(self):
    arrays = _fill(_network(0))
    arrays["block5_sepconv1"] = arrays["block14_sepconv1"]
    arrays["dense_7"] = [np.ones((4, 2)), np.ones(2)]
    del arrays["block6_sepconv1_bn"]
    path = _write(self.folder() / "x.h5", arrays)
    with self.assertRaises(weights.WeightsMismatchError) as context:
      weights.from_keras("xception", path)
    error = context.exception
    self.assertIn("block6_sepconv1_bn.running_var", error.missing)
    self.assertIn("dense_7.weight", error.unused)
    self.assertIn("block5_sepconv1.pointwise.weight", error.shapes)


class ReadKerasTest(file_case.FileCase):
  def _small(self, **options):
    layers = {"a": ((2, 3), (3,)), "b": (), "c": ((3,),) * 4}
    path = self.folder() / "x.h5"
    return _write(path, _fill(layers), **options)

  def test_order_and_layers_without_arrays(self):
    got = weights.read_keras(self._small())
    self.assertEqual(list(got), ["a", "c"])
    expected = _fill({"a": ((2, 3), (3,)), "b": (), "c": ((3,),) * 4})
    for name, arrays in got.items():
      for mine, truth in zip(arrays, expected[name], strict=True):
        np.testing.assert_array_equal(mine, truth)

  @parameterized.parameters(
    # Keras 1, 2, and a session in which other networks came before.
    (("convolution2d_1", "convolution2d_2"), ("batchnormalization_1",)),
    (("conv2d", "conv2d_1"), ("batch_normalization",)),
    (("conv2d_9", "conv2d_10"), ("batch_normalization_36",)),
  )
  def test_layers_named_by_a_counter(self, convs, norms):
    one = [np.zeros(1)]
    renamed = keras._rename(dict.fromkeys((*reversed(convs), *norms), one))
    self.assertEqual(
      set(renamed),
      {"block2_shortcut", "block3_shortcut", "block2_shortcut_bn"},
    )
    numbered = {name: [np.full(1, k)] for k, name in enumerate(convs)}
    renamed = keras._rename(numbered)
    self.assertEqual(renamed["block3_shortcut"][0], 1)

  def test_damaged_files(self):
    path = self._small()
    raw = path.read_bytes()
    for cut in (raw[: len(raw) // 2], raw[:600], raw[:8]):
      path.write_bytes(cut)
      with self.assertRaisesRegex(weights.WeightsError, "damaged or trunc"):
        weights.read_keras(path)
    with h5py.File(path, "w") as file:
      file.attrs["layer_names"] = [b"a"]
    with self.assertRaisesRegex(weights.WeightsError, "damaged.*'a'"):
      weights.read_keras(path)

  def test_files_of_another_kind(self):
    path = self.folder() / "x.h5"
    with h5py.File(path, "w") as file:
      file["layers/conv2d/vars/0"] = np.zeros(3)
    with self.assertRaisesRegex(weights.WeightsError, "model.save"):
      weights.read_keras(path)
    with self.assertRaisesRegex(weights.WeightsError, "by `from_keras`"):
      weights.from_torchvision("xception", path)
    with self.assertRaisesRegex(weights.WeightsError, "not an HDF5 file"):
      weights.read_keras(self.write(b"x" * 100))
    with self.assertRaisesRegex(weights.WeightsError, "got 'darknet53'"):
      weights.from_keras("darknet53", path)
    path = _write(path, {"odd": [np.zeros((1, 2, 3))]})
    with self.assertRaisesRegex(weights.WeightsError, r"'odd'.*\[1, 2, 3\]"):
      weights.from_keras("xception", path)


if __name__ == "__main__":
  absltest.main()
