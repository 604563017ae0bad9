"""From pictures to detections: one program for each canvas."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import ops
from vision_jax.nn.canvas_masks import mask_canvas, valid_cells
from vision_jax.systems.rcnn import point_masks, transforms
from vision_jax.systems.rcnn.networks import BOX_CELLS, MASK_CELLS, RCNN
from vision_jax.systems.rcnn.proposals import (
  Proposals,
  has_sides,
  make_levels,
  make_proposals,
  map_strides,
)

__all__ = ["detect", "predict"]

_PASTED = 16  # masks that one program pastes
_PIXELS = 256  # their canvas is a multiple


def pool_regions(
  module: RCNN,
  maps: Sequence[jax.Array],
  boxes: jax.Array,
  cells: int,
  canvas: tuple[int, int],
  padded: jax.Array,
) -> jax.Array:
  """What a head sees of each box of one picture: [R, cells, cells, C]."""
  if module.backbone.features:
    maps = maps[:-1]  # the last level is for proposals alone
  settings = module.settings
  sizes = [(m.shape[0], m.shape[1]) for m in maps]
  limits = [valid_cells(padded[None], size, canvas)[0] for size in sizes]
  strides = [map_strides(size, canvas)[1] for size in sizes]
  if module.roi_pool:
    down = jnp.arange(sizes[0][0]) < limits[0][0]
    right = jnp.arange(sizes[0][1]) < limits[0][1]
    inside = (down[:, None] & right[None, :])[..., None]
    # Of a ReLU: a 0 changes no maximum.
    features = jnp.where(inside, maps[0], 0)
    return ops.roi_pool(features, boxes, (cells, cells), scale=1 / strides[0])
  return ops.multilevel_roi_align(
    maps,
    boxes,
    (cells, cells),
    scales=[1 / stride for stride in strides],
    canonical_size=settings.canonical_size,
    eps=settings.level_eps,
    sampling_ratio=settings.sampling_ratio,
    aligned=settings.aligned,
    extents=[(limit[0], limit[1]) for limit in limits],
  )


def detect(
  module: RCNN,
  variables: Mapping[str, Any],
  images: jax.Array,
  sizes: jax.Array,
  proposals: Proposals | None = None,
) -> tuple[ops.Detections, jax.Array]:
  """Detections of pictures on one canvas; every shape is fixed.

  What is found in a picture depends neither on the canvas nor on the others:
  cells behind it are masked. Compile it with `module` static.

  Convention:
    Boxes (x1, y1, x2, y2) in the continuous frame of the resized picture,
    keypoints (x, y, logit) in its index frame.

  Args:
    module: the detector.
    variables: its parameters and statistics.
    images: resized, normalised, 0 behind each picture, [B, H, W, 3]; H and W
      multiples of 32.
    sizes: (height, width) of each resized picture, int32 [B, 2].
    proposals: boxes to look at, [B, P, ...], for a detector that makes none
      itself; others take them in place of their own.

  Returns:
    Detections [B, N, ...], N being `max_detections`, masks [B, N, 28, 28] of
    the boxes, of PointRend `mask_side` wide; and exact, bool [B]: False where
    more than `num_candidates` pairs of a box and a class came before
    suppression and fewer than N stayed.

  Raises:
    ValueError: if the canvas is no multiple of 32, or there are no proposals.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import rcnn
    >>> module = rcnn.rcnn_small(max_detections=5)
    >>> variables = weights.random_variables(module)
    >>> images, sizes = jnp.zeros((1, 32, 64, 3)), jnp.array([[32, 50]])
    >>> found, exact = rcnn.detect(module, variables, images, sizes)
    >>> found.boxes.shape, found.masks is None
    ((1, 5, 4), True)

  Source:
    Ren et al., Faster R-CNN, 2015; He et al., Mask R-CNN, 2017; torchvision's
    detectors, on the same weights.
  """
  canvas = (images.shape[1], images.shape[2])
  if any(n % transforms.STRIDE for n in canvas):
    raise ValueError(
      f"detect: `images` must have sides that are multiples of "
      f"{transforms.STRIDE}, got {canvas[0]} x {canvas[1]}; pad with zeros."
    )
  if proposals is None and not module.anchor_sizes:
    raise ValueError(
      "detect: `proposals` must be given to a detector that makes none."
    )
  net = module.bind(variables)
  sizes = jnp.asarray(sizes, jnp.int32)
  padded = -(-sizes // transforms.STRIDE) * transforms.STRIDE
  with mask_canvas(padded, canvas):
    maps = net.features(images)
    if proposals is None:
      proposals = propose(module, net.objectness(maps), canvas, sizes, padded)

  def pool(boxes: jax.Array, cells: int) -> jax.Array:
    look = functools.partial(pool_regions, module, cells=cells, canvas=canvas)
    return jax.vmap(lambda m, b, p: look(m, b, padded=p))(maps, boxes, padded)

  logits, deltas = net.classify(pool(proposals.boxes, BOX_CELLS))
  found, exact = jax.vmap(functools.partial(_choose, settings=module.settings))(
    proposals, logits, deltas, sizes
  )
  if module.point_layers:
    masks = refine_point_masks(net, maps[0], found, padded, canvas)
    found = _with_masks(found, masks)
  elif module.mask_layers:
    masks = net.mask_logits(pool(found.boxes, MASK_CELLS))
    channel = found.labels[:, :, None, None, None]
    found = _with_masks(found, jnp.take_along_axis(masks, channel, -1)[..., 0])
  if module.keypoint_layers:
    heatmaps = net.keypoint_logits(pool(found.boxes, MASK_CELLS))
    xy, score = jax.vmap(ops.decode_roi_keypoints)(
      ops.at_least_float32(heatmaps), found.boxes
    )
    points = jnp.concatenate([xy - 0.5, score[..., None]], -1)
    found = found._replace(
      keypoints=jnp.where(found.valid[:, :, None, None], points, 0)
    )
  return found, exact


def _with_masks(found: ops.Detections, logits: jax.Array) -> ops.Detections:
  masks = jax.nn.sigmoid(ops.at_least_float32(logits))
  return found._replace(
    masks=jnp.where(found.valid[:, :, None, None], masks, 0)
  )


def refine_point_masks(net, fine, found, padded, canvas) -> jax.Array:
  """Mask logits [B, N, S, S] of PointRend, from the finest map."""
  limits = valid_cells(padded, fine.shape[1:3], canvas)
  down = jnp.arange(fine.shape[1])[None] < limits[:, :1]
  right = jnp.arange(fine.shape[2])[None] < limits[:, 1:]
  # Behind the picture a point reads what it reads behind the map.
  fine = jnp.where((down[:, :, None] & right[:, None])[..., None], fine, 0)
  cells = jax.vmap(
    functools.partial(point_masks.coarse_cells, extent=canvas, side=MASK_CELLS)
  )(fine, found.boxes)
  refine = functools.partial(
    point_masks.refine_masks,
    net.point_function(),
    extent=canvas,
    side=net.settings.mask_side,
    num_points=net.settings.mask_points,
    padding=net.settings.mask_padding,
  )
  # Class 0 is the background, for which there is no mask.
  return jax.vmap(refine)(
    fine, net.coarse_masks(cells), found.boxes, found.labels - 1
  )


def propose(module, found, canvas, sizes, padded) -> Proposals:
  """Proposals of every picture."""
  cells = [logits.shape[1:3] for logits, _ in found]

  def one(found, size, padded):
    levels = make_levels(module, cells, canvas, padded)
    logits = [logits.reshape(-1) for logits, _ in found]
    deltas = [deltas.reshape(-1, 4) for _, deltas in found]
    return make_proposals(
      levels, logits, deltas, size, settings=module.settings
    )

  return jax.vmap(one)(found, sizes, padded)


def _choose(proposals, logits, deltas, size, *, settings):
  """Detections of one picture from class scores and boxes."""
  probs = jax.nn.softmax(ops.at_least_float32(logits))[:, 1:]
  classes = probs.shape[1]
  boxes = ops.decode_boxes(
    ops.at_least_float32(deltas[:, 1:]),
    proposals.boxes[:, None],
    weights=settings.box_weights,
  )
  boxes = ops.clip_boxes(boxes, (size[0], size[1])).reshape(-1, 4)
  labels = jnp.broadcast_to(
    jnp.arange(1, classes + 1, dtype=jnp.int32)[None], probs.shape
  ).reshape(-1)
  usable = proposals.valid[:, None] & (probs > settings.box_score)
  usable = usable.reshape(-1) & has_sides(boxes, settings.box_min_side)
  scores = probs.reshape(-1)
  index, valid, exact = ops.nms_among_best(
    boxes,
    scores,
    usable,
    num_candidates=settings.num_candidates,
    iou_threshold=settings.box_nms,
    max_outputs=settings.max_detections,
    labels=labels,
  )
  found = ops.Detections(
    jnp.where(valid[:, None], boxes[index], 0),
    jnp.where(valid, scores[index], 0),
    jnp.where(valid, labels[index], 0),
    valid,
  )
  return found, exact


_detect = jax.jit(detect, static_argnums=0)


def predict(
  module: RCNN,
  variables: Mapping[str, Any],
  images: Sequence[np.ndarray],
  *,
  proposals: Sequence[np.ndarray] | None = None,
  canvases: Sequence[tuple[int, int]] | None = None,
  batch_size: int = 1,
  mask_threshold: float | None = None,
) -> list[dict[str, np.ndarray]]:
  """Finds objects in pictures of any sizes.

  Each picture is resized and put on the smallest canvas that holds it; there is
  one compilation for each canvas and batch size. Results do not depend on the
  canvas, the batch or the order.

  Convention:
    Boxes (x1, y1, x2, y2) and keypoints (x, y) in the continuous frame of the
    original picture.

  Args:
    module: the detector.
    variables: its parameters and statistics.
    images: RGB in [0, 1], float [H, W, 3] each, any sizes.
    proposals: boxes to look at in each picture, [P, 4] each, original pixels;
      the first `rpn_post_test` are looked at. Needed by a Fast R-CNN.
    canvases: sizes to compile for; None takes `canvas_sizes`.
    batch_size: pictures that are worked on together.
    mask_threshold: None for probabilities, a number for bool masks, which need
      a quarter of the memory.

  Returns:
    For each picture `boxes` float32 [N, 4], `labels` int32 [N], `scores`
    float32 [N], falling; `masks` [N, H, W] of a Mask R-CNN or PointRend;
    `keypoints` float32 [N, K, 3], (x, y, 1), and their logits
    `keypoint_scores` [N, K] of a Keypoint R-CNN.

  Raises:
    ValueError: if a picture, the proposals or the canvases do not fit.
    TypeError: if a picture holds integers.

  Example:
    >>> from vision_jax import weights
    >>> from vision_jax.systems import rcnn
    >>> module = rcnn.rcnn_small(min_size=32, max_size=32)
    >>> variables = weights.random_variables(module)
    >>> (found,) = rcnn.predict(module, variables, [np.zeros((9, 7, 3))])
    >>> sorted(found)
    ['boxes', 'labels', 'scores']

  Source:
    The results of torchvision's detectors, as NumPy arrays.
  """
  images = [transforms.check_image(image, "predict") for image in images]
  given = _check_proposals(module, images, proposals)
  if batch_size < 1:
    raise ValueError(f"predict: `batch_size` must be >= 1, got {batch_size}.")
  settings = module.settings
  sizes = [transforms.resized_size(i.shape[:2], settings) for i in images]
  canvases = transforms.canvas_sizes(settings) if not canvases else canvases
  groups: dict[tuple[int, int], list[int]] = {}
  for k, size in enumerate(sizes):
    canvas = transforms.choose_canvas(size, canvases)
    groups.setdefault(canvas, []).append(k)
  results: list[Any] = [None] * len(images)
  for canvas, members in groups.items():
    for start in range(0, len(members), batch_size):
      chosen = members[start : start + batch_size]
      batch = np.zeros((batch_size, *canvas, 3), np.float32)
      extents = np.full((batch_size, 2), transforms.STRIDE, np.int32)
      for row, k in enumerate(chosen):
        high, wide = extents[row] = sizes[k]
        batch[row, :high, :wide] = transforms.prepare_image(images[k], settings)
      boxes = _pad_proposals(settings, given, chosen, images, sizes, batch_size)
      found = _exact(module, variables, batch, extents, boxes)
      for row, k in enumerate(chosen):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], found)
        results[k] = _to_original(
          one, images[k].shape[:2], sizes[k], settings, mask_threshold
        )
  return results


def _exact(module, variables, batch, extents, boxes) -> Any:
  """Detections on the host; with more candidates where they were too few."""
  while True:
    found, exact = _detect(module, variables, batch, extents, boxes)
    if bool(exact.all()):
      return jax.tree.map(np.asarray, found)
    more = 4 * module.settings.num_candidates
    settings = dataclasses.replace(module.settings, num_candidates=more)
    module = module.clone(settings=settings)


def _check_proposals(module, images, proposals) -> list[np.ndarray] | None:
  if proposals is None:
    if not module.anchor_sizes:
      raise ValueError(
        "predict: `proposals` must be given to a detector that makes none, one "
        "array [P, 4] for each image."
      )
    return None
  given = [np.asarray(p, np.float32).reshape(-1, 4) for p in proposals]
  if len(given) != len(images):
    raise ValueError(
      f"predict: `proposals` must be one array for each of {len(images)} "
      f"images, got {len(given)}."
    )
  return given


def _pad_proposals(settings, given, chosen, images, sizes, batch_size) -> Any:
  """Given boxes of a batch on the resized pictures."""
  if given is None:
    return None
  count = settings.rpn_post_test
  boxes = np.zeros((batch_size, count, 4), np.float32)
  valid = np.zeros((batch_size, count), bool)
  for row, k in enumerate(chosen):
    some = given[k][:count]
    boxes[row, : len(some)] = some * _factors(images[k].shape[:2], sizes[k])
    sides = some[:, 2:] > some[:, :2]
    valid[row, : len(some)] = sides.all(-1) & np.isfinite(some).all(-1)
  boxes = np.where(valid[..., None], boxes, 0)
  return Proposals(
    jnp.asarray(boxes), jnp.asarray(valid, jnp.float32), jnp.asarray(valid)
  )


def _factors(old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
  """What (x1, y1, x2, y2) is multiplied by from one size to another."""
  high, wide = (
    np.float32(n) / np.float32(o) for n, o in zip(new, old, strict=True)
  )
  return np.array([wide, high, wide, high], np.float32)


def _to_original(found, size, resized, settings, mask_threshold):
  """The detections of one picture in its own pixels."""
  kept = found.valid
  factors = _factors(resized, size)
  boxes = found.boxes[kept] * factors
  limit = np.array([size[1], size[0]] * 2, np.float32)
  result = {
    "boxes": np.clip(boxes, 0, limit),
    "labels": found.labels[kept],
    "scores": found.scores[kept],
  }
  if found.masks is not None:
    paste = (
      ops.paste_masks_integer if settings.integer_paste else ops.paste_masks
    )
    result["masks"] = _paste_all(
      paste, found.masks[kept], result["boxes"], size, mask_threshold
    )
  if found.keypoints is not None:
    points = found.keypoints[kept]
    xy = (points[..., :2] + np.float32(0.5)) * factors[:2]
    ones = np.ones_like(points[..., :1])
    result["keypoints"] = np.concatenate([xy, ones], -1)
    result["keypoint_scores"] = points[..., 2]
  return result


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _paste_some(paste, masks, boxes, size, threshold):
  return paste(masks, boxes, size, threshold=threshold)


def _paste_all(paste, masks, boxes, size, threshold) -> np.ndarray:
  """Masks [N, S, S] to [N, H, W]; few programs serve all sizes."""
  kind = np.float32 if threshold is None else bool
  result = np.empty((len(masks), *size), kind)
  canvas = tuple(-(-n // _PIXELS) * _PIXELS for n in size)
  for start in range(0, len(masks), _PASTED):
    some = masks[start : start + _PASTED]
    missing = _PASTED - len(some)
    pasted = _paste_some(
      paste,
      np.pad(some, ((0, missing), (0, 0), (0, 0))),
      np.pad(boxes[start : start + _PASTED], ((0, missing), (0, 0))),
      canvas,
      threshold,
    )
    result[start : start + _PASTED] = np.asarray(pasted)[
      : len(some), : size[0], : size[1]
    ]
  return result
