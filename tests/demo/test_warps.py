"""The section itself runs in `make demo`; here: what it shows is right."""

import numpy as np
import pytest
from absl.testing import absltest

from vision_jax.demo import warps


class WarpsTest(absltest.TestCase):
  def test_pictures(self):
    pictures = warps._warps(warps._photograph())
    self.assertLen({np.asarray(p).tobytes() for p in pictures.values()}, 4)
    for name, picture in pictures.items():
      self.assertEqual(picture.shape, (240, 320, 3))
      self.assertTrue(np.isfinite(picture).all(), name)
      self.assertGreater(np.std(picture), 0.1, name)
    # Denominator 0.005 y - 0.3: behind the horizon up to row 60.
    np.testing.assert_array_equal(pictures["a horizon"][:61], 0.5)
    self.assertGreater(np.std(pictures["a horizon"][200]), 0.05)

  def test_false_rings_vanish(self):
    plain, smooth = warps._shrunk().values()
    corner = np.s_[:30, :30]  # rings finer than two pixels
    self.assertGreater(np.std(plain[corner]), 2 * np.std(smooth[corner]))

  @pytest.mark.slow
  def test_the_registered_picture_lies_on_the_other(self):
    pictures, error = warps._registered()
    self.assertLess(error, 0.1)
    first, other, seen = (np.asarray(p).mean(-1) for p in pictures.values())
    middle = np.s_[80:160, 110:210]

    def alike(a):
      return np.corrcoef(a[middle].ravel(), first[middle].ravel())[0, 1]

    self.assertGreater(alike(seen), 0.95)
    self.assertLess(alike(other), 0.8)

  def test_decoders_in_order(self):
    rows = {
      name: (float(a), float(b)) for name, a, b in warps._decoder_errors()
    }
    clean = {name: a for name, (a, _) in rows.items()}
    self.assertGreater(
      clean["arg-max"], clean["a quarter towards the neighbour"]
    )
    self.assertLess(clean["Taylor expansion of the logarithm (DARK)"], 0.02)
    self.assertGreater(clean["soft-argmax, beta 1"], 5)
    self.assertLess(clean["soft-argmax without its bias"], 0.02)


if __name__ == "__main__":
  absltest.main()
