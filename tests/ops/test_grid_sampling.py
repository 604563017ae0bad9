"""`affine_grid` and `grid_sample`: worked examples, contracts, derivatives.

Parity with torch, all modes at once, is in tests/parity.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from absl.testing import absltest, parameterized
from jax.test_util import check_grads

from vision_jax import ops
from vision_jax.ops import interpolation

LECTURE = np.float32([[1, 0, 0, 2], [6, 3, 2, 1], [0, 1, 0, 3], [1, 3, 1, 2]])


def _at(image, points, **settings):
  """Values at positions of the index frame."""
  points = np.asarray(points, np.float32)
  size = image.shape[:2]
  align_corners = settings.get("align_corners", False)
  grid = ops.index_to_ndc(points, size, align_corners=align_corners)
  return ops.grid_sample(image, grid, **settings)


class AffineGridTest(parameterized.TestCase):
  def test_anchors_of_the_identity(self):
    theta = jnp.eye(2, 3)
    grid = ops.affine_grid(theta, (2, 3), align_corners=True)
    np.testing.assert_allclose(grid[0, :, 0], [-1, 0, 1])
    np.testing.assert_allclose(grid[:, 0, 1], [-1, 1])
    grid = ops.affine_grid(theta, (2, 3))
    np.testing.assert_allclose(grid[0, :, 0], [-2 / 3, 0, 2 / 3], atol=1e-7)
    np.testing.assert_allclose(grid[:, 0, 1], [-0.5, 0.5])
    for align_corners in (False, True):
      one = ops.affine_grid(theta, (1, 1), align_corners=align_corners)
      np.testing.assert_allclose(one, np.zeros((1, 1, 2)))

  @parameterized.parameters(((3, 4),), ((2, 3, 4),))
  def test_equals_a_loop(self, size):
    rng = np.random.default_rng(0)
    dims = len(size)
    theta = rng.normal(size=(2, 5, dims, dims + 1)).astype(np.float32)
    got = ops.affine_grid(theta, size)
    self.assertEqual(got.shape, (2, 5, *size, dims))
    for place in np.ndindex(*size):
      base = [(2 * i + 1) / n - 1 for i, n in zip(place, size, strict=True)]
      expected = theta @ np.array([*base[::-1], 1.0])
      np.testing.assert_allclose(
        got[(slice(None), slice(None), *place)], expected, atol=2e-6
      )

  def test_bfloat16_maps_give_float32_positions(self):
    theta = jnp.eye(2, 3, dtype=jnp.bfloat16)
    grid = ops.affine_grid(theta, (1, 256))
    self.assertEqual(grid.dtype, jnp.float32)
    np.testing.assert_allclose(grid[0, 0, 0], -255 / 256)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, r"`theta` must be .*\(3, 3\)"):
      ops.affine_grid(jnp.eye(3), (2, 2))
    with self.assertRaisesRegex(ValueError, "`size` must be 2 numbers"):
      ops.affine_grid(jnp.eye(2, 3), (2, 2, 2))
    with self.assertRaisesRegex(ValueError, r"at least 1.*\(0, 2\)"):
      ops.affine_grid(jnp.eye(2, 3), (0, 2))


class WorkedExamplesTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_reads_of_the_lecture(self, align_corners):
    image = LECTURE[..., None]
    got = _at(image, [[0, 1], [0, 0.5]], align_corners=align_corners)
    np.testing.assert_allclose(got[:, 0], [6, 3.5], atol=1e-5)
    image = np.where(image == 6, 2, image)
    got = _at(image, [[0.5, 2.4]], align_corners=align_corners)
    np.testing.assert_allclose(got[:, 0], [1.1], atol=1e-5)

  @parameterized.parameters((False, 0.5), (True, 2 / 3))
  def test_a_whole_image_one_pixel_up(self, align_corners, shift):
    theta = jnp.array([[1, 0, 0], [0, 1, shift]])
    grid = ops.affine_grid(theta, (4, 4), align_corners=align_corners)
    got = ops.grid_sample(LECTURE[..., None], grid, align_corners=align_corners)
    expected = np.concatenate([LECTURE[1:], np.zeros((1, 4))])
    np.testing.assert_allclose(got[..., 0], expected, atol=1e-5)

  @parameterized.product(
    mode=interpolation.MODES,
    padding_mode=interpolation.PADDING_MODES,
    align_corners=[False, True],
  )
  def test_the_identity_gives_the_image(
    self, mode, padding_mode, align_corners
  ):
    rng = np.random.default_rng(0)
    for size in ((5, 8), (4, 3, 6), (1, 7)):
      image = rng.normal(size=(*size, 2)).astype(np.float32)
      theta = jnp.eye(len(size), len(size) + 1)
      grid = ops.affine_grid(theta, size, align_corners=align_corners)
      got = ops.grid_sample(
        image,
        grid,
        mode=mode,
        padding_mode=padding_mode,
        align_corners=align_corners,
      )
      np.testing.assert_allclose(got, image, atol=1e-5)

  def test_there_and_back_on_a_smooth_picture(self):
    y, x = np.mgrid[:64, :64] / 64
    image = np.sin(6 * x + 3 * y) + np.cos(7 * y - 2 * x)
    image = image[..., None].astype(np.float32)
    c, s = 0.9 * np.cos(0.4), 0.9 * np.sin(0.4)
    there = np.float32([[c, s, 0.05], [-s, c, -0.02], [0, 0, 1]])
    back = np.linalg.inv(there)
    once = ops.grid_sample(
      image, ops.affine_grid(there[:2], (64, 64)), mode="bicubic"
    )
    twice = ops.grid_sample(
      once, ops.affine_grid(back[:2], (64, 64)), mode="bicubic"
    )
    inside = np.s_[20:44, 20:44]
    error = np.mean(np.square(twice[inside] - image[inside]))
    self.assertGreater(10 * np.log10(np.ptp(image) ** 2 / error), 40)


class ScipyTest(parameterized.TestCase):
  @parameterized.parameters(
    ("zeros", False, "grid-constant"),
    ("border", False, "nearest"),
    ("reflection", True, "mirror"),
    ("reflection", False, "reflect"),
  )
  def test_values_of_map_coordinates(self, padding_mode, align_corners, mode):
    rng = np.random.default_rng(2)
    for size in ((6, 5), (4, 3, 5)):
      image = rng.normal(size=size)
      points = rng.uniform(-3, 8, (50, len(size)))
      expected = scipy.ndimage.map_coordinates(
        image, points[:, ::-1].T, order=1, mode=mode
      )
      with jax.enable_x64(True):
        sides = np.array(size[::-1])
        if align_corners:
          grid = 2 * points / (sides - 1) - 1
        else:
          grid = (2 * points + 1) / sides - 1
        got = ops.grid_sample(
          jnp.asarray(image[..., None]),
          jnp.asarray(grid),
          padding_mode=padding_mode,
          align_corners=align_corners,
        )
      np.testing.assert_allclose(got[:, 0], expected, atol=1e-12)


class ContractTest(parameterized.TestCase):
  """NaN, infinity and far coordinates, under jit, grad and vmap."""

  @parameterized.parameters(
    *itertools.product(
      interpolation.MODES, interpolation.PADDING_MODES, ["gather"], [2]
    ),
    *itertools.product(
      ["nearest", "bilinear"], interpolation.PADDING_MODES, ["gather"], [3]
    ),
    ("bicubic", "zeros", "gather", 3),
    ("bilinear", "zeros", "matmul", 2),
    ("bilinear", "border", "matmul", 2),
    ("bilinear", "reflection", "matmul", 2),
  )
  def test_coordinates_that_are_no_numbers(
    self, mode, padding_mode, method, dims
  ):
    image = jnp.arange(1.0, 1 + 3**dims).reshape(*[3] * dims, 1)
    grid = np.zeros((6, dims), np.float32)
    grid[:5, 0] = np.nan, np.inf, -np.inf, 3e38, -1e20

    def values(image, grid):
      return ops.grid_sample(
        image, grid, mode=mode, padding_mode=padding_mode, method=method
      )

    for variant in (values, jax.jit(values)):
      got = np.asarray(variant(image, grid))[:, 0]
      self.assertTrue(np.isnan(got[0]))
      middle = (1, 1) if dims == 3 else (1,)
      if padding_mode == "zeros":
        np.testing.assert_array_equal(got[1:5], 0)
      elif padding_mode == "border":
        right, left = image[(*middle, 2, 0)], image[(*middle, 0, 0)]
        np.testing.assert_allclose(
          got[1:5], [right, left, right, left], rtol=1e-6
        )
      else:
        self.assertTrue(np.isnan(got[1:3]).all())
        self.assertTrue(np.isfinite(got[3:5]).all())
      np.testing.assert_allclose(got[5], image[(*middle, 1, 0)], rtol=1e-6)

    out, pull = jax.vjp(values, image, jnp.asarray(grid))
    d_image, d_grid = pull(jnp.ones_like(out))
    self.assertTrue(np.isfinite(d_image).all())
    self.assertTrue(np.isfinite(d_grid).all())
    np.testing.assert_array_equal(d_grid[:5, 0], 0)
    np.testing.assert_array_equal(d_grid[0], 0)
    # What is no number gives the image no derivative.
    good = np.isfinite(out[:, 0])
    _, pull = jax.vjp(values, image, jnp.asarray(grid[good]))
    only = pull(jnp.ones((good.sum(), 1)))[0]
    np.testing.assert_allclose(d_image, only, rtol=1e-6)

  def test_the_same_under_vmap(self):
    rng = np.random.default_rng(3)
    image = rng.normal(size=(4, 5, 6, 2)).astype(np.float32)
    grid = rng.uniform(-1.5, 1.5, (4, 7, 2)).astype(np.float32)
    grid[1, 2, 0], grid[2, 3, 1] = np.nan, np.inf
    expected = ops.grid_sample(image, grid)
    np.testing.assert_array_equal(
      jax.vmap(ops.grid_sample)(image, grid), expected
    )

  def test_gradient_in_theta_is_not_zero_at_the_identity(self):
    rng = np.random.default_rng(4)
    image = rng.normal(size=(8, 8, 1)).astype(np.float32)

    def loss(theta):
      grid = ops.affine_grid(theta, (8, 8))
      return jnp.sum(ops.grid_sample(image, grid)[1:-1, 1:-1] ** 2)

    with jax.enable_x64(True):
      theta, step = jnp.eye(2, 3, dtype=jnp.float64), 1e-6
      got = jax.grad(loss)(theta)
      # At pixel centres the derivative is the one to the right and down: shift
      # there first.
      inside = theta.at[:, 2].add(1e-4)
      for place in ((0, 2), (1, 2)):
        change = jnp.zeros((2, 3)).at[place].set(step)
        central = (loss(inside + change) - loss(inside - change)) / (2 * step)
        np.testing.assert_allclose(got[place], central, rtol=5e-3)
        self.assertGreater(abs(got[place]), 0.1)


class DerivativesTest(parameterized.TestCase):
  @parameterized.parameters(
    ("bilinear", "gather", 2),
    ("bilinear", "matmul", 2),
    ("bicubic", "gather", 2),
    ("bilinear", "gather", 3),
  )
  def test_first_and_second_order(self, mode, method, dims):
    rng = np.random.default_rng(5)
    with jax.enable_x64(True):
      image = jnp.asarray(rng.normal(size=(*[4] * dims, 2)))
      points = rng.integers(-1, 4, (5, dims)) + rng.uniform(0.2, 0.8, (5, dims))
      grid = jnp.asarray((2 * points + 1) / 4 - 1)

      def f(image, grid):
        out = ops.grid_sample(image, grid, mode=mode, method=method)
        return jnp.sin(out).sum()

      check_grads(f, (image, grid), order=2, modes=("fwd", "rev"), eps=1e-5)

  def test_derivatives_of_nearest_are_zero_in_the_grid(self):
    image = jnp.arange(12.0).reshape(3, 4, 1)
    grid = jnp.array([[0.3, -0.2], [0.9, 0.9]])
    slope = jax.grad(lambda g: ops.grid_sample(image, g, mode="nearest").sum())
    np.testing.assert_array_equal(slope(grid), 0)


class LayoutTest(parameterized.TestCase):
  @parameterized.parameters("gather", "matmul")
  def test_many_grids_of_one_image(self, method):
    rng = np.random.default_rng(6)
    images = rng.normal(size=(2, 5, 6, 3)).astype(np.float32)
    grids = rng.uniform(-1.2, 1.2, (2, 4, 3, 7, 2)).astype(np.float32)
    got = ops.grid_sample(images, grids, method=method)
    self.assertEqual(got.shape, (2, 4, 3, 7, 3))
    for b in range(2):
      for k in range(4):
        np.testing.assert_allclose(
          got[b, k], ops.grid_sample(images[b], grids[b, k]), atol=1e-5
        )

  def test_integers_and_bfloat16(self):
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    grid = ops.affine_grid(jnp.eye(2, 3), (3, 4))
    np.testing.assert_allclose(ops.grid_sample(image, grid), image, atol=1e-5)
    half = ops.grid_sample(jnp.asarray(image, jnp.bfloat16), grid)
    self.assertEqual(half.dtype, jnp.bfloat16)
    # Positions of a wide image would be off by a quarter of a pixel.
    wide = jnp.arange(256, dtype=jnp.bfloat16).reshape(1, 256, 1)
    theta = jnp.eye(2, 3, dtype=jnp.bfloat16)
    got = ops.grid_sample(wide, ops.affine_grid(theta, (1, 256)))
    np.testing.assert_array_equal(got, wide)

  def test_fill_value(self):
    image = jnp.ones((3, 3, 2))
    grid = jnp.array([[5.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    got = ops.grid_sample(image, grid, fill_value=jnp.array([7.0, -1.0]))
    np.testing.assert_allclose(got, [[7, -1], [1, 1], [4, 0]], atol=1e-6)

  def test_errors(self):
    image, grid = jnp.zeros((2, 4, 5, 3)), jnp.zeros((2, 6, 2))
    cases = (
      ((image, jnp.zeros((2, 6, 4))), {}, "`grid` must be"),
      ((image, jnp.zeros((3, 6, 2))), {}, "batch axes of `image`"),
      ((image[0, 0], jnp.zeros((6, 2))), {}, "`image` must be"),
      ((image[:, :0], grid), {}, "at least one pixel"),
      ((image, grid), {"mode": "linear"}, "`mode` must be one of nearest"),
      ((image, grid), {"padding_mode": "edge"}, "one of zeros, border"),
      ((image, grid), {"method": "fast"}, "one of gather, matmul"),
      (
        (image, grid),
        {"fill_value": 1.0, "padding_mode": "border"},
        "`fill_value` must come with",
      ),
    )
    for arguments, settings, text in cases:
      sample = functools.partial(ops.grid_sample, **settings)
      for variant in (sample, jax.jit(sample)):
        with self.assertRaisesRegex(ValueError, text):
          variant(*arguments)


if __name__ == "__main__":
  absltest.main()
