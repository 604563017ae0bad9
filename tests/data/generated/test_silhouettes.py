"""Tests of the silhouettes: filled right, and told apart when small."""

import cv2
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax.data.generated import silhouettes


def _area(polygons):
  """Area between the outer polygon and the holes, by the shoelace formula."""
  areas = []
  for polygon in polygons:
    x, y = polygon.T
    areas.append(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2)
  return areas[0] - sum(areas[1:])


def _draw(rng, name, diameter):
  """Coverage of a silhouette at a random angle, in a margin of two pixels."""
  angle, side = rng.uniform(0, 2 * np.pi), int(diameter) + 5
  c, s = np.cos(angle), np.sin(angle)
  turn = np.array([[c, s], [-s, c]]) * (diameter / 2)
  centre = side / 2 + rng.uniform(-0.5, 0.5, 2)
  polygons = silhouettes.make_silhouette(name, rng.random(8))
  return silhouettes.fill_polygons(
    [polygon @ turn + centre for polygon in polygons], (side, side), fine=8
  )


def _describe(coverage):
  """12 x 12 pixels of the box, widened to a square."""
  x, y, width, height = cv2.boundingRect((coverage >= 128).astype(np.uint8))
  scale = 12 / max(width, height)
  middle = scale * np.array([x + width / 2, y + height / 2])
  matrix = np.array(
    [
      [scale, 0, 5.5 + scale / 2 - middle[0]],
      [0, scale, 5.5 + scale / 2 - middle[1]],
    ]
  )
  return cv2.warpAffine(coverage.astype(np.float32), matrix, (12, 12)).ravel()


class SilhouetteTest(parameterized.TestCase):
  @parameterized.parameters(*silhouettes.SILHOUETTES)
  def test_fits_the_unit_circle(self, name):
    for seed in range(10):
      parameters = np.random.default_rng(seed).random(8)
      outer, *holes = silhouettes.make_silhouette(name, parameters)
      radius = np.hypot(*outer.T)
      self.assertAlmostEqual(radius.max(), 1.0, places=12)
      np.testing.assert_allclose(outer.min(0), -outer.max(0), atol=1e-12)
      self.assertLen(holes, int(name in ("ring", "frame")))
      for hole in holes:
        self.assertLess(np.hypot(*hole.T).max(), 0.75)

  def test_crescent_is_hollow_and_frame_is_open(self):
    """What encloses the middle tells the families apart."""
    for name, inside in (("disk", 1), ("ring", 0), ("frame", 0), ("cross", 1)):
      polygons = silhouettes.make_silhouette(name, np.full(8, 0.5))
      polygons = [20 * polygon + 25 for polygon in polygons]
      mask = silhouettes.fill_polygons(polygons, (50, 50))
      self.assertEqual(mask[25, 25] > 128, bool(inside))

  def test_told_apart_at_the_smallest_size(self):
    """Nearest neighbour on masks of 10.24 pixels, 8 % of 128."""
    rng = np.random.default_rng(0)
    learn, ask, labels, truth = [], [], [], []
    for label, name in enumerate(silhouettes.SILHOUETTES):
      for number in range(180):
        found = _describe(_draw(rng, name, 10.24))
        if number < 150:
          learn.append(found)
          labels.append(label)
        else:
          ask.append(found)
          truth.append(label)
    learn, ask = np.array(learn), np.array(ask)
    distance = (learn * learn).sum(1) - 2 * ask @ learn.T
    right = np.array(labels)[distance.argmin(1)] == np.array(truth)
    self.assertGreater(right.mean(), 0.93)

  def test_unknown_name(self):
    with self.assertRaisesRegex(KeyError, "`name` must be one of disk"):
      silhouettes.make_silhouette("heart", np.zeros(8))


class FillPolygonsTest(parameterized.TestCase):
  @parameterized.parameters(2, 4, 8)
  def test_area(self, fine):
    """Coverage adds up to the area, but for half a sub-pixel at the edge."""
    rng = np.random.default_rng(fine)
    for name in silhouettes.SILHOUETTES:
      polygons = silhouettes.make_silhouette(name, rng.random(8))
      polygons = [17.3 * p + [25.4, 19.7] for p in polygons]
      mask = silhouettes.fill_polygons(polygons, (40, 51), fine=fine)
      self.assertEqual(mask.shape, (40, 51))
      length = sum(np.hypot(*(p - np.roll(p, 1, 0)).T).sum() for p in polygons)
      excess = mask.sum() / 255 - _area(polygons)
      self.assertGreater(excess, -1)
      self.assertLess(excess, 1 + 0.75 * length / fine)

  def test_continuous_frame(self):
    """A rectangle along the edges of pixels fills these and no others."""
    corners = np.array([[3.0, 2.0], [9.0, 2.0], [9.0, 6.0], [3.0, 6.0]])
    mask = silhouettes.fill_polygons([corners], (8, 12), fine=8) >= 128
    expected = np.zeros((8, 12), bool)
    expected[2:6, 3:9] = True
    np.testing.assert_array_equal(mask, expected)

  def test_centre_of_mass(self):
    centre = np.array([14.3, 11.8])
    disk = silhouettes.make_silhouette("disk", np.ones(8))[0] * 9 + centre
    mask = silhouettes.fill_polygons([disk], (24, 31), fine=8).astype(float)
    y, x = np.mgrid[:24, :31] + 0.5
    got = np.array([(mask * x).sum(), (mask * y).sum()]) / mask.sum()
    np.testing.assert_allclose(got, centre, atol=0.03)

  def test_nothing(self):
    self.assertEqual(silhouettes.fill_polygons([], (3, 4)).sum(), 0)


if __name__ == "__main__":
  absltest.main()
