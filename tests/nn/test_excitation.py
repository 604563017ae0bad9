"""Top-down rules against hand cases, loops and the conservation of mass.

(tests/parity/test_top_down.py: against torch, on ResNet-50 and VGG.)
"""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import nn, weights
from vision_jax.nn import backbones

_SIZE = (40, 56)


def _network(**arguments):
  net = backbones.ResNet(
    (1, 1, 1, 1), False, 7, width=8, stem_kernel=3, **arguments
  )
  return net, weights.random_variables(net, seed=1)


def _features(net, variables, layer="layer3"):
  return lambda x: net.apply(variables, x[None])[1][layer][0]


def _image(seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(*_SIZE, 3)), jnp.float32)


def _seeds(shape, cells):
  seeds = np.zeros((len(cells), *shape), np.float32)
  for p, (y, x) in enumerate(cells):
    seeds[p, y, x] = 1
  return jnp.asarray(seeds)


def _run(apply, image, seeds, **settings):
  """One program in place of hundreds."""
  return jax.jit(lambda x, s: nn.top_down(apply, x, s, **settings))(
    image, seeds
  )


class LinearTest(parameterized.TestCase):
  def test_hand_case(self):
    """Weights 1 -1 2 at 1 2 3: 1/7, 0, 6/7."""
    dense = nn.Dense(1)
    variables = {
      "params": {
        "kernel": jnp.array([[1.0], [-1.0], [2.0]]),
        "bias": jnp.array([5.0]),
      }
    }
    x = jnp.array([[[1.0, 2.0, 3.0]]])  # one pixel

    def maps(rule):
      # A pixel per input: the sum over channels must not hide the shares.
      apply = lambda v: dense.apply(variables, v.reshape(1, 3))[0]  # noqa: E731
      return nn.top_down(
        apply, x.reshape(1, 3, 1), jnp.ones((1, 1)), rule=rule
      )[0, 0]

    np.testing.assert_allclose(maps("ebp"), [1 / 7, 0, 6 / 7], rtol=1e-6)
    np.testing.assert_allclose(maps("ebp_folded"), [1 / 7, 0, 6 / 7], rtol=1e-6)
    # prm shifts by the least value: 0 1 2 -> 0, 0, 1.
    np.testing.assert_allclose(maps("prm"), [0, 0, 1], atol=1e-6)

  def test_convolution_equals_the_loop(self):
    rng = np.random.default_rng(2)
    conv = nn.Conv(4, 3, stride=2)
    x = rng.normal(size=(5, 7, 2)).astype(np.float32)
    variables = conv.init(jax.random.key(0), x[None])
    seed = rng.uniform(size=(3, 4, 4)).astype(np.float32)
    got = nn.top_down(
      lambda v: conv.apply(variables, v[None])[0],
      jnp.asarray(x),
      jnp.asarray(seed)[None],
    )[0]
    w = np.maximum(np.asarray(variables["params"]["kernel"], np.float64), 0)
    shifted = np.zeros((7, 9, 2))
    shifted[1:-1, 1:-1] = x - x.min()  # padding stays 0
    mass = np.zeros_like(shifted)
    for i in range(3):
      for j in range(4):
        part = shifted[2 * i : 2 * i + 3, 2 * j : 2 * j + 3, :, None] * w
        mass[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += (
          part / part.sum((0, 1, 2)) * seed[i, j]
        ).sum(-1)
    expected = mass[1:-1, 1:-1].sum(-1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("quick_compile")
class NetworkTest(parameterized.TestCase):
  @parameterized.parameters("prm", "ebp", "ebp_folded")
  def test_values_are_the_networks(self, rule):
    net, variables = _network()
    apply, image = _features(net, variables), _image()
    seen = []

    def watched(x):
      seen.append(apply(x))
      return seen[-1]

    jax.jit(
      lambda x: (nn.top_down(watched, x, jnp.zeros((1, 3, 4)), rule=rule))
    ).lower(image)
    substitute = nn.excitation._Substitute(rule, None)
    with flax.linen.intercept_methods(substitute):
      value = apply(image)
    np.testing.assert_allclose(value, apply(image), rtol=1e-6)

  def test_folded_conserves_mass(self):
    net, variables = _network()
    cells = [(0, 0), (1, 2), (2, 3), (1, 1)]
    maps = _run(
      _features(net, variables),
      _image(),
      _seeds((3, 4), cells),
      rule="ebp_folded",
    )
    self.assertEqual(maps.shape, (4, *_SIZE))
    np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)
    self.assertGreaterEqual(float(maps.min()), 0)
    # The mass lies where the cell looks.
    self.assertGreater(float(maps[0, :20, :20].sum()), 0.5)
    self.assertGreater(float(maps[2, 20:, 28:].sum()), 0.5)

  @parameterized.parameters("prm", "ebp", "ebp_folded")
  def test_seeds_together_equal_seeds_alone(self, rule):
    net, variables = _network()
    apply, image = _features(net, variables), _image()
    seeds = _seeds((3, 4), [(0, 0), (1, 2), (2, 3)])
    run = jax.jit(
      lambda x, s, chunk: nn.top_down(apply, x, s, rule=rule, chunk=chunk),
      static_argnames="chunk",
    )
    together = run(image, seeds, chunk=8)
    scale = np.abs(together).max()
    for chunk in (1, 2):
      np.testing.assert_allclose(
        run(image, seeds, chunk=chunk) / scale, together / scale, atol=1e-6
      )
    # A batch of images is images alone: the shift is that of each.
    pair = jnp.stack([image, 3 * _image(5) - 1])
    batched = jax.vmap(lambda x: run(x, seeds, chunk=8))(pair)
    np.testing.assert_allclose(batched[0] / scale, together / scale, atol=1e-6)
    self.assertTrue(np.isfinite(batched).all())

  @parameterized.parameters("prm", "ebp", "ebp_folded")
  def test_constant_image_has_no_nan(self, rule):
    net, variables = _network()
    maps = _run(
      _features(net, variables),
      jnp.zeros((*_SIZE, 3)),
      _seeds((3, 4), [(1, 2)]),
      rule=rule,
    )
    self.assertTrue(np.isfinite(maps).all())

  def test_pools_of_an_average(self):
    """VGG's relatives: a mean over windows shares by value."""
    x = jnp.array([[[1.0], [3.0]], [[0.0], [4.0]]])
    net = nn.AvgPool(2)
    maps = {
      rule: nn.top_down(
        lambda v: net.apply({}, v[None])[0], x, jnp.ones((1, 1, 1)), rule=rule
      )[0]
      for rule in ("prm", "ebp", "ebp_folded")
    }
    np.testing.assert_allclose(maps["prm"], np.full((2, 2), 0.25))
    for rule in ("ebp", "ebp_folded"):
      np.testing.assert_allclose(maps[rule], np.array([[1, 3], [0, 4]]) / 8)

  def test_stop_at_has_the_mass_of_the_layer(self):
    net, variables = _network()
    seeds = _seeds((3, 4), [(1, 2), (2, 1)])
    apply, image = _features(net, variables), _image()
    at = _run(apply, image, seeds, rule="ebp_folded", stop_at="maxpool")
    self.assertEqual(at.shape, (2, 10, 14))
    np.testing.assert_allclose(at.sum((1, 2)), 1, atol=1e-5)

  def test_seeding_the_logits(self):
    net, variables = _network()
    maps = _run(
      lambda x: net.apply(variables, x[None])[0][0],
      _image(),
      jnp.eye(7)[:2],
      rule="ebp_folded",
    )
    np.testing.assert_allclose(maps.sum((1, 2)), 1, atol=1e-5)


class BadInputTest(parameterized.TestCase):
  @parameterized.parameters(
    ("mobilenet_v3_small", "prm", "HardSwish"),
    ("mobilenet_v3_small", "ebp_folded", "HardSwish"),
    ("densenet121", "ebp_folded", "BatchNorm without a convolution"),
  )
  def test_undefined_rules_are_refused_by_name(self, name, rule, pattern):
    net = backbones.MODELS[name](num_classes=2)
    variables = jax.eval_shape(
      net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )

    def run(variables, x):
      apply = lambda v: net.apply(variables, v[None])[0][0]  # noqa: E731
      return nn.top_down(apply, x, jnp.zeros((1, 2)), rule=rule)

    with pytest.raises(ValueError, match=pattern):
      jax.eval_shape(run, variables, jnp.zeros((64, 64, 3)))

  def test_arguments(self):
    conv = nn.Conv(2, 3)
    x = jnp.ones((4, 5, 3))
    variables = conv.init(jax.random.key(0), x[None])
    apply = lambda v: conv.apply(variables, v[None])[0]  # noqa: E731
    seeds = jnp.zeros((1, 4, 5))
    for keywords, bad, pattern in (
      ({"rule": "gradient"}, seeds, "`rule` must be one of prm"),
      ({}, jnp.zeros((1, 5, 4)), r"`seeds` must be \[P, 4, 5\]"),
      ({"stop_at": "layer9"}, seeds, "`stop_at` must be the path"),
      ({"chunk": 0}, seeds, "`chunk` must be at least 1"),
    ):
      with pytest.raises(ValueError, match=pattern):
        nn.top_down(apply, x, bad, **keywords)
