"""Taps of one axis, and sums of taps, against loops that follow the text."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.ops import interpolation


def _kernel(mode, distance):
  """Weight of a pixel at a distance from the sample."""
  d = abs(distance)
  if mode == "bilinear":
    return max(0.0, 1 - d)
  if d <= 1:
    return (1.25 * d - 2.25) * d * d + 1
  return ((-0.75 * d + 3.75) * d - 6) * d + 3 if d < 2 else 0.0


def _mirrored(place, size, at_centres):
  """The pixel that a place outside shows in a mirror, step by step."""
  while not 0 <= place < size:
    if at_centres:
      place = -place if place < 0 else 2 * (size - 1) - place
    else:
      place = -1 - place if place < 0 else 2 * size - 1 - place
  return place


def sampled(image, point, mode, padding_mode, align_corners):
  """One value [C] of an image or a volume: the sum over all pixels near it."""
  *sizes, channels = image.shape
  if mode == "nearest":
    places = [[int(np.round(x))] for x in point]
  else:
    places = [range(int(np.floor(x)) - 2, int(np.floor(x)) + 4) for x in point]
  total = np.zeros(channels)
  for place in itertools.product(*places):
    weight = 1.0
    if mode != "nearest":
      for x, i in zip(point, place, strict=True):
        weight *= _kernel(mode, x - i)
    pairs = list(zip(place, sizes[::-1], strict=True))
    if padding_mode == "border":
      place = [min(max(i, 0), n - 1) for i, n in pairs]
    elif padding_mode == "reflection":
      place = [_mirrored(i, n, align_corners) for i, n in pairs]
    elif not all(0 <= i < n for i, n in pairs):
      continue
    total += weight * image[tuple(place[::-1])]
  return total


class InterpolateTest(parameterized.TestCase):
  @parameterized.product(
    shape=[(5, 7, 2), (3, 4, 5, 2)],
    mode=interpolation.MODES,
    padding_mode=interpolation.PADDING_MODES,
    align_corners=[False, True],
    dense=[False, True],
  )
  def test_equals_the_sum_over_pixels(
    self, shape, mode, padding_mode, align_corners, dense
  ):
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape)
    # Mirrors of positions and of pixels are the same up to one period.
    points = rng.uniform(-2.4, min(shape[:-1]) + 1.4, (40, len(shape) - 1))
    expected = [
      sampled(image, point, mode, padding_mode, align_corners)
      for point in points
    ]
    with jax.enable_x64(True):
      got = interpolation.interpolate(
        jnp.asarray(image),
        jnp.asarray(points),
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
        dense=dense,
      )
    np.testing.assert_allclose(got, expected, atol=1e-12)

  def test_a_value_outside(self):
    image = jnp.asarray(
      np.random.default_rng(1).normal(size=(4, 5, 2)), jnp.float32
    )
    points = jnp.array([[-9, 0], [-0.25, 2], [1.5, 1.5]])
    for dense in (False, True):
      got = interpolation.interpolate(
        image,
        points,
        mode="bilinear",
        padding_mode="zeros",
        fill_value=np.float32([3, -1]),
        dense=dense,
      )
      np.testing.assert_allclose(got[0], [3, -1], atol=1e-6)
      np.testing.assert_allclose(
        got[1], 0.25 * np.array([3, -1]) + 0.75 * image[2, 0], atol=1e-6
      )
      np.testing.assert_allclose(
        got[2], image[1:3, 1:3].mean((0, 1)), atol=1e-6
      )

  def test_no_channels_and_no_points(self):
    for image, points in (
      (jnp.zeros((3, 4, 0)), jnp.zeros((5, 2))),
      (jnp.zeros((3, 4, 2)), jnp.zeros((0, 2))),
    ):
      for dense in (False, True):
        got = interpolation.interpolate(
          image, points, mode="bilinear", padding_mode="zeros", dense=dense
        )
        self.assertEqual(got.shape, (len(points), image.shape[-1]))


class AxisTapsTest(parameterized.TestCase):
  @parameterized.product(
    mode=["bilinear", "bicubic"],
    padding_mode=interpolation.PADDING_MODES,
    align_corners=[False, True],
  )
  def test_weights_add_up_to_one_and_stay_in_the_line(
    self, mode, padding_mode, align_corners
  ):
    x = jnp.linspace(-40, 40, 333)
    for size in (1, 2, 9):
      taps = interpolation.axis_taps(
        x,
        size,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
      )
      np.testing.assert_allclose(sum(tap.weight for tap in taps), 1, atol=1e-5)
      if padding_mode == "zeros":
        continue
      for tap in taps:
        outside = (tap.place < 0) | (tap.place >= size)
        self.assertFalse((outside & (tap.weight != 0)).any())

  def test_far_pixels_are_mirrored_before_they_are_clipped(self):
    """The taps far outside are those one or more periods nearer."""
    for align_corners, period in ((True, 16), (False, 18)):
      near, far = (
        interpolation.axis_taps(
          jnp.linspace(0.1, 7.7, 20) + offset,
          9,
          mode="bicubic",
          padding_mode="reflection",
          align_corners=align_corners,
        )
        for offset in (0, 3 * period)
      )
      for a, b in zip(near, far, strict=True):
        np.testing.assert_array_equal(a.place, b.place)

  def test_bilinear_taps_reproduce_a_line(self):
    x = jnp.linspace(2, 6, 41)
    taps = interpolation.axis_taps(
      x, 9, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    value = sum(tap.weight * tap.place for tap in taps)
    np.testing.assert_allclose(value, x, atol=1e-5)


if __name__ == "__main__":
  absltest.main()
