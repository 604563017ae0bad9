"""Registration: known warps are found again, whatever the photometry."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from vision_jax import ops
from vision_jax.systems import registration

SIZE = (48, 64)


def picture(size=SIZE, seed=0):
  """Smooth waves, the same function of ndc at every size."""
  rng = np.random.default_rng(seed)
  y, x = np.meshgrid(
    *(np.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in size), indexing="ij"
  )
  total = np.zeros(size)
  for _ in range(12):
    u, v, phase = rng.normal(size=3) * (4, 4, 3)
    total += np.sin(u * x + v * y + phase)
  return jnp.asarray(0.5 + 0.05 * total[..., None], jnp.float32)


def seen(moving, family, parameters, size=SIZE):
  grid = ops.transform_grid(family, jnp.asarray(parameters), size)
  return ops.grid_sample(moving, grid, padding_mode="border")


def corner_error(found, true):
  """Largest distance of where the corners of the middle read, ndc."""
  points = jnp.array([[-0.6, -0.6], [0.6, -0.6], [0.6, 0.6], [-0.6, 0.6]])

  def places(p):
    theta = np.asarray(ops.TRANSFORMS["projective"].to_theta(p))
    moved = np.c_[points, np.ones(4)] @ theta.T
    return moved[:, :2] / moved[:, 2:]

  return np.abs(places(found) - places(true)).max()


TRUE = jnp.array([0.95, 0.2, 0.08, -0.15, 1.05, -0.06, 0.05, -0.04])


class RegisterTest(parameterized.TestCase):
  @parameterized.parameters(
    (registration.correlation_distance, 0.4, 0.3),
    (registration.absolute_difference, 1.0, 0.0),
  )
  def test_a_homography_is_found(self, difference, gain, bias):
    moving = picture((60, 80))
    fixed = gain * seen(moving, "projective", TRUE) + bias
    found = registration.register(
      moving, fixed, difference=difference, num_levels=3, num_steps=120
    )
    self.assertEqual(found.losses.shape, (3 * 120,))
    self.assertLess(float(found.losses[-1]), 0.03 * float(found.losses[0]))
    # 0.003 is 0.1 pixels of 64.
    self.assertLess(corner_error(found.parameters, TRUE), 0.003)
    identity = jnp.array(ops.TRANSFORMS["projective"].identity)
    self.assertGreater(corner_error(identity, TRUE), 0.1)

  def test_matrix_in_pixels(self):
    """As the docstring converts it, the matrix warps one into the other."""
    moving = picture((60, 80))
    fixed = seen(moving, "projective", TRUE)
    theta = ops.TRANSFORMS["projective"].to_theta(TRUE)
    matrix = ops.theta_to_matrix(theta, (60, 80), SIZE)
    again = ops.warp(moving, matrix, SIZE, padding_mode="border")
    np.testing.assert_allclose(again, fixed, atol=1e-4)

  def test_contrast_misleads_the_absolute_difference(self):
    """Why correlation is the default."""
    moving = picture()
    fixed = 0.5 * seen(moving, "projective", TRUE) + 0.4
    errors = [
      corner_error(
        registration.register(
          moving, fixed, difference=d, num_levels=2, num_steps=60
        ).parameters,
        TRUE,
      )
      for d in (
        registration.correlation_distance,
        registration.absolute_difference,
      )
    ]
    self.assertLess(errors[0], 0.005)
    self.assertGreater(errors[1], 0.02)

  def test_start(self):
    moving = picture()
    fixed = seen(moving, "projective", TRUE)
    found = registration.register(
      moving, fixed, initial=TRUE, num_levels=1, num_steps=2,
      learning_rate=1e-6,
    )  # fmt: skip
    self.assertLess(float(found.losses[0]), 1e-3)
    np.testing.assert_allclose(found.parameters, TRUE, atol=1e-5)

  def test_spline(self):
    rng = np.random.default_rng(2)
    true = ops.control_lattice(4) + rng.normal(scale=0.04, size=(16, 2))
    moving = picture(seed=3)
    fixed = seen(moving, "tps", true.ravel())
    found = registration.register(
      moving, fixed, family="tps", num_levels=2, num_steps=80
    )
    grids = [
      np.asarray(ops.transform_grid("tps", jnp.asarray(p), (9, 9)))[2:-2, 2:-2]
      for p in (found.parameters, true.ravel(), ops.control_lattice(4).ravel())
    ]
    self.assertLess(np.abs(grids[0] - grids[1]).max(), 0.01)
    self.assertGreater(np.abs(grids[2] - grids[1]).max(), 0.03)

  def test_levels_below_8_pixels_are_left_out(self):
    found = registration.register(
      picture((16, 40)), picture((20, 20)), num_levels=5, num_steps=3
    )
    self.assertEqual(found.losses.shape, (2 * 3,))

  def test_several_pairs(self):
    moving = jnp.stack([picture(seed=1), picture(seed=2)])

    def run(image):
      return registration.register(
        image, jnp.roll(image, 2, 1), num_levels=1, num_steps=5
      )

    both = jax.vmap(run)(moving)
    one = run(moving[1])
    np.testing.assert_allclose(both.parameters[1], one.parameters, atol=1e-4)

  def test_bad_input(self):
    image = picture()
    for message, arguments in (
      ("`moving` and `fixed` must be .H, W, C.", (image[..., 0], image)),
      ("same C, got .48, 64, 1. and .48, 64, 2.", (image, image.repeat(2, -1))),
    ):
      with self.assertRaisesRegex(ValueError, message):
        registration.register(*arguments)
    for message, settings in (
      ("must be one of", {"family": "bent"}),
      ("must warp images, got 'affine3d'", {"family": "affine3d"}),
      ("must be positive, got 0, 100", {"num_levels": 0}),
      ("must be positive", {"learning_rate": float("nan")}),
      (r"`initial` must be \[8\] for 'projective'", {"initial": jnp.ones(6)}),
    ):
      with self.assertRaisesRegex(ValueError, message):
        registration.register(image, image, **settings)


class DifferenceTest(parameterized.TestCase):
  def test_correlation_of_the_covered_part(self):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 7, 2))
    inside = (rng.random((6, 7, 1)) > 0.4).astype(float)
    covered = np.broadcast_to(inside, a.shape) > 0
    expected = 1 - np.corrcoef(a[covered], b[covered])[0, 1]
    got = registration.correlation_distance(a * inside, b, inside)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    constant = registration.correlation_distance(a * 0 + 1.0, b, inside * 0 + 1)
    np.testing.assert_allclose(constant, 1.0, atol=1e-4)

  def test_absolute_difference_of_the_covered_part(self):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 7, 2))
    inside = (rng.random((6, 7, 1)) > 0.4).astype(float)
    covered = np.broadcast_to(inside, a.shape) > 0
    got = registration.absolute_difference(a * inside, b, inside)
    np.testing.assert_allclose(got, np.abs(a - b)[covered].mean(), rtol=1e-5)

  @parameterized.parameters(
    registration.absolute_difference, registration.correlation_distance
  )
  def test_nothing_covered(self, difference):
    nothing = jnp.zeros((4, 5, 1))
    value, slope = jax.value_and_grad(difference)(
      nothing, jnp.ones((4, 5, 1)), nothing
    )
    self.assertTrue(np.isfinite(value))
    self.assertTrue(np.isfinite(slope).all())


if __name__ == "__main__":
  absltest.main()
