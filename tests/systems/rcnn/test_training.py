"""The losses: they fall, and stay finite whatever the objects are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.systems.rcnn import tiny
from vision_jax import train
from vision_jax.systems import rcnn

HEADS = {"mask_layers": (8,), "keypoint_layers": (8,), "num_keypoints": 2}
POINTS = {
  **HEADS,
  "mask_layers": (),
  "point_layers": (8, 8),
  "coarse_hidden": 16,
}


@pytest.fixture(
  scope="module", name="parts", params=[HEADS, POINTS], ids=["masks", "points"]
)
def _parts(request):
  """A detector, a batch, and its compiled loss."""
  module, variables = tiny.make(**request.param)
  batch = tiny.pictures(2, keypoints=2)
  run = jax.jit(functools.partial(rcnn.loss, module))
  return module, variables, batch, run


def _run(parts, **changes):
  _, variables, batch, run = parts
  terms, _ = run(
    variables["params"],
    variables["batch_stats"],
    {**batch, **changes},
    jax.random.key(0),
  )
  return {name: (float(a), float(b)) for name, (a, b) in terms.items()}


def test_loss_falls_on_eight_pictures():
  module, _ = tiny.make()
  batch = tiny.pictures(8)
  batch = {k: v for k, v in batch.items() if k not in ("masks", "keypoints")}
  variables = jax.jit(module.init)(jax.random.key(0), batch["image"])
  tx = optax.adam(3e-3)
  state = train.create_state(
    variables["params"],
    variables["batch_stats"],
    tx,
    jax.random.key(1),
  )
  step = train.make_step(
    functools.partial(rcnn.loss, module), tx, devices=jax.devices()[:1]
  )
  losses = []
  for _ in range(30):
    state, metrics = step(state, batch)
    losses.append(float(metrics["loss"]))
  assert np.isfinite(losses).all()
  assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_terms_and_counts(parts):
  terms = _run(parts)
  points = bool(parts[0].point_layers)
  assert set(terms) == {
    "objectness", "rpn_box", "classifier", "box", "mask", "keypoint",
  } | ({"mask_point"} if points else set())  # fmt: skip
  assert all(np.isfinite(total) and total > 0 for total, _ in terms.values())
  assert terms["objectness"][1] == terms["rpn_box"][1] <= 64
  assert terms["classifier"][1] == terms["box"][1] <= 32
  assert terms["mask"][1] % (49 if points else 28**2) == 0


@pytest.mark.parametrize(
  "changes",
  [
    {"objects_valid": np.zeros((2, 3), bool)},
    {"boxes": np.full((2, 3, 4), np.nan, np.float32)},
    {"boxes": np.zeros((2, 3, 4), np.float32)},
    {"labels": np.full((2, 3), 99, np.int32)},
    {"labels": np.full((2, 3), -1, np.int32)},
  ],
  ids=["none", "nan", "empty boxes", "beyond", "negative"],
)
def test_without_usable_objects(parts, changes):
  terms = _run(parts, **changes)
  assert all(np.isfinite(total) for total, _ in terms.values())
  assert terms["box"][0] == terms["rpn_box"][0] == 0
  for name in {"mask", "mask_point", "keypoint"} & set(terms):
    assert terms[name] == (0, 0)
  assert terms["classifier"][1] > 0
  assert terms["objectness"][1] > 0


def test_objects_outside_the_picture(parts):
  boxes = parts[2]["boxes"] + np.float32(500)
  assert all(np.isfinite(a) for a, _ in _run(parts, boxes=boxes).values())


def test_rows_that_are_no_picture_do_not_count(parts):
  both = _run(parts)
  one = _run(parts, valid=np.array([True, False]))
  none = _run(parts, valid=np.zeros(2, bool))
  assert none["objectness"] == none["classifier"] == (0, 0)
  assert one["objectness"][1] < both["objectness"][1]


def test_draws_follow_the_number_of_the_picture(parts):
  a = _run(parts, index=np.array([7, 9]))
  swapped = {k: v[::-1] for k, v in parts[2].items()}
  b = _run(parts, **swapped, index=np.array([9, 7]))
  for name, (total, count) in a.items():
    assert count == b[name][1]
    if name in ("objectness", "rpn_box"):
      np.testing.assert_allclose(total, b[name][0], rtol=1e-3)


def test_what_a_detector_needs():
  module, variables = tiny.make(**HEADS)
  batch = {k: v for k, v in tiny.pictures(1).items() if k != "masks"}
  with pytest.raises(ValueError, match=r"`batch` must have .*masks"):
    rcnn.loss(
      module,
      variables["params"],
      variables["batch_stats"],
      batch,
      jax.random.key(0),
    )


def test_check_batch_names_the_object():
  batch = tiny.pictures(2)
  rcnn.check_batch(batch, 4)
  with pytest.raises(ValueError, match=r"got 3 for object 0 of image 0|got 2"):
    rcnn.check_batch(batch, 2)
  batch["boxes"][1, 0] = 9, 9, 9, 12
  with pytest.raises(ValueError, match="object 0 of image 1"):
    rcnn.check_batch(batch, 4)


def test_given_proposals_are_learned_from():
  module, variables = tiny.make(anchor_sizes=(), roi_pool=True)
  batch = tiny.pictures(2)
  batch["proposals"] = np.tile(
    np.array([[2, 2, 30, 30], [30, 30, 60, 60]], np.float32), (2, 1, 1)
  )
  terms, _ = jax.jit(functools.partial(rcnn.loss, module))(
    variables["params"],
    variables["batch_stats"],
    jax.tree.map(jnp.asarray, batch),
    jax.random.key(0),
  )
  assert set(terms) == {"classifier", "box"}
  assert all(np.isfinite(float(a)) and float(b) > 0 for a, b in terms.values())
