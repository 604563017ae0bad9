"""Tests of the random transforms."""

import pickle

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import data

_ALL = (
  data.random_flip(swap=(1, 0)),
  data.random_resized_crop((24, 32)),
  data.random_scale_crop((24, 32)),
  data.random_affine((24, 32), shear=5),
  data.random_colours(),
  data.random_noise(),
  data.as_transform(data.letterbox, size=(24, 32)),
)


def _example(height=30, width=44):
  rng = np.random.default_rng(0)
  masks = np.zeros((2, height, width), np.uint8)
  masks[0, 5:20, 6:18] = masks[1, 12:28, 20:40] = 1
  return {
    "image": rng.integers(0, 256, (height, width, 3), np.uint8),
    "boxes": np.array([[6, 5, 18, 20], [20, 12, 40, 28]], np.float32),
    "labels": np.array([1, 2], np.int32),
    "masks": masks,
    "keypoints": np.array(
      [[[8, 6, 2], [15, 18, 1]], [[22, 14, 2], [0, 0, 0]]], np.float32
    ),
    "index": np.int64(5),
  }


def _positions(height, width):
  """A picture that holds where each pixel is, continuous frame."""
  y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
  return np.stack([x, y, np.ones_like(x)], -1)


def _draws(transform, example, count):
  return [transform(example, np.random.default_rng(i)) for i in range(count)]


class TransformsTest(parameterized.TestCase):
  @parameterized.parameters(*range(len(_ALL)))
  def test_depends_on_the_generator_alone(self, place):
    transform, example = _ALL[place], _example()
    copies = {name: value.copy() for name, value in example.items()}
    first = transform(example, np.random.default_rng(3))
    again = pickle.loads(pickle.dumps(transform))(
      example, np.random.default_rng(3)
    )
    self.assertEqual(set(first), set(again))
    for name, value in first.items():
      np.testing.assert_array_equal(value, again[name])
    for name, value in copies.items():
      np.testing.assert_array_equal(value, example[name])
    pictures = {t["image"].tobytes() for t in _draws(transform, example, 20)}
    if place < len(_ALL) - 1:
      self.assertGreater(len(pictures), 1)
    else:
      self.assertLen(pictures, 1)

  @parameterized.parameters(*range(1, 4))
  def test_size_and_objects(self, place):
    counts = set()
    for new in _draws(_ALL[place], _example(), 30):
      self.assertEqual(new["image"].shape, (24, 32, 3))
      self.assertEqual(new["image"].dtype, np.uint8)
      count = len(new["labels"])
      counts.add(count)
      self.assertEqual(new["boxes"].shape, (count, 4))
      self.assertEqual(new["masks"].shape, (count, 24, 32))
      self.assertEqual(new["keypoints"].shape, (count, 2, 3))
      self.assertTrue((new["boxes"] >= 0).all())
      self.assertTrue((new["boxes"] <= (32, 24, 32, 24)).all())
      self.assertEqual(new["index"], 5)
    self.assertGreaterEqual(max(counts), 2 if place > 1 else 1)

  @parameterized.parameters(
    (data.random_flip, {"probability": 1.5}, r"`probability`.*\[0, 1\].*1.5"),
    (data.random_resized_crop, {"scale": (0.5, 2)}, "`scale`"),
    (data.random_resized_crop, {"ratio": (2, 1)}, r"`ratio`.*not empty"),
    (data.random_scale_crop, {"scale": (0, 1)}, "`scale`"),
    (data.random_affine, {"scale": (2, 1)}, "`scale`"),
    (data.random_affine, {"angle": -1}, "`angle`"),
    (data.random_affine, {"shear": 90}, "`shear`"),
    (data.random_affine, {"shift": -0.1}, "`shift`"),
    (data.random_colours, {"hue": 0.6}, r"`hue` must be within \[0, 0.5\]"),
    (data.random_colours, {"contrast": 2}, "`contrast`"),
    (data.random_noise, {"sigma": (0.2, 0.1)}, "`sigma`"),
  )
  def test_errors(self, factory, settings, message):
    sizes = (
      ()
      if factory.__name__ in ("random_flip", "random_colours", "random_noise")
      else ((8, 8),)
    )
    with self.assertRaisesRegex(ValueError, f"{factory.__name__}: {message}"):
      factory(*sizes, **settings)


class RandomFlipTest(absltest.TestCase):
  def test_share_and_swap(self):
    example = _example()
    flip = data.random_flip(probability=0.3, swap=[1, 0])
    rng = np.random.default_rng(0)
    flipped = 0
    for _ in range(400):
      new = flip(example, rng)
      if new["boxes"][0, 0] == example["boxes"][0, 0]:
        np.testing.assert_array_equal(new["image"], example["image"])
      else:
        flipped += 1
        np.testing.assert_array_equal(
          new["keypoints"][0], [[28, 18, 1], [35, 6, 2]]
        )
    self.assertBetween(flipped / 400, 0.22, 0.38)
    self.assertIs(data.random_flip(probability=0.0)(example, rng), example)


class RandomResizedCropTest(absltest.TestCase):
  def test_window_is_drawn_as_in_torchvision(self):
    """Area and aspect of the windows, read off a picture of positions."""
    height, width = 90, 120
    example = {"image": _positions(height, width)}
    crop = data.random_resized_crop((16, 16))
    areas, aspects, places = [], [], []
    for new in _draws(crop, example, 300):
      x, y = new["image"][..., 0], new["image"][..., 1]
      self.assertGreater(new["image"][..., 2].min(), 0.999)
      # The middles of the first and last pixels are 15/16 of a window apart.
      w, h = (float(np.ptp(v)) * 16 / 15 for v in (x, y))
      areas.append(w * h / (height * width))
      aspects.append(w / h)
      places.append((x.mean() - w / 2) / max(width - w, 1))
    self.assertBetween(min(areas), 0.06, 0.12)
    self.assertGreater(max(areas), 0.8)
    self.assertBetween(min(aspects), 0.7, 0.79)
    self.assertBetween(max(aspects), 1.27, 1.42)
    # Large windows fit less often, so that the mean is below 0.54.
    self.assertBetween(np.mean(areas), 0.42, 0.56)
    self.assertBetween(np.mean(np.log(aspects)), -0.04, 0.04)
    self.assertBetween(np.mean(places), 0.42, 0.58)

  def test_is_a_slice_resized(self):
    example = {"image": _example(90, 120)["image"]}
    crop = data.random_resized_crop((20, 28), scale=(0.3, 0.9))
    new = crop(example, np.random.default_rng(1))["image"]
    where = crop({"image": _positions(90, 120)}, np.random.default_rng(1))
    x, y = where["image"][..., 0], where["image"][..., 1]
    # Half of a new pixel lies between the window's edge and the first middle.
    left, right = np.rint(
      [1.5 * x[0, 0] - 0.5 * x[0, 1], 1.5 * x[0, -1] - 0.5 * x[0, -2]]
    )
    top, bottom = np.rint(
      [1.5 * y[0, 0] - 0.5 * y[1, 0], 1.5 * y[-1, 0] - 0.5 * y[-2, 0]]
    )
    part = example["image"][int(top) : int(bottom), int(left) : int(right)]
    expected = cv2.resize(part, (28, 20), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(new, expected)

  def test_fallback_is_the_middle(self):
    """No window of this aspect fits, so the widest in the middle is taken."""
    crop = data.random_resized_crop((8, 8), scale=(1, 1), ratio=(0.5, 2))
    new = crop({"image": _positions(10, 100)}, np.random.default_rng(0))
    x, y = new["image"][..., 0], new["image"][..., 1]
    np.testing.assert_allclose([x.mean(), y.mean()], [50, 5], atol=0.1)
    np.testing.assert_allclose(np.ptp(x), 20 * 7 / 8, atol=0.2)
    np.testing.assert_allclose(np.ptp(y), 10 * 7 / 8, atol=0.2)


class RandomScaleCropTest(absltest.TestCase):
  def test_factors_and_places(self):
    example = {"image": _positions(40, 80)}
    crop = data.random_scale_crop((50, 60), scale=(0.5, 2.0))
    factors, padded = [], 0
    for new in _draws(crop, example, 200):
      inside = new["image"][..., 2] > 0.999
      rows, columns = np.nonzero(inside)
      x = new["image"][..., 0][inside]
      step = np.ptp(x) / max(np.ptp(columns), 1)
      factors.append(1 / step / 0.75)  # 60 / 80 just fits
      padded += not inside.all()
      self.assertTrue(rows.size)
    self.assertBetween(min(factors), 0.48, 0.56)
    self.assertBetween(max(factors), 1.8, 2.1)
    self.assertBetween(np.mean(np.log(factors)), -0.12, 0.12)
    self.assertBetween(padded, 100, 199)

  def test_the_whole_picture_is_inside_at_small_factors(self):
    crop = data.random_scale_crop((50, 60), scale=(0.5, 0.9), fill=7)
    example = _example(40, 80)
    corners = set()
    for new in _draws(crop, example, 20):
      self.assertLen(new["labels"], 2)
      rows, columns = np.nonzero((new["image"] != 7).any(-1))
      corners.add((rows.min(), columns.min()))
    self.assertGreater(len(corners), 10)


class RandomAffineTest(absltest.TestCase):
  def test_ranges(self):
    """The map is read off a picture of positions."""
    example = {"image": _positions(60, 60)}
    turn = data.random_affine((60, 60), angle=20, scale=(0.8, 1.25), shift=0.1)
    angles, scales, shifts = [], [], []
    for new in _draws(turn, example, 150):
      x, y = new["image"][20:40, 20:40, 0], new["image"][20:40, 20:40, 1]
      dx, dy = np.diff(x, axis=1).mean(), np.diff(y, axis=1).mean()
      scales.append(1 / np.hypot(dx, dy))
      angles.append(-np.rad2deg(np.arctan2(dy, dx)))
      shifts.append((30 - x.mean()) * scales[-1])
    self.assertBetween(max(np.abs(angles)), 18, 20.5)
    self.assertBetween(np.mean(angles), -3, 3)
    self.assertBetween(min(scales), 0.79, 0.84)
    self.assertBetween(max(scales), 1.18, 1.26)
    self.assertGreater(max(shifts), 4)
    self.assertLess(min(shifts), -4)

  def test_without_ranges_it_is_a_letterbox(self):
    still = data.random_affine((40, 40), angle=0, scale=(1, 1), shift=0)
    new = still(_example(30, 60), np.random.default_rng(0))
    expected = data.letterbox(_example(30, 60), (40, 40))
    for name in ("boxes", "masks", "keypoints", "image"):
      np.testing.assert_allclose(new[name], expected[name], atol=1e-4)

  def test_shear_leans_the_y_axis(self):
    lean = data.random_affine(
      (60, 60), angle=0, scale=(1, 1), shift=0, shear=30
    )
    slopes = []
    for new in _draws(lean, {"image": _positions(60, 60)}, 60):
      x, y = new["image"][25:35, 25:35, 0], new["image"][25:35, 25:35, 1]
      np.testing.assert_allclose(np.diff(y, axis=0), 1, atol=0.05)
      slopes.append(np.rad2deg(np.arctan(np.diff(x, axis=0).mean())))
    self.assertBetween(max(np.abs(slopes)), 24, 31)


class RandomColoursTest(absltest.TestCase):
  def test_ranges(self):
    image = np.full((4, 4, 3), (0.3, 0.2, 0.1))
    jitter = data.random_colours(
      brightness=0.5, contrast=0, saturation=0, hue=0
    )
    factors = [
      new["image"][0, 0, 0] / 0.3
      for new in _draws(jitter, {"image": image}, 200)
    ]
    self.assertBetween(min(factors), 0.5, 0.53)
    self.assertBetween(max(factors), 1.47, 1.5)

  def test_nothing_drawn_nothing_changed(self):
    still = data.random_colours(brightness=0, contrast=0, saturation=0, hue=0)
    example = _example()
    new = still(example, np.random.default_rng(0))
    np.testing.assert_array_equal(new["image"], example["image"])


class RandomNoiseTest(parameterized.TestCase):
  @parameterized.parameters(np.uint8, np.float32)
  def test_deviation(self, dtype):
    limit = 255 if dtype == np.uint8 else 1
    image = np.full((60, 80, 3), 0.5 * limit).astype(dtype)
    noise = data.random_noise(sigma=(0.05, 0.15))
    spreads = []
    for new in _draws(noise, {"image": image}, 40):
      self.assertEqual(new["image"].dtype, dtype)
      change = (new["image"].astype(float) - image) / limit
      np.testing.assert_allclose(change.mean(), 0, atol=0.005)
      spreads.append(change.std())
    self.assertBetween(min(spreads), 0.049, 0.06)
    self.assertBetween(max(spreads), 0.14, 0.151)

  def test_values_stay_in_range(self):
    image = np.array([[[0, 255, 128]]], np.uint8).repeat(50, 0)
    noise = data.random_noise(sigma=(0.5, 0.5))
    new = noise({"image": image}, np.random.default_rng(0))["image"]
    self.assertEqual((new.min(), new.max()), (0, 255))


class AsTransformTest(absltest.TestCase):
  def test_passes_settings_and_draws_nothing(self):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    transform = data.as_transform(data.resize_shortest, shortest=15)
    new = transform(_example(), rng)
    self.assertEqual(new["image"].shape, (15, 22, 3))
    self.assertEqual(rng.bit_generator.state, before)


if __name__ == "__main__":
  absltest.main()
