"""RoIAlign and RoIPool against scalar loops in float64."""

import functools
import math
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from tests.compilation import quick_compile
from vision_jax import ops
from vision_jax.ops import roi_samples


def _axis(low, high, scale, bins, ratio, aligned, cap):
  """Positions of the samples of each bin of one axis."""
  offset = 0.5 if aligned else 0.0
  a, b = low * scale - offset, high * scale - offset
  length = b - a if aligned else max(b - a, 1.0)
  width = length / bins
  n = ratio if ratio > 0 else min(max(math.ceil(width), 0), cap)
  return [
    [a + p * width + (i + 0.5) * width / n for i in range(n)]
    for p in range(bins)
  ]


def _pixel(features, y, x):
  height, width = features.shape[:2]
  if y < -1 or y > height or x < -1 or x > width:
    return np.zeros(features.shape[2])
  taps = []
  for v, size in ((max(y, 0.0), height), (max(x, 0.0), width)):
    low = int(v)
    if low >= size - 1:
      taps.append(((size - 1, 1.0),))
    else:
      taps.append(((low, 1 - (v - low)), (low + 1, v - low)))
  return sum(wy * wx * features[j, i] for j, wy in taps[0] for i, wx in taps[1])


def scalar_roi_align(
  features, boxes, size, *, scale, sampling_ratio, aligned, cap=48
):
  """The rule of torchvision's kernel, sample by sample, float64."""
  features = np.asarray(features, np.float64)
  boxes = np.asarray(boxes, np.float64)
  out = np.zeros((len(boxes), *size, features.shape[2]))
  for r, (x1, y1, x2, y2) in enumerate(boxes):
    rest = (sampling_ratio, aligned, cap)
    rows = _axis(y1, y2, scale, size[0], *rest)
    columns = _axis(x1, x2, scale, size[1], *rest)
    for p, ys in enumerate(rows):
      for q, xs in enumerate(columns):
        values = [_pixel(features, y, x) for y in ys for x in xs]
        if values:
          out[r, p, q] = sum(values) / len(values)
  return out


def scalar_roi_pool(features, boxes, size, scale):
  """Maxima and their row-major places (-1 for an empty bin)."""
  height, width, channels = features.shape
  out = np.zeros((len(boxes), *size, channels))
  place = np.full(out.shape, -1)

  def away(v):
    return int(math.copysign(math.floor(abs(v) + 0.5), v))

  for r, box in enumerate(boxes):
    x1, y1, x2, y2 = (away(float(v) * scale) for v in box)
    wide, tall = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
    for p in range(size[0]):
      for q in range(size[1]):
        ys = range(
          min(max(p * tall // size[0] + y1, 0), height),
          min(max(-(-(p + 1) * tall // size[0]) + y1, 0), height),
        )
        xs = range(
          min(max(q * wide // size[1] + x1, 0), width),
          min(max(-(-(q + 1) * wide // size[1]) + x1, 0), width),
        )
        for c in range(channels):
          best = -np.inf
          for y in ys:
            for x in xs:
              if features[y, x, c] > best:
                best = out[r, p, q, c] = features[y, x, c]
                place[r, p, q, c] = y * width + x
  return out, place


SIZE, SCALE = (3, 4), 0.5
# Image 26 x 18: inside, partly and wholly outside, thin, huge, empty, mirrored.
BOXES = np.array(
  [
    [3.2, 2.1, 14.7, 11.9],
    [-5.5, -4.1, 9.3, 8.2],
    [20.4, 11.3, 31.8, 24.6],
    [-30.0, -30.0, -20.0, -20.0],
    [40.0, 30.0, 60.0, 44.0],
    [5.0, 5.0, 5.7, 16.0],
    [-40.3, -31.2, 70.1, 61.7],
    [7.0, 7.0, 7.0, 7.0],
    [12.0, 9.0, 4.0, 3.0],
    [0.0, 0.0, 26.0, 18.0],
  ],
  np.float32,
)


def _features(channels=3, height=9, width=13):
  rng = np.random.default_rng(0)
  return rng.normal(size=(height, width, channels)).astype(np.float32)


class RoiAlignTest(parameterized.TestCase):
  @parameterized.product(
    ratio=(1, 2, 3, 0), aligned=(False, True), method=("gather", "matmul")
  )
  def test_equals_the_scalar_loop(self, ratio, aligned, method):
    settings = dict(scale=SCALE, sampling_ratio=ratio, aligned=aligned)
    features = _features()
    expected = scalar_roi_align(features, BOXES, SIZE, **settings, cap=7)
    run = functools.partial(
      ops.roi_align, size=SIZE, method=method, max_samples=7, **settings
    )
    with quick_compile():
      got = jax.jit(run)(features, BOXES)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_array_equal(got[3], 0)  # wholly outside
    self.assertGreater((expected != 0).mean(), 0.4)

  def test_the_limit_of_adaptive_sampling_is_reached(self):
    settings = dict(scale=SCALE, sampling_ratio=0, aligned=True)
    one, many = (
      scalar_roi_align(_features(), BOXES, SIZE, **settings, cap=cap)
      for cap in (7, 48)
    )
    differs = np.abs(one - many).max((1, 2, 3)) > 1e-3
    self.assertTrue(differs[6])
    self.assertEqual(differs.sum(), 1)

  @parameterized.parameters(
    (2, "gather", 0),
    (2, "gather", 999),
    (5, "gather", 999),
    (0, "gather", 0),
    (2, "matmul", 0),
    (0, "matmul", 0),
  )
  def test_derivatives(self, ratio, method, small):
    self.enter_context(mock.patch.object(roi_samples, "SMALL", small))
    # Linear in the map: <A^T g, f> = <g, A f> with the loop's A. Boxes: the
    # slope of the loop.
    rng = np.random.default_rng(1)
    settings = dict(scale=SCALE, sampling_ratio=ratio, aligned=False)
    loop = functools.partial(scalar_roi_align, size=SIZE, **settings, cap=7)
    boxes = BOXES[[0, 1, 2, 6]].astype(np.float64)
    with jax.enable_x64(True), quick_compile():
      features = rng.normal(size=(9, 13, 2))
      run = functools.partial(
        ops.roi_align, size=SIZE, method=method, max_samples=7, **settings
      )
      out, pull = jax.vjp(run, jnp.asarray(features), jnp.asarray(boxes))
      cotangent = rng.normal(size=out.shape)
      slope, box_slope = jax.jit(pull)(jnp.asarray(cotangent))
    out, slope, box_slope = (np.asarray(v) for v in (out, slope, box_slope))
    np.testing.assert_allclose(out, loop(features, boxes), atol=1e-10)
    for _ in range(2):
      other = rng.normal(size=features.shape)
      np.testing.assert_allclose(
        (slope * other).sum(), (cotangent * loop(other, boxes)).sum()
      )
    for r, k in ((0, 0), (1, 3), (2, 2)):
      step = np.zeros_like(boxes)
      step[r, k] = 1e-6
      change = loop(features, boxes + step) - loop(features, boxes - step)
      np.testing.assert_allclose(
        box_slope[r, k], (change * cotangent).sum() / 2e-6, atol=1e-6
      )

  @parameterized.parameters("gather", "matmul")
  def test_part_of_a_map(self, method):
    settings = dict(scale=SCALE, method=method)
    features = _features()
    padded = np.full((12, 17, 3), 7, np.float32)
    padded[:9, :13] = features
    with quick_compile():
      run = jax.jit(
        lambda f, b, h, w: ops.roi_align(f, b, SIZE, extent=(h, w), **settings)
      )
      got = run(padded, BOXES, jnp.int32(9), jnp.int32(13))
    expected = scalar_roi_align(
      features, BOXES, SIZE, scale=SCALE, sampling_ratio=2, aligned=False
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)

  @parameterized.parameters(2, 0)
  def test_vmap_is_a_loop(self, ratio):
    features = jnp.stack([_features(), _features()[::-1]])
    boxes = jnp.stack([BOXES[:2], BOXES[5:7]])
    run = functools.partial(
      ops.roi_align, size=SIZE, scale=SCALE, sampling_ratio=ratio
    )
    with quick_compile():
      got = jax.jit(jax.vmap(run))(features, boxes)
      one = jax.jit(run)
      for k in range(2):
        np.testing.assert_allclose(
          got[k], one(features[k], boxes[k]), atol=1e-6
        )

  def test_constant_map_and_frame(self):
    # Aligned: a linear function of the position is read exactly.
    y, x = np.mgrid[:20, :30] + 0.5
    ramp = np.stack([x, y], -1).astype(np.float32)
    box = np.array([[4.0, 6.0, 16.0, 12.0]], np.float32)
    got = ops.roi_align(ramp, box, (2, 3), scale=1.0, aligned=True)[0]
    np.testing.assert_allclose(got[0, :, 0], [6, 10, 14], atol=1e-5)
    np.testing.assert_allclose(got[:, 0, 1], [7.5, 10.5], atol=1e-5)

  @parameterized.parameters(2, 0)
  def test_no_boxes_and_no_numbers(self, ratio):
    features = _features()
    run = functools.partial(
      ops.roi_align, size=SIZE, scale=SCALE, sampling_ratio=ratio
    )
    with quick_compile():
      self.assertEqual(run(features, jnp.zeros((0, 4))).shape, (0, *SIZE, 3))
      bad = jnp.array([[jnp.nan, 0, 4, 4], [0, 0, jnp.inf, 4]])
      value, slope = jax.jit(jax.value_and_grad(lambda f: run(f, bad).sum()))(
        features
      )
    self.assertTrue(np.isfinite(value))
    self.assertTrue(np.isfinite(slope).all())

  def test_messages(self):
    f, b = jnp.zeros((4, 5, 1)), jnp.zeros((2, 4))
    with self.assertRaisesRegex(ValueError, r"`features` must be \[H, W, C\]"):
      ops.roi_align(f[None], b, (2, 2), scale=1.0)
    with self.assertRaisesRegex(ValueError, "`size` must be"):
      ops.roi_align(f, b, (0, 2), scale=1.0)
    with self.assertRaisesRegex(ValueError, "`method` must be one of gather"):
      ops.roi_align(f, b, (2, 2), scale=1.0, method="loop")
    with self.assertRaisesRegex(ValueError, "at least one pixel"):
      ops.roi_align(f[:0], b, (2, 2), scale=1.0)
    with self.assertRaisesRegex(ValueError, "`max_samples` must be"):
      ops.roi_align(f, b, (2, 2), scale=1.0, max_samples=0)


class PyramidTest(parameterized.TestCase):
  def test_levels_at_their_borders(self):
    for eps, at in ((1e-6, 4), (0.0, 4)):
      sides = np.array([112, 224, 448], np.float32)
      boxes = np.zeros((3, 4), np.float32)
      boxes[:, 2:] = sides[:, None]
      got = ops.roi_levels(boxes, lowest=2, highest=5, eps=eps)
      np.testing.assert_array_equal(got, [at - 1, at, at + 1])
    below = boxes.copy()
    below[:, 2] = np.nextafter(sides, np.float32(0))  # the eps makes up for it
    got = ops.roi_levels(below, lowest=2, highest=5)
    np.testing.assert_array_equal(got, [3, 4, 5])
    below[:, 2] *= np.float32(0.999)
    got = ops.roi_levels(below, lowest=2, highest=5)
    np.testing.assert_array_equal(got, [2, 3, 4])
    odd = jnp.array([[0, 0, 0, 5], [9, 9, 1, 1], [0, 0, 1e4, 1e4]])
    odd = jnp.concatenate([odd, jnp.full((1, 4), jnp.nan), odd[:1] * 0 + 3])
    got = ops.roi_levels(odd, lowest=2, highest=5)
    np.testing.assert_array_equal(got, [2, 2, 5, 2, 2])
    with self.assertRaisesRegex(ValueError, "`lowest` must not exceed"):
      ops.roi_levels(boxes, lowest=5, highest=2)

  @parameterized.product(ratio=(2, 0), method=("gather", "matmul"))
  def test_each_box_reads_its_own_level(self, ratio, method):
    rng = np.random.default_rng(2)
    scales = (1 / 4, 1 / 8, 1 / 16)
    maps = [
      rng.normal(size=(24 >> k, 36 >> k, 2)).astype(np.float32)
      for k in range(3)
    ]
    corner = rng.uniform(-10, 80, (12, 2))
    sides = np.exp(rng.uniform(np.log(8), np.log(120), (12, 2)))
    boxes = np.concatenate([corner, corner + sides], -1).astype(np.float32)
    extents = [(24, 36), (11, 18), (5, 8)]
    run = functools.partial(
      ops.multilevel_roi_align,
      size=SIZE,
      scales=scales,
      extents=extents,
      canonical_size=32,
      canonical_level=3,
      sampling_ratio=ratio,
      method=method,
      max_samples=8,
    )
    with quick_compile():
      got = jax.jit(run)(maps, boxes)
    level = ops.roi_levels(
      boxes, lowest=2, highest=4, canonical_size=32, canonical_level=3
    )
    self.assertEqual(set(np.asarray(level).tolist()), {2, 3, 4})
    for r, k in enumerate(np.asarray(level) - 2):
      height, width = extents[k]
      expected = scalar_roi_align(
        maps[k][:height, :width],
        boxes[r : r + 1],
        SIZE,
        scale=scales[k],
        sampling_ratio=ratio,
        aligned=False,
        cap=8,
      )
      np.testing.assert_allclose(got[r], expected[0], atol=1e-5)

  def test_levels_of_the_caller_and_derivative(self):
    maps = [jnp.full((6, 6, 1), 1.0), jnp.full((3, 3, 1), 2.0)]
    boxes = jnp.tile(jnp.array([[4.0, 4, 16, 16]]), (3, 1))

    def run(maps):
      return ops.multilevel_roi_align(
        maps, boxes, (2, 2), scales=(0.25, 0.125), levels=jnp.array([1, 0, 1])
      )

    out, pull = jax.vjp(run, maps)
    np.testing.assert_allclose(out[:, 0, 0, 0], [2, 1, 2], atol=1e-6)
    (slopes,) = pull(jnp.ones_like(out))
    np.testing.assert_allclose(
      [float(s.sum()) for s in slopes], [4, 8], atol=1e-5
    )
    with self.assertRaisesRegex(ValueError, "`scales` must have one entry"):
      ops.multilevel_roi_align(maps, boxes, (2, 2), scales=(0.25,))

  def test_small_maps_have_the_derivatives_of_large_ones(self):
    rng = np.random.default_rng(4)
    maps = [rng.normal(size=(2, 9, 13, 3)), rng.normal(size=(2, 5, 7, 3))]
    low = rng.uniform(-4, 40, size=(2, 11, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 30, (2, 11, 2))], -1)
    others = [rng.normal(size=v.shape) for v in (*maps, boxes)]

    def run(first, second, boxes):
      return jax.vmap(
        lambda first, second, boxes: ops.multilevel_roi_align(
          [first, second],
          boxes,
          (2, 3),
          scales=(0.25, 0.125),
          canonical_size=24,
          canonical_level=3,
          extents=[(8, 11), (4, 6)],
        )
      )(first, second, boxes)

    results = []
    with jax.enable_x64(True), quick_compile():
      first, second, boxes, *tangents = map(
        jnp.asarray, (*maps, boxes, *others)
      )

      def slope(boxes):
        return jax.grad(lambda f: (run(f, second, boxes) ** 2).sum())(first)

      for small in (0, 999):
        with mock.patch.object(roi_samples, "SMALL", small):
          out, pull = jax.vjp(run, first, second, boxes)
          weights = jnp.cos(jnp.arange(float(out.size))).reshape(out.shape)
          moved = jax.jvp(run, (first, second, boxes), tuple(tangents))
          mixed = jax.jvp(slope, (boxes,), (tangents[2],))
          results.append((out, pull(weights), moved, mixed))
      chex.assert_trees_all_close(*results, atol=1e-10)


class RoiPoolTest(parameterized.TestCase):
  def test_equals_the_scalar_loop(self):
    # Whole numbers: many equal maxima.
    rng = np.random.default_rng(3)
    features = rng.integers(0, 4, (9, 13, 2)).astype(np.float32)
    boxes = np.concatenate([BOXES, [[1, 3, 5, 7]]]).astype(np.float32)
    expected, place = scalar_roi_pool(features, boxes, SIZE, SCALE)
    run = functools.partial(
      ops.roi_pool, boxes=boxes, size=SIZE, scale=SCALE, batch_size=4
    )
    cotangent = rng.normal(size=expected.shape).astype(np.float32)
    with quick_compile():
      out, slope = jax.jit(
        lambda f: (run(f), jax.vjp(run, f)[1](cotangent)[0])
      )(features)
    np.testing.assert_array_equal(out, expected)
    self.assertGreater((place < 0).sum(), 10)
    wanted = np.zeros((9 * 13, 2))
    for (*_, c), at, g in zip(
      np.ndindex(place.shape), place.ravel(), cotangent.ravel(), strict=True
    ):
      if at >= 0:
        wanted[at, c] += g
    np.testing.assert_allclose(slope.reshape(-1, 2), wanted, atol=1e-5)

  def test_no_boxes(self):
    out = ops.roi_pool(_features(), jnp.zeros((0, 4)), SIZE, scale=1.0)
    self.assertEqual(out.shape, (0, *SIZE, 3))


if __name__ == "__main__":
  absltest.main()
