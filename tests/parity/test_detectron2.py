"""Segmentation networks in detectron2's form against a rebuild in torch."""

import functools
import pickle
import tempfile
from pathlib import Path

import jax
import numpy as np
import torch
from absl.testing import absltest, parameterized

from tests.parity import torch_detectron2
from vision_jax import nn, weights
from vision_jax.nn import backbones, pyramids
from vision_jax.systems import deeplab, pointrend, semantic_fpn

BLOCKS = (1, 1, 1, 3)
CLASSES = 7

draw = functools.partial(weights.random_state_dict, seed=3)


def _images(size):
  rng = np.random.default_rng(sum(size))
  return rng.normal(size=(2, *size, 3)).astype(np.float32)


def _padded(images):
  """As detectron2's ImageList: zeros below and to the right, to 32."""
  down, right = (-n % 32 for n in images.shape[1:3])
  return np.pad(images, ((0, 0), (0, down), (0, right), (0, 0)))


def _cut(scores, size):
  return scores[:, :, : size[0], : size[1]]


def _torch(images):
  return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _semantic_fpn(width=32, head_groups=32):
  resnet = backbones.ResNet(
    BLOCKS, True, None, stride_in_1x1=True, frozen_norm=True
  )
  return semantic_fpn.SemanticFPN(
    semantic_fpn.PyramidBackbone(resnet, pyramids.FeaturePyramid(width)),
    nn.SemanticFPNHead(CLASSES),
  )


def _r103():
  return backbones.ResNet(
    BLOCKS,
    True,
    None,
    stem_widths=(64, 64, 128),
    output_stride=16,
    multi_grid=(1, 2, 4),
    dilate_first=True,
  )


class Detectron2Test(parameterized.TestCase):
  def _close(self, got, expected, tolerance=1e-5):
    expected = expected.numpy().transpose(0, 2, 3, 1)
    self.assertEqual(got.shape, expected.shape)
    self.assertGreater(expected.std(), 1e-2 * np.abs(expected).max())
    worst = np.abs(np.asarray(got) - expected).max() / np.abs(expected).max()
    print(f"worst relative difference {worst:.1e}")
    self.assertLess(worst, tolerance)

  @parameterized.parameters((64, 96), (50, 71))
  def test_semantic_fpn(self, *size):
    model = torch_detectron2.SemanticFPN(BLOCKS, 32, CLASSES)
    state = torch_detectron2.random_state(model, draw)
    module = _semantic_fpn()
    variables = weights.detectron2_to_variables(module, state)
    images = _images(size)
    with torch.no_grad():
      expected = _cut(model(_torch(_padded(images))), size)
    self._close(jax.jit(module.apply)(variables, images)["out"], expected)

  @parameterized.parameters(
    ("DeepLab", None), ("DeepLab", (2, 3)), ("DeepLabPlus", (4, 3))
  )
  def test_deeplab(self, kind, window):
    rates = (2, 3, 6)
    model = getattr(torch_detectron2, kind)(
      BLOCKS, (2, 4, 8), rates, window, 16, CLASSES
    )
    state = torch_detectron2.random_state(model, draw)
    if kind == "DeepLab":
      head = nn.DeepLabWindowHead(CLASSES, rates, window, 16)
      module = deeplab.Segmenter(_r103(), head)
    else:
      head = nn.DeepLabPlusHead(CLASSES, rates, window, 16)
      module = deeplab.Segmenter(_r103(), head, features=("layer4", "layer1"))
    variables = weights.detectron2_to_variables(module, state)
    images = _images((64, 96))
    got = jax.jit(functools.partial(module.apply, method="coarse"))(
      variables, images
    )
    with torch.no_grad():
      expected = model(_torch(images))
    self._close(got.logits, expected)

  @parameterized.parameters(
    (False, (64, 96)), (True, (64, 96)), (False, (50, 71))
  )
  def test_pointrend(self, each, size):
    model = torch_detectron2.PointRend(BLOCKS, 32, CLASSES, each)
    state = torch_detectron2.random_state(model, draw)
    module = pointrend.PointRend(
      _semantic_fpn(),
      nn.PointHead(CLASSES, coarse_each_layer=each),
      num_points=200,
    )
    variables = weights.detectron2_to_variables(module, state)
    images = _images(size)
    run = jax.jit(functools.partial(module.apply, method="refine"))
    result, _ = run(variables, images)
    given = [torch.from_numpy(np.array(p)) for p in result.points]
    padded = _torch(_padded(images))
    with torch.no_grad():
      expected, _ = model(padded, 200, 2, given)
      free, used = model(padded, 200, 2)
    self._close(result.logits, expected)
    out = jax.jit(module.apply)(variables, images)["out"]
    self._close(out, _cut(expected, size))
    got = np.asarray(result.logits)
    changes = (got.argmax(-1) != expected.argmax(1).numpy()).sum()
    self.assertEqual(changes, 0)
    self.assertGreater(len(np.unique(got.argmax(-1))), 3)
    # Found by torch itself, all but near-ties are the same points.
    for ours, theirs in zip(given, used, strict=True):
      for a, b in zip(ours.tolist(), theirs.tolist(), strict=True):
        same = {tuple(np.round(p, 4)) for p in a}
        same &= {tuple(np.round(p, 4)) for p in b}
        self.assertGreater(len(same), 190)
    flips = (got.argmax(-1) != free.argmax(1).numpy()).mean()
    self.assertLess(flips, 1e-3)

  def test_a_file(self):
    model = torch_detectron2.SemanticFPN((3, 4, 6, 3), 256, CLASSES)
    state = torch_detectron2.random_state(model, draw)
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / "model_final.pkl"
      content = {"model": state, "__author__": "test"}
      path.write_bytes(pickle.dumps(content))
      module, variables = weights.from_detectron2("semantic_fpn_resnet50", path)
    self.assertEqual(module.num_classes, CLASSES)
    again = weights.detectron2_to_variables(module, state)
    for a, b in zip(
      jax.tree.leaves(variables), jax.tree.leaves(again), strict=True
    ):
      np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
  absltest.main()
