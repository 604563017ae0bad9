"""The loss of YOLOv3, as darknet differentiates it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vision_jax import ops
from vision_jax.systems.yolo import decoding, targets

__all__ = ["yolo_loss"]

Anchors = Sequence[Sequence[tuple[float, float]]]


def yolo_loss(
  maps: Sequence[jax.Array],
  boxes: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  *,
  image_size: tuple[int, int],
  anchors: Anchors,
  ignore_threshold: float = 0.5,
  match_threshold: float = 1.0,
  coordinates: str = "bce",
) -> dict[str, jax.Array]:
  r"""The three terms of the loss of one image.

  Over assigned anchors
  :math:`(2 - w h)[\mathrm{BCE}(\sigma(t_x), \hat x) + \mathrm{BCE}(\sigma(t_y),
  \hat y) + \frac12 (t_w - \hat t_w)^2 + \frac12 (t_h - \hat t_h)^2]` and the
  BCE of all classes; over all anchors but the ignored the BCE of objectness.
  Ignored is a prediction without an object assigned that overlaps some object
  by more than `ignore_threshold`. All terms are sums, which darknet averages
  over the batch.

  Convention:
    Boxes in the continuous frame of the input of the network. Objects are left
    out as by `assign_objects`; an image without any gives a finite loss.

  Args:
    maps: [h, w, A, 5 + K], one for each head, before the activation.
    boxes: [G, 4].
    labels: class of each, integers [G].
    valid: bool [G]; False marks padding.
    image_size: (height, width) of the input of the network.
    anchors: (width, height) in pixels, one group for each head.
    ignore_threshold: 0.5 in the paper and for VOC, 0.7 in darknet's file for
      COCO.
    match_threshold: as of `assign_objects`.
    coordinates: loss of the middle of a box, whose gradient in darknet is that
      of "bce"; "mse" is the half square of the paper.

  Returns:
    {"box", "objectness", "classes"}, float32 [].

  Raises:
    ValueError: if `coordinates` is unknown, or maps and anchors do not belong
      together.

  Example:
    >>> from vision_jax.systems import yolo
    >>> terms = yolo.yolo_loss(
    ...     [jnp.zeros((2, 2, 1, 6))], jnp.array([[32.0, 0, 64, 32]]),
    ...     jnp.array([0]), jnp.array([True]), image_size=(64, 64),
    ...     anchors=[[(32.0, 32.0)]])
    >>> {name: round(float(term), 3) for name, term in terms.items()}
    {'box': 2.426, 'objectness': 2.773, 'classes': 0.693}

  Source:
    forward_yolo_layer of darknet, which gives target minus sigmoid as the
    gradient of the raw output: that of the binary cross-entropy. The paper,
    section 2.1, says squared error.
  """
  if coordinates not in ("bce", "mse"):
    raise ValueError(
      f'yolo_loss: `coordinates` must be "bce" or "mse", got {coordinates!r}.'
    )
  decoded = decoding.decode_maps(maps, image_size=image_size, anchors=anchors)
  assigned = targets.assign_objects(
    boxes,
    labels,
    valid,
    image_size=image_size,
    grids=[(m.shape[0], m.shape[1]) for m in maps],
    anchors=anchors,
    num_classes=maps[0].shape[-1] - 5,
    match_threshold=match_threshold,
  )
  overlaps = ops.box_iou(
    jax.lax.stop_gradient(decoded.boxes),
    jnp.where(valid[:, None], boxes.astype(jnp.float32), 0.0),
  )
  near = ((overlaps > ignore_threshold) & valid[None]).any(-1)
  values = jnp.concatenate([m.reshape(-1, m.shape[-1]) for m in maps])
  flat = [
    jnp.concatenate([field.reshape(-1, *field.shape[3:]) for field in fields])
    for fields in zip(*assigned, strict=True)
  ]
  positive, box, weight, classes = flat
  cross_entropy = ops.binary_cross_entropy
  if coordinates == "bce":
    middle = cross_entropy(values[:, :2], box[:, :2])
  else:
    middle = (jax.nn.sigmoid(values[:, :2]) - box[:, :2]) ** 2 / 2
  extent = (values[:, 2:4] - box[:, 2:]) ** 2 / 2
  object_loss = cross_entropy(values[:, 4], positive.astype(jnp.float32))
  class_loss = cross_entropy(values[:, 5:], classes).sum(-1)
  each = (middle + extent).sum(-1) * weight
  return {
    "box": jnp.where(positive, each, 0.0).sum(),
    "objectness": jnp.where(positive | ~near, object_loss, 0.0).sum(),
    "classes": jnp.where(positive, class_loss, 0.0).sum(),
  }
