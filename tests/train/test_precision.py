"""Tests of vision_jax.train.precision: bfloat16 computes, float32 remembers."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

from vision_jax import nn, train
from vision_jax.train import step as step_lib


class Net(linen.Module):
  """Two convolutions with batch norm, and a classifier."""

  dtype: str

  @linen.compact
  def __call__(self, images, train=False):
    dtype = self.dtype
    x = images
    for k, features in enumerate((8, 16)):
      x = nn.Conv(features, 3, 2, use_bias=False, dtype=dtype, name=f"c{k}")(x)
      x = nn.BatchNorm(
        use_running_average=not train, dtype=dtype, name=f"b{k}"
      )(x)
      x = nn.Relu(name=f"r{k}")(x)
    return nn.Dense(4, dtype=dtype, name="fc")(x.mean((1, 2)))


def make_batch():
  """Stripes of four directions in noise, with a large mean."""
  rng = np.random.default_rng(0)
  label = rng.integers(0, 4, 48)
  y, x = np.mgrid[:12, :10]
  angle = label.reshape(-1, 1, 1) * np.pi / 4
  wave = np.sin(1.5 * (x * np.cos(angle) + y * np.sin(angle)))
  image = 5.0 + wave[..., None] + rng.normal(size=(48, 12, 10, 3))
  return {"image": image.astype(np.float32), "label": label.astype(np.int32)}


def make_loss(dtype):
  model = Net(train.compute_dtype(dtype))

  def loss_fn(params, batch_stats, batch, key):
    logits, updates = model.apply(
      {"params": params, "batch_stats": batch_stats},
      batch["image"],
      train=True,
      mutable=["batch_stats"],
    )
    logits = logits.astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch["label"]
    )
    right = logits.argmax(-1) == batch["label"]
    return {"ce": (losses.sum(), losses.size)}, {
      **updates,
      "metrics": {"accuracy": (right.sum(), right.size)},
    }

  return loss_fn


def make_state(tx):
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel":
      fan = np.prod(leaf.shape[:-1])
      return rng.normal(size=leaf.shape).astype("f") * np.sqrt(2 / fan)
    return np.full(leaf.shape, name in ("scale", "var"), np.float32)

  shapes = jax.eval_shape(
    Net("float32").init, jax.random.key(0), make_batch()["image"][:1]
  )
  variables = jax.tree_util.tree_map_with_path(draw, shapes)
  return train.create_state(
    variables["params"],
    variables["batch_stats"],
    tx,
    jax.random.key(0),
    ema=True,
  )


@pytest.mark.usefixtures("quick_compile")
class ComputeDtypeTest(chex.TestCase):
  def test_trains_like_float32_and_remembers_in_float32(self):
    tx = train.make_optimizer("adamw", 0.02, weight_decay=0.01)
    results = {}
    for dtype in ("float32", "bfloat16"):
      step = train.make_step(
        make_loss(dtype), tx, devices=jax.devices()[:1], ema_decay=0.9
      )
      state, curve = make_state(tx), []
      for _ in range(40):
        state, metrics = step(state, make_batch())
        curve.append(float(metrics["loss"]))
      results[dtype] = state, metrics, np.array(curve)
    state, metrics, curve = results["bfloat16"]
    wanted, _, reference = results["float32"]
    # The same shapes and dtypes: nothing of the state is bfloat16.
    chex.assert_trees_all_equal_shapes_and_dtypes(state, wanted)
    for leaf in [*jax.tree.leaves(state), *jax.tree.leaves(metrics)]:
      self.assertNotEqual(leaf.dtype, jnp.bfloat16)
    for value in metrics.values():
      self.assertEqual(value.dtype, jnp.float32)
    self.assertLess(reference[-1], 0.2 * reference[0])
    np.testing.assert_allclose(curve, reference, atol=0.05)
    # Rounded, and so not the same program.
    self.assertGreater(np.abs(curve - reference).max(), 1e-5)

  def test_what_is_computed_in_which_type(self):
    tx = optax.sgd(0.1)
    update = step_lib._make_update(make_loss("bfloat16"), tx, "b")
    state = make_state(tx)._replace(ema=None)
    parts = jax.tree.map(lambda a: a[None], make_batch())
    text = (
      jax.jit(jax.vmap(update, axis_name="b", in_axes=(None, 0), out_axes=None))
      .lower(state, parts)
      .as_text()
    )

    def types(operation):
      lines = re.findall(rf"stablehlo\.{operation}[ (].*", text)
      self.assertNotEmpty(lines, operation)
      return set(re.findall(r"tensor<(?:\d+x)*(\w+)>", "".join(lines)))

    self.assertEqual(types("convolution"), {"bf16"})
    self.assertEqual(types("dot_general"), {"bf16"})
    self.assertEqual(types("rsqrt"), {"f32"})  # batch norm
    self.assertEqual(types("exponential"), {"f32"})  # softmax
    # Means and variances of a batch, and their derivatives.
    self.assertEqual(types(r"reduce\(.*dimensions = \[1, 2, 3\]"), {"f32"})

  def test_names(self):
    self.assertEqual(train.compute_dtype("float32"), jnp.float32)
    self.assertEqual(train.compute_dtype("bfloat16"), jnp.bfloat16)
    with self.assertRaisesRegex(
      KeyError, "bfloat16, float32, got 'float16'; .* scaled losses"
    ):
      train.compute_dtype("float16")
