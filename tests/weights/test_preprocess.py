"""Tests of the preparation of images."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import weights

PLAIN = weights.Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class NormalizeTest(parameterized.TestCase):
  @parameterized.parameters(((4, 5, 3),), ((2, 4, 5, 3),), ((2, 3, 1, 2, 3),))
  def test_matches_the_formula(self, shape):
    images = np.random.default_rng(0).random(shape).astype(np.float32)
    preprocess = weights.Preprocess(
      mean=(103.9, 116.8, 123.7),
      std=(2.0, 4.0, 8.0),
      scale=255.0,
      channel_order="BGR",
    )
    got = jax.jit(lambda x: weights.normalize(x, preprocess))(images)
    for channel in range(3):
      expected = (
        images[..., 2 - channel].astype(np.float64) * 255
        - preprocess.mean[channel]
      ) / preprocess.std[channel]
      np.testing.assert_allclose(got[..., channel], expected, atol=1e-4)

  def test_features_weights_want_centred_bytes(self):
    preprocess = weights.preprocessing("vgg16/IMAGENET1K_FEATURES")
    got = weights.normalize(jnp.ones((1, 1, 3)), preprocess)
    np.testing.assert_allclose(
      got[0, 0], 255 - np.array([123, 117, 104]), atol=1e-2
    )

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`images` must be"):
      weights.normalize(np.zeros((4, 5), np.float32), PLAIN)
    with self.assertRaisesRegex(ValueError, "`images` must be"):
      weights.normalize(np.zeros((4, 5, 4), np.float32), PLAIN)
    with self.assertRaisesRegex(TypeError, "divide bytes by 255"):
      weights.normalize(np.zeros((4, 5, 3), np.uint8), PLAIN)


class PreprocessImageTest(parameterized.TestCase):
  @parameterized.parameters((301, 200), (200, 301), (90, 150))
  def test_position_and_size(self, height, width):
    # A ramp keeps its slope under resizing, which shows scale and offset.
    preprocess = PLAIN._replace(resize=100, crop=75)
    ramp = np.stack(
      np.broadcast_arrays(
        np.arange(width)[None, :] + 0.5,
        np.arange(height)[:, None] + 0.5,
        0.0,
      ),
      -1,
    ).astype(np.float32)
    got = weights.preprocess_image(ramp, preprocess)
    self.assertEqual(got.shape, (75, 75, 3))
    short, long = min(height, width), max(height, width)
    new = {short: 100, long: int(100 * long / short)}
    for axis, size in ((0, width), (1, height)):
      offset = round((new[size] - 75) / 2)
      expected = (np.arange(75) + offset + 0.5) * size / new[size]
      line = got[40, :, 0] if axis == 0 else got[:, 40, 1]
      np.testing.assert_allclose(line, expected, rtol=1e-4, atol=1e-3)

  def test_without_resize_or_crop(self):
    image = np.random.default_rng(0).random((7, 12, 3)).astype(np.float32)
    none = PLAIN._replace(resize=None, crop=None)
    np.testing.assert_array_equal(weights.preprocess_image(image, none), image)
    got = weights.preprocess_image(image, none._replace(crop=4))
    # (7 - 4) / 2 = 1.5 is rounded to the even 2.
    np.testing.assert_array_equal(got, image[2:6, 4:8])
    got = weights.preprocess_image(image, none._replace(resize=14))
    self.assertEqual(got.shape, (14, 24, 3))

  def test_antialias_averages_a_fine_pattern(self):
    image = np.zeros((64, 64, 3), np.float32)
    image[::4] = 1
    preprocess = PLAIN._replace(resize=16, crop=None)
    smooth = weights.preprocess_image(image, preprocess)
    np.testing.assert_allclose(smooth[2:-2], 0.25, atol=0.01)
    preprocess = preprocess._replace(antialias=False)
    rough = weights.preprocess_image(image, preprocess)
    np.testing.assert_allclose(rough, 0.0, atol=1e-6)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`image` must be"):
      weights.preprocess_image(np.zeros((1, 4, 5, 3), np.float32), PLAIN)
    with self.assertRaisesRegex(ValueError, "must not be empty"):
      weights.preprocess_image(np.zeros((0, 5, 3), np.float32), PLAIN)
    with self.assertRaisesRegex(TypeError, "divide bytes by 255"):
      weights.preprocess_image(np.zeros((4, 5, 3), np.uint8), PLAIN)
    small = PLAIN._replace(resize=None)
    with self.assertRaisesRegex(ValueError, "at least 224 pixels"):
      weights.preprocess_image(np.zeros((300, 5, 3), np.float32), small)


if __name__ == "__main__":
  absltest.main()
