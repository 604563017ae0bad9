"""Tests of `vision-jax convert`."""

from unittest import mock

import jax
import numpy as np

from tests.cli import command_case
from vision_jax import weights
from vision_jax.nn import backbones


class ConvertTest(command_case.CommandCase):
  def _source(self, name="source.npz", **arguments):
    module = backbones.resnet_small(**arguments)
    state = weights.random_state_dict(weights.torch_shapes(module))
    path = self.folder / name
    np.savez(path, **state)
    return path, weights.state_dict_to_variables(module, state)

  def test_the_result_loads_and_is_the_same(self):
    source, expected = self._source(num_classes=5)
    out = self.folder / "new" / "net.safetensors"
    result = self.run_command(
      "convert", "resnet_small", source, "--out", out, "--licence", "CC0"
    )
    self.assertEqual((result.code, result.err), (0, ""), result)
    self.assertRegex(result.out, r"resnet_small: [\d,]+ parameters from")
    _, variables, metadata = weights.load_model(out)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    self.assertEqual(metadata.arguments, {"num_classes": 5})
    self.assertEqual(metadata.licence, "CC0")
    self.assertEqual(metadata.source, str(source))

  def test_a_file_of_darknet_without_a_classifier(self):
    def tiny(num_classes=1000):
      return backbones.Darknet((1, 1, 1, 1, 1), 4, num_classes)

    self.enterContext(mock.patch.dict(backbones.MODELS, darknet53=tiny))
    self.enterContext(mock.patch.object(backbones, "darknet53", tiny))
    layers = weights.darknet_layers(tiny(None))
    numbers = np.random.default_rng(0).random(sum(x.size for x in layers))
    header = np.array([0, 2, 0, 0, 0], "<i4").tobytes()
    source = self.save_bytes(
      "darknet53.conv.74", header + numbers.astype("<f4").tobytes()
    )
    out = self.folder / "net.safetensors"
    result = self.run_command("convert", "darknet53", source, "--out", out)
    self.assertEqual((result.code, result.err), (0, ""), result)
    module, variables, metadata = weights.load_model(out)
    self.assertIsNone(module.num_classes)
    self.assertEqual(metadata.preprocessing.crop, 256)
    np.testing.assert_array_equal(
      variables["params"]["conv0"]["norm"]["bias"],
      numbers[:4].astype(np.float32),
    )

  def test_half_precision_is_smaller(self):
    source, _ = self._source(num_classes=5)
    sizes = []
    for dtype in ("float32", "float16"):
      out = self.folder / f"{dtype}.safetensors"
      self.run_command(
        "convert", "resnet_small", source, "--out", out, "--dtype", dtype
      )
      sizes.append(out.stat().st_size)
    self.assertLess(sizes[1], 0.51 * sizes[0])

  def test_bad_input(self):
    source, _ = self._source(num_classes=5)
    cut = self.save_bytes("cut.npz", source.read_bytes()[:9000])
    out = self.folder / "net.safetensors"
    for arguments, pattern in (
      (("resnet_small", self.folder / "none.pth"), "none.pth"),
      (("resnet_small", cut), "cut.npz"),
      (("vgg16", source), "vgg16.* missing .* left over"),
      (("vgg99", source), "'vgg99'"),
    ):
      result = self.run_command("convert", *arguments, "--out", out)
      self.assert_one_line(
        result, 2, f"^vision-jax convert: error: .*{pattern}"
      )
      self.assertFalse(out.exists())
    result = self.run_command(
      "convert", "resnet_small", source, "--out", "a.pth"
    )
    self.assert_one_line(result, 2, "--out must end in .safetensors")
