"""Predictions of a tiny detector: what they must not depend on, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.systems.rcnn import tiny
from vision_jax.systems import rcnn
from vision_jax.systems.rcnn import detection

SETTINGS = {
  "min_size": 64,
  "max_size": 96,
  "mask_layers": (8,),
  "keypoint_layers": (8,),
  "num_keypoints": 2,
  "box_score": 0.001,
}


@pytest.fixture(scope="module", name="detector")
def _detector():
  module, variables = tiny.make(**SETTINGS)
  head = variables["params"]["roi_heads"]["box_predictor"]
  head["cls_score"] = jax.tree.map(lambda v: v * 0.02, head["cls_score"])
  head["bbox_pred"] = jax.tree.map(lambda v: v * 0.02, head["bbox_pred"])
  return module, variables


def _images():
  rng = np.random.default_rng(0)
  return [
    rng.uniform(size=(*size, 3)).astype(np.float32)
    for size in ((40, 50), (70, 60), (64, 64), (1, 1))
  ]


def test_results_depend_on_the_picture_alone(detector):
  images = _images()
  one = [rcnn.predict(*detector, [image])[0] for image in images]
  together = rcnn.predict(
    *detector, images[::-1], batch_size=3, canvases=[(96, 96)]
  )[::-1]
  for image, a, b in zip(images, one, together, strict=True):
    size = image.shape[:2]
    assert len(a["scores"]) >= 3
    assert set(a) == {
      "boxes", "labels", "scores", "masks", "keypoints", "keypoint_scores",
    }  # fmt: skip
    assert a["masks"].shape == (len(a["scores"]), *size)
    assert a["keypoints"].shape == (len(a["scores"]), 2, 3)
    assert (np.diff(a["scores"]) <= 0).all()
    assert (a["boxes"] >= 0).all()
    assert (a["boxes"] <= [size[1], size[0]] * 2).all()
    assert set(a["labels"]) <= {1, 2, 3}
    for name in a:
      np.testing.assert_allclose(a[name], b[name], atol=2e-3, rtol=1e-3)


def test_candidates_grow_until_the_result_is_exact(detector):
  module, variables = detector
  few = module.clone(
    settings=dataclasses.replace(module.settings, num_candidates=8)
  )
  image = _images()[2]
  batch = np.zeros((1, 64, 64, 3), np.float32)
  batch[0] = rcnn.prepare_image(image, module.settings)
  _, exact = detection._detect(few, variables, batch, np.array([[64, 64]]))
  assert not bool(exact[0])
  (a,) = rcnn.predict(few, variables, [image])
  (b,) = rcnn.predict(module, variables, [image])
  np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-3)


def test_bool_masks_are_the_probabilities_above(detector):
  image = _images()[0]
  (probs,) = rcnn.predict(*detector, [image])
  (masks,) = rcnn.predict(*detector, [image], mask_threshold=0.5)
  assert masks["masks"].dtype == bool
  np.testing.assert_array_equal(masks["masks"], probs["masks"] > 0.5)


def test_networks_that_give_no_number_find_nothing(detector):
  module, variables = detector
  broken = jax.tree.map(lambda v: v * np.nan, variables)
  (found,) = rcnn.predict(module, broken, [_images()[0]])
  assert found["boxes"].shape == (0, 4)
  assert found["scores"].shape == (0,)
  assert found["masks"].shape == (0, 40, 50)
  assert found["keypoints"].shape == (0, 2, 3)


def test_bad_input(detector):
  module, variables = detector
  image = _images()[0]
  assert rcnn.predict(module, variables, []) == []
  with pytest.raises(TypeError, match="divide bytes"):
    rcnn.predict(module, variables, [image, (255 * image).astype(np.uint8)])
  with pytest.raises(ValueError, match="`batch_size` must be >= 1"):
    rcnn.predict(module, variables, [image], batch_size=0)
  with pytest.raises(ValueError, match="multiples of 32, got 40 x 64"):
    rcnn.detect(
      module, variables, jnp.zeros((1, 40, 64, 3)), jnp.array([[40, 64]])
    )


def test_given_proposals():
  module, variables = tiny.make(anchor_sizes=(), box_score=0.0)
  image = _images()[2]
  with pytest.raises(ValueError, match="`proposals` must be given"):
    rcnn.predict(module, variables, [image])
  with pytest.raises(ValueError, match="one array for each of 1"):
    rcnn.predict(module, variables, [image], proposals=[])
  boxes = np.array([[4, 4, 40, 40], [9, 9, 9, 30], [np.nan, 0, 5, 5]])
  none, some = (
    rcnn.predict(module, variables, [image], proposals=[p])[0]
    for p in (np.zeros((0, 4)), boxes)
  )
  assert len(none["scores"]) == 0
  assert 1 <= len(some["scores"]) <= 3  # of the one proper box
