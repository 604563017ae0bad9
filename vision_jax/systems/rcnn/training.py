"""Losses of the R-CNN family, as sums and counts."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.systems.rcnn import point_masks
from vision_jax.systems.rcnn.detection import pool_regions
from vision_jax.systems.rcnn.networks import BOX_CELLS, MASK_CELLS, RCNN
from vision_jax.systems.rcnn.proposals import (
  Proposals,
  make_levels,
  make_proposals,
)
from vision_jax.systems.rcnn.targets import (
  AnchorTargets,
  Objects,
  RegionTargets,
  anchor_targets,
  region_targets,
  usable_objects,
)

__all__ = ["loss"]

Pair = tuple[jax.Array, jax.Array]


def loss(
  module: RCNN,
  params: Any,
  batch_stats: Any,
  batch: Mapping[str, Any],
  key: jax.Array,
  *,
  train: bool = True,
) -> tuple[dict[str, Pair], dict[str, Any]]:
  """All losses of a batch; with `module` bound, what `train.make_step` wants.

  `functools.partial(rcnn.loss, module)` is `loss_fn(params, batch_stats, batch,
  key)`. Terms, each a sum and a count whose quotient is torchvision's loss of
  the batch:

  ==============  ====================================================
  `objectness`    cross entropy of the sampled anchors
  `rpn_box`       smooth L1 of those with an object, over all sampled
  `classifier`    cross entropy of the sampled regions
  `box`           smooth L1 of those with an object, over all sampled
  `mask`          cross entropy of the cells of regions with an object
  `mask_point`    cross entropy of points of such regions, of PointRend
  `keypoint`      cross entropy of heatmaps of visible keypoints
  ==============  ====================================================

  A batch without objects has finite losses. Objects that cannot be learned
  from are left out: crowds, boxes without positive finite sides, labels beyond
  the classes; `check_batch` says so on the host.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame, keypoints in the index
    frame, both in pixels of `image`; labels from 1, 0 is the background.

  Args:
    module: the detector.
    params: its parameters.
    batch_stats: its statistics.
    batch: `image` [B, H, W, 3], RGB, floating in [0, 1] or bytes, already of
      the size to train at; `boxes` [B, G, 4], `labels` [B, G]; and where there
      are any `objects_valid` [B, G], `crowd` [B, G], `image_size` int [B, 2],
      `valid` [B], `masks` [B, G, H, W], `keypoints` [B, G, K, 3], and
      `proposals` [B, P, 4] with `proposals_valid` [B, P] for a Fast R-CNN;
      `index` [B], numbers that key the draws of each picture, its place in the
      batch if missing.
    key: random key of the step.
    train: whether batch normalisation and dropout are those of training.

  Returns:
    {term: (sum, count)} and {"batch_stats": new statistics}.

  Raises:
    ValueError: if masks, keypoints or proposals are needed and missing.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import rcnn
    >>> module = rcnn.rcnn_small(num_classes=3)
    >>> variables = weights.random_variables(module)
    >>> batch = {"image": jnp.zeros((1, 64, 64, 3)),
    ...          "boxes": jnp.array([[[8.0, 8, 40, 50]]]),
    ...          "labels": jnp.array([[2]])}
    >>> terms, aux = rcnn.loss(module, variables["params"],
    ...                        variables["batch_stats"], batch,
    ...                        jax.random.key(0))
    >>> sorted(terms)
    ['box', 'classifier', 'objectness', 'rpn_box']

  Source:
    Ren et al., Faster R-CNN, 2015, equation 1; He et al., Mask R-CNN, 2017,
    section 3; Kirillov et al., PointRend, 2020, section 4; checked against
    torchvision on the same samples.
  """
  _check(module, batch)
  run = functools.partial(_losses, batch=batch, key=key, train=train)
  terms, updates = nn.apply(run, module, mutable=["batch_stats"])(
    {"params": params, "batch_stats": batch_stats},
    rngs={"dropout": jax.random.fold_in(key, 1)},
  )
  return terms, {"batch_stats": updates.get("batch_stats", batch_stats)}


def check_batch(batch: Mapping[str, Any], num_classes: int) -> None:
  """Raises where objects would silently be left out; for the host.

  Args:
    batch: as `loss` takes it.
    num_classes: background included.

  Raises:
    ValueError: if a label is no class, or a box has no positive finite sides;
      names the picture and the object.

  Example:
    >>> from vision_jax.systems import rcnn
    >>> batch = {"boxes": np.array([[[0.0, 0, 4, 4]]]), "labels": [[7]]}
    >>> rcnn.check_batch(batch, 3)
    Traceback (most recent call last):
    ...
    ValueError: check_batch: labels must be 1 to 2, got 7 for object 0 of \
image 0; 0 is the background.

  Source:
    Interface of this library.
  """
  boxes = np.asarray(batch["boxes"], np.float32)
  labels = np.asarray(batch["labels"])
  valid = np.asarray(batch.get("objects_valid", np.ones(labels.shape, bool)))
  for image, place in np.argwhere(valid):
    label, box = labels[image, place], boxes[image, place]
    if not 0 < label < num_classes:
      raise ValueError(
        f"check_batch: labels must be 1 to {num_classes - 1}, got {label} for "
        f"object {place} of image {image}; 0 is the background."
      )
    if not (np.isfinite(box).all() and (box[2:] > box[:2]).all()):
      raise ValueError(
        f"check_batch: boxes must be finite with x1 < x2 and y1 < y2, got "
        f"{box.tolist()} for object {place} of image {image}; drop it."
      )


def _check(module: RCNN, batch: Mapping[str, Any]) -> None:
  needed = ["image", "boxes", "labels"]
  needed += ["masks"] if module.mask_layers or module.point_layers else []
  needed += ["keypoints"] if module.keypoint_layers else []
  needed += [] if module.anchor_sizes else ["proposals"]
  missing = [name for name in needed if name not in batch]
  if missing:
    raise ValueError(
      f"loss: `batch` must have {', '.join(needed)} for this detector, got "
      f"{', '.join(sorted(batch))}."
    )


def normalized(module: RCNN, images: jax.Array, sizes: jax.Array) -> jax.Array:
  """Pictures as the network wants them, 0 behind each."""
  images = jnp.asarray(images)
  if not jnp.issubdtype(images.dtype, jnp.floating):
    images = images.astype(jnp.float32) / 255
  settings = module.settings
  if settings.channel_order == "BGR":
    images = images[..., ::-1]
  mean, std = (
    jnp.asarray(value, images.dtype).reshape(1, 1, 1, 3)
    for value in (settings.mean, settings.std)
  )
  images = (images * settings.scale - mean) / std
  down = jnp.arange(images.shape[1])[None] < sizes[:, :1]
  right = jnp.arange(images.shape[2])[None] < sizes[:, 1:]
  inside = down[:, :, None] & right[:, None, :]
  return jnp.where(inside[..., None], images, 0)


def _losses(net: RCNN, *, batch, key, train) -> dict[str, Pair]:
  """The terms, with a bound module."""
  count, *canvas = batch["image"].shape[:3]
  shape = (canvas[0], canvas[1])
  sizes = jnp.asarray(batch.get("image_size", [shape] * count), jnp.int32)
  objects = usable_objects(batch, net.num_classes)
  used = jnp.asarray(batch.get("valid", jnp.ones(count, bool)))
  index = jnp.asarray(batch.get("index", jnp.arange(count)))
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
  keys = jax.vmap(lambda k: jax.random.split(k, 3))(keys)
  maps = net.features(normalized(net, batch["image"], sizes), train=train)
  terms: dict[str, Pair] = {}
  if net.anchor_sizes:
    found = net.objectness(maps)
    terms, proposals = _first_stage(
      net, found, shape, sizes, objects, used, keys[:, 0]
    )
  if "proposals" in batch:
    boxes = jnp.asarray(batch["proposals"], jnp.float32)
    valid = batch.get("proposals_valid", jnp.ones(boxes.shape[:2], bool))
    proposals = Proposals(boxes, valid.astype(jnp.float32), valid)
  targets = jax.vmap(functools.partial(region_targets, settings=net.settings))(
    keys[:, 1], proposals, objects, used=used
  )
  targets = jax.lax.stop_gradient(targets)
  whole = jnp.asarray([shape] * count, jnp.int32)

  def pool(boxes: jax.Array, cells: int) -> jax.Array:
    return jax.vmap(lambda m, b, p: pool_regions(net, m, b, cells, shape, p))(
      maps, boxes, whole
    )

  logits, deltas = net.classify(pool(targets.boxes, BOX_CELLS), train=train)
  terms |= region_losses(logits, deltas, targets, beta=net.settings.box_beta)
  # Regions with objects come first.
  most = int(net.settings.box_samples * net.settings.box_positive_fraction)
  some = jax.tree.map(lambda leaf: leaf[:, :most], targets)
  if net.point_layers:
    some_deltas = deltas[:, :most]
    terms |= _point_terms(net, maps[0], some, some_deltas, objects, keys[:, 2])
  elif net.mask_layers:
    masks = net.mask_logits(pool(some.boxes, MASK_CELLS), train=train)
    terms["mask"] = mask_loss(net, masks, some, objects.masks)
  if net.keypoint_layers:
    heatmaps = net.keypoint_logits(pool(some.boxes, MASK_CELLS))
    terms["keypoint"] = keypoint_loss(heatmaps, some, objects)
  return terms


def _point_terms(net, fine, targets, deltas, objects, keys):
  """PointRend's terms, of the boxes that are predicted for the class."""
  settings = net.settings
  boxes = ops.decode_boxes(
    _deltas_of_class(deltas, targets),
    targets.boxes,
    weights=settings.box_weights,
  )
  boxes = jax.lax.stop_gradient(boxes)
  canvas = objects.masks.shape[2:4]
  cells = jax.vmap(
    functools.partial(point_masks.coarse_cells, extent=canvas, side=MASK_CELLS)
  )(fine, boxes)
  head = net.point_function()
  losses = functools.partial(
    point_masks.mask_losses,
    num_points=settings.mask_points_train,
    oversample=settings.mask_oversample,
    importance=settings.mask_importance,
    padding=settings.mask_padding,
  )
  terms = jax.vmap(lambda key, *rest: losses(key, head, *rest))(
    keys,
    fine,
    net.coarse_masks(cells),
    boxes,
    targets.labels - 1,
    targets.match,
    objects.masks,
  )
  return jax.tree.map(jnp.sum, terms)


def _first_stage(net, found, canvas, sizes, objects, used, keys):
  """Terms of the proposal network, and its proposals."""
  settings = net.settings
  cells = [logits.shape[1:3] for logits, _ in found]
  levels = make_levels(net, cells, canvas, jnp.array(canvas, jnp.int32))
  anchors = jnp.concatenate([level.anchors for level in levels])
  count = sizes.shape[0]
  flat = [
    (logits.reshape(count, -1), deltas.reshape(count, -1, 4))
    for logits, deltas in found
  ]
  draw = functools.partial(anchor_targets, settings=settings)
  targets = jax.vmap(lambda k, o, u: draw(k, anchors, o, used=u))(
    keys, objects, used
  )
  total = settings.rpn_samples * used.sum() if settings.rpn_count_all else None
  terms = anchor_losses(
    jnp.concatenate([logits for logits, _ in flat], 1),
    jnp.concatenate([deltas for _, deltas in flat], 1),
    targets,
    beta=settings.rpn_beta,
    total=total,
  )

  def propose(flat, size):
    logits, deltas = zip(*flat, strict=True)
    return make_proposals(
      levels, logits, deltas, size, settings=settings, train=True
    )

  return terms, jax.lax.stop_gradient(jax.vmap(propose)(flat, sizes))


def anchor_losses(
  logits: jax.Array,
  deltas: jax.Array,
  targets: AnchorTargets,
  *,
  beta: float,
  total: jax.Array | None = None,
) -> dict[str, Pair]:
  """`objectness` and `rpn_box` of logits [B, N] and deltas [B, N, 4]."""
  sampled = targets.positive | targets.negative
  entropy = ops.binary_cross_entropy(
    logits.astype(jnp.float32), targets.positive.astype(jnp.float32)
  )
  error = deltas.astype(jnp.float32) - targets.deltas
  distance = ops.smooth_l1(error, beta=beta).sum(-1)
  count = sampled.sum() if total is None else total
  return {
    "objectness": (jnp.where(sampled, entropy, 0).sum(), count),
    "rpn_box": (jnp.where(targets.positive, distance, 0).sum(), count),
  }


def _deltas_of_class(deltas: jax.Array, targets: RegionTargets) -> jax.Array:
  """[B, S, K, 4] -> those of the class of each region, [B, S, 4]."""
  channel = jnp.maximum(targets.labels, 0)[..., None, None]
  chosen = jnp.take_along_axis(deltas.astype(jnp.float32), channel, -2)
  return chosen[..., 0, :]


def region_losses(
  logits: jax.Array, deltas: jax.Array, targets: RegionTargets, *, beta: float
) -> dict[str, Pair]:
  """`classifier` and `box` of logits [B, S, K] and deltas [B, S, K, 4]."""
  # Labels of -1 have no loss.
  entropy = ops.softmax_cross_entropy(
    logits.astype(jnp.float32), targets.labels
  )
  error = _deltas_of_class(deltas, targets) - targets.deltas
  distance = ops.smooth_l1(error, beta=beta).sum(-1)
  count = (targets.labels >= 0).sum()
  return {
    "classifier": (entropy.sum(), count),
    "box": (jnp.where(targets.labels > 0, distance, 0).sum(), count),
  }


def mask_loss(
  net: RCNN, logits: jax.Array, targets: RegionTargets, masks: Any
) -> Pair:
  """Of mask logits [B, P, m, m, K]."""
  settings = net.settings
  size = (logits.shape[2], logits.shape[3])
  crop = functools.partial(ops.crop_masks, size=size, aligned=settings.aligned)
  wanted = jax.vmap(crop)(masks, targets.boxes, targets.match)
  wanted = jax.lax.stop_gradient(wanted)
  if settings.hard_masks:
    wanted = (wanted >= 0.5).astype(jnp.float32)
  channel = jnp.maximum(targets.labels, 0)[..., None, None, None]
  chosen = jnp.take_along_axis(logits.astype(jnp.float32), channel, -1)[..., 0]
  entropy = ops.binary_cross_entropy(chosen, wanted).sum((-2, -1))
  found = targets.labels > 0
  total = jnp.where(found, entropy, 0).sum()
  return total, found.sum() * size[0] * size[1]


def keypoint_loss(
  logits: jax.Array, targets: RegionTargets, objects: Objects
) -> Pair:
  """Of heatmaps [B, P, m, m, K]."""
  size = (logits.shape[2], logits.shape[3])

  def cells(keypoints, boxes, match):
    points = keypoints[jnp.maximum(match, 0)]
    visible = (points[..., 2] > 0) & (match >= 0)[:, None]
    return ops.encode_roi_keypoints(
      points[..., :2] + 0.5, boxes, size, visible=visible
    )

  cell, valid = jax.vmap(cells)(
    jnp.asarray(objects.keypoints, jnp.float32), targets.boxes, targets.match
  )
  flat = logits.astype(jnp.float32).reshape(
    *logits.shape[:2], -1, logits.shape[-1]
  )
  entropy = ops.softmax_cross_entropy(
    jnp.moveaxis(flat, -1, -2), jnp.where(valid, cell, -1)
  )
  return entropy.sum(), valid.sum()
