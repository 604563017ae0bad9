"""Detection operators against torch and torchvision, on the same numbers.

torchvision's plain-Python RoIAlign, which stands in where its compiled
operators do not load, does not zero samples far outside of the map; boxes here
lie inside. Outside boxes are compared with a scalar loop in tests/ops.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.ops.test_box_suppression import scene
from tests.ops.test_boxes import random_boxes
from tests.parity.torchvision_shim import torchvision
from vision_jax import ops

F = torch.nn.functional
TV = torchvision.ops


def _t(x):
  return torch.from_numpy(np.array(x))


def _first(x):
  """[..., H, W, C] as [..., C, H, W]."""
  return _t(np.moveaxis(np.asarray(x), -1, -3).copy())


def _inside(rng, count, size, least=4.0):
  """Boxes inside an image of `size` (height, width)."""
  limit = np.array([size[1], size[0]])
  sides = np.exp(rng.uniform(np.log(least), np.log(limit * 0.9), (count, 2)))
  corner = rng.random((count, 2)) * (limit - sides)
  return np.concatenate([corner, corner + sides], -1).astype(np.float32)


@pytest.mark.parametrize(
  ("ours", "theirs"),
  [
    (ops.box_iou, TV.box_iou),
    (ops.generalized_box_iou, TV.generalized_box_iou),
    (ops.distance_box_iou, TV.distance_box_iou),
    (ops.complete_box_iou, TV.complete_box_iou),
  ],
)
def test_overlaps(ours, theirs):
  rng = np.random.default_rng(0)
  a, b = random_boxes(rng, 40), random_boxes(rng, 30)
  expected = theirs(_t(a), _t(b)).numpy()
  assert (expected > 0.1).sum() > 20
  np.testing.assert_allclose(ours(a, b), expected, atol=2e-6)


@pytest.mark.parametrize("weights", [(1.0, 1, 1, 1), (10.0, 10, 5, 5)])
def test_offsets_and_clipping(weights):
  rng = np.random.default_rng(1)
  a, b = random_boxes(rng, 50), random_boxes(rng, 50)
  from torchvision.models.detection import _utils

  coder = _utils.BoxCoder(weights)
  expected = coder.encode_single(_t(a), _t(b)).numpy()
  got = ops.encode_boxes(a, b, weights=weights)
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
  deltas = rng.normal(size=(50, 12)).astype(np.float32) * 3
  deltas[:5, 2:4] = 100  # the limit from above
  expected = coder.decode_single(_t(deltas), _t(b)).numpy()
  got = ops.decode_boxes(
    deltas.reshape(50, 3, 4), b[:, None], weights=weights
  ).reshape(50, 12)
  np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-3)
  clipped = TV.clip_boxes_to_image(_t(expected.reshape(50, 3, 4)), (30, 50))
  np.testing.assert_array_equal(
    ops.clip_boxes(expected.reshape(50, 3, 4), (30, 50)), clipped.numpy()
  )


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_suppression(threshold):
  rng = np.random.default_rng(2)
  for _ in range(5):
    boxes, _, _, labels = scene(rng, 200)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
    labels = labels[: len(boxes)]
    # The reference leaves ties open: no two scores are equal.
    scores = rng.permutation(len(boxes)).astype(np.float32)
    expected = TV.nms(_t(boxes), _t(scores), threshold).numpy()
    index, valid = ops.nms(
      boxes, scores, iou_threshold=threshold, max_outputs=len(boxes)
    )
    np.testing.assert_array_equal(index[valid], expected)
    shifted = boxes + labels[:, None].astype(np.float32) * 1024
    expected = TV.nms(_t(shifted), _t(scores), threshold).numpy()
    index, valid = ops.nms(
      boxes,
      scores,
      labels=labels,
      iou_threshold=threshold,
      max_outputs=len(boxes),
    )
    np.testing.assert_array_equal(index[valid], expected)


@pytest.mark.parametrize("size", [(800, 1088), (1216, 800)])
def test_anchors_of_a_pyramid_are_bit_equal(size):
  from torchvision.models.detection import anchor_utils, image_list

  sizes = ((32,), (64,), (128,), (256,), (512,))
  ratios = (0.5, 1.0, 2.0)
  maps = [(size[0] // s, size[1] // s) for s in (4, 8, 16, 32)]
  maps.append(tuple(-(-n // 2) for n in maps[-1]))
  generator = anchor_utils.AnchorGenerator(sizes, (ratios,) * 5)
  images = image_list.ImageList(torch.zeros(1, 3, *size), [size])
  expected = generator(images, [torch.zeros(1, 1, *m) for m in maps])[0]
  got = jnp.concatenate(
    [
      ops.grid_anchors(
        ops.cell_anchors(s, ratios), m, (size[0] // m[0], size[1] // m[1])
      )
      for s, m in zip(sizes, maps, strict=True)
    ]
  )
  np.testing.assert_array_equal(got, expected.numpy())
  several = anchor_utils.AnchorGenerator(((33, 70, 130),), ((0.4, 1.0, 2.5),))
  expected = several.cell_anchors[0].numpy()
  got = ops.cell_anchors((33, 70, 130), (0.4, 1.0, 2.5))
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
  ("high", "low", "allow"), [(0.7, 0.3, True), (0.5, 0.5, False)]
)
def test_matcher(high, low, allow):
  from torchvision.models.detection import _utils

  rng = np.random.default_rng(3)
  matcher = _utils.Matcher(high, low, allow_low_quality_matches=allow)
  truth = _inside(rng, 6, (200, 300), 20.0)
  cell = ops.cell_anchors((32, 64), (0.5, 1.0, 2.0))
  anchors = ops.grid_anchors(cell, (13, 19), (16, 16))
  iou = ops.box_iou(truth, anchors)
  assert float(iou.max(1).min()) > 0
  expected = matcher(_t(iou)).numpy()
  assert len(np.unique(expected)) > 3
  got = ops.match_boxes(iou, low=low, high=high, allow_low_quality=allow)
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, 0])
def test_roi_align(ratio, aligned):
  rng = np.random.default_rng(4)
  features = rng.normal(size=(25, 34, 8)).astype(np.float32)
  boxes = _inside(rng, 20, (400, 544), 20.0)
  cotangent = rng.normal(size=(20, 7, 5, 8)).astype(np.float32)
  maps = _first(features[None]).requires_grad_()
  theirs = TV.roi_align(maps, [_t(boxes)], (7, 5), 1 / 16, ratio or -1, aligned)
  theirs.backward(_first(cotangent))
  for method in ("gather", "matmul"):

    def run(features, method=method):
      return ops.roi_align(
        features,
        boxes,
        (7, 5),
        scale=1 / 16,
        sampling_ratio=ratio,
        aligned=aligned,
        method=method,
      )

    got, pull = jax.vjp(run, jnp.asarray(features))
    np.testing.assert_allclose(
      np.moveaxis(got, -1, 1), theirs.detach().numpy(), atol=1e-5
    )
    np.testing.assert_allclose(
      np.moveaxis(pull(cotangent)[0], -1, 0),
      maps.grad[0].numpy(),
      atol=2e-5,
    )


def test_roi_align_of_a_pyramid():
  rng = np.random.default_rng(5)
  size = (800, 1088)
  scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
  maps = [
    rng.normal(size=(int(size[0] * s), int(size[1] * s), 3)).astype(np.float32)
    for s in scales
  ]
  boxes = _inside(rng, 60, size)
  pooler = TV.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
  expected = pooler(
    {str(k): _first(m[None]) for k, m in enumerate(maps)}, [_t(boxes)], [size]
  ).numpy()
  levels = ops.roi_levels(boxes, lowest=2, highest=5)
  assert len(np.unique(levels)) == 4
  got = ops.multilevel_roi_align(maps, boxes, (7, 7), scales=scales)
  np.testing.assert_allclose(np.moveaxis(got, -1, 1), expected, atol=1e-4)


def test_levels_around_their_borders():
  from torchvision.ops import poolers

  mapper = poolers.LevelMapper(2, 5)
  sides = np.array([112.0, 224, 448], np.float32)
  lines = [sides]
  for far in (1, 2, 4, 8, 16, 64):
    for sign in (-1, 1):
      lines.append(sides * np.float32(1 + sign * far * 2.0**-23))
  side = np.concatenate(lines)
  boxes = np.zeros((len(side), 4), np.float32)
  boxes[:, 2] = boxes[:, 3] = side
  expected = mapper([_t(boxes)]).numpy()
  got = ops.roi_levels(boxes, lowest=2, highest=5)
  np.testing.assert_array_equal(np.asarray(got) - 2, expected)


def test_paste():
  from torchvision.models.detection import roi_heads

  rng = np.random.default_rng(6)
  size = (60, 90)
  boxes = random_boxes(rng, 12, side=50.0, low=0.0, high=55.0)
  boxes[::2] -= boxes[::2, 2:].repeat(2, 1)[:, [0, 2, 0, 2]] / 3
  masks = rng.random((12, 28, 28)).astype(np.float32)
  expected = roi_heads.paste_masks_in_image(
    _t(masks)[:, None], _t(boxes), size, 1
  )[:, 0].numpy()
  got = ops.paste_masks_integer(masks, boxes, size)
  np.testing.assert_allclose(got, expected, atol=5e-6)
  # Exact, as Detectron2: a grid of pixel centres.
  y, x = torch.meshgrid(
    torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij"
  )
  low, side = _t(boxes[:, :2]), _t(boxes[:, 2:] - boxes[:, :2])
  grid = torch.stack([x, y], -1)[None] - low[:, None, None]
  grid = grid / side[:, None, None] * 2 - 1
  expected = F.grid_sample(_t(masks)[:, None], grid, align_corners=False)
  got = ops.paste_masks(masks, boxes, size)
  np.testing.assert_allclose(got, expected[:, 0].numpy(), atol=5e-6)


def test_mask_targets():
  from torchvision.models.detection import roi_heads

  rng = np.random.default_rng(7)
  masks = (rng.random((3, 60, 90)) > 0.5).astype(np.uint8)
  boxes = _inside(rng, 10, (60, 90))
  index = rng.integers(0, 3, 10)
  expected = roi_heads.project_masks_on_boxes(
    _t(masks), _t(boxes), _t(index), 28
  ).numpy()
  got = ops.crop_masks(masks, boxes, index, (28, 28))
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_keypoints():
  from torchvision.models.detection import roi_heads

  rng = np.random.default_rng(8)
  boxes = _inside(rng, 8, (300, 400), 3.0)
  points = rng.uniform(0, 1, (8, 17, 2)) * 1.2 - 0.1
  points = points * (boxes[:, None, 2:] - boxes[:, None, :2])
  points = (points + boxes[:, None, :2]).astype(np.float32)
  visible = rng.random((8, 17)) > 0.2
  points[0, 0] = boxes[0, 2:]
  both = np.concatenate([points, visible[..., None]], -1).astype(np.float32)
  cells, valid = roi_heads.keypoints_to_heatmap(_t(both), _t(boxes), 56)
  got, got_valid = ops.encode_roi_keypoints(
    points, boxes, (56, 56), visible=visible
  )
  assert 50 < valid.sum() < 130
  np.testing.assert_array_equal(got_valid, valid.numpy().astype(bool))
  np.testing.assert_array_equal(got, cells.numpy())
  heatmaps = rng.normal(size=(8, 56, 56, 17)).astype(np.float32)
  xy, scores = roi_heads.heatmaps_to_keypoints(_first(heatmaps), _t(boxes))
  got_xy, got_scores = ops.decode_roi_keypoints(heatmaps, boxes)
  np.testing.assert_allclose(got_xy, xy[..., :2].numpy(), atol=1e-4)
  np.testing.assert_allclose(got_scores, scores.numpy(), atol=1e-4)


def test_losses():
  rng = np.random.default_rng(9)
  x = rng.normal(size=(6, 5)).astype(np.float32) * 4
  t = rng.random((6, 5)).astype(np.float32)
  hard = (t > 0.5).astype(np.float32)
  labels = rng.integers(0, 5, 6)
  a, b = random_boxes(rng, 30), random_boxes(rng, 30)
  none = dict(reduction="none")
  pairs = [
    (
      ops.smooth_l1(x - t, beta=1 / 9),
      F.smooth_l1_loss(_t(x), _t(t), beta=1 / 9, **none),
    ),
    (
      ops.huber(x - t, delta=2.0),
      F.huber_loss(_t(x), _t(t), delta=2.0, **none),
    ),
    (
      ops.binary_cross_entropy(x, t),
      F.binary_cross_entropy_with_logits(_t(x), _t(t), **none),
    ),
    (
      ops.softmax_cross_entropy(x, labels),
      F.cross_entropy(_t(x), _t(labels), **none),
    ),
    (ops.focal_loss(x, hard), TV.sigmoid_focal_loss(_t(x), _t(hard))),
    (
      ops.generalized_iou_loss(a, b),
      TV.generalized_box_iou_loss(_t(a), _t(b)),
    ),
    (ops.distance_iou_loss(a, b), TV.distance_box_iou_loss(_t(a), _t(b))),
    (ops.complete_iou_loss(a, b), TV.complete_box_iou_loss(_t(a), _t(b))),
  ]
  for ours, theirs in pairs:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_slope_of_the_complete_loss():
  # Its factor alpha is a constant for the derivative.
  rng = np.random.default_rng(10)
  a, b = random_boxes(rng, 30), random_boxes(rng, 30)
  leaf = _t(a).requires_grad_()
  TV.complete_box_iou_loss(leaf, _t(b)).sum().backward()
  slope = jax.grad(lambda a: ops.complete_iou_loss(a, b).sum())(a)
  np.testing.assert_allclose(slope, leaf.grad.numpy(), atol=1e-5)
