"""Pasting and cropping of masks against scalar loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from tests.ops.test_rois import scalar_roi_align
from vision_jax import ops

SIZE = (17, 23)
# Inside, over the borders, outside, thin, larger than the image, empty.
BOXES = np.array(
  [
    [3.3, 2.1, 14.6, 11.8],
    [-5.5, -4.1, 9.3, 8.2],
    [15.4, 9.3, 31.8, 24.6],
    [-30.0, -30.0, -20.0, -20.0],
    [5.0, 5.0, 5.7, 16.0],
    [-10.3, -11.2, 40.1, 31.7],
    [7.5, 7.5, 7.5, 7.5],
  ],
  np.float32,
)


def _masks(cells=(5, 5)):
  rng = np.random.default_rng(0)
  return rng.random((len(BOXES), *cells)).astype(np.float32)


def _bilinear(mask, y, x):
  """Zeros outside."""
  total = 0.0
  for j in range(mask.shape[0]):
    for i in range(mask.shape[1]):
      total += mask[j, i] * max(1 - abs(y - j), 0) * max(1 - abs(x - i), 0)
  return total


def _exact(mask, box):
  x1, y1, x2, y2 = box.astype(np.float64)
  out = np.zeros(SIZE)
  if x2 <= x1 or y2 <= y1:
    return out
  for j in range(SIZE[0]):
    for i in range(SIZE[1]):
      y = (j + 0.5 - y1) / (y2 - y1) * mask.shape[0] - 0.5
      x = (i + 0.5 - x1) / (x2 - x1) * mask.shape[1] - 0.5
      out[j, i] = _bilinear(mask, y, x)
  return out


def _integer(mask, box):
  """Pad, enlarge, truncate, resize, put in."""
  box = box.astype(np.float64)
  m = mask.shape[0]
  padded = np.pad(mask, 1)
  half = (box[2:] - box[:2]) / 2 * (m + 2) / m
  center = (box[2:] + box[:2]) / 2
  x1, y1 = np.trunc(center - half).astype(int)
  x2, y2 = np.trunc(center + half).astype(int)
  wide, tall = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
  out = np.zeros(SIZE)
  for j in range(max(y1, 0), min(y2 + 1, SIZE[0])):
    for i in range(max(x1, 0), min(x2 + 1, SIZE[1])):
      y = np.clip((j - y1 + 0.5) * (m + 2) / tall - 0.5, 0, m + 1)
      x = np.clip((i - x1 + 0.5) * (m + 2) / wide - 0.5, 0, m + 1)
      out[j, i] = _bilinear(padded, y, x)
  return out


class PasteTest(parameterized.TestCase):
  @parameterized.parameters(
    (ops.paste_masks, _exact, (4, 6)),
    (ops.paste_masks_integer, _integer, (5, 5)),
  )
  def test_equals_the_scalar_loop(self, paste, reference, cells):
    masks = _masks(cells)
    expected = np.stack(
      [reference(m, b) for m, b in zip(masks, BOXES, strict=True)]
    )
    got = jax.jit(lambda m, b: paste(m, b, SIZE, batch_size=3))(masks, BOXES)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    for k in (0, 1, 2, 5):
      self.assertGreater(expected[k].max(), 0.3)
    near = np.abs(expected - 0.5) < 1e-4
    chosen = paste(masks, BOXES, SIZE, threshold=0.5)
    self.assertEqual(chosen.dtype, bool)
    np.testing.assert_array_equal(chosen | near, (expected > 0.5) | near)

  @parameterized.parameters(ops.paste_masks, ops.paste_masks_integer)
  def test_derivative_is_the_transpose(self, paste):
    masks = _masks()
    rng = np.random.default_rng(1)
    other = rng.random(masks.shape).astype(np.float32)
    out, pull = jax.vjp(lambda m: paste(m, BOXES, SIZE), masks)
    cotangent = rng.normal(size=out.shape).astype(np.float32)
    np.testing.assert_allclose(
      (pull(cotangent)[0] * other).sum(),
      (cotangent * paste(other, BOXES, SIZE)).sum(),
      rtol=1e-4,
    )

  def test_nothing_and_messages(self):
    none = ops.paste_masks(jnp.zeros((0, 5, 5)), jnp.zeros((0, 4)), SIZE)
    self.assertEqual(none.shape, (0, *SIZE))
    with self.assertRaisesRegex(ValueError, r"`masks` must be \[N, m, m\]"):
      ops.paste_masks(jnp.zeros((2, 5, 5)), jnp.zeros((3, 4)), SIZE)
    with self.assertRaisesRegex(ValueError, "`size` must be"):
      ops.paste_masks(jnp.zeros((1, 5, 5)), jnp.zeros((1, 4)), (0, 3))


class CropTest(parameterized.TestCase):
  @parameterized.product(ratio=(0, 2), aligned=(False, True))
  def test_equals_the_scalar_loop(self, ratio, aligned):
    rng = np.random.default_rng(2)
    masks = rng.random((3, *SIZE)) > 0.5
    index = np.array([0, 2, 1, 1, 0, 2, -1])
    got = ops.crop_masks(
      masks,
      BOXES,
      index,
      (4, 5),
      sampling_ratio=ratio,
      aligned=aligned,
      max_samples=13,
      batch_size=3,
    )
    for r, g in enumerate(index):
      expected = scalar_roi_align(
        masks[g][..., None],
        BOXES[r : r + 1],
        (4, 5),
        scale=1.0,
        sampling_ratio=ratio,
        aligned=aligned,
      )[0, ..., 0]
      np.testing.assert_allclose(got[r], expected * (g >= 0), atol=1e-5)

  def test_round_trip(self):
    # A disc cut out and pasted back is the disc, but for its rim.
    y, x = np.mgrid[:60, :80] + 0.5
    disc = (x - 41.3) ** 2 + (y - 28.7) ** 2 < 20**2
    box = jnp.array([[20.0, 7.0, 63.0, 50.0]])
    crop = ops.crop_masks(
      disc[None], box, jnp.array([0]), (28, 28), aligned=True
    )
    back = ops.paste_masks(crop, box, (60, 80), threshold=0.5)[0]
    both, either = (back & disc).sum(), (back | disc).sum()
    self.assertGreater(both / either, 0.97)

  def test_nothing_and_messages(self):
    none = ops.crop_masks(
      jnp.zeros((0, 5, 5)), jnp.zeros((2, 4)), jnp.zeros(2, int), (3, 4)
    )
    self.assertEqual(none.shape, (2, 3, 4))
    with self.assertRaisesRegex(ValueError, r"`index` \[R\]"):
      ops.crop_masks(
        jnp.zeros((1, 5, 5)), jnp.zeros((2, 4)), jnp.zeros(3, int), (3, 4)
      )


if __name__ == "__main__":
  absltest.main()
