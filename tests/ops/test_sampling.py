import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from absl.testing import parameterized

from vision_jax import ops

P = jax.sharding.PartitionSpec
MODES = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")


def _keys(distance, a):
  """Keys' kernel, from its two polynomials."""
  d = abs(distance)
  if d <= 1:
    return (a + 2) * d**3 - (a + 3) * d**2 + 1
  return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def _sample_reference(image, point, mode, padding):
  """Kernel over all pixels of a generously padded image, float64."""
  border = 12
  pad = [(border, border), (border, border), (0, 0)]
  kind = {"edge": "edge", "zeros": "constant"}[padding]
  padded = np.pad(image.astype(np.float64), pad, mode=kind)
  weigh = {
    "nearest": lambda d: float(d == 0),
    "bilinear": lambda d: max(0.0, 1 - abs(d)),
    "bicubic": lambda d: _keys(d, -0.75),
  }[mode]
  x, y = (round(float(v)) if mode == "nearest" else float(v) for v in point)
  value = np.zeros(image.shape[2])
  for i in range(padded.shape[0]):
    row_weight = weigh(y + border - i)
    if row_weight:
      for j in range(padded.shape[1]):
        value += row_weight * weigh(x + border - j) * padded[i, j]
  return value


class SampleTest(chex.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.image = rng.normal(size=(5, 8, 3)).astype(np.float32)
    inside = rng.uniform([0, 0], [7, 4], (12, 2))
    around = rng.uniform([-4, -4], [12, 9], (24, 2))
    exact = [[0, 0], [7, 4], [7, 0], [2, 3], [-0.5, 4.5], [1.5, 2.5], [8, -1]]
    self.points = np.concatenate([inside, around, exact]).astype(np.float32)

  @parameterized.product(
    mode=("nearest", "bilinear", "bicubic"), padding=("edge", "zeros")
  )
  def test_matches_reference(self, mode, padding):
    sample = jax.jit(lambda i, p: ops.sample(i, p, mode=mode, padding=padding))
    expected = [
      _sample_reference(self.image, p, mode, padding) for p in self.points
    ]
    got = sample(self.image, self.points)
    np.testing.assert_allclose(got, expected, atol=5e-6)

  def test_convention_order_is_x_then_y(self):
    image = np.zeros((4, 9, 1), np.float32)
    image[1, 6] = 1
    self.assertEqual(ops.sample(image, jnp.array([6.0, 1.0])), 1)
    self.assertEqual(ops.sample(image, jnp.array([1.0, 6.0])), 0)

  def test_ramp_is_recovered(self):
    y, x = np.mgrid[:9, :13]
    ramp = np.float32(0.7 * x - 1.3 * y + 2)[..., None]
    p = np.random.default_rng(1).uniform([1, 1], [11, 7], (50, 2))
    got = jax.jit(ops.sample)(ramp, np.float32(p))[:, 0]
    expected = 0.7 * p[:, 0] - 1.3 * p[:, 1] + 2
    np.testing.assert_allclose(got, expected, atol=1e-5)

  @parameterized.parameters((4, 1.5), (16, 7.5))
  def test_bright_pixel_of_a_feature_cell(self, stride, offset):
    cell = np.array([2, 1])
    features = np.zeros((4, 5, 1), np.float32)
    features[1, 2] = 1
    at = ops.feature_to_image(cell, stride=stride, offset=offset)
    y, x = np.mgrid[:64, :80]

    @jax.jit
    def value_at(points):
      cells = ops.image_to_feature(points, stride=stride, offset=offset)
      return ops.sample(features, cells)[..., 0]

    values = value_at(np.stack([x, y], axis=-1))
    top = np.argwhere(values == values.max()).mean(axis=0)[::-1]
    np.testing.assert_allclose(top, at)
    self.assertEqual(value_at(at), 1)

  def test_nearest_rounds_halves_to_even(self):
    row = np.arange(6.0, dtype=np.float32).reshape(1, 6, 1)
    x = jnp.array([0.5, 1.5, 2.5, 2.51])
    points = jnp.stack([x, jnp.zeros(4)], axis=-1)
    got = jax.jit(lambda p: ops.sample(row, p, mode="nearest"))(points)[:, 0]
    np.testing.assert_array_equal(got, [0, 2, 2, 3])

  @parameterized.product(
    mode=("nearest", "bilinear", "bicubic"), padding=("edge", "zeros")
  )
  def test_far_points_are_finite(self, mode, padding):
    points = np.full((10, 2), 2, np.float32)
    points[:5, 0] = points[5:, 1] = (np.inf, -np.inf, np.nan, 1e30, -3e9)
    corners = np.full((10, 2), 2, np.float32)
    corners[:5, 0], corners[5:, 1] = (7, 0, 0, 7, 0), (4, 0, 0, 4, 0)
    sample = jax.jit(lambda i, p: ops.sample(i, p, mode=mode, padding=padding))
    expected = sample(self.image, corners) if padding == "edge" else 0
    np.testing.assert_allclose(
      sample(self.image, points),
      np.broadcast_to(expected, (10, 3)),
      atol=1e-6,
    )
    gradient = jax.jit(jax.grad(lambda p: sample(self.image, p).sum()))(points)
    self.assertTrue(jnp.isfinite(gradient).all())
    self.assertFalse(gradient[:5, 0].any())
    self.assertFalse(gradient[5:, 1].any())

  def test_pixels_outside_do_not_leak_through_zeros(self):
    image = np.full((3, 4, 1), np.nan, np.float32)
    image[1, 2] = 5
    far = ops.sample(image, jnp.array([-2.0, 1.0]), padding="zeros")
    np.testing.assert_array_equal(far, [0])

  @parameterized.parameters(
    ("bilinear", "edge"), ("bilinear", "zeros"), ("bicubic", "edge")
  )
  def test_gradient_is_correct(self, mode, padding):
    points = np.float32([[1.3, 2.4], [-0.6, 1.7], [6.6, 4.3], [3.5, 0.4]])
    rng = np.random.default_rng(2)
    steps = rng.normal(size=self.image.shape), rng.normal(size=points.shape)
    steps = tuple(np.float32(1e-2 * step) for step in steps)
    weights = rng.normal(size=(4, 3)).astype(np.float32)

    @jax.jit
    def loss(image, points):
      values = ops.sample(image, points, mode=mode, padding=padding)
      return (weights * values).sum()

    values = (self.image, points)
    after, before = (
      loss(*(v + sign * t for v, t in zip(values, steps, strict=True)))
      for sign in (1, -1)
    )
    gradients = jax.jit(jax.grad(loss, (0, 1)))(*values)
    total = sum(np.vdot(g, t) for g, t in zip(gradients, steps, strict=True))
    np.testing.assert_allclose(total, (after - before) / 2, rtol=2e-3)
    if mode == "bilinear":
      _, tangent = jax.jit(lambda v, t: jax.jvp(loss, v, t))(values, steps)
      np.testing.assert_allclose(tangent, total, rtol=1e-4)

  def test_nearest_has_no_gradient_in_the_points(self):
    loss = lambda p: ops.sample(self.image, p, mode="nearest").sum()  # noqa: E731
    self.assertFalse(jax.jit(jax.grad(loss))(self.points).any())

  def test_vmap_equals_loop(self):
    images = np.stack([self.image, self.image[::-1]])
    points = np.stack([self.points, self.points + 0.3])
    got = jax.jit(jax.vmap(ops.sample))(images, points)
    expected = [*map(jax.jit(ops.sample), images, points)]
    np.testing.assert_allclose(got, expected, atol=1e-6)

  @parameterized.parameters(
    ((2,), (3,)), ((0, 2), (0, 3)), ((2, 4, 2), (2, 4, 3))
  )
  def test_shape_of_points_is_kept(self, shape, expected):
    got = jax.eval_shape(ops.sample, self.image, np.ones(shape, np.float32))
    self.assertEqual(got.shape, expected)

  def test_dtypes(self):
    sample = jax.jit(ops.sample)
    for dtype in (jnp.bfloat16, jnp.float16):
      got = jax.eval_shape(sample, jnp.ones((2, 3, 1), dtype), jnp.zeros(2))
      self.assertEqual(got.dtype, dtype)
    levels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    got = sample(levels, jnp.array([0.5, 0.0]))
    self.assertEqual(got.dtype, jnp.float32)
    self.assertEqual(got, 0.5)
    # Coordinates do not suffer from the image's precision.
    wide = jnp.ones((2, 1001, 1), jnp.bfloat16).at[:, 501].set(3)
    self.assertEqual(sample(wide, jnp.array([500.25, 0.0])), 1.5)

  def test_no_channels(self):
    self.assertEqual(
      ops.sample(np.zeros((2, 3, 0)), jnp.ones((4, 2))).shape, (4, 0)
    )

  def test_errors(self):
    point = jnp.zeros(2)
    with self.assertRaisesRegex(ValueError, "sample: `image` must be"):
      ops.sample(np.zeros((4, 4)), point)
    with self.assertRaisesRegex(ValueError, "at least one pixel"):
      ops.sample(np.zeros((0, 4, 1)), point)
    with self.assertRaisesRegex(ValueError, "`points` must be"):
      ops.sample(self.image, jnp.zeros((4, 3)))
    with self.assertRaisesRegex(ValueError, "`mode` must be .*got 'cubic'"):
      ops.sample(self.image, point, mode="cubic")
    with self.assertRaisesRegex(ValueError, "`padding` must be"):
      ops.sample(self.image, point, padding="border")


def _axis_reference(values, size, mode, antialias=False, align_corners=False):
  """One axis, one output at a time, from the definitions; float64."""
  n = len(values)
  pixel = lambda i: values[min(max(i, 0), n - 1)]  # noqa: E731
  result = []
  for i in range(size):
    scale = n / size
    if align_corners:
      scale = (n - 1) / (size - 1) if size > 1 else 0.0
    x = scale * i if align_corners else scale * (i + 0.5) - 0.5
    if mode == "nearest":
      result.append(pixel(i * n // size))
    elif mode == "nearest-exact":
      result.append(pixel((2 * i + 1) * n // (2 * size)))
    elif mode == "area":
      first, last = i * n // size, -(-(i + 1) * n // size)
      result.append(np.mean(values[first:last]))
    elif antialias:
      width = max(scale, 1.0)
      center = scale * (i + 0.5) - 0.5
      weights = [
        max(0.0, 1 - abs(j - center) / width)
        if mode == "bilinear"
        else _keys((j - center) / width, -0.5)
        for j in range(n)
      ]
      result.append(np.dot(weights, values) / np.sum(weights))
    elif mode == "bilinear":
      result.append(np.interp(x, np.arange(n), values))
    else:
      base = int(np.floor(x))
      result.append(
        sum(_keys(x - j, -0.75) * pixel(j) for j in range(base - 1, base + 3))
      )
  return np.array(result)


def _resize_reference(image, size, **settings):
  for axis in (0, 1):
    image = np.apply_along_axis(
      _axis_reference, axis, image, size[axis], **settings
    )
  return image


SETTINGS = (
  *({"mode": mode} for mode in MODES),
  {"mode": "bilinear", "align_corners": True},
  {"mode": "bicubic", "align_corners": True},
  {"mode": "bilinear", "antialias": True},
  {"mode": "bicubic", "antialias": True},
)


def _resize_in_all_ways(size):
  """All settings in one compiled function."""
  return jax.jit(lambda v: [ops.resize(v, size, **s) for s in SETTINGS])


class ResizeTest(chex.TestCase):
  @parameterized.parameters(
    ((5, 9), (11, 4)),
    ((13, 6), (3, 19)),
    ((1, 4), (3, 1)),
    ((4, 6), (4, 6)),
    ((75, 3), (2, 9)),  # more than 32 taps: a dense product
  )
  def test_matches_reference(self, size_in, size):
    image = np.random.default_rng(0).uniform(size=(*size_in, 2))
    got = _resize_in_all_ways(size)(image.astype(np.float32))
    for settings, value in zip(SETTINGS, got, strict=True):
      self.assertEqual(value.dtype, jnp.float32)
      expected = _resize_reference(image, size, **settings)
      np.testing.assert_allclose(
        value, expected, atol=2e-6, err_msg=str(settings)
      )

  def test_without_jit(self):
    image = np.random.default_rng(0).uniform(size=(5, 9, 2)).astype(np.float32)
    for settings in SETTINGS[::3]:
      got = ops.resize(image, (11, 4), **settings)
      expected = _resize_reference(image, (11, 4), **settings)
      np.testing.assert_allclose(got, expected, atol=2e-6)

  @parameterized.parameters(((48, 64), (20, 33)), ((20, 33), (48, 64)))
  def test_matches_opencv(self, size_in, size):
    image = np.random.default_rng(1).uniform(size=(*size_in, 3))
    image = image.astype(np.float32)
    for mode, flag in (
      ("bilinear", cv2.INTER_LINEAR),
      ("bicubic", cv2.INTER_CUBIC),
    ):
      expected = cv2.resize(image, size[::-1], interpolation=flag)
      got = ops.resize(image, size, mode=mode)
      np.testing.assert_allclose(got, expected, atol=1e-5)
    half = (size_in[0] // 2, size_in[1] // 2)
    even = image[: 2 * half[0], : 2 * half[1]]
    expected = cv2.resize(even, half[::-1], interpolation=cv2.INTER_AREA)
    got = ops.resize(even, half, mode="area")
    np.testing.assert_allclose(got, expected, atol=1e-6)

  @parameterized.parameters(((48, 64), (20, 33)), ((20, 33), (48, 64)))
  def test_antialias_matches_pillow(self, size_in, size):
    image = np.random.default_rng(2).uniform(size=size_in).astype(np.float32)
    for mode, flag in (
      ("bilinear", PIL.Image.Resampling.BILINEAR),
      ("bicubic", PIL.Image.Resampling.BICUBIC),
    ):
      expected = PIL.Image.fromarray(image).resize(size[::-1], flag)
      got = ops.resize(image[..., None], size, mode=mode, antialias=True)
      np.testing.assert_allclose(got[..., 0], np.array(expected), atol=2e-6)

  @parameterized.parameters((2, 82), (2, 94), (2, 110))
  def test_nearest_decides_in_float32(self, n, m):
    row = np.arange(n, dtype=np.float32).reshape(1, n, 1)
    got = ops.resize(row, (1, m), mode="nearest")[0, :, 0]
    scale = np.float32(n) / np.float32(m)
    index = [int(np.float32(i) * scale) for i in range(m)]
    np.testing.assert_array_equal(got, index)
    # In exact arithmetic the boundary belongs to the next pixel.
    self.assertTrue((got != np.arange(m) * n // m).any())

  def test_constant_stays_constant(self):
    image = np.full((7, 10, 1), 0.3, np.float32)
    for value in _resize_in_all_ways((3, 23))(image):
      np.testing.assert_allclose(value, np.full((3, 23, 1), 0.3), rtol=1e-6)

  def test_agrees_with_sample(self):
    image = np.random.default_rng(3).normal(size=(7, 9, 2)).astype(np.float32)
    size = (12, 20)
    y, x = np.meshgrid(*map(np.arange, size), indexing="ij")
    inverse = np.linalg.inv(ops.resize_matrix((7, 9), size))
    points = ops.apply_homography(
      inverse, np.stack([x, y], -1).reshape(-1, 2)
    ).reshape(*size, 2)
    sample = jax.jit(lambda p: ops.sample(image, p, mode="bicubic"))
    got = ops.resize(image, size, mode="bicubic")
    np.testing.assert_allclose(got, sample(points), atol=1e-5)

  @parameterized.parameters(
    ((5, 8), (9, 3)),
    ((2, 3), (2, 80)),  # dense in the transposed direction
  )
  def test_gradient_is_the_transposed_map(self, size_in, size):
    rng = np.random.default_rng(4)
    image = rng.normal(size=(*size_in, 1))
    weights = rng.normal(size=(len(SETTINGS), *size, 1))
    transposed = jax.jit(
      lambda v, w: [
        jax.vjp(lambda v, s=s: ops.resize(v, size, **s), v)[1](y)[0]
        for s, y in zip(SETTINGS, w, strict=True)
      ]
    )
    got = transposed(image.astype(np.float32), weights.astype(np.float32))
    basis = np.eye(image.size).reshape(-1, *size_in, 1)
    for settings, y, value in zip(SETTINGS, weights, got, strict=True):
      columns = [_resize_reference(e, size, **settings) for e in basis]
      expected = np.tensordot(columns, y, 3).reshape(image.shape)
      np.testing.assert_allclose(
        value, expected, atol=1e-5, err_msg=str(settings)
      )

  def test_jacobians_and_hessian(self):
    image = np.random.default_rng(4).normal(size=(3, 4, 1)).astype(np.float32)
    resize = lambda v: ops.resize(v, (5, 2), mode="bicubic")  # noqa: E731
    forward = jax.jit(jax.jacfwd(resize))(image)
    backward = jax.jit(jax.jacrev(resize))(image)
    np.testing.assert_allclose(forward, backward, atol=1e-6)
    expected = np.tensordot(forward, image, 3)
    np.testing.assert_allclose(expected, resize(image), atol=1e-5)
    energy = lambda v: (resize(v) ** 2).sum() / 2  # noqa: E731
    hessian = jax.jit(jax.hessian(energy))(image).reshape(12, 12)
    matrix = np.reshape(forward, (10, 12))
    np.testing.assert_allclose(hessian, matrix.T @ matrix, atol=1e-5)

  def test_vmap_and_leading_axes_equal_the_loop(self):
    images = np.random.default_rng(6).normal(size=(2, 3, 6, 5, 2))
    images = images.astype(np.float32)
    size = (4, 9)
    got = ops.resize(images, size)
    mapped = jax.vmap(lambda v: ops.resize(v, size), in_axes=1, out_axes=1)
    np.testing.assert_allclose(mapped(images), got, atol=1e-6)
    for i in range(2):
      for j in range(3):
        np.testing.assert_allclose(
          ops.resize(images[i, j], size), got[i, j], atol=1e-6
        )

  @parameterized.parameters(False, True)
  def test_under_shard_map(self, check_vma):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    images = np.random.default_rng(7).normal(size=(4, 6, 5, 2))
    images = images.astype(np.float32)
    loss = lambda v: (ops.resize(v, (3, 9)) ** 2).sum()  # noqa: E731
    sharded = jax.shard_map(
      jax.grad(loss),
      mesh=mesh,
      in_specs=P("batch"),
      out_specs=P("batch"),
      check_vma=check_vma,
    )
    np.testing.assert_allclose(
      jax.jit(sharded)(images), jax.grad(loss)(images), atol=1e-5
    )

  def test_one_bad_pixel_stays_local(self):
    image = np.zeros((20, 20, 1), np.float32)
    image[10, 10] = np.nan
    got = np.isnan(ops.resize(image, (40, 10))[..., 0])
    self.assertEqual(got.sum(), np.ptp(np.nonzero(got)[0]) + 1)
    self.assertLess(got.sum(), 8)

  def test_dtypes(self):
    image = np.random.default_rng(8).uniform(size=(6, 9, 2)).astype(np.float32)
    exact = ops.resize(image, (4, 20), mode="bicubic")
    for dtype in (jnp.bfloat16, jnp.float16):
      got = ops.resize(jnp.asarray(image, dtype), (4, 20), mode="bicubic")
      self.assertEqual(got.dtype, dtype)
      np.testing.assert_allclose(got, exact, atol=0.02)
    labels = np.arange(6, dtype=np.int32).reshape(2, 3, 1) + 2**30
    for kind in (labels, labels % 2 == 0, labels.astype(np.uint8)):
      for mode in ("nearest", "nearest-exact"):
        got = ops.resize(kind, (4, 6), mode=mode)
        self.assertEqual(got.dtype, kind.dtype)
        expected = kind.repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(got, expected)

  @parameterized.parameters((0, 4, 5, 2), (4, 5, 0), (0, 0, 4, 5, 1))
  def test_empty(self, *shape):
    got = ops.resize(np.zeros(shape, np.float32), (3, 9))
    self.assertEqual(got.shape, (*shape[:-3], 3, 9, shape[-1]))

  def test_errors(self):
    image = np.zeros((4, 5, 1), np.float32)
    with self.assertRaisesRegex(ValueError, "resize: `image` must be"):
      ops.resize(image[..., 0], (2, 2))
    with self.assertRaisesRegex(ValueError, "at least one pixel"):
      ops.resize(image[:0], (2, 2))
    with self.assertRaisesRegex(ValueError, "`size` must be"):
      ops.resize(image, (2, 0))
    with self.assertRaisesRegex(ValueError, "`mode` must be"):
      ops.resize(image, (2, 2), mode="linear")
    for mode in ("nearest", "area"):
      with self.assertRaisesRegex(ValueError, "belong to bilinear"):
        ops.resize(image, (2, 2), mode=mode, antialias=True)
      with self.assertRaisesRegex(ValueError, "belong to bilinear"):
        ops.resize(image, (2, 2), mode=mode, align_corners=True)
    with self.assertRaisesRegex(TypeError, "must be floating.*uint8"):
      ops.resize(image.astype(np.uint8), (2, 2))
