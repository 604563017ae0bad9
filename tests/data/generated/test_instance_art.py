"""Tests of the textures, silhouettes and clutter of the instance search."""

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data.generated import instance_art


class InstanceTest(parameterized.TestCase):
  def test_silhouette(self):
    """Corners at equal angles, between 65 and 100 % of 180 pixels away."""
    corners = set()
    for instance in range(0, 60, 2):
      texture, polygon = instance_art.draw_instance(0, instance)
      self.assertEqual(texture.shape, (384, 384, 3))
      self.assertEqual(texture.dtype, np.uint8)
      offset = polygon - 192
      radius = np.hypot(*offset.T)
      self.assertGreaterEqual(radius.min(), 0.65 * 180)
      self.assertLessEqual(radius.max(), 180)
      turn = np.unwrap(np.arctan2(offset[:, 1], offset[:, 0]))
      np.testing.assert_allclose(np.diff(turn), 2 * np.pi / len(polygon))
      corners.add(len(polygon))
    self.assertEqual(corners, set(range(4, 10)))

  def test_twins_share_field_and_silhouette_alone(self):
    for instance in (0, 8, 14):
      texture0, polygon0 = instance_art.draw_instance(3, instance)
      texture1, polygon1 = instance_art.draw_instance(3, instance + 1)
      np.testing.assert_array_equal(polygon0, polygon1)
      same = (texture0 == texture1).all(-1)
      self.assertGreater(same.mean(), 0.2)  # the field between the primitives
      self.assertLess(same.mean(), 0.9)
      other, polygon2 = instance_art.draw_instance(3, instance + 2)
      self.assertNotEqual(polygon0.tolist(), polygon2.tolist())
      self.assertLess((texture0 == other).all(-1).mean(), 0.05)

  def test_glyph_has_25_cells_of_one_colour_or_none(self):
    cells = []
    for instance in range(20):
      texture, _ = instance_art.draw_instance(1, instance)
      grid = texture[92:292, 92:292].reshape(5, 40, 5, 40, 3)
      flat = np.ptp(grid, axis=(1, 3)).max(-1) == 0
      colours = {tuple(c) for c in grid[:, 0, :, 0][flat].tolist()}
      # A cell inside one primitive is flat too, but rare.
      self.assertBetween(len(colours), 1, 3)
      cells.append(flat.sum())
    self.assertBetween(np.mean(cells), 10, 15)


class ClutterTest(parameterized.TestCase):
  @parameterized.parameters(64, 320, 512)
  def test_range_and_scales(self, side):
    clutter = instance_art.draw_clutter(np.random.default_rng(side), side)
    self.assertEqual(clutter.shape, (side, side, 3))
    self.assertEqual(clutter.dtype, np.uint8)
    self.assertGreater(clutter.std(), 30)

  def test_statistics_are_those_of_the_instances(self):
    """Mean colours and contrast do not tell instances from clutter."""
    rng = np.random.default_rng(0)
    low = slice(92, 292)
    art = [instance_art.draw_instance(0, i)[0][low, low] for i in range(24)]
    clutter = [instance_art.draw_clutter(rng, 512)[::2, ::2] for _ in range(24)]
    for first, second in ((art, clutter), (clutter, art)):
      means = np.array([image.mean() for image in first])
      others = np.array([image.mean() for image in second])
      self.assertBetween(means.mean(), others.min(), others.max())
    self.assertLess(np.abs(np.mean(art) - np.mean(clutter)), 25)
    ratio = np.mean([a.std() for a in art]) / np.mean(
      [c.std() for c in clutter]
    )
    self.assertBetween(ratio, 0.7, 1.8)

  def test_octaves(self):
    """Without primitives each octave has half the amplitude of the last."""
    kept = instance_art._scatter
    try:
      instance_art._scatter = lambda *arguments: None
      spectrum = np.zeros(257)
      for seed in range(12):
        rng = np.random.default_rng(seed)
        image = instance_art.draw_clutter(rng, 512).astype(float)
        row = image.mean(-1) - image.mean()
        window = np.hanning(512)
        spectrum += (np.abs(np.fft.rfft(row * window)) ** 2).mean(0)
    finally:
      instance_art._scatter = kept
    bands = [(2, 4), (4, 8), (8, 16), (16, 32)]
    level = [np.log2(spectrum[a:b].sum()) for a, b in bands]
    self.assertBetween(np.diff(level).mean(), -3.2, -1.2)  # a quarter: -2
    self.assertLess(spectrum[64:].sum(), 0.02 * spectrum[2:].sum())


class PrimitiveTest(parameterized.TestCase):
  @parameterized.parameters((0, np.pi / 4), (1, 3**1.5 / 16), (2, 1 / 4))
  def test_area(self, kind, share):
    """Of the square of the size: disc, inscribed triangle, bar 4 : 1."""
    points = instance_art.draw_primitive(kind, np.array([3.0, 5.0]), 20.0, 0.7)
    area = cv2.contourArea(points.astype(np.float32))
    self.assertAlmostEqual(area / 400, share, delta=0.01)
    np.testing.assert_allclose(points.mean(0), [3.0, 5.0], atol=1e-9)

  def test_turns_from_x_to_y(self):
    bar = instance_art.draw_primitive(2, np.zeros(2), 10.0, np.pi / 2)
    np.testing.assert_allclose(np.ptp(bar, axis=0), [2.5, 10.0], atol=1e-9)


if __name__ == "__main__":
  absltest.main()
