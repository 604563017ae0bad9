"""Spatial transformers: families of warps, identity start, what is learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import absltest, parameterized

from vision_jax import ops
from vision_jax.systems import stn

PLANE = [name for name, t in ops.TRANSFORMS.items() if t.num_dims == 2]


class BoundTest(absltest.TestCase):
  def test_slope_one_at_the_identity_and_never_beyond(self):
    identity = (1.0, 0.0)
    f = lambda p: stn.bound_parameters(p, identity, 0.3)  # noqa: E731
    rest = jnp.array(identity)
    np.testing.assert_allclose(f(rest), identity)
    np.testing.assert_allclose(jax.jacobian(f)(rest), np.eye(2))
    far = f(jnp.array([[50.0, -50.0]]))
    np.testing.assert_allclose(far, [[1.3, -0.3]])

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`bound` must be > 0"):
      stn.bound_parameters(jnp.zeros(1), (0,), 0.0)


class SpatialTransformerTest(parameterized.TestCase):
  @parameterized.parameters(*PLANE)
  def test_starts_as_the_identity_with_a_gradient(self, name):
    images = jax.random.uniform(jax.random.key(0), (2, 12, 12, 1))
    module = stn.SpatialTransformer(stn.LocalisationFCN((8,)), name)
    variables = module.init(jax.random.key(1), images)
    seen, parameters = module.apply(variables, images)
    np.testing.assert_allclose(seen, images, atol=1e-4)
    np.testing.assert_allclose(
      parameters[1], ops.TRANSFORMS[name].identity, atol=1e-6
    )

    def loss(variables):
      return jnp.sum(module.apply(variables, images)[0] ** 2)

    slope = jax.grad(loss)(variables)["params"]["regression"]
    self.assertGreater(np.abs(slope["bias"]).max(), 1e-3)
    self.assertGreater(np.abs(slope["kernel"]).max(), 1e-4)

  def test_the_papers_localisation(self):
    images = jnp.zeros((1, 42, 42, 1))
    module = stn.SpatialTransformer(
      stn.LocalisationCNN(), "affine", (28, 28), bound=0.5
    )
    variables = module.init(jax.random.key(0), images)
    seen, _ = module.apply(variables, images)
    self.assertEqual(seen.shape, (1, 28, 28, 1))
    # 42 -> 21 -> 17 -> 8 -> 4: two convolutions of 20 filters, 20 units, 6.
    count = sum(p.size for p in jax.tree.leaves(variables))
    expected = (25 + 1) * 20 + (500 + 1) * 20 + (320 + 1) * 20 + 21 * 6
    self.assertEqual(count, expected)

  def test_volumes(self):
    volumes = jax.random.uniform(jax.random.key(0), (2, 4, 5, 6, 1))
    module = stn.SpatialTransformer(stn.LocalisationFCN((4,)), "affine3d")
    variables = module.init(jax.random.key(1), volumes)
    seen, _ = module.apply(variables, volumes)
    np.testing.assert_allclose(seen, volumes, atol=1e-5)

  def test_several_looks_compose(self):
    # A localisation that always says the same: each look adds a shift.
    images = jax.random.uniform(jax.random.key(0), (1, 16, 16, 1))
    one = stn.SpatialTransformer(stn.LocalisationFCN((4,)), "affine")
    two = one.clone(num_steps=2)
    variables = one.init(jax.random.key(1), images)
    step = 2 / 16  # a pixel
    bias = jnp.array([1.0, 0, step, 0, 1, 0])
    variables["params"]["regression"]["bias"] = bias
    for module, shift in ((one, 1), (two, 2)):
      seen, _ = module.apply(variables, images)
      np.testing.assert_allclose(
        seen[:, :, : 16 - shift], images[:, :, shift:], atol=1e-5
      )
    smaller = two.clone(size=(8, 8))  # the last look alone
    seen, _ = smaller.apply(variables, images)
    shifted = jnp.pad(images[:, :, 2:], ((0, 0), (0, 0), (0, 2), (0, 0)))
    means = shifted.reshape(1, 8, 2, 8, 2, 1).mean((2, 4))
    np.testing.assert_allclose(seen, means, atol=1e-5)
    with self.assertRaisesRegex(ValueError, "`num_steps` must be"):
      one.clone(transform="tps", num_steps=2).init(jax.random.key(0), images)
    with self.assertRaisesRegex(
      ValueError, "SpatialTransformer: the transform"
    ):
      one.clone(transform="shear").init(jax.random.key(0), images)

  def test_learns_to_undo_a_shift(self):
    # The target is the picture before it was moved by a distance that differs
    # from picture to picture: only by looking can it be undone.
    y, x = np.mgrid[:16, :16]
    rng = np.random.default_rng(0)
    centres = rng.uniform(5, 10, (64, 2))
    square = (x - centres[:, :1, None]) ** 2 + (y - centres[:, 1:, None]) ** 2
    images = np.exp(-square / 8)[..., None].astype(np.float32)
    middle = np.exp(-((x - 7.5) ** 2 + (y - 7.5) ** 2) / 8)
    target = middle[None, ..., None].astype(np.float32)
    module = stn.SpatialTransformer(stn.LocalisationFCN((32,)), "attention")
    variables = module.init(jax.random.key(1), images)
    tx = optax.adam(3e-3)

    def loss(variables):
      return jnp.mean((module.apply(variables, images)[0] - target) ** 2)

    @jax.jit
    def step(carry, _):
      variables, state = carry
      value, slope = jax.value_and_grad(loss)(variables)
      updates, state = tx.update(slope, state)
      return (optax.apply_updates(variables, updates), state), value

    first = float(loss(variables))
    (variables, _), _ = jax.lax.scan(
      step, (variables, tx.init(variables)), length=300
    )
    self.assertLess(float(loss(variables)), 0.1 * first)
    _, parameters = module.apply(variables, images)
    shift = (centres - 7.5) * 2 / 16
    error = np.abs(np.asarray(parameters)[:, 1:] - shift).mean()
    self.assertLess(error, 0.25 * np.abs(shift).mean())


if __name__ == "__main__":
  absltest.main()
