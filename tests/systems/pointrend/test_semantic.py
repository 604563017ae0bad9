"""Semantic PointRend: a loop by hand, losses, gradients, the frozen path."""

import functools
import warnings

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from vision_jax import nn, ops, train
from vision_jax.nn import segmentation_heads
from vision_jax.systems import pointrend
from vision_jax.systems.pointrend import semantic


class _Coarse(flax.linen.Module):
  """A coarse network of two convolutions: fine at stride 2, scores at 8."""

  num_classes: int = 3

  @flax.linen.compact
  def coarse(self, images, *, train=False):
    fine = nn.Relu()(nn.Conv(6, 3, 2, name="fine")(images))
    x = nn.AvgPool(4)(fine)
    return segmentation_heads.CoarseSegmentation(
      nn.Conv(self.num_classes, 1, name="scores")(x), fine
    )

  def __call__(self, images, *, train=False):
    return {"out": self.coarse(images, train=train).logits}


def _module(**settings):
  return pointrend.PointRend(_Coarse(), nn.PointHead(3, width=8), **settings)


@functools.cache
def _setup():
  module = _module(num_points=40)
  images = jax.random.normal(jax.random.key(0), (2, 32, 48, 3))
  variables = jax.jit(module.init)(jax.random.key(1), images)
  params = jax.tree.map(
    lambda p: p + 0.3 * jax.random.normal(jax.random.key(2), p.shape),
    variables["params"],
  )
  return module, {"params": params}, images


def _read(features, points):
  """Bilinear with zeros outside, float64."""
  h, w, c = features.shape
  padded = np.zeros((h + 2, w + 2, c))
  padded[1:-1, 1:-1] = features
  u = np.asarray(points, float) * [w, h] + 0.5
  low = np.clip(np.floor(u).astype(int), 0, [w, h])
  t = u - low
  out = 0
  for dy in (0, 1):
    for dx in (0, 1):
      weight = np.abs(1 - dx - t[:, 0]) * np.abs(1 - dy - t[:, 1])
      out = out + weight[:, None] * padded[low[:, 1] + dy, low[:, 0] + dx]
  return out


def _head(params, fine, coarse):
  x = np.concatenate([fine, coarse], -1)
  for k in (1, 2, 3):
    x = x @ np.asarray(params[f"fc{k}"]["kernel"], float)
    x = np.maximum(x + np.asarray(params[f"fc{k}"]["bias"]), 0)
    x = np.concatenate([x, coarse], -1)
  x = x @ np.asarray(params["predictor"]["kernel"], float)
  return x + np.asarray(params["predictor"]["bias"])


@pytest.mark.usefixtures("quick_compile")
class InferenceTest(absltest.TestCase):
  def test_equals_the_loop(self):
    module, variables, images = _setup()
    run = jax.jit(functools.partial(module.apply, method="refine"))
    result, maps = run(variables, images)
    self.assertEqual(result.logits.shape, (2, 32, 48, 3))
    params = variables["params"]["point_head"]
    for b in range(2):
      coarse = np.asarray(maps.logits[b], float)
      fine = np.asarray(maps.fine[b], float)
      logits = coarse
      for step, size in enumerate(((8, 12), (16, 24), (32, 48))):
        logits = np.array(ops.resize(logits.astype(np.float32), size), float)
        ordered = np.sort(logits, -1)
        margin = (ordered[..., -1] - ordered[..., -2]).ravel()
        cells = np.argsort(margin, kind="stable")
        gap = margin[cells[40]] - margin[cells[39]]
        self.assertGreater(gap, 1e-6)  # no near-tie at the decision
        y, x = np.unravel_index(cells[:40], size)
        points = np.stack([(x + 0.5) / size[1], (y + 0.5) / size[0]], -1)
        got = np.floor(np.asarray(result.points[step][b]) * size[::-1])
        got = sorted((got @ [1, size[1]]).astype(int).tolist())
        self.assertEqual(got, sorted(cells[:40].tolist()))
        logits[y, x] = _head(params, _read(fine, points), _read(coarse, points))
      np.testing.assert_allclose(result.logits[b], logits, atol=1e-4)
      np.testing.assert_array_equal(
        result.logits[b].argmax(-1), logits.argmax(-1)
      )
    got = pointrend.segment(module, variables, images)
    np.testing.assert_array_equal(got, result.logits.argmax(-1))
    self.assertEqual(len(np.unique(got)), 3)

  def test_sides_that_are_no_multiples(self):
    module, variables, images = _setup()
    out = jax.eval_shape(module.apply, variables, images[:, :31, :45])["out"]
    self.assertEqual(out.shape, (2, 31, 45, 3))

  def test_too_many_steps_warn(self):
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self.assertEqual(semantic.step_sizes((4, 6), (32, 48), 3)[-1], (32, 48))
      self.assertLen(semantic.step_sizes((4, 6), (32, 48), None), 3)
    with self.assertWarnsRegex(UserWarning, "larger than the images"):
      semantic.step_sizes((4, 6), (32, 48), 4)


@pytest.mark.usefixtures("quick_compile")
class LossTest(parameterized.TestCase):
  def _labels(self):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 32, 48))
    labels[:, :, 40:] = 255
    return labels

  def test_equals_the_loop(self):
    module, variables, images = _setup()
    labels = self._labels()
    keys = jax.random.split(jax.random.key(3), 2)
    terms, _ = jax.jit(
      lambda v: pointrend.semantic_losses(
        keys, module, v, images, labels, num_points=30
      )
    )(variables)
    maps = module.apply(variables, images, method="maps")
    params = variables["params"]["point_head"]
    total = count = 0
    for b in range(2):
      points = ops.sample_uncertain_points(keys[b], maps.logits[b], 30)
      fine, coarse = (np.asarray(m[b], float) for m in (maps.fine, maps.logits))
      logits = _head(params, _read(fine, points), _read(coarse, points))
      cell = np.floor(np.asarray(points) * [48, 32]).astype(int)
      for z, (x, y) in zip(logits, cell, strict=True):
        if labels[b, y, x] != 255:
          total += np.log(np.exp(z).sum()) - z[labels[b, y, x]]
          count += 1
    self.assertBetween(count, 20, 59)
    self.assertEqual(int(terms["points"][1]), count)
    np.testing.assert_allclose(terms["points"][0], total, rtol=1e-4)
    self.assertEqual(int(terms["coarse"][1]), 2 * 32 * 40)

  def test_nothing_labelled_is_finite(self):
    module, variables, images = _setup()
    labels = jnp.full((2, 32, 48), 255)
    keys = jax.random.split(jax.random.key(3), 2)

    def loss(params):
      terms, _ = pointrend.semantic_losses(
        keys, module, {"params": params}, images, labels, num_points=5
      )
      return sum(t for t, _ in terms.values()), terms

    (value, terms), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(
      variables["params"]
    )
    self.assertEqual(float(value), 0)
    self.assertEqual([int(c) for _, c in terms.values()], [0, 0])
    self.assertTrue(all(bool((g == 0).all()) for g in jax.tree.leaves(slope)))

  @parameterized.parameters(False, True)
  def test_gradient_of_the_points(self, frozen):
    module, variables, images = _setup()
    labels = jnp.asarray(self._labels())
    keys = jax.random.split(jax.random.key(4), 2)

    def loss(params):
      terms, _ = pointrend.semantic_losses(
        keys,
        module,
        {"params": params},
        images,
        labels,
        num_points=20,
        freeze_coarse=frozen,
        importance=0.0,
      )
      self.assertEqual("coarse" in terms, not frozen)
      return terms["points"][0]

    slope = jax.jit(jax.grad(loss))(variables["params"])
    for name in ("fine", "scores"):
      size = float(jnp.abs(slope["coarse"][name]["kernel"]).max())
      self.assertEqual(size == 0, frozen, name)
    self.assertGreater(
      float(jnp.abs(slope["point_head"]["fc1"]["kernel"]).max()), 0
    )

  def test_a_head_on_a_frozen_network_learns(self):
    module, _, images = _setup()
    coarse = module.coarse.init(jax.random.key(5), images)
    variables = pointrend.with_coarse_variables(
      jax.random.key(6), module, coarse
    )
    labels = (images[..., 0] > 0).astype(jnp.int32)

    def loss_fn(params, batch_stats, batch, key):
      keys = train.example_keys(key, batch["index"])
      terms, _ = pointrend.semantic_losses(
        keys,
        module,
        {"params": params},
        batch["image"],
        batch["label"],
        num_points=64,
        freeze_coarse=True,
      )
      return terms, None

    tx = train.make_optimizer("adam", 0.01, factors={"coarse": 0.0})
    state = train.create_state(variables["params"], {}, tx, jax.random.key(7))
    step = train.make_step(loss_fn, tx, devices=jax.devices()[:1])
    batch = {"image": images, "label": labels, "index": jnp.arange(2)}
    values = []
    for _ in range(25):
      state, metrics = step(state, batch)
      values.append(float(metrics["loss"]))
    self.assertLess(values[-1], 0.9 * values[0])
    for a, b in zip(
      jax.tree.leaves(state.params["coarse"]),
      jax.tree.leaves(coarse["params"]),
      strict=True,
    ):
      np.testing.assert_array_equal(a, b)

  def test_variables_of_another_network(self):
    module, _, images = _setup()
    other = _Coarse(5).init(jax.random.key(5), images)
    with self.assertRaisesRegex(ValueError, "variables of `module.coarse`"):
      pointrend.with_coarse_variables(jax.random.key(6), module, other)


if __name__ == "__main__":
  absltest.main()
