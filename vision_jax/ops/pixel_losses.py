"""Cross-entropy of labelled pixels and points, where some carry no label."""

import jax
import jax.numpy as jnp

from vision_jax.ops import sampling
from vision_jax.ops.floats import at_least_float32
from vision_jax.ops.losses import label_loss

__all__ = ["label_losses", "segmentation_loss"]


def segmentation_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  ignore: int = 255,
  hardest: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of every labelled pixel, summed, and their number.

  Convention:
    Layout [B, H, W, K]. Smaller scores are enlarged to the labels, bilinear.

  Args:
    logits: scores, [B, h, w, K].
    labels: class of each pixel, integers [B, H, W]; padding carries `ignore`.
    ignore: the label of pixels that do not count.
    hardest: share of the labelled and ignored pixels that counts, those of
      largest loss; DeepLab on Cityscapes takes 0.2.

  Returns:
    (sum, count), as `train.make_step` expects a term. (0, 0) where no pixel is
    labelled.

  Raises:
    ValueError: if shapes do not belong together or `hardest` is not in (0, 1].

  Example:
    >>> from vision_jax import ops
    >>> logits = jnp.zeros((1, 2, 3, 4))
    >>> labels = jnp.array([[[0, 1, 255], [2, 255, 255]]])
    >>> total, count = ops.segmentation_loss(logits, labels)
    >>> print((total / count).round(4), count)  # log 4
    1.3863 3

  Source:
    torch.nn.functional.cross_entropy; Wu et al., Bridging Category-level and
    Instance-level Semantic Image Segmentation, 2016 (hardest pixels).
  """
  if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels):
    raise ValueError(
      "segmentation_loss: `logits` and `labels` must be [B, h, w, K] and "
      f"[B, H, W], got shapes {logits.shape} and {labels.shape}."
    )
  if not 0 < hardest <= 1:
    raise ValueError(
      f"segmentation_loss: `hardest` must be in (0, 1], got {hardest}."
    )
  size = (labels.shape[1], labels.shape[2])
  logits = sampling.resize(at_least_float32(logits), size)
  losses, valid = label_losses(logits, labels, ignore=ignore)
  if hardest == 1:
    return losses.sum(), valid.sum()
  largest, _ = jax.lax.top_k(losses.reshape(-1), int(hardest * losses.size))
  # As released: ignored pixels, of loss 0, are among the candidates.
  count = jnp.where(valid.any(), largest.size, 0)
  return largest.sum(), count


def label_losses(
  logits: jax.Array, labels: jax.Array, *, ignore: int = 255
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of each label.

  Args:
    logits: scores, [..., K].
    labels: classes, integers [...].
    ignore: the label that does not count.

  Returns:
    Losses [...], 0 where ignored, and what is not ignored, bool [...].

  Example:
    >>> from vision_jax import ops
    >>> losses, valid = ops.label_losses(jnp.zeros((2, 4)), jnp.array([3, 255]))
    >>> print(losses.round(4), valid)
    [1.3863 0.    ] [ True False]

  Source:
    torch.nn.functional.cross_entropy with ignore_index.
  """
  valid = labels != ignore
  known = jnp.where(valid, labels, 0).astype(jnp.int32)
  return jnp.where(valid, label_loss(logits, known), 0), valid
