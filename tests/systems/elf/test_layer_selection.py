"""Tests of the choice of a layer."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import ndimage

from vision_jax import data, metrics, ops, weights
from vision_jax.systems import elf
from vision_jax.systems.elf import layer_selection

LAYERS = ("pool1", "pool2", "pool3")


@functools.cache
def _network():
  module, variables, metadata = weights.load_bundled("vgg_small")
  config = elf.make_config(
    "vgg_small", metadata.preprocessing, threshold="none", max_keypoints=100
  )
  return module, variables, config


def _photograph(name="gravel.png", size=(120, 150)):
  return np.asarray(data.load_photograph(name))[: size[0], : size[1]]


class EnergyScalesTest(chex.TestCase):
  @parameterized.parameters(2.0, 5.0)
  def test_blobs_have_their_own_scale(self, sigma):
    y, x = np.mgrid[:160, :200]
    energy = np.zeros((160, 200))
    for cy in range(30, 160, 50):
      for cx in range(30, 200, 50):
        energy += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    profile = jax.jit(layer_selection._energy_profile)(
      jnp.asarray(energy, jnp.float32)
    )
    best = layer_selection._SIGMAS[int(profile.argmax())]
    self.assertLess(abs(np.log(best / sigma)), np.log(1.2))

  def test_scale_grows_with_depth(self):
    """On noise without a scale of its own the layers show theirs."""
    module, variables, config = _network()
    noise = np.random.default_rng(0).random((160, 200, 3)).astype(np.float32)
    scales = np.asarray(
      elf.energy_scales(module, variables, noise, LAYERS, config)
    )
    self.assertTrue((np.diff(scales) > 0).all(), scales)


class SelfRepeatabilityTest(chex.TestCase):
  def test_equals_the_metric_on_the_same_warps(self):
    module, variables, config = _network()
    image = _photograph()
    ours = elf.self_repeatability(
      module, variables, image, ["pool1", "pool2"], config, seed=3, num_warps=2
    )
    size = image.shape[:2]
    matrices = np.asarray(layer_selection._random_matrices(3, 2, size))
    rows, cols = np.mgrid[: size[0], : size[1]]
    grid = np.stack([cols, rows], -1).reshape(-1, 2).astype(np.float64)
    shares = []
    for matrix in matrices:
      truth = metrics.homography_ground_truth(matrix, size, size)
      places = truth.warp1to0(grid).reshape(*size, 2)
      view = np.stack(
        [
          ndimage.map_coordinates(
            image[..., c],
            np.moveaxis(places[..., ::-1], -1, 0),
            order=1,
            mode="nearest",
          )
          for c in range(3)
        ],
        -1,
      )
      for layer in ("pool1", "pool2"):
        points = []
        for picture in (image, view):
          saliency = elf.saliency(module, variables, picture, layer, config)
          xy, _, valid = elf.detect(saliency[layer], config)
          points.append(np.asarray(xy)[np.asarray(valid)])
        shares.append(metrics.repeatability(*points, truth, threshold=3.0))
    expected = np.reshape(shares, (2, 2)).mean(0)
    np.testing.assert_allclose(ours, expected, atol=0.04)
    self.assertGreater(expected.min(), 0.3)

  def test_warps_are_as_large_as_said(self):
    matrices = layer_selection._random_matrices(0, 200, (100, 140))
    centre = ops.apply_homography(matrices, jnp.full((200, 1, 2), 60.0))
    chex.assert_tree_all_finite(centre)
    corners = jnp.array([[0.0, 0.0], [139.0, 0.0]])
    moved = jax.vmap(lambda m: ops.apply_homography(m, corners))(matrices)
    edge = np.asarray(moved[:, 1] - moved[:, 0])
    length = np.linalg.norm(edge, axis=1) / 139
    angle = np.degrees(np.arctan2(edge[:, 1], edge[:, 0]))
    self.assertTrue(0.6 < length.min() < 0.85 and 1.15 < length.max() < 1.6)
    self.assertTrue(12 < np.abs(angle).max() < 30)

  def test_errors(self):
    module, variables, config = _network()
    with self.assertRaisesRegex(ValueError, "self_repeatability: `threshold`"):
      elf.self_repeatability(
        module, variables, _photograph(), ["pool1"], config, threshold=5.0
      )


class SelectLayerTest(chex.TestCase):
  def _select(self, monkeypatched, rule, **kwargs):
    name = "energy_scales" if rule == "scale" else "self_repeatability"
    original = getattr(layer_selection, name)
    setattr(layer_selection, name, lambda *_: next(monkeypatched))
    try:
      return elf.select_layer(None, {}, [None] * 3, LAYERS, rule=rule, **kwargs)
    finally:
      setattr(layer_selection, name, original)

  def test_rules_by_hand(self):
    rows = [[2.0, 5.0, 9.0], [3.0, 7.0, 12.0], [2.5, 5.5, 12.0]]
    choice = self._select(iter(rows), "scale")
    self.assertEqual(choice.layer, "pool2")
    self.assertEqual(choice.values["pool2"], 5.5)
    self.assertEqual(choice.saturated, ("pool3",))
    self.assertEqual(
      self._select(iter(rows), "scale", max_scale=1).layer, "pool1"
    )
    shares = [[0.5, 0.6, 0.1], [0.7, 0.5, 0.2], [0.7, 0.6, 0.3]]
    choice = self._select(iter(shares), "repeatability")
    self.assertEqual(choice.layer, "pool1")
    self.assertAlmostEqual(choice.values["pool2"], 17 / 30)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "select_layer: `rule`"):
      elf.select_layer(*_network()[:2], [], LAYERS, rule="eye")
    with self.assertRaisesRegex(ValueError, "must not be empty"):
      elf.select_layer(*_network()[:2], [], LAYERS)
