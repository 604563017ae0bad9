"""Writes the golden scores of segmentation networks, with torch.

`deeplabv3_tiny` has one block a stage, so that the test compiles quickly; its
head and auxiliary head are torchvision's.

Run from the repository root, with the `compare` extra installed:

  python -m tests.golden.make_segmentation

Weights are random by name, images made by exact arithmetic, as in
make_backbones. Read by tests/systems/test_deeplab.py.
"""

import functools

import numpy as np

from tests.golden.make_backbones import ROOT, SEED, images, sample_indices

NAMES = ("deeplabv3_tiny", "lraspp_mobilenet_v3_large")
CLASSES = 5


def modules():
  """Our side."""
  from vision_jax import nn
  from vision_jax.systems import deeplab

  resnet = nn.backbones.ResNet((1, 1, 1, 1), True, None, output_stride=8)
  return {
    "deeplabv3_tiny": deeplab.Segmenter(
      resnet, nn.DeepLabHead(CLASSES), nn.FCNHead(CLASSES)
    ),
    "lraspp_mobilenet_v3_large": deeplab.lraspp_mobilenet_v3_large(CLASSES),
  }


def main():
  from tests.parity import torch_segmentation
  from vision_jax import weights

  draw = functools.partial(weights.random_state_dict, seed=SEED)
  for name in NAMES:
    model, state = torch_segmentation.random_model(name, CLASSES, draw)
    arrays = {}
    for key, value in torch_segmentation.scores(model, images()).items():
      flat = np.ascontiguousarray(value).reshape(-1)
      arrays[f"{key}.shape"] = np.asarray(value.shape, np.int32)
      arrays[f"{key}.sample"] = flat[sample_indices(flat.size)]
      arrays[f"{key}.largest"] = np.abs(flat).max()
    arrays["names"] = np.array(list(state))
    arrays["shapes"] = np.array(
      [[*v.shape, *[0] * (4 - v.ndim)] for v in state.values()], np.int32
    )
    path = ROOT / "tests" / "golden" / f"segmentation_{name}.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size} B")


if __name__ == "__main__":
  main()
