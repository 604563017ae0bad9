"""Tests of the refinement of matches."""

import functools

import chex
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from vision_jax import data, ops, weights
from vision_jax.systems import elf

LAYERS = ("pool2", "pool1")


@functools.cache
def _network():
  module, variables, _ = weights.load_bundled("vgg_small")
  return module, variables


def _pair(shift, size=(96, 120)):
  """A photograph and itself moved by (x, y) pixels, interpolated by SciPy."""
  image = np.asarray(data.load_photograph("gravel.png"))[100:300, 120:340]
  image = image[: size[0] + 40, : size[1] + 40]
  moved = np.stack(
    [
      ndimage.shift(image[..., c], shift[::-1], order=3, mode="mirror")
      for c in range(3)
    ],
    -1,
  )
  cut = (slice(20, 20 + size[0]), slice(20, 20 + size[1]))
  return np.clip(image[cut], 0, 1), np.clip(moved[cut], 0, 1).astype(np.float32)


def _matches(count):
  index = jnp.arange(count)
  return ops.Matches(index, index, jnp.ones(count), jnp.ones(count, bool))


def _points(count, seed=0, size=(96, 120)):
  rng = np.random.default_rng(seed)
  xy = rng.uniform(20, np.array(size[::-1]) - 20, (count, 2))
  return ops.Keypoints(
    jnp.asarray(xy, jnp.float32),
    jnp.ones(count),
    jnp.ones(count, bool),
    jnp.zeros((count, 4)),
  )


def _turned_pair(degrees, zoom):
  """A picture, its turned and enlarged copy, points 2.5 px off, the truth."""
  image0, _ = _pair((0.0, 0.0))
  angle = np.deg2rad(degrees)
  centre = np.array([59.5, 47.5])
  linear = zoom * np.array(
    [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  )
  matrix = np.eye(3)
  matrix[:2, :2] = linear
  matrix[:2, 2] = centre - linear @ centre
  inverse = np.linalg.inv(matrix)
  rows, cols = np.mgrid[:96, :120]
  places = np.stack([cols, rows, np.ones_like(cols)], -1) @ inverse.T
  image1 = np.stack(
    [
      ndimage.map_coordinates(
        image0[..., c],
        [places[..., 1], places[..., 0]],
        order=3,
        mode="mirror",
      )
      for c in range(3)
    ],
    -1,
  )
  image1 = np.clip(image1, 0, 1).astype(np.float32)
  rng = np.random.default_rng(2)
  points = centre + rng.uniform(-22, 22, (50, 2))
  truth = points @ linear.T + matrix[:2, 2]
  k0 = _points(50)._replace(xy=jnp.asarray(points, jnp.float32))
  k1 = k0._replace(
    xy=jnp.asarray(truth + rng.uniform(-2.5, 2.5, (50, 2)), jnp.float32)
  )
  return (image0, image1, k0, k1), matrix, truth


class RefineMatchesTest(chex.TestCase):
  def test_points_are_moved_to_their_partners(self):
    shift = (2.6, -1.7)
    image0, image1 = _pair(shift)
    k0 = _points(60)
    noise = np.random.default_rng(1).uniform(-3, 3, (60, 2))
    k1 = k0._replace(xy=k0.xy + jnp.float32(noise + shift))
    xy0, xy1 = elf.refine_matches(
      *_network(), image0, image1, k0, k1, _matches(60), layers=LAYERS
    )
    np.testing.assert_array_equal(xy0, k0.xy)
    before = np.linalg.norm(noise, axis=1)
    after = np.linalg.norm(np.subtract(xy1, xy0) - shift, axis=1)
    self.assertGreater(np.median(before), 2.0)
    self.assertLess(np.median(after), 0.3)
    self.assertGreater((after < 1.0).mean(), 0.85)

  def test_a_rough_homography_undoes_rotation_and_scale(self):
    pair, matrix, truth = _turned_pair(35.0, 1.3)
    rough = matrix + np.array([[0.01, 0, 1.0], [0, -0.01, -1.0], [0, 0, 0]])

    def median_error(homography):
      _, xy1 = elf.refine_matches(
        *_network(), *pair, _matches(50), layers=LAYERS, homography=homography
      )
      return np.median(np.linalg.norm(xy1 - truth, axis=1))

    self.assertLess(median_error(jnp.asarray(rough, jnp.float32)), 0.4)
    self.assertGreater(median_error(None), 0.8)

  def test_invalid_rows_are_zero_and_do_not_matter(self):
    image0, image1 = _pair((1.0, 0.0))
    k0 = _points(8)
    matches = _matches(8)._replace(
      valid=jnp.arange(8) < 5,
      index0=jnp.where(jnp.arange(8) < 5, jnp.arange(8), -1),
      index1=jnp.where(jnp.arange(8) < 5, jnp.arange(8), -1),
    )
    xy0, xy1 = elf.refine_matches(
      *_network(), image0, image1, k0, k0, matches, layers=LAYERS
    )
    np.testing.assert_array_equal(xy0[5:], 0.0)
    np.testing.assert_array_equal(xy1[5:], 0.0)
    self.assertTrue((np.asarray(xy1[:5]) != 0).all())

  def test_identical_pictures_move_nothing(self):
    image, _ = _pair((0.0, 0.0))
    k = _points(40)
    xy0, xy1 = elf.refine_matches(
      *_network(), image, image, k, k, _matches(40), layers=LAYERS
    )
    self.assertLess(float(jnp.median(abs(xy0 - xy1))), 1e-3)

  def test_uint8_of_other_sizes(self):
    image0, image1 = _pair((0.0, 0.0))
    image1 = np.pad(image1, ((0, 9), (0, 4), (0, 0)))
    k = _points(6)
    images = [np.uint8(255 * i) for i in (image0, image1)]
    xy0, xy1 = elf.refine_matches(
      *_network(), *images, k, k, _matches(6), layers=("pool1",)
    )
    self.assertLess(float(jnp.median(abs(xy0 - xy1))), 0.3)

  def test_errors(self):
    image, _ = _pair((0.0, 0.0))
    run = functools.partial(
      elf.refine_matches,
      *_network(),
      image,
      image,
      _points(3),
      _points(3),
      _matches(3),
    )
    with self.assertRaisesRegex(ValueError, "refine_matches: layers .*pool9"):
      run(layers=("pool9",))
    with self.assertRaisesRegex(ValueError, "refine_matches: `radius`"):
      run(layers=LAYERS, radius=0)


class RefineHomographyTest(chex.TestCase):
  def test_points_and_homography_come_closer(self):
    pair, matrix, truth = _turned_pair(12.0, 1.15)
    _, first = elf.refine_matches(
      *_network(), *pair, _matches(50), layers=LAYERS
    )
    _, second, estimate = elf.refine_homography(
      *_network(), *pair, _matches(50), layers=LAYERS
    )
    errors = [
      np.median(np.linalg.norm(np.asarray(xy) - truth, axis=1))
      for xy in (pair[3].xy, first, second)
    ]
    self.assertGreater(errors[0], 1.5)
    self.assertLess(errors[2], 0.25)
    self.assertLess(errors[2], errors[1])
    corners = np.array([[0.0, 0.0], [119.0, 0.0], [119.0, 95.0], [0.0, 95.0]])
    moved, expected = (
      np.asarray(ops.apply_homography(jnp.asarray(m, jnp.float32), corners))
      for m in (estimate.matrix, matrix)
    )
    self.assertLess(np.linalg.norm(moved - expected, axis=1).max(), 1.0)

  def test_too_few_matches_have_no_homography(self):
    image0, image1 = _pair((1.0, 0.0))
    k = _points(5)
    matches = _matches(5)._replace(valid=jnp.arange(5) < 3)
    xy0, xy1, estimate = elf.refine_homography(
      *_network(), image0, image1, k, k, matches, layers=LAYERS
    )
    self.assertIsNone(estimate)
    np.testing.assert_array_equal(xy0[3:], 0.0)
    self.assertTrue((np.asarray(xy1[:3]) != 0).all())
