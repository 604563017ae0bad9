import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import ops

SIZE = (5, 8)  # height, width

# Forward converter, its inverse.
PAIRS = {
  "continuous": (ops.index_to_continuous, ops.continuous_to_index),
  "unit": (
    functools.partial(ops.continuous_to_unit, size=SIZE),
    functools.partial(ops.unit_to_continuous, size=SIZE),
  ),
  "ndc": (
    functools.partial(ops.index_to_ndc, size=SIZE),
    functools.partial(ops.ndc_to_index, size=SIZE),
  ),
  "ndc_corners": (
    functools.partial(ops.index_to_ndc, size=SIZE, align_corners=True),
    functools.partial(ops.ndc_to_index, size=SIZE, align_corners=True),
  ),
  "feature": (
    functools.partial(ops.image_to_feature, stride=8, offset=3.5),
    functools.partial(ops.feature_to_image, stride=8, offset=3.5),
  ),
}


def _points(shape=(6, 2)):
  values = np.random.default_rng(0).uniform(-2, 9, shape)
  return values.astype(np.float32)


class ConverterTest(chex.TestCase):
  @parameterized.product(name=list(PAIRS), shape=((2,), (6, 2), (3, 0, 2)))
  def test_inverse_undoes(self, name, shape):
    forward, inverse = PAIRS[name]
    p = _points(shape)
    np.testing.assert_allclose(inverse(forward(p)), p, atol=2e-6)

  # Centre of the first pixel, centre of the last, outer edges; x is the longer.
  @parameterized.parameters(
    ("continuous", [[0.5, 0.5], [7.5, 4.5], [0, 0], [8, 5]]),
    ("ndc", [[-7 / 8, -4 / 5], [7 / 8, 4 / 5], [-1, -1], [1, 1]]),
    ("ndc_corners", [[-1, -1], [1, 1], [-8 / 7, -5 / 4], [8 / 7, 5 / 4]]),
  )
  def test_landmarks(self, name, expected):
    index = np.float32([[0, 0], [7, 4], [-0.5, -0.5], [7.5, 4.5]])
    np.testing.assert_allclose(PAIRS[name][0](index), expected, atol=1e-6)

  def test_landmarks_of_the_unit_frame(self):
    continuous = np.float32([[0, 0], [8, 5], [4, 1]])
    np.testing.assert_allclose(
      PAIRS["unit"][0](continuous), [[0, 0], [1, 1], [0.5, 0.2]], atol=1e-7
    )

  @parameterized.parameters(
    # (kernel, stride, padding) of the layers, and the centre of cell 0.
    ([(2, 2, 0)], 2, 0.5),
    ([(3, 1, 1), (2, 2, 0)] * 3, 8, 3.5),
    ([(11, 4, 2), (3, 2, 0)], 8, 7.0),
  )
  def test_feature_cells_are_the_centres_of_receptive_fields(
    self, layers, stride, offset
  ):
    first, last = 2, 2  # what cell 2 sees, backwards through the layers
    for kernel, step, padding in reversed(layers):
      first = first * step - padding
      last = last * step - padding + kernel - 1
    got = ops.feature_to_image(jnp.array([2, 2]), stride=stride, offset=offset)
    np.testing.assert_array_equal(got, [(first + last) / 2] * 2)

  @parameterized.parameters(*PAIRS)
  def test_vmap_equals_loop_and_jit(self, name):
    p = _points((4, 6, 2))
    for f in PAIRS[name]:
      looped = np.stack([f(q) for q in p])
      np.testing.assert_allclose(jax.vmap(f)(p), looped, rtol=1e-6)
      np.testing.assert_allclose(jax.jit(f)(p), looped, rtol=1e-6, atol=1e-6)

  @parameterized.parameters(*PAIRS)
  def test_gradient_is_correct(self, name):
    for f in PAIRS[name]:
      chex.assert_numerical_grads(
        lambda p, f=f: (f(p) ** 2).sum(), (_points(),), 1
      )

  @parameterized.parameters(*PAIRS)
  def test_result_is_at_least_float32(self, name):
    for f in PAIRS[name]:
      for dtype in (jnp.int32, jnp.bfloat16, jnp.float16, jnp.float32):
        self.assertEqual(f(jnp.ones((3, 2), dtype)).dtype, jnp.float32)
      with jax.enable_x64(True):
        p = np.random.default_rng(1).uniform(-2, 9, (6, 2))
        self.assertEqual(f(p).dtype, jnp.float64)

  @parameterized.parameters(*PAIRS)
  def test_bad_points_name_the_argument(self, name):
    for f in PAIRS[name]:
      for bad in (np.zeros((4, 3)), np.zeros(())):
        with self.assertRaisesRegex(ValueError, r": `points` must be \[\.\.\."):
          f(bad)

  @parameterized.parameters(
    ops.continuous_to_unit,
    ops.unit_to_continuous,
    ops.index_to_ndc,
    ops.ndc_to_index,
  )
  def test_bad_size_names_the_argument(self, function):
    for bad in ((0, 4), (3, 4, 5)):
      with self.assertRaisesRegex(
        ValueError, f"{function.__name__}: `size` must be"
      ):
        function(_points(), bad)

  def test_a_side_of_one_pixel(self):
    zero = np.zeros(2, np.float32)
    for corners in (False, True):
      ndc = ops.index_to_ndc(zero, (1, 1), align_corners=corners)
      np.testing.assert_array_equal(ndc, [0, 0])
    back = ops.ndc_to_index(_points(), (1, 1), align_corners=True)
    np.testing.assert_array_equal(back, np.zeros((6, 2)))


class ResizeMatrixTest(chex.TestCase):
  def test_equals_the_way_through_the_unit_frame(self):
    size_in, size_out = (48, 64), (30, 100)
    p = np.random.default_rng(0).uniform(0, 40, (7, 2))
    unit = (p + 0.5) / [64, 48]
    expected = unit * [100, 30] - 0.5
    matrix = ops.resize_matrix(size_in, size_out)
    self.assertEqual(matrix.dtype, np.float64)
    got = p @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(got, expected, atol=1e-12)

  def test_diag_has_no_shift(self):
    got = ops.resize_matrix((48, 64), (24, 16), convention="diag")
    np.testing.assert_array_equal(got, np.diag([0.25, 0.5, 1]))

  def test_there_and_back_is_the_identity(self):
    there = ops.resize_matrix((7, 9), (31, 5))
    back = ops.resize_matrix((31, 5), (7, 9))
    np.testing.assert_allclose(back @ there, np.eye(3), atol=1e-14)

  @parameterized.product(
    size_out=((30, 90), (80, 45)), mode=("bilinear", "bicubic", "area")
  )
  def test_a_drawn_dot_lands_there(self, size_out, mode):
    size_in, center = (60, 90), np.array([41.3, 22.8])
    y, x = np.mgrid[:60, :90]
    dot = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / 32)
    small = ops.resize(np.float32(dot)[..., None], size_out, mode=mode)[..., 0]
    y, x = np.mgrid[: size_out[0], : size_out[1]]
    total = small.sum()
    found = np.array([(x * small).sum(), (y * small).sum()]) / total
    matrix = ops.resize_matrix(size_in, size_out)
    expected = matrix[:2, :2] @ center + matrix[:2, 2]
    np.testing.assert_allclose(found, expected, atol=0.02)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`convention` must be"):
      ops.resize_matrix((4, 4), (2, 2), convention="half")
    with self.assertRaisesRegex(ValueError, "`size_out` must be"):
      ops.resize_matrix((4, 4), (0, 2))
    with self.assertRaisesRegex(ValueError, "`size_in` must be"):
      ops.resize_matrix((4,), (2, 2))
