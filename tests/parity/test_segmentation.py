"""Segmentation networks against torchvision, live, on the same weights."""

import functools

import jax
import numpy as np
from absl.testing import absltest, parameterized

from tests.parity import torch_segmentation
from vision_jax import weights
from vision_jax.systems import deeplab

# Sizes are (height, width); odd ones show where an enlargement is registered.
CASES = (
  ("deeplabv3_resnet50", (225, 311)),
  ("deeplabv3_resnet50", (224, 224)),
  ("deeplabv3_resnet101", (97, 131)),
  ("deeplabv3_mobilenet_v3_large", (225, 311)),
  ("fcn_resnet50", (131, 97)),
  ("fcn_resnet101", (97, 131)),
  ("lraspp_mobilenet_v3_large", (225, 311)),
  ("lraspp_mobilenet_v3_large", (224, 224)),
)


@functools.lru_cache(maxsize=1)
def _reference(name):
  draw = functools.partial(weights.random_state_dict, seed=5)
  return torch_segmentation.random_model(name, 21, draw)


class ScoresTest(parameterized.TestCase):
  @parameterized.parameters(*CASES)
  def test_equal_to_torchvision(self, name, size):
    model, state = _reference(name)
    module, variables = weights.from_torchvision(name, state)
    rng = np.random.default_rng(sum(size))
    images = rng.normal(size=(1, *size, 3)).astype(np.float32)
    images[:, : size[0] // 3] = images[:, :1, :1]
    got = jax.jit(module.apply)(variables, images)
    expected = torch_segmentation.scores(model, images)
    self.assertEqual(set(got), set(expected))
    for key, value in expected.items():
      self.assertEqual(got[key].shape, value.shape)
      largest = np.abs(value).max()
      worst = np.abs(np.asarray(got[key]) - value).max() / largest
      print(f"{name} {size} {key}: worst relative difference {worst:.1e}")
      self.assertLess(worst, 1e-4)
      self.assertGreater(value.std(), 1e-2 * largest)
    classes = expected["out"].argmax(-1)
    self.assertGreater(len(np.unique(classes)), 2)
    ordered = np.sort(expected["out"], -1)
    clear = ordered[..., -1] - ordered[..., -2] > 2e-4 * largest
    same = np.asarray(got["out"]).argmax(-1) == classes
    self.assertTrue(same[clear].all())

  def test_every_published_network_is_covered(self):
    self.assertEqual(
      {name for name, _ in CASES}, set(deeplab.MODELS) & set(weights.CATALOG)
    )


if __name__ == "__main__":
  absltest.main()
