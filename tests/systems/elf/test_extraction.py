import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from scipy import ndimage

from vision_jax import data, nn, ops, weights
from vision_jax.nn import backbones
from vision_jax.systems import elf
from vision_jax.systems.elf import extraction

SMALL = dataclasses.replace(elf.SETTINGS["vgg_small"], max_keypoints=120)


@functools.cache
def _network(name="vgg_small"):
  module = backbones.MODELS[name](num_classes=None)
  variables = weights.random_variables(module)
  return module, variables


def _blur64(image, size, sigma):
  offsets = np.arange(size) - size // 2
  weights = np.exp(-(offsets**2) / (2 * sigma**2))
  weights /= weights.sum()
  image = ndimage.correlate1d(image, weights, axis=0, mode="mirror")
  return ndimage.correlate1d(image, weights, axis=1, mode="mirror")


def _kapur64(levels):
  h = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
  filled = np.flatnonzero(h)
  best, where = 0.0, 0
  for t in range(filled[0], filled[-1] + 1):
    gain = 0.0
    for part in (h[: t + 1], h[t + 1 :]):
      part = part[part > 0]
      if part.size:
        gain += np.log(part.sum()) - (part * np.log(part)).sum() / part.sum()
    if gain > best:
      best, where = gain, t
  return where


def _numpy_detector(saliency, config):
  """The authors' order of steps, in float64 NumPy; also the 8-bit ties."""
  gray = np.asarray(saliency, np.float64).mean(-1)
  gray = gray / gray.max()
  levels = np.floor(255 * gray)
  smooth = _blur64(levels, *config.denoise_blur)
  coarse = _blur64(levels, *config.threshold_blur)
  ties = sum(
    int((np.abs(b - np.floor(b) - 0.5) < 1e-4).sum()) for b in (smooth, coarse)
  )
  smooth = np.round(smooth)
  threshold = _kapur64(np.round(coarse).astype(int))
  height, width = smooth.shape
  alive = smooth > threshold
  order = np.argsort(-smooth, axis=None, kind="stable")
  points = []
  r, b = config.radius, config.border
  for y, x in zip(*np.unravel_index(order, smooth.shape), strict=True):
    if alive[y, x]:
      alive[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] = False
      if b <= x < width - b and b <= y < height - b:
        points.append((x, y, smooth[y, x] / 255))
  return np.array(points[: config.max_keypoints]), ties


class DetectTest(chex.TestCase):
  @parameterized.parameters(*data.EVALUATION[:5])
  def test_quantized_equals_an_independent_pipeline(self, name):
    image = data.load_photograph(name)[:360, :480]
    module, variables = _network()
    config = dataclasses.replace(
      elf.ElfConfig(), quantize=True, max_keypoints=500
    )
    saliency = elf.saliency(module, variables, image, "pool2")["pool2"]
    expected, ties = _numpy_detector(saliency, config)
    xy, scores, valid = jax.jit(elf.detect, static_argnums=1)(saliency, config)
    got = np.column_stack([xy, scores])[np.asarray(valid)]
    print(f"{name}: {len(expected)} key points, {ties} rounding ties")
    self.assertGreater(len(expected), 30)
    if ties == 0:
      np.testing.assert_array_equal(got[:, :2], expected[:, :2])
      np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=1e-6)
    else:  # a tie may move a level: nearly all points must agree even so
      common = {tuple(p) for p in got[:, :2]} & {
        tuple(p) for p in expected[:, :2]
      }
      self.assertGreaterEqual(len(common), len(expected) - 4 * ties)

  def test_float_detector_finds_the_spots(self):
    image = np.zeros((60, 90, 3), np.float32)
    spots = [(20, 15, 1.0), (50, 40, 0.8), (70, 20, 0.9)]
    for x, y, value in spots:
      image[y, x] = value
    xy, scores, valid = elf.detect(
      image, dataclasses.replace(SMALL, threshold="none")
    )
    self.assertEqual(int(valid.sum()), 3)
    np.testing.assert_array_equal(xy[:3], [[20, 15], [70, 20], [50, 40]])
    self.assertTrue(bool((scores[:-1] >= scores[1:]).all()))

  def test_region_radius_and_border_are_kept(self):
    rng = np.random.default_rng(0)
    saliency = rng.uniform(size=(80, 100, 3)).astype(np.float32)
    region = np.zeros((80, 100), bool)
    region[:, :50] = True
    config = dataclasses.replace(SMALL, threshold="none", radius=4)
    xy, _, valid = elf.detect(saliency, config, region=jnp.asarray(region))
    xy = np.asarray(xy)[np.asarray(valid)]
    self.assertGreater(len(xy), 10)
    self.assertLess(xy[:, 0].max(), 50)
    self.assertGreaterEqual(xy.min(), 10)
    self.assertLess(xy[:, 1].max(), 70)
    distance = np.abs(xy[:, None] - xy[None]).max(-1)
    self.assertGreater((distance + 1000 * np.eye(len(xy))).min(), 4)

  @parameterized.parameters("zero", "nan", "inf")
  def test_useless_maps_have_no_key_points(self, kind):
    fill = {"zero": 0.0, "nan": np.nan, "inf": np.inf}[kind]
    saliency = jnp.full((40, 50, 3), fill)
    for quantize in (False, True):
      config = dataclasses.replace(SMALL, quantize=quantize)
      xy, scores, valid = elf.detect(saliency, config)
      self.assertFalse(bool(valid.any()))
      self.assertEqual(float(jnp.abs(xy).sum() + jnp.abs(scores).sum()), 0.0)


class DescribeTest(chex.TestCase):
  @parameterized.parameters("pool2", "pool3", "pool4")
  def test_exact_sampling_is_registered(self, layer):
    """One bright cell is read at full strength at stride * u + offset."""
    info = nn.endpoint_info(backbones.vgg16(num_classes=None))[layer]
    features = np.zeros((12, 16, 2), np.float32)
    features[5, 9, 0] = 1.0
    features[..., 1] = 1e-3
    place = np.array([[9, 5]]) * info.stride + info.offset
    near = place + np.array([[info.stride / 2, 0.0]])
    points = jnp.asarray(np.concatenate([place, near]), jnp.float32)
    d = elf.describe(
      [jnp.asarray(features)],
      points,
      strides=[info.stride],
      offsets=[info.offset],
      image_size=(200, 260),
      config=elf.ElfConfig(),
    )
    np.testing.assert_allclose(d[0], [1.0, 1e-3], atol=1e-5)
    np.testing.assert_allclose(d[1, 1] / d[1, 0], 2e-3, rtol=1e-3)

  def test_paper_sampling_is_off_by_up_to_half_a_cell(self):
    ramp = np.tile(np.arange(40.0, dtype=np.float32)[None, :, None], (30, 1, 1))
    ramp = np.concatenate([ramp, np.ones_like(ramp)], -1)
    x = np.array([0.0, 319.5, 639.0], np.float32)
    points = jnp.stack([jnp.asarray(x), jnp.full(3, 200.0)], -1)

    def cells(sampling):
      d = elf.describe(
        [jnp.asarray(ramp)],
        points,
        strides=[16],
        offsets=[7.5],
        image_size=(480, 640),
        config=dataclasses.replace(elf.ElfConfig(), sampling=sampling),
      )
      return np.asarray(d[:, 0] / d[:, 1])

    np.testing.assert_allclose(cells("paper"), x / 640 * 39, rtol=1e-4)
    np.testing.assert_allclose(
      cells("exact"), np.clip((x - 7.5) / 16, 0, 39), rtol=1e-4
    )

  def test_several_layers_weigh_the_same_and_center_removes_the_mean(self):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(6, 7, c)).astype(np.float32) + 5 for c in (4, 9)]
    config = dataclasses.replace(elf.ElfConfig(), center=True)
    points = jnp.asarray(rng.uniform(8, 40, (5, 2)), jnp.float32)
    kwargs = {"strides": [8, 8], "offsets": [3.5, 3.5], "image_size": (48, 56)}
    d = elf.describe(maps, points, config=config, **kwargs)
    np.testing.assert_allclose(
      jnp.linalg.norm(d[:, :4], axis=1), 0.5**0.5, rtol=1e-5
    )
    moved = elf.describe(
      [m + 3.0 for m in maps], points, config=config, **kwargs
    )
    np.testing.assert_allclose(d, moved, atol=1e-5)


class ExtractTest(chex.TestCase):
  def _image(self, name="coins.png", height=130, width=170):
    return data.load_photograph(name)[:height, :width]

  def test_equals_its_parts(self):
    module, variables = _network()
    image = self._image()
    k = elf.extract(module, variables, image, SMALL)
    maps = elf.saliency(module, variables, image, "pool2", SMALL)
    xy, scores, valid = elf.detect(maps["pool2"], SMALL)
    self.assertGreater(int(valid.sum()), 5)
    np.testing.assert_array_equal(k.xy, xy)
    np.testing.assert_allclose(k.scores, scores, rtol=1e-5)
    norms = np.linalg.norm(np.asarray(k.descriptors), axis=1)
    np.testing.assert_allclose(norms[np.asarray(valid)], 1.0, rtol=1e-5)
    np.testing.assert_array_equal(norms[~np.asarray(valid)], 0.0)

  def test_batch_equals_loop(self):
    module, variables = _network()
    names = ("coins.png", "camera.png", "chelsea.png")
    images = np.stack([self._image(n) for n in names])
    batch = elf.extract(module, variables, images, SMALL)
    for i, image in enumerate(images):
      one = elf.extract(module, variables, image, SMALL)
      np.testing.assert_array_equal(batch.valid[i], one.valid)
      np.testing.assert_array_equal(batch.xy[i], one.xy)
      np.testing.assert_allclose(
        batch.descriptors[i], one.descriptors, atol=1e-5
      )

  def test_compiles_once_and_merges_the_forward_passes(self):
    module, variables = _network()
    image = jnp.asarray(self._image())
    before = extraction._extract._cache_size()
    config = dataclasses.replace(SMALL, max_keypoints=77)
    for _ in range(3):
      elf.extract(module, variables, image, config)
    self.assertEqual(extraction._extract._cache_size(), before + 1)
    text = (
      extraction._extract.lower(module, variables, image, config, None)
      .compile()
      .as_text()
    )
    # Forward to pool4: 6 convolutions; backward from pool2: 1 convolution and
    # a product. Unmerged there would be 2 more.
    self.assertLessEqual(text.count(" convolution("), 6 + 1)

  @parameterized.parameters("alexnet", "resnet_small", "vgg_small")
  def test_works_on_other_networks(self, name):
    module, variables = _network(name)
    config = dataclasses.replace(elf.SETTINGS[name], max_keypoints=50)
    k = elf.extract(module, variables, self._image(), config)
    self.assertGreater(int(k.valid.sum()), 3)
    self.assertTrue(bool(jnp.isfinite(k.descriptors).all()))

  def test_standardize_ignores_gain_and_offset(self):
    module, variables = _network()
    config = dataclasses.replace(SMALL, standardize=True, channel_order="BGR")
    image = self._image()
    a = elf.extract(module, variables, image, config)
    b = elf.extract(module, variables, 0.5 * image + 0.2, config)
    same = np.asarray((a.xy == b.xy).all(-1) & a.valid)
    self.assertGreater(same.sum(), 0.9 * int(a.valid.sum()))
    x = elf.preprocess(jnp.asarray(image), config)
    np.testing.assert_allclose(
      x, (image - image.mean())[..., ::-1] / image.std(), atol=1e-4
    )

  def test_constant_image_has_no_key_points(self):
    module, variables = _network()
    for value in (0.0, 0.5, 1.0):
      image = np.full((64, 80, 3), value, np.float32)
      k = elf.extract(
        module, variables, image, dataclasses.replace(SMALL, standardize=True)
      )
      self.assertTrue(bool(jnp.isfinite(k.descriptors).all()))
      k = elf.extract(module, variables, image, SMALL)
      self.assertTrue(bool(jnp.isfinite(k.xy).all()))

  def test_uint8_equals_float(self):
    module, variables = _network()
    image = data.to_uint8(self._image())
    a = elf.extract(module, variables, image, SMALL)
    b = elf.extract(module, variables, image.astype(np.float32) / 255, SMALL)
    np.testing.assert_array_equal(a.xy, b.xy)

  def test_errors_are_clear(self):
    module, variables = _network()
    run = lambda image, config=SMALL: elf.extract(  # noqa: E731
      module, variables, image, config
    )
    with self.assertRaisesRegex(ValueError, "at least 21 pixels"):
      run(np.zeros((20, 90, 3), np.float32))
    with self.assertRaisesRegex(ValueError, "must be finite"):
      run(np.full((64, 64, 3), np.nan, np.float32))
    with self.assertRaisesRegex(ValueError, "divide by 255"):
      run(np.full((64, 64, 3), 200.0, np.float32))
    with self.assertRaisesRegex(ValueError, r"must be \[H, W, 3\]"):
      run(np.zeros((64, 64), np.float32))
    with self.assertRaisesRegex(TypeError, "float in"):
      run(np.zeros((64, 64, 3), np.int64))
    with self.assertRaisesRegex(ValueError, "known: relu1_1"):
      run(
        np.zeros((64, 64, 3), np.float32),
        dataclasses.replace(SMALL, saliency_layer="pool9"),
      )


class MatchTest(chex.TestCase):
  def _keypoints(self, seed, count=20, valid=15):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(count, 8)).astype(np.float32)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    mask = np.arange(count) < valid
    return ops.Keypoints(
      jnp.zeros((count, 2)),
      jnp.ones(count),
      jnp.asarray(mask),
      jnp.asarray(np.where(mask[:, None], d, 0)),
    )

  @parameterized.parameters("mutual", "one_way", "dual_softmax", "greedy")
  def test_a_set_matches_itself(self, mode):
    k = self._keypoints(0)
    m = elf.match(k, k, mode=mode)
    np.testing.assert_array_equal(m.index1[:15], np.arange(15))
    self.assertFalse(bool(m.valid[15:].any()))

  def test_batch_equals_loop(self):
    a, b = (
      jax.tree.map(lambda *v: jnp.stack(v), *[self._keypoints(s) for s in t])
      for t in ((0, 1), (2, 3))
    )
    m = elf.match(a, b, ratio=0.95)
    for i, (s, t) in enumerate(((0, 2), (1, 3))):
      one = elf.match(self._keypoints(s), self._keypoints(t), ratio=0.95)
      chex.assert_trees_all_close(jax.tree.map(lambda v, i=i: v[i], m), one)

  def test_errors(self):
    k = self._keypoints(0)
    with self.assertRaisesRegex(ValueError, "`mode` must be one of"):
      elf.match(k, k, mode="best")
    with self.assertRaisesRegex(ValueError, "must be None"):
      elf.match(k, k, mode="greedy", ratio=0.8)
    other = k._replace(descriptors=jnp.zeros((20, 9)))
    with self.assertRaisesRegex(ValueError, "same network"):
      elf.match(k, other)
