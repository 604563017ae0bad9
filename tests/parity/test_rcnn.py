"""Detectors against torchvision's, on the same random weights."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.parity import torch_detectron2_rcnn
from tests.parity.rcnn_models import blocks_image, build
from tests.parity.torchvision_shim import torchvision
from vision_jax import weights
from vision_jax.systems import rcnn

SIZES = ((100, 150), (128, 128), (333, 500), (250, 130))


def _canvas(image, settings):
  """The prepared picture on the smallest canvas, and its size."""
  prepared = rcnn.prepare_image(image, settings)
  size = prepared.shape[:2]
  return _pad(prepared, [n + -n % 32 for n in size]), size


def _pad(picture, size):
  pad = [(0, n - old) for n, old in zip(size, picture.shape[:2], strict=True)]
  return np.pad(picture, [*pad, (0, 0)])


def _common(canvases):
  """The canvas that holds all: ours are compiled once, and masked."""
  return tuple(np.max([c.shape[:2] for c in canvases], axis=0).tolist())


def _torchvision(net):
  """What torchvision finds on a prepared canvas, in its frame."""
  net = copy.deepcopy(net).double()

  def run(picture, size):
    images = torchvision.models.detection.image_list.ImageList(picture, [size])
    with torch.no_grad():
      maps = net.backbone(picture)
      proposals, _ = net.rpn(images, maps)
      (found,), _ = net.roi_heads(maps, proposals, images.image_sizes)
    return found

  return run


_detect = jax.jit(rcnn.detect, static_argnums=0)


def _ours(module, variables, canvas, size):
  """What we find, with candidates enough."""
  settings = dataclasses.replace(module.settings, num_candidates=4000)
  found, exact = _detect(
    module.clone(settings=settings), variables, canvas[None], np.array([size])
  )
  assert bool(exact.all())
  kept = np.asarray(found.valid[0])
  return jax.tree.map(lambda leaf: np.asarray(leaf[0])[kept], found)


def _compare(run, module, variables):
  """Whole detections in float64, where rounding decides nothing.

  Returns:
    Pairs (ours, theirs), one for each of `SIZES`.
  """
  rng = np.random.default_rng(0)
  pairs = []
  with jax.enable_x64(True):
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, "f8"), variables)
    images = [blocks_image(rng, *size) for size in SIZES]
    canvases, inner = zip(
      *(_canvas(image, module.settings) for image in images), strict=True
    )
    common = _common(canvases)
    assert any(canvas.shape[:2] != common for canvas in canvases)
    for canvas, size in zip(map(np.float64, canvases), inner, strict=True):
      picture = torch.from_numpy(canvas.transpose(2, 0, 1).copy())[None]
      expected = {k: v.numpy() for k, v in run(picture, size).items()}
      found = _ours(module, variables, _pad(canvas, common), size)
      assert found.boxes.dtype == np.float64
      assert len(expected["scores"]) >= 10
      assert len(set(expected["labels"])) >= min(module.num_classes - 1, 3)
      assert np.ptp(expected["scores"]) > 0.1
      np.testing.assert_array_equal(found.labels, expected["labels"])
      np.testing.assert_allclose(found.boxes, expected["boxes"], atol=1e-6)
      np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-8)
      pairs.append((found, expected))
  return pairs


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
  _compare(_torchvision(net), module, variables)


@pytest.mark.parametrize(
  "name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"]
)
def test_mask_rcnn(name):
  net, module, variables = build(name)
  _compare_masks(_compare(_torchvision(net), module, variables))


def _compare_masks(pairs):
  for found, expected in pairs:
    masks = expected["masks"][:, 0]
    assert masks.std() > 0.1
    np.testing.assert_allclose(found.masks, masks, atol=1e-6)


def test_keypoint_rcnn():
  net, module, variables = build("keypointrcnn_resnet50_fpn", num_classes=2)
  for found, expected in _compare(_torchvision(net), module, variables):
    xy = found.keypoints[..., :2] + 0.5
    # torchvision rounds keypoints and their scores to float32.
    np.testing.assert_allclose(xy, expected["keypoints"][..., :2], atol=3e-5)
    scores = expected["keypoints_scores"]
    assert scores.std() > 0.1
    np.testing.assert_allclose(found.keypoints[..., 2], scores, atol=5e-6)


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


@pytest.mark.parametrize(
  ("name", "classes"),
  [("maskrcnn_resnet50_fpn", 6), ("keypointrcnn_resnet50_fpn", 2)],
)
def test_results_in_the_frame_of_the_picture(name, classes):
  """`predict`, and torchvision's postprocessing of what `detect` finds."""
  net, module, variables = build(name, num_classes=classes)
  rng = np.random.default_rng(1)
  images = [blocks_image(rng, *size) for size in SIZES]
  canvases = [_canvas(image, module.settings) for image in images]
  common = _common([canvas for canvas, _ in canvases])
  for size, image, (canvas, inner) in zip(SIZES, images, canvases, strict=True):
    part = _ours(module, variables, _pad(canvas, common), inner)
    detections = {"boxes": torch.tensor(part.boxes)}
    if part.masks is not None:
      detections["masks"] = torch.tensor(part.masks)[:, None]
    if part.keypoints is not None:
      points = part.keypoints.copy()
      points[..., :2] += 0.5
      points[..., 2] = 1
      detections["keypoints"] = torch.tensor(points)
    (expected,) = net.transform.postprocess([detections], [inner], [size])
    (found,) = rcnn.predict(module, variables, [image], canvases=[common])
    np.testing.assert_array_equal(found["labels"], part.labels)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=2e-3)
    if part.masks is not None:
      masks = expected["masks"][:, 0].numpy()
      assert found["masks"].shape == masks.shape == (len(masks), *size)
      # A box that rounds to other pixels moves its whole mask.
      moved = _rounds_apart(found["boxes"], expected["boxes"].numpy())
      assert moved.sum() <= 1
      assert np.abs(found["masks"] - masks)[~moved].max() <= 1e-4
    if part.keypoints is not None:
      np.testing.assert_allclose(
        found["keypoints"], expected["keypoints"], atol=2e-3
      )


def _rounds_apart(a, b):
  """Whether the pasted boxes differ by a pixel, from rounding alone."""

  def corners(boxes):
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5 * 30 / 28)
    center = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    return np.trunc(np.concatenate([center - half, center + half], 1))

  return (corners(a) != corners(b)).any(1)


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


def _older(name):
  """The first spelling of PointRend's parameters."""
  head = "roi_heads.mask_head."
  name = name.replace(f"{head}point_head.", "roi_heads.mask_point_head.")
  coarse = "roi_heads.mask_coarse_head."
  name = name.replace(f"{head}coarse_head.", coarse)
  return name.replace(f"{coarse}fc", f"{coarse}coarse_mask_fc")


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("detectron2_maskrcnn_r50_fpn", {}),
    ("pointrend_rcnn_r50_fpn", {"pointrend": True}),
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
def test_detectron2(name, options):
  net = torch_detectron2_rcnn.MaskRCNN(**options)
  rng = np.random.default_rng(0)
  net.calibrate(_bytes(blocks_image(rng, 128, 160)))
  state = {k: v.numpy() for k, v in net.state.items()}
  module, variables = weights.from_detectron2(
    name, state, min_size=128, max_size=224, rpn_pre_test=200, rpn_post_test=40
  )
  older = {_older(k): v for k, v in state.items()}
  assert (set(older) == set(state)) == (not net.pointrend)
  again = weights.detectron2_to_variables(module, older)
  jax.tree.map(np.testing.assert_array_equal, again, variables)
  image = _bytes(blocks_image(rng, 90, 160))
  canvas, inner = _canvas(np.float32(image) / 255, module.settings)
  prepared, size = net.prepare(image)
  assert list(inner) == size
  prepared = prepared[0].numpy().transpose(1, 2, 0)
  step = 1 / min(net.std)  # bytes are rounded, ours are not
  np.testing.assert_allclose(canvas, prepared, atol=0.51 * step)
  torch.set_default_dtype(torch.float64)
  try:
    pairs = _compare(net.double(), module, variables)
  finally:
    torch.set_default_dtype(torch.float32)
  _compare_masks(pairs)
