"""Writes the golden activations of backbones, with torch and torchvision.

Those that torchvision lacks are written in tests/parity/torch_foreign.py. The
tiny ones have fewer layers than any published network, so that the test
compiles quickly.

Run from the repository root, with the `compare` extra installed:

  python -m tests.golden.make_backbones [NAME ...]

Both sides get random weights by name (`weights.random_state_dict`, seed 11)
and the images that `images()` makes, so that a file holds names, shapes and
sampled activations only. Read by tests/nn/test_backbones_golden.py.
"""

import functools
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = (
  "alexnet",
  "vgg11",
  "vgg16_bn",
  "resnet18",
  "resnet50",
  "densenet_tiny",
  "squeezenet1_1",
  "mobilenet_v2",
  "mobilenet_v3_small",
  "darknet_tiny",
  "xception",
)
SEED = 11
SIZE = (97, 75)
NUM_SAMPLES = 64


def tiny_modules():
  """Our side of the names that are not in `backbones.MODELS`."""
  from vision_jax.nn import backbones

  return {
    "darknet_tiny": backbones.Darknet((1, 1, 2, 1, 1), 8, 10),
    "densenet_tiny": backbones.DenseNet(8, (2, 2, 2, 2), 16, 10),
  }


def images():
  """Two images [2, 97, 75, 3] by exact arithmetic; no generator needed."""
  count = 2 * SIZE[0] * SIZE[1] * 3
  values = (np.arange(count, dtype=np.int64) * 7919 + 104729) % 10007
  values = values.reshape(2, *SIZE, 3).astype(np.float32)
  return (values / np.float32(10007) - np.float32(0.5)) * np.float32(4)


def sample_indices(size):
  """The flat positions that are kept of an array with `size` elements."""
  return np.unique(np.linspace(0, size - 1, NUM_SAMPLES).astype(np.int64))


def random_state(golden):
  """The weights that a golden file was made with, by its names and shapes."""
  from vision_jax import weights

  names, shapes = golden["names"].tolist(), golden["shapes"]
  return weights.random_state_dict(
    {
      name: tuple(int(n) for n in shape if n)
      for name, shape in zip(names, shapes, strict=True)
    },
    seed=SEED,
  )


def main():
  from tests.parity import torch_backbones
  from vision_jax import weights

  draw = functools.partial(weights.random_state_dict, seed=SEED)
  for name in sys.argv[1:] or NAMES:
    model, state = torch_backbones.random_model(name, draw)
    logits, endpoints = torch_backbones.endpoints(model, images())
    arrays = {}
    for key, value in {"logits": logits, **endpoints}.items():
      flat = np.ascontiguousarray(value).reshape(-1)
      arrays[f"{key}.shape"] = np.asarray(value.shape, np.int32)
      arrays[f"{key}.sample"] = flat[sample_indices(flat.size)]
      arrays[f"{key}.moments"] = np.array(
        [flat.mean(dtype=np.float64), np.abs(flat).max()], np.float64
      )
    arrays["names"] = np.array(list(state))
    arrays["shapes"] = np.array(
      [[*v.shape, *[0] * (4 - v.ndim)] for v in state.values()], np.int32
    )
    path = ROOT / "tests" / "golden" / f"backbone_{name}.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {len(endpoints)} endpoints, {path.stat().st_size} B")


if __name__ == "__main__":
  main()
