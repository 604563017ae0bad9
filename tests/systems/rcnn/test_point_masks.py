"""PointRend for boxes: where it reads, what counts, what gets a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from tests.systems.rcnn import tiny
from vision_jax import ops
from vision_jax.systems import pointrend, rcnn
from vision_jax.weights import convert

BOXES = jnp.array([[4.0, 6, 30, 40], [10.5, 0.25, 60, 47.5]])
EXTENT = (48, 64)


def _ramp():
  """A map of stride 4 that holds the coordinates of its cells, pixels."""
  y, x = np.mgrid[:12, :16] * 4 + 2.0
  return jnp.asarray(np.stack([x, y], -1), jnp.float32)


def test_cells_are_roi_align_with_one_sample():
  fine = jax.random.normal(jax.random.key(0), (12, 16, 5))
  expected = ops.roi_align(
    jnp.pad(fine, ((1, 1), (1, 1), (0, 0))),  # zeros outside, as points have
    BOXES + 4,
    (14, 14),
    scale=1 / 4,
    sampling_ratio=1,
    aligned=True,
  )
  found = pointrend.coarse_cells(fine, BOXES, EXTENT)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def _refined(head, coarse, **settings):
  """Masks of classes 0 and 2 of the two boxes, on the ramp."""
  return pointrend.refine_masks(
    head, _ramp(), coarse, BOXES, jnp.array([0, 2]), EXTENT, **settings
  )


def test_every_cell_reads_its_own_place():
  """On a ramp, the head of which is x: pixels of the box, at every step."""
  logits = _refined(
    lambda fine, coarse, label: fine[:, :1] + 0 * coarse[:, :1],
    jnp.zeros((2, 7, 7, 3)),
    side=56,
    num_points=56 * 56,
  )
  for mask, box in zip(np.asarray(logits), np.asarray(BOXES), strict=True):
    x = box[0] + (np.arange(56) + 0.5) / 56 * (box[2] - box[0])
    y = box[1] + (np.arange(56) + 0.5) / 56 * (box[3] - box[1])
    inner = (y >= 2) & (y <= 46)  # behind the last centre maps fade
    inside = (x >= 2) & (x <= 62)
    expected = np.broadcast_to(x, (56, 56))
    where = np.ix_(inner, inside)
    np.testing.assert_allclose(mask[where], expected[where], atol=1e-3)


def test_the_class_of_each_box_decides():
  coarse = jnp.stack([jnp.full((7, 7), v) for v in (-3.0, 0.5, 4.0)], -1)
  refine = functools.partial(
    pointrend.refine_masks,
    lambda fine, coarse, label: jnp.take(coarse, label[None], axis=-1),
    _ramp(),
    jnp.stack([coarse, coarse]),
    BOXES,
    extent=EXTENT,
    side=28,
    num_points=49,
  )
  logits = refine(jnp.array([0, 2]))
  middle = np.asarray(logits[:, 8:20, 8:20])
  np.testing.assert_allclose(middle[0], -3, atol=1e-5)
  np.testing.assert_allclose(middle[1], 4, atol=1e-5)


def _losses(
  coarse,
  fine,
  boxes=BOXES,
  match=(0, 1),
  masks=None,
  points=40,
  padding="zeros",
):
  if masks is None:
    masks = jnp.ones((2, *EXTENT))
  return pointrend.mask_losses(
    jax.random.key(3),
    lambda fine, coarse, label: coarse[:, :1] + 0.01 * fine[:, :1],
    fine,
    coarse,
    boxes,
    jnp.array([0, 1]),
    jnp.array(match),
    masks,
    num_points=points,
    padding=padding,
  )


def test_losses_by_hand():
  """Logits of 0 cost log 2 each; regions without an object nothing."""
  terms = _losses(jnp.zeros((2, 7, 7, 3)), 0 * _ramp(), match=(0, -1))
  np.testing.assert_allclose(terms["mask"][0], 49 * np.log(2), rtol=1e-5)
  np.testing.assert_allclose(terms["mask_point"][0], 40 * np.log(2), rtol=1e-5)
  assert (int(terms["mask"][1]), int(terms["mask_point"][1])) == (49, 40)
  none = _losses(jnp.zeros((2, 7, 7, 3)), _ramp(), match=(-1, -1))
  assert [float(v) for pair in none.values() for v in pair] == [0] * 4


def test_points_know_the_mask():
  """The right half: logits of its sign, by class, cost least."""
  masks = jnp.zeros((2, *EXTENT)).at[:, :, 32:].set(1.0)
  box = jnp.array([[16.0, 8, 48, 40]] * 2)
  side = jnp.where(jnp.arange(7) < 3, -9.0, jnp.where(jnp.arange(7) > 3, 9, 0))
  right = jnp.broadcast_to(side[None, None, :, None], (2, 7, 7, 3))
  losses = [
    _losses(sign * right, 0 * _ramp(), box, masks=masks) for sign in (1, -1)
  ]
  for name in ("mask", "mask_point"):
    good, bad = (float(t[name][0] / t[name][1]) for t in losses)
    assert good < 0.25
    assert bad > 3


def test_gradients_reach_features_and_not_boxes():
  def total(coarse, fine, boxes):
    return sum(s for s, _ in _losses(coarse, fine, boxes).values())

  coarse = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
  of_coarse, of_fine, of_boxes = jax.grad(total, (0, 1, 2))(
    coarse, _ramp() / 64, BOXES
  )
  assert np.abs(of_coarse).max() > 0
  assert np.abs(of_fine).max() > 0
  assert not np.abs(of_boxes).any()


@pytest.mark.parametrize("padding", ["zeros", "edge"])
def test_gradients_are_those_of_finite_differences(padding):
  """Of the terms with respect to coarse logits and features, float64."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    coarse = jnp.asarray(rng.normal(size=(2, 7, 7, 3)))
    fine = jnp.asarray(rng.normal(size=(12, 16, 2)))
    masks = jnp.asarray(rng.uniform(size=(2, *EXTENT)) < 0.5)

    def total(coarse, fine):
      terms = _losses(
        coarse, fine, jnp.asarray(BOXES, float), masks=masks, padding=padding
      )
      assert terms["mask_point"][0].dtype == jnp.float64
      return sum(value for value, _ in terms.values())

    test_util.check_grads(
      total, (coarse, fine), order=1, modes=("rev",), rtol=1e-5, atol=1e-6
    )


def test_padding_decides_what_is_read_behind_the_border():
  """Masks that fill their box: with zeros logits fall off, with edge not."""
  coarse = jnp.full((2, 7, 7, 3), 4.0)
  results = {}
  for padding in ("zeros", "edge"):
    results[padding] = _refined(
      lambda fine, coarse, label: coarse[:, :1],
      coarse,
      side=28,
      num_points=784,
      padding=padding,
    )
  np.testing.assert_allclose(results["edge"], 4, rtol=1e-6)
  # 3/8 of a coarse cell behind the last centre, on both axes.
  np.testing.assert_allclose(
    results["zeros"][:, 0, 0], 4 * (5 / 8) ** 2, rtol=1e-5
  )


def test_threshold_leaves_what_is_certain():
  coarse = jnp.full((2, 7, 7, 3), 4.0).at[:, :, :3].set(-0.1)
  logits = _refined(
    lambda fine, coarse, label: jnp.full((len(fine), 1), 9.0),
    coarse,
    side=14,
    num_points=196,
    threshold=1.0,
  )
  columns = np.asarray(logits[0, 5])
  np.testing.assert_allclose(columns[:5], 9)  # |-0.1| is below the threshold
  np.testing.assert_allclose(columns[8:], 4)


HEADS = {"point_layers": (8, 8), "coarse_hidden": 16, "mask_side": 56}


@pytest.fixture(scope="module", name="detector")
def _detector():
  return tiny.make(**HEADS, mask_points=100)


@functools.cache
def _moved():
  """A detector that moves boxes by a tenth of their width for each class."""
  module, variables = tiny.make(**HEADS)
  predictor = variables["params"]["roi_heads"]["box_predictor"]["bbox_pred"]
  predictor["kernel"] = 0 * predictor["kernel"]
  shift = np.zeros((4, 4), np.float32)
  shift[:, 0] = np.arange(4)  # divided by the weight of 10
  predictor["bias"] = jnp.asarray(shift.reshape(-1))
  batch = tiny.pictures(2)
  batch["proposals"] = np.zeros((2, 1, 4), np.float32)  # objects alone
  batch["proposals_valid"] = np.zeros((2, 1), bool)
  return module, variables, batch


def _terms(module, variables, batch, params):
  terms, _ = rcnn.loss(
    module,
    params,
    variables["batch_stats"],
    batch,
    jax.random.key(0),
    train=False,
  )
  return terms


def test_masks_are_of_the_boxes_predicted_for_the_class():
  module, variables, batch = _moved()
  terms = jax.jit(functools.partial(_terms, module, variables, batch))(
    variables["params"]
  )
  total, count = 0.0, 0
  net = module.bind(variables)
  mean, std = (
    np.float32(v) for v in (module.settings.mean, module.settings.std)
  )
  maps = net.features((batch["image"] - mean) / std)
  for k in range(2):
    valid = batch["objects_valid"][k]
    boxes, labels = batch["boxes"][k][valid], batch["labels"][k][valid]
    moved = boxes.copy()
    moved[:, ::2] += (0.1 * labels * (boxes[:, 2] - boxes[:, 0]))[:, None]
    cells = pointrend.coarse_cells(maps[0][k], jnp.asarray(moved), (64, 64))
    found = pointrend.mask_losses(
      jax.random.key(1),
      net.point_function(),
      maps[0][k],
      net.coarse_masks(cells[None])[0],
      jnp.asarray(moved),
      jnp.asarray(labels - 1),
      jnp.arange(len(boxes)),
      jnp.asarray(batch["masks"][k][valid]),
    )
    total += float(found["mask"][0])
    count += int(found["mask"][1])
  assert int(terms["mask"][1]) == count
  np.testing.assert_allclose(terms["mask"][0], total, rtol=1e-4)


def test_gradients_reach_the_heads_and_not_the_predicted_boxes():
  module, variables, batch = _moved()

  def total(params):
    terms = _terms(module, variables, batch, params)
    return terms["mask"][0] + terms["mask_point"][0]

  slopes = jax.jit(jax.grad(total))(variables["params"])

  def largest(tree):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))

  heads = slopes["roi_heads"]
  for part in ("coarse_head", "point_head"):
    assert largest(heads["mask_head"][part]) > 0
  assert largest(slopes["backbone"]) > 0
  assert largest(heads["box_predictor"]) == 0


def test_no_objects_at_all():
  terms = pointrend.mask_losses(
    jax.random.key(0),
    lambda fine, coarse, label: coarse[:, :1],
    _ramp(),
    jnp.zeros((2, 7, 7, 3)),
    BOXES,
    jnp.array([0, 0]),
    jnp.array([-1, -1]),
    jnp.zeros((0, *EXTENT)),
  )
  assert [float(v) for pair in terms.values() for v in pair] == [0] * 4
  with pytest.raises(ValueError, match=r"mask_losses: `masks` must be"):
    _losses(jnp.zeros((2, 7, 7, 3)), _ramp(), masks=jnp.ones(EXTENT))


def test_half_precision_is_ranked_in_float32():
  """Enlarged in bfloat16 many cells would be as uncertain as each other."""
  rng = np.random.default_rng(0)
  coarse = jnp.asarray(rng.normal(size=(2, 7, 7, 3)), jnp.bfloat16)

  def written(coarse):
    logits = _refined(
      lambda fine, coarse, label: jnp.full((len(fine), 1), 99.0),
      coarse,
      side=14,
      num_points=49,
    )
    assert logits.dtype == jnp.float32
    return np.asarray(logits) == 99

  wide = written(coarse.astype(jnp.float32))
  assert wide.sum() == 2 * 49
  np.testing.assert_array_equal(written(coarse), wide)
  small = ops.resize(coarse[..., :1], (14, 14)).reshape(2, -1)
  assert len(np.unique(small[0])) < 180  # of 196: there are ties


def test_nothing_found():
  module, variables = tiny.make(**HEADS, box_score=1.0)
  image = np.zeros((40, 64, 3), np.float32)
  (found,) = rcnn.predict(module, variables, [image])
  assert found["masks"].shape == (0, 40, 64)


def test_bad_heads():
  with pytest.raises(ValueError, match="`point_layers` must be of one width"):
    tiny.make(point_layers=(8, 4))


def test_detector_loss(detector):
  module, variables = detector
  batch = tiny.pictures(2)
  terms, _ = jax.jit(functools.partial(rcnn.loss, module))(
    variables["params"], variables["batch_stats"], batch, jax.random.key(0)
  )
  cells, points = terms["mask"][1], terms["mask_point"][1]
  assert cells > 0
  assert points == cells // 49 * module.settings.mask_points_train
  assert np.isfinite([float(s) for s, _ in terms.values()]).all()
  del batch["masks"]
  with pytest.raises(ValueError, match=r"`batch` must have image, .*masks"):
    rcnn.loss(module, variables["params"], {}, batch, jax.random.key(0))


def test_masks_depend_on_the_picture_alone(detector):
  module, variables = detector
  # Random last layers throw all boxes out of the picture, of one class.
  variables = jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      0.01 * leaf
      if any(name in str(path) for name in ("bbox_pred", "cls_"))
      else leaf
    ),
    variables,
  )
  image = np.random.default_rng(0).uniform(size=(50, 64, 3)).astype("f4")
  results = [
    rcnn.predict(module, variables, [image], canvases=[canvas])[0]
    for canvas in ((64, 64), (128, 96))
  ]
  assert len(results[0]["scores"]) >= 3
  assert results[0]["masks"].shape == (len(results[0]["scores"]), 50, 64)
  np.testing.assert_allclose(
    results[0]["masks"], results[1]["masks"], atol=2e-3, rtol=1e-3
  )


def test_published_counts():
  """Of the heads for COCO: specs of the release."""
  module = rcnn.pointrend_rcnn_r50_fpn()
  heads = convert.target_tree(module)["params"]["roi_heads"]["mask_head"]
  count = {
    name: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for name, tree in heads.items()
  }
  assert count["point_head"] == 285_776
  fc = 49 * 256 * 1024 + 1024 * 1024 + 1024 * 3920 + 1024 * 2 + 3920
  assert count["coarse_head"] == 4 * 256 * 256 + 256 + fc
