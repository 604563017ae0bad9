"""Semantic PointRend: a loop by hand, losses, gradients, the frozen path."""

import functools
import warnings

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from jax import test_util

from vision_jax import nn, ops, train
from vision_jax.nn import segmentation_heads
from vision_jax.systems import pointrend
from vision_jax.systems.pointrend import semantic


class Coarse(flax.linen.Module):
  """A coarse network of two convolutions: fine at stride 2, scores at 8."""

  num_classes: int = 3
  two: bool = False

  @flax.linen.compact
  def coarse(self, images, *, train=False):
    fine = nn.Relu()(nn.Conv(6, 3, 2, name="fine")(images))
    x = nn.AvgPool(4)(fine)
    scores = nn.Conv(self.num_classes, 1, name="scores")(x)
    if self.two:
      fine = (fine, nn.AvgPool(2)(fine)[..., :3])
    return segmentation_heads.CoarseSegmentation(scores, fine)

  def __call__(self, images, *, train=False):
    return {"out": self.coarse(images, train=train).logits}


def _module(**settings):
  return pointrend.PointRend(Coarse(), nn.PointHead(3, width=8), **settings)


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
class InferenceTest(parameterized.TestCase):
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

  def test_several_fine_maps(self):
    """Their channels are joined at each point, those of one map first."""
    module = pointrend.PointRend(
      Coarse(two=True), nn.PointHead(3, width=8), num_points=2000
    )
    _, _, images = _setup()
    variables = jax.jit(module.init)(jax.random.key(1), images)
    result, maps = module.apply(variables, images, method="refine")
    points = ops.grid_points((32, 48))
    parts = [_read(m[0], points) for m in (*maps.fine, maps.logits)]
    fine = np.concatenate(parts[:2], -1)
    self.assertEqual(fine.shape[-1], 6 + 3)
    expected = _head(variables["params"]["point_head"], fine, parts[2])
    np.testing.assert_allclose(
      result.logits[0].reshape(-1, 3), expected, atol=1e-4
    )
    again = pointrend.with_coarse_variables(
      jax.random.key(0), module, module.coarse.init(jax.random.key(1), images)
    )
    chex.assert_trees_all_equal_shapes(again, variables)

  @parameterized.parameters(
    ({"num_points": 10_000},), ({"num_steps": 0},), ({"num_points": 0},)
  )
  def test_extreme_settings(self, settings):
    """More points than cells is every cell; no steps, no points: bilinear."""
    _, variables, images = _setup()
    module = _module(**settings)
    out = module.apply(variables, images)["out"]
    maps = module.apply(variables, images, method="maps")
    if "num_steps" in settings or settings["num_points"] == 0:
      self.assertEqual(out.shape, (2, 32, 48, 3))
      smooth = np.asarray(maps.logits)
      for size in ((8, 12), (16, 24), (32, 48)):
        if "num_steps" in settings:
          size = (32, 48)
        smooth = np.asarray(ops.resize(smooth, size))
      np.testing.assert_allclose(out, smooth, atol=1e-5)
      return
    points = jnp.stack([ops.grid_points((32, 48))] * 2)
    dense = module.apply(variables, maps, points, method="at_points")
    np.testing.assert_allclose(
      out.reshape(2, -1, 3), dense, atol=1e-5 * float(jnp.abs(dense).max())
    )

  def test_steps_beyond_the_images_warn_and_are_finite(self):
    _, variables, images = _setup()
    module = _module(num_points=40, num_steps=4)
    with self.assertWarnsRegex(UserWarning, "larger than the images"):
      out = module.apply(variables, images)["out"]
    self.assertEqual(out.shape, (2, 32, 48, 3))
    self.assertTrue(bool(jnp.isfinite(out).all()))

  def test_images_of_one_class(self):
    """The coarse scores name one class everywhere: so does the result."""
    module, variables, images = _setup()
    head = variables["params"]["point_head"]["predictor"]
    bias = head["bias"] + jnp.array([0.0, 1e3, 0.0])
    params = {
      **variables["params"],
      "point_head": {
        **variables["params"]["point_head"],
        "predictor": {**head, "bias": bias},
      },
    }
    scores = params["coarse"]["scores"]
    scores = {**scores, "bias": scores["bias"] + jnp.array([0.0, 1e3, 0.0])}
    params["coarse"] = {**params["coarse"], "scores": scores}
    found = pointrend.segment(module, {"params": params}, images)
    np.testing.assert_array_equal(found, 1)
    labels = jnp.ones((2, 32, 48), jnp.int32)
    terms, _ = pointrend.semantic_losses(
      jax.random.split(jax.random.key(0), 2),
      module,
      {"params": params},
      images,
      labels,
      num_points=30,
    )
    for total, count in terms.values():
      self.assertLess(float(total / count), 1e-3)

  def test_masks_that_touch_the_border(self):
    """Uncertain cells in the first row and column are found and written."""
    module, variables, images = _setup()
    result, _ = module.apply(
      variables, images, method="refine", num_points=32 * 48 // 2
    )
    cells = np.floor(np.asarray(result.points[-1]) * [48, 32]).astype(int)
    rows = cells[..., 1]
    self.assertIn(0, rows)
    self.assertIn(31, rows)
    self.assertTrue(bool(jnp.isfinite(result.logits).all()))

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

  def test_gradients_are_those_of_finite_differences(self):
    module, variables, images = _setup()
    labels = jnp.asarray(self._labels())
    keys = jax.random.split(jax.random.key(4), 2)
    with jax.enable_x64(True):
      wide = jax.tree.map(lambda a: jnp.asarray(a, float), variables)

      def loss(params):
        terms, _ = pointrend.semantic_losses(
          keys,
          module,
          {"params": params},
          jnp.asarray(images, float),
          labels,
          num_points=20,
        )
        self.assertEqual(terms["points"][0].dtype, jnp.float64)
        self.assertEqual(terms["coarse"][0].dtype, jnp.float64)
        return sum(total for total, _ in terms.values())

      test_util.check_grads(
        loss, (wide["params"],), order=1, modes=("rev",), rtol=1e-5, atol=1e-5
      )

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
    other = Coarse(5).init(jax.random.key(5), images)
    with self.assertRaisesRegex(ValueError, "variables of `module.coarse`"):
      pointrend.with_coarse_variables(jax.random.key(6), module, other)


if __name__ == "__main__":
  absltest.main()
