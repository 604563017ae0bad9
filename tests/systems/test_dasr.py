"""DASR against its steps written one by one in NumPy."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from vision_jax import nn, ops, weights
from vision_jax.nn import backbones
from vision_jax.systems import dasr

_SIZE = (64, 96)


def _network():
  net = backbones.ResNet(
    (1, 1, 1, 1), False, 7, width=8, stem_kernel=3, stem_stride=1,
    output_stride=16,
  )  # fmt: skip
  return net, weights.random_variables(net, seed=1)


def _image(seed=0):
  rng = np.random.default_rng(seed)
  coarse = rng.uniform(size=(4, 6, 3)).repeat(16, 0).repeat(16, 1)
  fine = rng.uniform(size=(*_SIZE, 3))
  return (0.6 * coarse + 0.4 * fine).astype(np.float32)


def _config(**changes):
  settings = {
    "feature_layer": "layer4",
    "response_layer": "layer3",
    "max_regions": 6,
  }
  return dasr.DasrConfig(**(settings | changes))


@pytest.mark.usefixtures("quick_compile")
class FindRegionsTest(parameterized.TestCase):
  def test_steps(self):
    """Peaks, percentile and eigen-box in NumPy, from the maps of `top_down`."""
    net, variables = _network()
    config, image = _config(), _image()
    found = dasr.find_regions(net, variables, image, config)
    maps, scores, valid = dasr.pixel_maps(net, variables, image, config)
    number = int(valid.sum())
    self.assertGreaterEqual(number, 3)
    self.assertEqual(int(found.valid.sum()), number)
    normal = (image - np.array(config.mean)) / np.array(config.std)
    features = nn.read_layers(
      net, variables, jnp.asarray(normal[None], jnp.float32), ["layer3"]
    )["layer3"][0]
    response = np.asarray(features).mean(-1)
    peaks = [
      response[y, x]
      for y in range(1, response.shape[0] - 1)
      for x in range(1, response.shape[1] - 1)
      if response[y, x] == response[y - 1 : y + 2, x - 1 : x + 2].max()
      and response[y, x] >= response.mean()
    ]
    np.testing.assert_allclose(
      np.asarray(scores)[:number], sorted(peaks)[::-1][:number], rtol=1e-5
    )
    for p in range(number):
      one = np.asarray(maps[p], np.float64)
      kept = (one >= np.percentile(one, 95)) & (one > 0)
      y, x = np.nonzero(kept)
      points = np.stack([x + 0.5, y + 0.5], -1)
      values, vectors = np.linalg.eigh(np.cov(points.T, bias=True))
      half = np.sqrt(((vectors * 2 * np.sqrt(values)) ** 2).sum(1))
      box = np.concatenate([points.mean(0) - half, points.mean(0) + half])
      box = np.clip(box, 0, [96, 64, 96, 64])
      np.testing.assert_allclose(found.boxes[p], box, atol=0.2)

  def test_star_keeps_what_overlaps_little(self):
    net, variables = _network()
    config, image = _config(max_regions=10), _image()
    every_cell = dataclasses.replace(dasr.star(config), seeds="cells_all")
    found = dasr.find_regions(net, variables, image, every_cell)
    everything = dasr.find_regions(
      net, variables, image, dataclasses.replace(every_cell, beta=None)
    )
    boxes = np.asarray(everything.boxes)[np.asarray(everything.valid)]
    kept = []
    for box in boxes:  # by falling score
      if all(_iou(box, other) <= 0.3 for other in kept):
        kept.append(box)
    self.assertLess(len(kept), len(boxes))
    self.assertGreater(len(kept), 1)
    np.testing.assert_allclose(
      np.asarray(found.boxes)[np.asarray(found.valid)], kept, atol=1e-3
    )
    self.assertFalse(np.asarray(found.masks)[~np.asarray(found.valid)].any())

  @parameterized.parameters(
    {"threshold": "mass", "weighted": True},
    {"rule": "ebp_folded", "stop_at": "maxpool"},
    {"start": "classes"},
    {"scales": (1.0, 0.5), "beta": 0.5},
  )
  def test_variants_give_regions_inside_the_image(self, **changes):
    net, variables = _network()
    config, image = _config(**changes), _image()
    if "start" in changes:
      config = dataclasses.replace(config, response_layer="layer4")
    found = dasr.find_regions(net, variables, image, config)
    self.assertEqual(len(found.boxes), 6 * len(config.scales))
    boxes = np.asarray(found.boxes)[np.asarray(found.valid)]
    self.assertGreater(len(boxes), 0)
    self.assertTrue((boxes[:, :2] < boxes[:, 2:]).all())
    self.assertTrue((boxes >= 0).all())
    self.assertTrue((boxes <= [96, 64, 96, 64]).all())
    self.assertTrue(np.isfinite(found.scores).all())
    self.assertFalse(np.asarray(found.boxes)[~np.asarray(found.valid)].any())

  def test_image_without_peaks(self):
    net, variables = _network()
    zeros = {
      "params": {
        **variables["params"],
        "layer3": _zero(variables["params"]["layer3"]),
      },
      "batch_stats": variables["batch_stats"],
    }
    found = dasr.find_regions(
      net, zeros, np.zeros((*_SIZE, 3), np.float32), _config()
    )
    self.assertFalse(np.asarray(found.valid).any())
    self.assertFalse(np.asarray(found.boxes).any())

  def test_descriptors(self):
    net, variables = _network()
    image = _image()
    for pool in ("box", "mask"):
      config = _config(pool=pool)
      found = dasr.find_regions(net, variables, image, config)
      got = np.asarray(
        dasr.describe_regions(net, variables, image, found, config)
      )
      valid = np.asarray(found.valid)
      np.testing.assert_allclose(
        np.linalg.norm(got, axis=1), valid.astype(float), atol=1e-5
      )
      normal = (image - np.array(config.mean)) / np.array(config.std)
      features = np.asarray(
        nn.read_layers(
          net, variables, jnp.asarray(normal[None], jnp.float32), ["layer4"]
        )["layer4"][0],
        np.float64,
      )
      total = np.zeros(features.shape[-1])
      x1, y1, x2, y2 = np.asarray(found.boxes[0])
      for r in range(int(y1 // 16), int(np.ceil(y2 / 16))):
        for c in range(int(x1 // 16), int(np.ceil(x2 / 16))):
          share = 1.0
          if pool == "mask":
            share = np.asarray(found.masks[0])[
              16 * r : 16 * r + 16, 16 * c : 16 * c + 16
            ].sum()
          total += share * features[r, c]
      np.testing.assert_allclose(
        got[0], total / np.linalg.norm(total), rtol=1e-3, atol=1e-5
      )


def _zero(tree):
  if isinstance(tree, dict):
    return {name: _zero(value) for name, value in tree.items()}
  return 0 * tree - 0.0


def _iou(a, b):
  sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
  common = np.prod(np.maximum(sides, 0))
  return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


class SettingsTest(parameterized.TestCase):
  def test_every_setting_fits_its_network(self):
    for name, config in dasr.SETTINGS.items():
      net = backbones.MODELS[name]()
      for layer in (config.response_layer, config.feature_layer):
        self.assertIn(nn.layer_stride(net, layer), (8, 16, 32), name)

  def test_errors(self):
    net, variables = _network()
    image = _image()
    for bad, config, error, pattern in (
      (image[0], _config(), ValueError, "`image` must be"),
      (image.astype(np.uint8), _config(), TypeError, "divide bytes by 255"),
      (image, _config(scales=()), ValueError, "`config.scales`"),
      (image, _config(response_layer="conv9"), ValueError, "paths of layers"),
    ):
      with pytest.raises(error, match=pattern):
        dasr.find_regions(net, variables, bad, config)
    net = net.clone(num_classes=None)
    with pytest.raises(ValueError, match="classifier"):
      dasr.find_regions(
        net,
        {
          **variables,
          "params": {k: v for k, v in variables["params"].items() if k != "fc"},
        },
        image,
        _config(start="classes"),
      )
    box = ops.Detections(
      jnp.ones((1, 4)), jnp.ones(1), jnp.zeros(1, int), jnp.ones(1, bool)
    )
    with pytest.raises(ValueError, match=r"needs `regions\.masks`"):
      dasr.describe_regions(net, variables, image, box, _config(pool="mask"))
    with pytest.raises(TypeError, match="unknown settings betta"):
      dasr.make_config("resnet50", weights.preprocessing("resnet50"), betta=1)
