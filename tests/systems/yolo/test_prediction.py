"""Letterbox and the public call."""

import warnings
from unittest import mock

import chex
import jax
import numpy as np
from absl.testing import parameterized

from vision_jax import weights
from vision_jax.systems import yolo
from vision_jax.systems.yolo import prediction


def _darknet_resize(image, height, width):
  """resize_image of darknet, in float64."""
  old_h, old_w, _ = image.shape
  x_scale = (old_w - 1) / (width - 1) if width > 1 else 0.0
  y_scale = (old_h - 1) / (height - 1) if height > 1 else 0.0
  result = np.zeros((height, width, image.shape[2]))
  for r in range(height):
    for c in range(width):
      sy, sx = r * y_scale, c * x_scale
      iy, ix = int(sy), int(sx)
      for dy, wy in ((0, 1 - (sy - iy)), (1, sy - iy)):
        for dx, wx in ((0, 1 - (sx - ix)), (1, sx - ix)):
          row, column = min(iy + dy, old_h - 1), min(ix + dx, old_w - 1)
          result[r, c] += wy * wx * image[row, column]
  return result


class LetterboxTest(chex.TestCase):
  @parameterized.parameters(
    ((30, 50), (32, 64)), ((50, 30), (32, 64)), ((7, 9), (32, 32)),
    ((1, 1), (16, 16)), ((3, 100), (32, 32)),
  )  # fmt: skip
  def test_equal_to_darknet(self, old, size):
    image = np.random.default_rng(0).random((*old, 3))
    canvas, placement = yolo.letterbox(image, size)
    height, width = old
    if size[1] / width < size[0] / height:
      new = (height * size[1] // width or 1, size[1])
    else:
      new = (size[0], width * size[0] // height or 1)
    expected = np.full((*size, 3), 0.5)
    top, left = (size[0] - new[0]) // 2, (size[1] - new[1]) // 2
    expected[top : top + new[0], left : left + new[1]] = _darknet_resize(
      image, *new
    )
    self.assertEqual(placement, (old, new, (top, left)))
    self.assertEqual(canvas.dtype, np.float32)
    np.testing.assert_allclose(canvas, expected, atol=1e-5)

  def test_half_pixel_centres_equal_torchs(self):
    from vision_jax import ops

    image = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    canvas, placement = yolo.letterbox(image, (32, 32), align_corners=False)
    expected = ops.resize(image, placement.size)
    top = placement.offset[0]
    np.testing.assert_allclose(
      canvas[top : top + placement.size[0]], expected, atol=1e-6
    )

  def test_boxes_come_back(self):
    rng = np.random.default_rng(0)
    for old in ((30, 50), (51, 33)):
      _, placement = yolo.letterbox(np.zeros((*old, 3)), (64, 64))
      boxes = np.sort(rng.random((5, 2, 2)), 1).reshape(5, 4)
      boxes *= (old * 2)[::-1]
      scale = np.array(placement.size) / old
      on_canvas = boxes * np.tile(scale[::-1], 2)
      on_canvas += np.tile(placement.offset[::-1], 2)
      found = yolo.undo_letterbox(on_canvas, placement)
      np.testing.assert_allclose(found, boxes, atol=1e-4)

  def test_bad_pictures(self):
    with self.assertRaisesRegex(ValueError, "at least one pixel"):
      yolo.letterbox(np.zeros((0, 4, 3)), (32, 32))
    with self.assertRaisesRegex(TypeError, "divide bytes by 255"):
      yolo.letterbox(np.zeros((4, 4, 3), np.uint8), (32, 32))


class PredictTest(chex.TestCase):
  def setUp(self):
    super().setUp()
    self.module = yolo.yolov3(
      3,
      anchors=(((20, 20), (30, 20)), ((9, 9),)),
      num_blocks=(0, 1, 1),
      width=4,
      image_size=(32, 48),
    )
    self.variables = weights.random_variables(self.module)
    rng = np.random.default_rng(0)
    self.images = [
      rng.random((h, w, 3)) for h, w in ((40, 30), (1, 1), (9, 90))
    ]

  def _predict(self, images, **settings):
    return yolo.predict(self.module, self.variables, images, **settings)

  def test_pictures_of_any_size_by_one_program(self):
    decoding = prediction.decoding
    with mock.patch.object(decoding, "detect", wraps=decoding.detect) as traced:
      found = self._predict(self.images, score_threshold=0.11)
    self.assertEqual(traced.call_count, 1)
    self.assertLen(found, 3)
    total = 0
    for result, image in zip(found, self.images, strict=True):
      boxes, scores = result["boxes"], result["scores"]
      self.assertEqual(
        [result[k].dtype for k in ("boxes", "labels", "scores")],
        [np.float32, np.int32, np.float32],
      )
      self.assertTrue((np.diff(scores) <= 0).all() and (scores > 0.11).all())
      self.assertTrue((boxes >= 0).all())
      self.assertTrue((boxes[:, 2:] <= image.shape[1::-1]).all())
      self.assertIn(result["labels"].max(initial=0), (0, 1, 2))
      total += len(boxes)
    self.assertGreater(total, 10)
    # The same, step by step.
    canvas, placement = yolo.letterbox(self.images[0], (32, 48))
    maps, _ = jax.jit(self.module.apply)(self.variables, canvas[None])
    one, _ = yolo.detect(
      [m[0] for m in maps],
      image_size=(32, 48),
      anchors=self.module.anchors,
      score_threshold=0.11,
    )
    count = int(one.valid.sum())
    self.assertLen(found[0]["boxes"], count)
    np.testing.assert_allclose(
      found[0]["boxes"],
      yolo.undo_letterbox(one.boxes[:count], placement),
      atol=1e-3,
    )

  def test_batches_change_nothing(self):
    one = self._predict(self.images, score_threshold=0.1)
    two = self._predict(self.images, score_threshold=0.1, batch_size=2)
    for a, b in zip(one, two, strict=True):
      np.testing.assert_array_equal(a["labels"], b["labels"])
      np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-3)

  def test_nothing_found_and_nothing_asked(self):
    found = self._predict(self.images[:1], score_threshold=0.99999)
    self.assertEqual(found[0]["boxes"].shape, (0, 4))
    self.assertEqual(self._predict([]), [])

  def test_too_many_candidates_warn(self):
    with self.assertWarnsRegex(UserWarning, "weak detections may be missing"):
      self._predict(self.images[:1], max_candidates=5)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      self._predict(self.images[:1], score_threshold=0.1)

  def test_bad_pictures_are_named(self):
    good = self.images[0]
    with self.assertRaisesRegex(ValueError, r"RGB, .* at 1"):
      self._predict([good, good[..., 0]])
    with self.assertRaisesRegex(ValueError, "finite, .* at 1"):
      self._predict([good, good * np.nan])
    with self.assertRaisesRegex(TypeError, "divide bytes"):
      self._predict([(good * 255).astype(np.uint8)])
