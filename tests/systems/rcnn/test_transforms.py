"""Sizes and pixels of prepared pictures."""

import numpy as np
import PIL.Image
import pytest

from vision_jax import ops
from vision_jax.systems import rcnn
from vision_jax.systems.rcnn import transforms

D2 = rcnn.Settings(**rcnn.DETECTRON2)


@pytest.mark.parametrize(
  ("size", "expected"),
  [
    ((480, 640), (800, 1066)),
    ((427, 640), (800, 1199)),
    ((97, 97), (799, 799)),  # the quirk of the reference
    ((3000, 100), (1333, 44)),
    ((1, 3000), (1, 1333)),
    ((1, 1), (800, 800)),
  ],
)
def test_sizes_of_torchvision(size, expected):
  assert rcnn.resized_size(size, rcnn.Settings()) == expected
  canvas = transforms.choose_canvas(
    expected, rcnn.canvas_sizes(rcnn.Settings())
  )
  assert canvas in ((800, 1344), (1344, 800))


def test_sizes_of_detectron2_are_rounded():
  assert rcnn.resized_size((480, 640), D2) == (800, 1067)
  assert rcnn.resized_size((427, 640), D2) == (800, 1199)
  assert rcnn.resized_size((100, 3000), D2) == (44, 1333)


def test_pixels_are_those_of_ops_resize():
  image = np.random.default_rng(0).uniform(size=(50, 33, 3))
  image = image.astype(np.float32)
  settings = rcnn.Settings(min_size=41, max_size=90)
  got = rcnn.prepare_image(image, settings)
  expected = np.asarray(ops.resize(image, got.shape[:2], mode="bilinear"))
  expected = (expected - np.float32(settings.mean)) / np.float32(settings.std)
  np.testing.assert_allclose(got, expected, atol=2e-5)


def test_detectron2_takes_bytes_in_reverse():
  pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
  settings = rcnn.Settings(**rcnn.DETECTRON2, min_size=30)
  got = rcnn.prepare_image(pixels.astype(np.float32) / 255, settings)
  expected = PIL.Image.fromarray(pixels).resize(
    (45, 30), PIL.Image.Resampling.BILINEAR
  )
  expected = np.asarray(expected)[..., ::-1] - np.array(settings.mean)
  np.testing.assert_allclose(got, expected, atol=1e-3)


def test_errors_name_what_is_wrong():
  with pytest.raises(ValueError, match=r"must be \[H, W, 3\], got shape \(3,"):
    rcnn.prepare_image(np.zeros((3, 4)), rcnn.Settings())
  with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
    rcnn.prepare_image(np.zeros((0, 4, 3)), rcnn.Settings())
  with pytest.raises(TypeError, match="divide bytes by 255"):
    rcnn.prepare_image(np.zeros((3, 4, 3), np.uint8), rcnn.Settings())
  with pytest.raises(ValueError, match="finite"):
    rcnn.prepare_image(np.full((3, 4, 3), np.nan), rcnn.Settings())
  with pytest.raises(ValueError, match="at least 1 x 1"):
    rcnn.resized_size((0, 4), rcnn.Settings())
  with pytest.raises(ValueError, match="`canvases` must hold"):
    transforms.choose_canvas((100, 100), [(64, 640)])


def test_square_detectors_have_one_canvas():
  settings = rcnn.Settings(min_size=128, max_size=128)
  assert rcnn.canvas_sizes(settings) == ((128, 128),)
