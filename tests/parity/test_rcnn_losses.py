"""Training losses against torchvision's, on the same samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.parity.rcnn_models import blocks_image, build
from vision_jax.systems import rcnn
from vision_jax.systems.rcnn import targets as targets_lib
from vision_jax.systems.rcnn import training
from vision_jax.systems.rcnn.proposals import make_levels

SIZE = (128, 160)
TERMS = {
  "objectness": "loss_objectness",
  "rpn_box": "loss_rpn_box_reg",
  "classifier": "loss_classifier",
  "box": "loss_box_reg",
  "mask": "loss_mask",
  "keypoint": "loss_keypoint",
}


def _batch(rng, classes, empty):
  """Two pictures; the second may have no object."""
  objects = 4
  low = rng.uniform(0, 60, (2, objects, 2))
  boxes = np.concatenate([low, low + rng.uniform(20, 60, low.shape)], -1)
  y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
  center = (boxes[..., :2] + boxes[..., 2:]) / 2
  distance = np.hypot(
    x - center[..., 0, None, None], y - center[..., 1, None, None]
  )
  points = low[:, :, None] + rng.uniform(-5, 40, (2, objects, 17, 2))
  visible = rng.integers(0, 3, (2, objects, 17, 1))
  valid = np.ones((2, objects), bool)
  valid[0, 3] = False
  if empty:
    valid[1] = False
  return {
    "image": np.stack([blocks_image(rng, *SIZE) for _ in range(2)]),
    "boxes": boxes.astype(np.float32),
    "labels": rng.integers(1, classes, (2, objects)).astype(np.int32),
    "objects_valid": valid,
    "masks": (distance < 20).astype(np.uint8),
    "keypoints": np.concatenate([points, visible], -1).astype(np.float32),
  }


def _samples(module, variables, batch, key):
  """Proposals and samples that our loss makes with this key."""

  def run(batch):
    net = module.bind(variables)
    count = len(batch["image"])
    sizes = jnp.asarray([SIZE] * count)
    objects = targets_lib.usable_objects(batch, net.num_classes)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
    keys = jax.vmap(jax.random.split)(keys)
    maps = net.features(training.normalized(net, batch["image"], sizes))
    found = net.objectness(maps)
    used = jnp.ones(count, bool)
    _, proposals = training._first_stage(
      net, found, SIZE, sizes, objects, used, keys[:, 0]
    )
    cells = [logits.shape[1:3] for logits, _ in found]
    levels = make_levels(net, cells, SIZE, sizes[0])
    anchors = jnp.concatenate([level.anchors for level in levels])
    settings = {"settings": net.settings}
    first = jax.vmap(
      lambda k, o: targets_lib.anchor_targets(k, anchors, o, **settings)
    )(keys[:, 0], objects)
    second = jax.vmap(
      lambda k, p, o: targets_lib.region_targets(k, p, o, **settings)
    )(keys[:, 1], proposals, objects)
    return proposals, first, second

  return jax.tree.map(np.asarray, jax.jit(run)(batch))


def _choose(masks):
  return [torch.from_numpy(np.asarray(m, np.uint8)) for m in masks]


def _region_masks(proposals, regions, valid):
  """Our sample of regions by torch's numbers, which skip padding."""
  positive, negative = [], []
  for k, given in enumerate(valid):
    kept = np.concatenate([proposals.valid[k], given])
    number = np.cumsum(kept) - 1
    mask = np.zeros((2, int(kept.sum())), bool)
    for row, label in zip(regions.row[k], regions.labels[k], strict=True):
      if row >= 0:
        assert kept[row]
        mask[0 if label > 0 else 1, number[row]] = True
    positive.append(mask[0])
    negative.append(mask[1])
  return positive, negative


def _torch_losses(net, batch, samples):
  proposals, anchors, regions = samples
  valid = batch["objects_valid"]

  def sample_anchors(labels):
    for k, label in enumerate(labels):
      assert (label[anchors.positive[k]] == 1).all()
      assert (label[anchors.negative[k]] == 0).all()
    return _choose(anchors.positive), _choose(anchors.negative)

  def sample_regions(labels):
    masks = _region_masks(proposals, regions, valid)
    for k, label in enumerate(labels):
      assert len(label) == len(masks[0][k])
      assert (label[masks[0][k]] > 0).all()
      assert (label[masks[1][k]] == 0).all()
    return _choose(masks[0]), _choose(masks[1])

  net.rpn.fg_bg_sampler = sample_anchors
  net.roi_heads.fg_bg_sampler = sample_regions
  images, truth = [], []
  for k, some in enumerate(valid):
    image = batch["image"][k].transpose(2, 0, 1).copy()
    images.append(torch.from_numpy(image))
    points = batch["keypoints"][k][some].copy()
    points[..., :2] += 0.5  # torchvision's are continuous
    truth.append(
      {
        "boxes": torch.from_numpy(batch["boxes"][k][some]),
        "labels": torch.from_numpy(batch["labels"][k][some].astype(np.int64)),
        "masks": torch.from_numpy(batch["masks"][k][some]),
        "keypoints": torch.from_numpy(points),
      }
    )
  net.train()
  for layer in net.modules():
    if isinstance(layer, torch.nn.BatchNorm2d):
      layer.eval()
  with torch.no_grad():
    return {k: float(v) for k, v in net(images, truth).items()}


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize(
  ("name", "classes"),
  [("maskrcnn_resnet50_fpn", 6), ("keypointrcnn_resnet50_fpn", 2)],
)
def test_losses(name, classes, empty):
  net, module, variables = build(
    name,
    num_classes=classes,
    rpn_pre_train=200,
    rpn_post_train=60,
    rpn_samples=64,
    box_samples=48,
    torch_settings={
      "rpn_pre_nms_top_n_train": 200,
      "rpn_post_nms_top_n_train": 60,
      "rpn_batch_size_per_image": 64,
      "box_batch_size_per_image": 48,
    },
  )
  batch = _batch(np.random.default_rng(0), classes, empty)
  key = jax.random.key(3)
  samples = _samples(module, variables, batch, key)
  assert samples[1].positive.sum() >= 3
  assert samples[1].negative.sum() >= 60
  assert (samples[2].labels > 0).sum() >= 3
  expected = _torch_losses(net, batch, samples)
  terms, _ = jax.jit(
    lambda b: rcnn.loss(
      module, variables["params"], variables["batch_stats"], b, key
    )
  )(batch)
  assert len(terms) == len(expected) == 5
  for name, (total, count) in terms.items():
    want = expected[TERMS[name]]
    assert want > 1e-3
    np.testing.assert_allclose(total / count, want, rtol=1e-4, atol=1e-4)
