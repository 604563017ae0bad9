"""Tests of descriptors in turned and resized views."""

import functools

import chex
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from vision_jax import data, ops, weights
from vision_jax.systems import elf


@functools.cache
def _network():
  module, variables, metadata = weights.load_bundled("vgg_small")
  config = elf.make_config(
    "vgg_small", metadata.preprocessing, threshold="none", max_keypoints=80
  )
  return module, variables, config


def _photograph():
  return np.asarray(data.load_photograph("gravel.png"))[100:228, 60:220]


class ViewMatrixTest(parameterized.TestCase):
  @parameterized.parameters(
    (0, 1.0, (12, 20), (0.0, 0.0)),
    (90, 1.0, (20, 12), (11.0, 0.0)),
    (180, 1.0, (12, 20), (19.0, 11.0)),
    (-90, 1.0, (20, 12), (0.0, 19.0)),
    (0, 0.5, (6, 10), (-0.25, -0.25)),
  )
  def test_first_pixel_by_hand(self, rotation, scale, size, place):
    matrix, canvas = elf.view_matrix((12, 20), rotation, scale)
    self.assertEqual(canvas, size)
    np.testing.assert_allclose((matrix @ [0, 0, 1])[:2], place, atol=1e-9)

  @parameterized.parameters(17.0, 45.0, 200.0)
  def test_the_canvas_holds_the_picture(self, rotation):
    matrix, (high, wide) = elf.view_matrix((30, 50), rotation, 0.8)
    corners = [[-0.5, -0.5], [49.5, -0.5], [49.5, 29.5], [-0.5, 29.5]]
    moved = np.asarray(ops.apply_homography(matrix, jnp.asarray(corners)))
    self.assertGreaterEqual(moved.min(), -0.501)
    self.assertLessEqual(moved[:, 0].max(), wide - 0.499)
    self.assertLessEqual(moved[:, 1].max(), high - 0.499)
    self.assertLess(wide * high, 1.1 * np.ptp(moved, 0).prod())
    # The middle stays the middle.
    np.testing.assert_allclose(
      (matrix @ [24.5, 14.5, 1])[:2], [(wide - 1) / 2, (high - 1) / 2]
    )

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "view_matrix: `scale`"):
      elf.view_matrix((30, 50), 0.0, -1.0)
    with self.assertRaisesRegex(ValueError, "leave a pixel"):
      elf.view_matrix((30, 50), 0.0, 0.01)


class DescribeViewsTest(chex.TestCase):
  def test_the_plain_view_is_the_description_of_extract(self):
    module, variables, config = _network()
    image = _photograph()
    k = elf.extract(module, variables, image, config)
    views = elf.describe_views(module, variables, image, k, config)
    self.assertEqual(views.shape, (1, *k.descriptors.shape))
    np.testing.assert_allclose(views[0], k.descriptors, atol=1e-4)

  @parameterized.parameters(1, 2, 3)
  def test_a_quarter_turn_is_undone_exactly(self, quarters):
    """np.rot90 turns against the clock, the view turns back."""
    module, variables, config = _network()
    image = _photograph()
    turned = np.ascontiguousarray(np.rot90(image, quarters))
    k0 = elf.extract(module, variables, image, config)
    matrix, size = elf.view_matrix(turned.shape[:2], 90.0 * quarters, 1.0)
    self.assertEqual(size, image.shape[:2])
    back = jnp.asarray(np.linalg.inv(matrix), jnp.float32)
    k1 = k0._replace(xy=ops.apply_homography(back, k0.xy))
    views = elf.describe_views(
      module, variables, turned, k1, config, rotations=(0, 90, 180, 270)
    )
    best, descriptors = elf.choose_view(k0, views, k1.valid)
    self.assertEqual(int(best), quarters)
    # The same pixels again: the same description.
    self.assertGreater(int(k0.valid.sum()), 30)
    np.testing.assert_allclose(k0.descriptors, descriptors, atol=2e-3)

  def test_zoom_is_found_and_padding_is_zero(self):
    module, variables, config = _network()
    image = _photograph()
    height, width = image.shape[:2]
    large = np.asarray(
      ops.resize(jnp.asarray(image), (2 * height, 2 * width), mode="bicubic")
    ).clip(0, 1)
    k0 = elf.extract(module, variables, image, config)
    k1 = elf.extract(module, variables, large, config)
    k1 = k1._replace(valid=k1.valid & (jnp.arange(80) < 70))
    views = elf.describe_views(
      module, variables, large, k1, config, scales=(1.0, 0.7, 0.5)
    )
    np.testing.assert_array_equal(views[:, 70:], 0.0)
    self.assertEqual(int(elf.choose_view(k0, views, k1.valid)[0]), 2)

  def test_errors(self):
    module, variables, config = _network()
    image = _photograph()
    k = elf.extract(module, variables, image, config)
    with self.assertRaisesRegex(ValueError, "view_matrix: `scale`"):
      elf.describe_views(module, variables, image, k, config, scales=(0.0,))
    with self.assertRaisesRegex(ValueError, "describe_views: `image`"):
      elf.describe_views(module, variables, image[0], k, config)


class ScaleTest(chex.TestCase):
  @parameterized.parameters(3.0, 7.0)
  def test_scale_of_a_blob(self, sigma):
    y, x = np.mgrid[:90, :110]
    # Not blurred before: a blur adds its square.
    blob = np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / (2 * sigma**2))
    k = ops.Keypoints(
      jnp.array([[60.0, 40.0]]), jnp.ones(1), jnp.ones(1, bool), None
    )
    config = elf.ElfConfig(denoise_blur=(1, 1.0))
    saliency = jnp.asarray(blob, jnp.float32)[..., None] * jnp.ones((1, 1, 3))
    scale = float(elf.keypoint_scales(saliency, k, config)[0])
    self.assertLess(abs(np.log2(scale / sigma)), 1 / 6 + 0.02)

  def test_points_are_described_in_the_level_of_their_scale(self):
    module, variables, config = _network()
    image = _photograph()
    k = elf.extract(module, variables, image, config)
    k = k._replace(scale=jnp.where(jnp.arange(80) < 40, 3.0, 6.6))
    levels = (1.0, 0.5)
    got = elf.describe_at_scale(
      module, variables, image, k, config, reference=3.2, levels=levels
    )
    views = elf.describe_views(
      module, variables, image, k, config, scales=levels
    )
    np.testing.assert_array_equal(got.descriptors[:40], views[0, :40])
    np.testing.assert_array_equal(got.descriptors[40:], views[1, 40:])
    np.testing.assert_array_equal(got.xy, k.xy)

  def test_scale_errors(self):
    module, variables, config = _network()
    image = _photograph()
    k = elf.extract(module, variables, image, config)
    with self.assertRaisesRegex(ValueError, "describe_at_scale: `keypoints`"):
      elf.describe_at_scale(module, variables, image, k, config)
    with self.assertRaisesRegex(ValueError, "keypoint_scales: `saliency_map`"):
      elf.keypoint_scales(jnp.ones((9, 9)), k)
