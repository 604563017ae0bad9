"""Writes the golden scores of segmentation networks in detectron2's form.

Every stage has one block, so that the tests compile quickly. PointRend writes
every cell, so that near-ties decide nothing.

Run from the repository root, with the `compare` extra installed:

  python -m tests.golden.make_detectron2

Weights are random by name, images made by exact arithmetic, as in
make_backbones. Read by tests/systems/test_detectron2_forms.py.
"""

import functools

import numpy as np

from tests.golden.make_backbones import ROOT, SEED, images, sample_indices

BLOCKS = (1, 1, 1, 1)
CLASSES, WIDTH = 5, 32
RATES = (2, 3, 6)
NAMES = ("semantic_fpn", "pointrend", "deeplabv3_r103", "deeplabv3_plus_r103")


def modules():
  """Our side."""
  from vision_jax import nn
  from vision_jax.nn import backbones, pyramids
  from vision_jax.systems import deeplab, pointrend, semantic_fpn

  def fpn():
    resnet = backbones.ResNet(
      BLOCKS, True, None, stride_in_1x1=True, frozen_norm=True
    )
    return semantic_fpn.SemanticFPN(
      semantic_fpn.PyramidBackbone(resnet, pyramids.FeaturePyramid(WIDTH)),
      nn.SemanticFPNHead(CLASSES),
    )

  r103 = functools.partial(
    backbones.ResNet,
    BLOCKS,
    True,
    None,
    stem_widths=(64, 64, 128),
    output_stride=16,
    multi_grid=(2,),
    dilate_first=True,
  )
  head = nn.PointHead(CLASSES, coarse_each_layer=False)
  return {
    "semantic_fpn": fpn(),
    "pointrend": pointrend.PointRend(fpn(), head, num_points=100_000),
    "deeplabv3_r103": deeplab.Segmenter(
      r103(), nn.DeepLabWindowHead(CLASSES, RATES, (2, 3), 16)
    ),
    "deeplabv3_plus_r103": deeplab.Segmenter(
      r103(),
      nn.DeepLabPlusHead(CLASSES, RATES, (4, 3), 16),
      features=("layer4", "layer1"),
    ),
  }


def rebuilt():
  """Name -> (torch's side, scores from padded images)."""
  from tests.parity import torch_detectron2 as forms

  def pointrend(model, x):
    cells = [grid(x.shape[2] // n, x.shape[3] // n) for n in (2, 1)]
    return model(x, None, 2, [g.expand(len(x), -1, -1) for g in cells])[0]

  def grid(height, width):
    import torch

    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], -1)[None]

  def enlarged(model, x):
    from torch.nn import functional

    return functional.interpolate(
      model(x), x.shape[2:], mode="bilinear", align_corners=False
    )

  return {
    "semantic_fpn": (
      forms.SemanticFPN(BLOCKS, WIDTH, CLASSES),
      lambda model, x: model(x),
    ),
    "pointrend": (forms.PointRend(BLOCKS, WIDTH, CLASSES), pointrend),
    "deeplabv3_r103": (
      forms.DeepLab(BLOCKS, (4,), RATES, (2, 3), 16, CLASSES),
      enlarged,
    ),
    "deeplabv3_plus_r103": (
      forms.DeepLabPlus(BLOCKS, (4,), RATES, (4, 3), 16, CLASSES),
      enlarged,
    ),
  }


def main():
  import torch

  from tests.parity import torch_detectron2
  from vision_jax import weights

  draw = functools.partial(weights.random_state_dict, seed=SEED)
  for name, (model, run) in rebuilt().items():
    state = torch_detectron2.random_state(model, draw)
    given = images()
    size = given.shape[1:3]
    if not name.startswith("deeplab"):  # as ImageList: zeros up to 32
      pads = [(0, 0), *((0, -n % 32) for n in size), (0, 0)]
      given = np.pad(given, pads)
    x = torch.from_numpy(np.ascontiguousarray(given.transpose(0, 3, 1, 2)))
    with torch.no_grad():
      value = run(model, x)[:, :, : size[0], : size[1]]
    value = np.ascontiguousarray(value.numpy().transpose(0, 2, 3, 1))
    path = ROOT / "tests" / "golden" / f"detectron2_{name}.npz"
    np.savez_compressed(
      path,
      shape=np.array(value.shape, np.int32),
      sample=value.reshape(-1)[sample_indices(value.size)],
      largest=np.abs(value).max(),
      names=np.array(list(state)),
      shapes=np.array(
        [[*v.shape, *[0] * (4 - v.ndim)] for v in state.values()], np.int32
      ),
    )
    print(f"{path.name}: {path.stat().st_size} B")


if __name__ == "__main__":
  main()
