"""Tests of vision_jax.train.evaluation: every example counts once."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from vision_jax import train
from vision_jax.train import parallel


def make_state():
  return train.create_state(
    {"w": jnp.full((3,), 2.0)}, {}, optax.sgd(0.1), jax.random.key(0)
  )


def metric_fn(params, batch_stats, batch):
  value = batch["x"] @ params["w"]
  return {
    "value": value,
    "hit": value > 0,
    # Division by a padded zero: NaN there must not matter.
    "found": (batch["n"] / batch["n"] * value, batch["n"]),
  }


def make_data(size):
  rng = np.random.default_rng(0)
  return {
    "x": rng.normal(size=(size, 3)).astype(np.float32),
    "n": rng.integers(1, 5, size),
  }


def wanted(data):
  value = data["x"].astype(np.float64) @ np.full(3, 2.0)
  return {
    "value": value.mean(),
    "hit": (value > 0).mean(),
    "found": value.sum() / data["n"].sum(),
  }


class EvaluateTest(chex.TestCase):
  @parameterized.product(
    backend=parallel.BACKENDS, number=(1, 8), batch_size=(12, 29)
  )
  def test_equals_numpy_over_all_examples(self, backend, number, batch_size):
    data = make_data(29)
    eval_step = train.make_eval_step(
      metric_fn, backend=backend, devices=jax.devices()[:number]
    )
    batches = [
      {k: v[i : i + batch_size] for k, v in data.items()}
      for i in range(0, 29, batch_size)
    ]
    got = train.evaluate(eval_step, make_state(), batches)
    self.assertEqual(set(got), {"value", "hit", "found"})
    for name, value in wanted(data).items():
      np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)

  def test_one_compilation_and_given_valid(self):
    chex.clear_trace_counter()
    eval_step = train.make_eval_step(chex.assert_max_traces(metric_fn, 1))
    data = make_data(16)
    first = {k: v[:11] for k, v in data.items()}
    second = {k: v[11:] for k, v in data.items()}
    second = {**second, "valid": np.array([1, 0, 1, 1, 0], bool)}
    kept = np.r_[np.arange(11), 11, 13, 14]
    got = train.evaluate(eval_step, make_state(), iter([first, second]))
    for name, value in wanted({k: v[kept] for k, v in data.items()}).items():
      np.testing.assert_allclose(got[name], value, rtol=1e-5)

  def test_nothing_counted_is_nan(self):
    eval_step = train.make_eval_step(metric_fn)
    data = {**make_data(8), "valid": np.zeros(8, bool)}
    got = train.evaluate(eval_step, make_state(), [data])
    self.assertTrue(all(np.isnan(v) for v in got.values()))

  def test_errors(self):
    eval_step = train.make_eval_step(metric_fn)
    with self.assertRaisesRegex(ValueError, "at least one batch"):
      train.evaluate(eval_step, make_state(), [])
    with self.assertRaisesRegex(ValueError, "at most 8 rows, got 16"):
      train.evaluate(eval_step, make_state(), [make_data(8), make_data(16)])
    summed = train.make_eval_step(lambda p, s, b: {"a": b["x"].sum()})
    with self.assertRaisesRegex(ValueError, r"values \[B\].*'a'"):
      summed(make_state(), make_data(8))
    with self.assertRaisesRegex(ValueError, "make_eval_step: `backend`"):
      train.make_eval_step(metric_fn, backend="jit")


class PadBatchTest(chex.TestCase):
  def test_fills_with_zeros(self):
    got = train.pad_batch({"x": np.ones((2, 3, 1), np.uint8)}, 5)
    self.assertEqual(got["x"].dtype, np.uint8)
    np.testing.assert_array_equal(got["x"][:, 0, 0], [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(got["valid"], [1, 1, 0, 0, 0])
    again = train.pad_batch(got, 6)
    np.testing.assert_array_equal(again["valid"], [1, 1, 0, 0, 0, 0])

  def test_errors(self):
    for batch in ({"x": np.ones((0, 2))}, {}, {"x": 1.0}):
      with self.assertRaisesRegex(ValueError, "one B >= 1"):
        train.pad_batch(batch, 4)
    with self.assertRaisesRegex(ValueError, "one B >= 1"):
      train.pad_batch({"x": np.ones(2), "y": np.ones(3)}, 4)
