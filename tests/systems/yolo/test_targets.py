import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from tests.systems.yolo import reference
from vision_jax.systems import yolo

SIZE = (64, 96)
GRIDS = ((2, 3), (4, 6))
ANCHORS = (((40, 36), (60, 50)), ((10, 12), (20, 16)))

_assign = jax.jit(
  functools.partial(
    yolo.assign_objects,
    image_size=SIZE,
    grids=GRIDS,
    anchors=ANCHORS,
    num_classes=4,
  )
)


class AssignTest(chex.TestCase):
  def test_equal_to_the_loops_of_darknet(self):
    assigned = 0
    for seed in range(6):
      rng = np.random.default_rng(seed)
      boxes, labels = reference.scene(rng, size=SIZE, count=6, classes=4)
      zeros = [np.zeros((*g, 2, 9)) for g in GRIDS]
      truths = reference.shares(boxes, SIZE)
      # At zero maps, every delta is a target minus 0 or 1/2.
      expected = reference.deltas(zeros, truths, labels, SIZE, ANCHORS, 2.0)
      found = _assign(jnp.asarray(boxes, jnp.float32), labels, np.ones(6, bool))
      for targets, delta in zip(found, expected, strict=True):
        positive = delta[..., 4] > 0
        np.testing.assert_array_equal(targets.positive, positive)
        weight = np.asarray(targets.weights, np.float64)[..., None]
        shift = np.array([0.5, 0.5, 0, 0])
        np.testing.assert_allclose(
          ((np.asarray(targets.boxes) - shift) * weight)[positive],
          delta[..., :4][positive],
          atol=2e-5,
        )
        np.testing.assert_allclose(
          np.asarray(targets.classes)[positive] - 0.5, delta[..., 5:][positive]
        )
        self.assertFalse(np.any(np.asarray(targets.boxes)[~positive]))
        self.assertFalse(np.any(np.asarray(targets.classes)[~positive]))
        assigned += positive.sum()
    self.assertGreater(assigned, 20)

  def test_further_anchors_that_fit(self):
    # Overlaps of the sides with (40, 36): 1, 0.48; (10, 12): 0.083; (20, 16):
    # 0.22; the second box fits (10, 12) and comes later.
    boxes = jnp.array([[10.0, 10, 50, 46], [25, 22, 35, 34]])
    found = yolo.assign_objects(
      boxes,
      jnp.array([1, 2]),
      jnp.array([True, True]),
      image_size=SIZE,
      grids=GRIDS,
      anchors=ANCHORS,
      num_classes=4,
      match_threshold=0.2,
    )
    positive = [np.argwhere(np.asarray(t.positive)).tolist() for t in found]
    self.assertEqual(positive[0], [[0, 0, 0], [0, 0, 1]])
    # The second object is near (20, 16) too, overlap 0.375, and comes later.
    self.assertEqual(positive[1], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_allclose(
      found[0].boxes[0, 0, 1, 2:], np.log([40 / 60, 36 / 50]), rtol=1e-5
    )
    np.testing.assert_allclose(
      found[1].boxes[1, 1, 1, 2:], np.log([10 / 20, 12 / 16]), rtol=1e-5
    )
    np.testing.assert_array_equal(found[1].classes[1, 1, 1], [0, 1, 1, 0])
    # The best anchor of an object is not taken by a near one of a later.
    swapped = yolo.assign_objects(
      jnp.array([[20.0, 22, 40, 38], [25, 22, 35, 34]]),
      jnp.array([1, 2]),
      jnp.array([True, True]),
      image_size=SIZE,
      grids=GRIDS,
      anchors=ANCHORS,
      num_classes=4,
      match_threshold=0.2,
    )[1]
    np.testing.assert_allclose(
      swapped.boxes[1, 1, 1, 2:], np.zeros(2), atol=1e-6
    )

  def test_the_later_box_and_both_classes(self):
    boxes = jnp.array([[30.0, 10, 50, 26], [31, 10, 51, 26]])
    found = _assign(boxes, jnp.array([2, 0]), jnp.array([True, True]))[1]
    self.assertEqual(int(found.positive.sum()), 1)
    np.testing.assert_allclose(found.boxes[1, 2, 1, 0], 41 / 16 - 2, rtol=1e-6)
    np.testing.assert_array_equal(found.classes[1, 2, 1], [1, 0, 1, 0])

  def test_left_out(self):
    boxes = jnp.array(
      [
        [10.0, 10, 10, 30],  # no area
        [90, 10, 110, 30],  # middle beside the image
        [-20, 10, 10, 30],
        [10, 10, 30, 30],  # no such class
        [10, 10, 30, 30],
        [10, 10, 30, 30],  # padding
        [np.nan, 10, 30, 30],
      ]
    )
    labels = jnp.array([0, 0, 0, 4, -1, 0, 0])
    valid = jnp.array([True] * 5 + [False, True])
    for targets in _assign(boxes, labels, valid):
      self.assertFalse(targets.positive.any())
      chex.assert_tree_all_finite(targets)
    for targets in _assign(boxes[:0], labels[:0], valid[:0]):
      self.assertFalse(targets.positive.any())

  def test_an_anchor_of_two_heads(self):
    # As in the first YOLOv3-tiny: both heads answer.
    found = yolo.assign_objects(
      jnp.array([[10.0, 10, 30, 30]]),
      jnp.array([0]),
      jnp.array([True]),
      image_size=(64, 64),
      grids=[(2, 2), (4, 4)],
      anchors=[[(20, 20), (50, 50)], [(9, 9), (20, 20)]],
      num_classes=1,
    )
    self.assertTrue(found[0].positive[0, 0, 0])
    self.assertTrue(found[1].positive[1, 1, 1])


class GridTargetsTest(chex.TestCase):
  def test_the_lecture(self):
    # Two objects on 3 x 3 cells of 20 x 30 pixels.
    boxes = jnp.array([[5.0, 6, 55, 12], [62, 30, 82, 55]])
    found = yolo.grid_targets(
      boxes, jnp.array([2, 0]), jnp.array([True, True]), image_size=(60, 90)
    )
    expected = np.zeros((3, 3, 8))
    expected[0, 1] = [1, 0.0, 9 / 20, 50 / 30, 6 / 20, 0, 0, 1]
    expected[2, 2] = [1, 12 / 30, 2.5 / 20, 20 / 30, 25 / 20, 1, 0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)

  def test_with_anchors(self):
    boxes = jnp.array([[30.0, 20, 60, 40], [40, 0, 50, 60], [0, 0, 0, 0]])
    found = yolo.grid_targets(
      boxes,
      jnp.array([1, 0, 0]),
      jnp.array([True, True, False]),
      image_size=(60, 90),
      num_classes=2,
      anchors=[(10.0, 50.0), (40.0, 20.0)],
    )
    self.assertEqual(found.shape, (3, 3, 2, 7))
    self.assertEqual(float(found[..., 0].sum()), 2)
    np.testing.assert_allclose(found[1, 1, 1], [1, 0.5, 0.5, 1, 1, 0, 1],
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(
      found[1, 1, 0], [1, 0.5, 0.5, 1 / 3, 3, 1, 0], atol=1e-5
    )
