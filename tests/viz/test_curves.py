import numpy as np
from absl.testing import absltest

from vision_jax import viz


class PlotCurvesTest(absltest.TestCase):
  def _ink(self, picture):
    """Coloured (not grey) pixels."""
    spread = picture.max(-1).astype(int) - picture.min(-1)
    return np.argwhere(spread > 60)

  def test_a_rising_curve_rises(self):
    picture = viz.plot_curves({"a": ([0, 1, 2], [0.0, 0.5, 1.0])})
    self.assertEqual((picture.shape, picture.dtype), ((420, 760, 3), np.uint8))
    rows, columns = self._ink(picture).T
    inside = columns < 600  # the legend has a sample of the line too
    slope = np.polyfit(columns[inside], rows[inside], 1)[0]
    self.assertLess(slope, -0.2)

  def test_limits_and_gaps(self):
    """Above the limits, and without numbers, nothing is drawn."""
    picture = viz.plot_curves(
      {"a": ([0, 1, 2], [np.nan] * 3), "b": ([0, 1, 2], [5.0, 6.0, 7.0])}
    )
    self.assertLess((self._ink(picture)[:, 1] < 550).sum(), 20)
    free = viz.plot_curves({"b": ([0, 1, 2], [5.0, 6.0, 7.0])}, y_limits=None)
    self.assertGreater((self._ink(free)[:, 1] < 550).sum(), 200)

  def test_many_curves_differ(self):
    x = [0, 1]
    curves = {str(k): (x, [0.05 * k, 0.05 * k]) for k in range(12)}
    dashed = viz.plot_curves(curves)
    solid = viz.plot_curves(dict(list(curves.items())[:10]))
    self.assertGreater((dashed != solid).any(-1).sum(), 200)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "must not be empty"):
      viz.plot_curves({})
    with self.assertRaisesRegex(ValueError, "one length, got 2 and 1"):
      viz.plot_curves({"a": ([0, 1], [1])})


if __name__ == "__main__":
  absltest.main()
