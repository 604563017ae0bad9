"""Detectors against torchvision's, on the same random weights."""

import numpy as np
import pytest
import torch

from tests.parity import torch_detectron2_rcnn
from tests.parity.rcnn_models import blocks_image, build, decided_image
from vision_jax import weights
from vision_jax.systems import rcnn

pytestmark = pytest.mark.skip(
  reason="in work: pictures on which near-ties decide are not all left out"
)

SIZES = ((100, 150), (150, 100), (128, 128), (90, 160), (333, 500))


def _torch(net, image):
  with torch.no_grad():
    (found,) = net([torch.from_numpy(image.transpose(2, 0, 1).copy())])
  return {k: v.numpy() for k, v in found.items()}


def _matched(found, expected):
  """Order of ours that gives theirs: same class, nearest box, one to one."""
  assert len(found["scores"]) == len(expected["scores"])
  order = []
  for box, label in zip(expected["boxes"], expected["labels"], strict=True):
    distance = np.abs(found["boxes"] - box).max(1)
    distance[found["labels"] != label] = np.inf
    order.append(int(distance.argmin()))
  assert len(set(order)) == len(order)
  return {k: v[order] for k, v in found.items()}


def _compare(found, expected):
  """What the issue asks: as many, labels equal, boxes 1e-2, scores 1e-4."""
  assert len(expected["scores"]) >= 10
  assert len(set(expected["labels"])) >= 3 or expected["labels"].max() == 1
  found = _matched(found, expected)
  np.testing.assert_array_equal(found["labels"], expected["labels"])
  np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)
  np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
  assert np.ptp(expected["scores"]) > 0.1
  return found


@pytest.mark.parametrize(
  "name",
  [
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
  ],
)
def test_faster_rcnn(name):
  large = {"min_size": 256, "max_size": 384} if "mobilenet" in name else {}
  net, module, variables = build(name, **large)
  rng = np.random.default_rng(0)
  for size in SIZES:
    image, expected = decided_image(net, rng, size, _torch)
    (found,) = rcnn.predict(module, variables, [image])
    _compare(found, expected)


@pytest.mark.parametrize(
  "name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"]
)
def test_mask_rcnn(name):
  net, module, variables = build(name)
  rng = np.random.default_rng(1)
  for size in SIZES:
    image, expected = decided_image(net, rng, size, _torch)
    (found,) = rcnn.predict(module, variables, [image])
    found = _compare(found, expected)
    masks = expected["masks"][:, 0]
    assert found["masks"].shape == masks.shape == (len(masks), *size)
    assert masks.std() > 0.1
    difference = np.abs(found["masks"] - masks)
    # A box that rounds to other pixels moves its whole mask.
    moved = _rounds_apart(found["boxes"], expected["boxes"])
    assert moved.sum() <= 1
    assert difference[~moved].max() <= 1e-4


def _rounds_apart(a, b):
  """Whether the pasted boxes differ by a pixel, from rounding alone."""

  def corners(boxes):
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5 * 30 / 28)
    center = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    return np.trunc(np.concatenate([center - half, center + half], 1))

  return (corners(a) != corners(b)).any(1)


def test_keypoint_rcnn():
  net, module, variables = build("keypointrcnn_resnet50_fpn", num_classes=2)
  rng = np.random.default_rng(2)
  total = 0
  for size in SIZES:
    image, expected = decided_image(net, rng, size, _torch)
    (found,) = rcnn.predict(module, variables, [image])
    found = _compare(found, expected)
    assert found["keypoints"].shape == expected["keypoints"].shape
    distance = np.abs(found["keypoints"] - expected["keypoints"]).max(-1)
    scores = np.abs(found["keypoint_scores"] - expected["keypoints_scores"])
    # The same cell but for ties: two pixels whose logits differ by rounding.
    total += (distance > 1e-2).sum()
    assert scores.max() <= 2e-3
    assert expected["keypoints_scores"].std() > 0.1
  assert total <= 2


def test_transform_of_every_size():
  settings = rcnn.Settings()
  sizes = np.random.default_rng(0).integers(1, 3000, (3000, 2))
  for high, wide in [*sizes.tolist(), (480, 640), (427, 640), (97, 97)]:
    scale = min(800 / min(high, wide), 1333 / max(high, wide))
    expected = tuple(max(int(np.floor(n * scale)), 1) for n in (high, wide))
    assert rcnn.resized_size((high, wide), settings) == expected


@pytest.mark.parametrize("size", SIZES)
def test_prepared_pictures(size):
  net, module, _ = build("fasterrcnn_mobilenet_v3_large_fpn")
  image = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
  batch, _ = net.transform([torch.from_numpy(image.transpose(2, 0, 1).copy())])
  expected = batch.tensors[0].numpy().transpose(1, 2, 0)
  found = rcnn.prepare_image(image, module.settings)
  assert found.shape[:2] == tuple(batch.image_sizes[0])
  high, wide = found.shape[:2]
  np.testing.assert_allclose(found, expected[:high, :wide], atol=2e-5)
  assert not expected[high:].any()
  assert not expected[:, wide:].any()


def test_batches_give_what_single_pictures_give():
  _, module, variables = build("maskrcnn_resnet50_fpn")
  rng = np.random.default_rng(3)
  images = [blocks_image(rng, *size) for size in SIZES]
  together = rcnn.predict(
    module, variables, images, batch_size=4, canvases=[(224, 224)]
  )
  for image, a in zip(images, together, strict=True):
    (b,) = rcnn.predict(module, variables, [image])
    assert len(b["scores"]) >= 10
    a = _matched(a, b)
    np.testing.assert_allclose(a["boxes"], b["boxes"], atol=2e-3)
    np.testing.assert_allclose(a["scores"], b["scores"], atol=2e-5)


def _bytes(image):
  return (255 * image).astype(np.uint8)


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("detectron2_maskrcnn_r50_fpn", {}),
    (
      "detectron2_maskrcnn_x101_fpn",
      {
        "blocks": (3, 4, 23, 3),
        "groups": 32,
        "group_width": 8,
        "stride_in_1x1": False,
        "std": (57.375, 57.12, 58.395),
      },
    ),
  ],
)
def test_detectron2_mask_rcnn(name, options):
  net = torch_detectron2_rcnn.MaskRCNN(**options)
  rng = np.random.default_rng(0)
  net.calibrate(_bytes(blocks_image(rng, 128, 160)))
  state = {k: v.numpy() for k, v in net.state.items()}
  module, variables = weights.from_detectron2(
    name, state, min_size=128, max_size=224, rpn_pre_test=200, rpn_post_test=40
  )
  for size in SIZES[:4]:
    image = (255 * blocks_image(rng, *size)).astype(np.uint8)
    expected = net(image)
    (found,) = rcnn.predict(module, variables, [image.astype(np.float32) / 255])
    found = _compare(found, expected)
    assert expected["masks"].std() > 0.1
    np.testing.assert_allclose(found["masks"], expected["masks"], atol=1e-3)
