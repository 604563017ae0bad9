"""Tests of vision_jax.train.parallel: placement and splitting."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax.train import parallel


class DataParallelTest(chex.TestCase):
  @parameterized.product(backend=parallel.BACKENDS, number=(1, 2, 4, 8))
  def test_examples_keep_their_order(self, backend, number):
    def function(scale, batch):
      part = jax.lax.all_gather(scale * batch, "rows", tiled=True)
      return jax.lax.pmean(part, "rows")

    run = parallel.DataParallel(
      function,
      backend=backend,
      axis_name="rows",
      devices=jax.devices()[:number],
    )
    x = np.arange(48, dtype=np.float32).reshape(8, 3, 2)
    np.testing.assert_array_equal(run(np.float32(2), x), 2 * x)
    np.testing.assert_array_equal(run(jnp.float32(2), jnp.asarray(x)), 2 * x)

  @parameterized.parameters(*parallel.BACKENDS)
  def test_place_is_idempotent_and_keeps_keys(self, backend):
    run = parallel.DataParallel(lambda s, b: s, backend=backend, donate=True)
    tree = {"w": jnp.arange(3.0), "n": 2, "key": jax.random.key(5)}
    placed = run.place(tree)
    again = run.place(placed)
    self.assertIs(placed["w"], again["w"])
    self.assertIs(placed["key"], again["key"])
    self.assertEqual(placed["key"].dtype, tree["key"].dtype)
    np.testing.assert_array_equal(
      jax.random.key_data(placed["key"]), jax.random.key_data(tree["key"])
    )

  def test_donation_never_reaches_the_source(self):
    run = parallel.DataParallel(
      lambda s, b: s + jax.lax.psum(b.sum(), "batch"),
      backend="shard_map",
      donate=True,
      devices=jax.devices()[:1],
    )
    source = np.zeros((256, 256), np.float32)
    given = jnp.asarray(source)
    out = run(given, np.ones(4, np.float32))
    for _ in range(3):
      out = run(out, np.ones(4, np.float32))
    self.assertEqual(float(out[0, 0]), 16.0)
    self.assertEqual(float(jnp.abs(given).max()), 0.0)
    self.assertEqual(np.abs(source).max(), 0.0)

  def test_the_program_for_shapes_is_the_one_that_runs(self):
    def function(scale, batch):
      return jax.lax.psum((scale * batch).sum(0), "batch")

    run = parallel.DataParallel(function, backend="shard_map")
    x = np.arange(48, dtype=np.float32).reshape(16, 3)
    lowered = run.lower(
      jax.ShapeDtypeStruct((), jnp.float32),
      jax.ShapeDtypeStruct(x.shape, jnp.float32),
    )
    compiled = lowered.compile()
    got = compiled(run.place(np.float32(2)), run.put(x).arrays)
    np.testing.assert_array_equal(got, run(np.float32(2), x))
    np.testing.assert_array_equal(got, 2 * x.sum(0))
    with self.assertRaisesRegex(ValueError, "`backend` must be 'shard_map'"):
      parallel.DataParallel(function).lower(np.float32(2), x)

  @parameterized.parameters(*parallel.BACKENDS)
  def test_a_batch_on_the_devices_is_taken_as_it_is(self, backend):
    def function(scale, batch):
      return jax.lax.psum((scale * batch["x"]).sum(), "batch")

    run = parallel.DataParallel(function, backend=backend)
    batch = {"x": np.arange(48, dtype=np.float32).reshape(16, 3)}
    placed = run.put(batch)
    self.assertEqual(placed.rows, 16)
    self.assertEqual(float(run(np.float32(2), placed)), 2 * batch["x"].sum())
    self.assertEqual(float(run(np.float32(2), batch)), 2 * batch["x"].sum())
    with self.assertRaisesRegex(ValueError, "multiple of 8"):
      run.put({"x": np.zeros((7, 3))})
