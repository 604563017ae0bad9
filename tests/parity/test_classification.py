"""The evaluation transforms against torchvision's own, on PIL images."""

import numpy as np
import PIL.Image
import pytest

from experiments.classification import input_pipeline
from tests.parity.torchvision_shim import torchvision


@pytest.mark.parametrize(
  ("size", "resize", "crop"),
  [
    ((300, 451), 256, 224),
    ((451, 300), 232, 224),
    ((256, 256), 256, 224),
    ((97, 333), 128, 101),
    ((500, 333), 342, 299),
  ],
)
def test_preparation_is_bit_for_bit_that_of_torchvision(size, resize, crop):
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (size[0] // 7 + 1, size[1] // 7 + 1, 3))
  image = coarse.repeat(7, 0).repeat(7, 1)[: size[0], : size[1]]
  image = image.astype(np.uint8)
  functional = torchvision.transforms.functional
  expected = functional.center_crop(
    functional.resize(PIL.Image.fromarray(image), resize), crop
  )
  got = input_pipeline.resize_and_crop(
    {"image": image}, resize=resize, crop=crop
  )["image"]
  np.testing.assert_array_equal(got, np.asarray(expected))
  assert got.std() > 20
