"""Names and files of detectron2; values stand in tests/parity."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones, pyramids
from vision_jax.systems import pointrend, semantic_fpn

NAMES = {
  "backbone.bottom_up.stem.conv1.weight": "backbone.body.conv1.weight",
  "backbone.bottom_up.stem.conv1.norm.bias": "backbone.body.bn1.bias",
  "backbone.stem.conv3.norm.running_var": "backbone.bn3.running_var",
  "backbone.res5.2.conv3.norm.weight": "backbone.layer4.2.bn3.weight",
  "backbone.res2.0.shortcut.weight": "backbone.layer1.0.downsample.0.weight",
  "backbone.fpn_lateral5.bias": "backbone.fpn.inner_blocks.3.0.bias",
  "backbone.fpn_output2.weight": "backbone.fpn.layer_blocks.0.0.weight",
  "sem_seg_head.coarse_sem_seg_head.p5.4.weight": "classifier.p5.4.0.weight",
  "sem_seg_head.coarse_sem_seg_head.p5.4.norm.bias": "classifier.p5.4.1.bias",
  "sem_seg_head.coarse_sem_seg_head.predictor.bias": "classifier.predictor.bias",  # noqa: E501
  "sem_seg_head.point_head.fc2.weight": "point_head.fc2.weight",
  "sem_seg_head.decoder.res2.project_conv.weight": "classifier.decoder.res2.project_conv.0.weight",  # noqa: E501
  "sem_seg_head.decoder.res2.project_conv.norm.bias": "classifier.decoder.res2.project_conv.1.bias",  # noqa: E501
  "sem_seg_head.aspp.convs.4.1.bias": "classifier.aspp.convs.4.1.bias",
  "roi_heads.mask_coarse_head.coarse_mask_fc2.bias": "roi_heads.mask_head.coarse_head.fc2.bias",  # noqa: E501
  "roi_heads.mask_point_head.predictor.bias": "roi_heads.mask_head.point_head.predictor.bias",  # noqa: E501
  "roi_heads.mask_head.point_head.fc1.bias": "roi_heads.mask_head.point_head.fc1.bias",  # noqa: E501
}


def _small():
  resnet = backbones.ResNet(
    (1, 1, 1, 1), False, None, 8, stride_in_1x1=True, frozen_norm=True
  )
  coarse = semantic_fpn.SemanticFPN(
    semantic_fpn.PyramidBackbone(resnet, pyramids.FeaturePyramid(4)),
    nn.SemanticFPNHead(3, features=4, num_groups=2),
  )
  return pointrend.PointRend(coarse, nn.PointHead(3, width=5))


def _as_detectron2(module, state):
  """The state of the small network under detectron2's names."""
  import re

  result = {}
  for name, array in state.items():
    name = name.removeprefix("coarse.")
    name = re.sub(r"body\.conv1\.", "body.stem.conv1.", name)
    name = re.sub(r"body\.bn1\.", "body.stem.conv1.norm.", name)
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    name = re.sub(r"downsample\.0\.", "shortcut.", name)
    name = re.sub(r"downsample\.1\.", "shortcut.norm.", name)
    name = re.sub(r"layer(\d)\.", lambda m: f"res{int(m[1]) + 1}.", name)
    name = name.replace("backbone.body.", "backbone.bottom_up.")
    name = re.sub(
      r"fpn\.(inner|layer)_blocks\.(\d)\.0\.",
      lambda m: f"fpn_{'lateral' if m[1] == 'inner' else 'output'}{int(m[2]) + 2}.",  # noqa: E501
      name,
    )
    name = re.sub(r"(p\d\.\d)\.0\.", r"\1.", name)
    name = re.sub(r"(p\d\.\d)\.1\.", r"\1.norm.", name)
    name = name.replace("classifier.", "sem_seg_head.coarse_sem_seg_head.")
    if name.startswith("point_head"):
      name = "sem_seg_head." + name
      if array.ndim == 2:
        array = array[..., None]
    result[name] = array
  return result


class Detectron2Test(parameterized.TestCase):
  def test_names(self):
    self.assertEqual(weights.detectron2_names(NAMES), NAMES)

  def test_a_file_and_missing_statistics(self):
    module = _small()
    state = weights.random_state_dict(weights.torch_shapes(module))
    theirs = _as_detectron2(module, state)
    dropped = "backbone.bottom_up.res3.0.conv1.norm."
    theirs = {
      k: v for k, v in theirs.items() if not k.startswith(dropped + "running")
    }
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / "model.pkl"
      path.write_bytes(
        pickle.dumps({"model": theirs, "__author__": "x", "n": 1})
      )
      read = weights.read_state_dict(path)
    variables = weights.detectron2_to_variables(module, read)
    body = variables["batch_stats"]["coarse"]["backbone"]["body"]
    norm = body["layer2"]["0"]["bn1"]
    np.testing.assert_array_equal(norm["mean"], 0)
    np.testing.assert_allclose(norm["var"], 1 - 1e-5)
    np.testing.assert_array_equal(
      norm["scale"], state["coarse.backbone.body.layer2.0.bn1.weight"]
    )
    got = variables["params"]["point_head"]["fc1"]["kernel"]
    np.testing.assert_array_equal(got, state["point_head.fc1.weight"].T)

  def test_refused(self):
    class Evil:
      def __reduce__(self):
        return (print, ("!",))

    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / "model.pkl"
      path.write_bytes(pickle.dumps({"model": {"a": Evil()}}))
      with self.assertRaisesRegex(weights.WeightsError, "refused"):
        weights.read_state_dict(path)
    with self.assertRaisesRegex(weights.WeightsError, "must be one of"):
      weights.from_detectron2("vgg16", {})


if __name__ == "__main__":
  absltest.main()
