"""Tests of brightness, contrast, saturation and hue."""

import colorsys

import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data import adjust_colours


def _in_steps(image, brightness, contrast, saturation, hue):
  """The four changes one after another, in float64, not clipped."""
  image = image.astype(np.float64) * brightness
  luma = np.array([0.299, 0.587, 0.114])
  mean = (image @ luma).mean()
  image = mean + contrast * (image - mean)
  grey = (image @ luma)[..., None]
  image = grey + saturation * (image - grey)
  # I and Q of the NTSC system, turned as one complex number.
  axis_i = np.array([0.595716, -0.274453, -0.321263])
  axis_q = np.array([0.211456, -0.522591, 0.311135])
  chroma = image @ axis_i + 1j * (image @ axis_q)
  chroma = chroma * np.exp(2j * np.pi * hue)
  axes = np.array([luma, axis_i, axis_q])
  turned = np.stack([image @ luma, chroma.real, chroma.imag])
  return np.moveaxis(
    np.linalg.solve(axes, turned.reshape(3, -1)), 0, -1
  ).reshape(image.shape)


class AdjustColoursTest(parameterized.TestCase):
  @parameterized.product(
    settings=(
      (0.7, 1.0, 1.0, 0.0),
      (1.0, 0.4, 1.0, 0.0),
      (1.0, 1.0, 0.3, 0.0),
      (1.0, 1.0, 1.0, 0.2),
      (0.8, 0.6, 0.7, -0.1),
    ),
    dtype=(np.uint8, np.float32, np.float64),
  )
  def test_against_four_steps(self, settings, dtype):
    image = np.random.default_rng(0).uniform(0.3, 0.6, (7, 11, 3))
    limit = 255 if dtype == np.uint8 else 1
    image = (limit * image).astype(dtype)
    names = ("brightness", "contrast", "saturation", "hue")
    new = adjust_colours(image, **dict(zip(names, settings, strict=True)))
    self.assertEqual(new.dtype, dtype)
    expected = _in_steps(image, *settings)
    self.assertTrue((expected > 0).all() and (expected < limit).all())
    self.assertGreater(np.abs(expected - image).mean(), 0.02 * limit)
    atol = 1 if dtype == np.uint8 else 1e-6
    np.testing.assert_allclose(new, expected, atol=atol)

  def test_identity_is_exact(self):
    for image in (
      np.random.default_rng(1).integers(0, 256, (5, 9, 3), np.uint8),
      np.random.default_rng(1).random((5, 9, 3)).astype(np.float32),
    ):
      np.testing.assert_array_equal(adjust_colours(image), image)

  def test_values_are_clipped(self):
    image = np.full((2, 3, 3), (250, 10, 100), np.uint8)
    self.assertEqual(adjust_colours(image, brightness=2)[0, 0, 0], 255)
    bright = adjust_colours(image / np.float32(255), brightness=2, contrast=3)
    self.assertEqual((bright.min(), bright.max()), (0, 1))

  def test_hue_turns_colours_and_keeps_grey(self):
    red = np.full((1, 1, 3), (0.6, 0.4, 0.4))
    hues = [
      colorsys.rgb_to_hsv(*adjust_colours(red, hue=turn)[0, 0])[0]
      for turn in (0, 1 / 3, 2 / 3)
    ]
    steps = np.sort(np.diff([*sorted(hues), min(hues) + 1]))
    np.testing.assert_allclose(steps, 1 / 3, atol=0.1)
    grey = np.full((1, 1, 3), 0.4)
    np.testing.assert_allclose(adjust_colours(grey, hue=0.3), 0.4, atol=1e-6)
    np.testing.assert_allclose(adjust_colours(red, hue=1.0), red, atol=1e-6)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, r"must be \[H, W, 3\], got \(4, 4"):
      adjust_colours(np.zeros((4, 4)))
    with self.assertRaisesRegex(TypeError, "must be uint8.*got int64"):
      adjust_colours(np.zeros((4, 4, 3), np.int64))


if __name__ == "__main__":
  absltest.main()
