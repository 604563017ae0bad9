"""Targets of anchors and regions: who is used, sampled, and how encoded."""

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.systems import rcnn
from vision_jax.systems.rcnn import targets
from vision_jax.systems.rcnn.proposals import Proposals

SETTINGS = rcnn.Settings(box_samples=8, rpn_samples=6)
NAN = float("nan")


def _objects(boxes, labels):
  return targets.Objects(
    jnp.array(boxes, jnp.float32).reshape(-1, 4),
    jnp.array(labels, jnp.int32),
    jnp.array([label > 0 for label in labels], bool),
  )


def test_only_proper_objects_are_used():
  batch = {
    "boxes": [
      [[0, 0, 4, 4], [0, 0, 4, 0], [5, 5, 4, 9], [NAN, 0, 4, 4]],
      [[0, 0, 4, 4]] * 4,
    ],
    "labels": [[1, 1, 1, 1], [0, 3, -1, 2]],
    "objects_valid": [[True] * 4, [True] * 4],
    "crowd": [[0] * 4, [0, 0, 0, 1]],
  }
  batch = {k: np.array(v) for k, v in batch.items()}
  got = targets.usable_objects(batch, 3)
  np.testing.assert_array_equal(
    got.valid, [[True, False, False, False], [False] * 4]
  )
  assert np.isfinite(got.boxes).all()


def test_anchors_that_overlap_an_object_are_positive():
  anchors = jnp.array(
    [[0.0, 0, 4, 4], [0, 0, 4, 5], [50, 50, 54, 54], [60, 60, 64, 64]]
  )
  got = targets.anchor_targets(
    jax.random.key(0),
    anchors,
    _objects([[0, 0, 4, 4], [0, 0, 0, 0]], [1, 0]),
    settings=SETTINGS,
  )
  np.testing.assert_array_equal(got.positive, [True, True, False, False])
  np.testing.assert_array_equal(got.negative, [False, False, True, True])
  np.testing.assert_allclose(got.deltas[1, 3], np.log(4 / 5), rtol=1e-5)
  assert not np.asarray(got.deltas[2:]).any()


def test_pictures_without_objects_give_background():
  anchors = jnp.array([[0.0, 0, 4, 4], [8, 8, 12, 12]])
  proposals = Proposals(anchors, jnp.ones(2), jnp.array([True, False]))
  for objects in (_objects([], []), _objects([[0, 0, 0, 0]], [0])):
    first = targets.anchor_targets(
      jax.random.key(0), anchors, objects, settings=SETTINGS
    )
    assert not bool(first.positive.any())
    assert bool(first.negative.all())
    second = targets.region_targets(
      jax.random.key(0), proposals, objects, settings=SETTINGS
    )
    np.testing.assert_array_equal(second.labels, [0] + [-1] * 7)
    assert np.isfinite(second.deltas).all()


def test_objects_are_regions_too():
  proposals = Proposals(
    jnp.array([[0.0, 0, 10, 10], [40, 40, 50, 50], [0, 0, 0, 0]]),
    jnp.array([0.9, 0.8, 0.0]),
    jnp.array([True, True, False]),
  )
  got = targets.region_targets(
    jax.random.key(1),
    proposals,
    _objects([[0, 0, 10, 9], [20, 20, 30, 30]], [2, 1]),
    settings=SETTINGS,
  )
  # At most a quarter of eight are positive, and of the two objects, the one
  # proposal near the first, two are drawn; one background.
  np.testing.assert_array_equal(got.labels > 0, [True] * 2 + [False] * 6)
  np.testing.assert_array_equal(got.labels[2:], [0] + [-1] * 5)
  assert int(got.row[2]) == 1
  for k in range(2):
    if int(got.row[k]) == 0:
      np.testing.assert_allclose(got.deltas[k, 3], 5 * np.log(0.9), rtol=1e-4)
    else:  # an object itself
      np.testing.assert_allclose(got.deltas[k], 0, atol=1e-6)


def test_unused_pictures_have_no_sample():
  anchors = jnp.array([[0.0, 0, 4, 4]])
  got = targets.anchor_targets(
    jax.random.key(0),
    anchors,
    _objects([[0, 0, 4, 4]], [1]),
    settings=SETTINGS,
    used=jnp.array(False),
  )
  assert not bool((got.positive | got.negative).any())
