"""One unit vector for an image from a feature map of a classifier.

SPoC, MAC and GeM are `ops.unit_rows(ops.spoc_pool(features))` and so on; the
methods here have whitening or weights of their own.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vision_jax import ops

__all__ = [
  "cam_descriptor",
  "cam_maps",
  "cam_vectors",
  "crow_descriptor",
  "multi_scale",
  "rmac_descriptor",
]


def _maybe_whiten(
  vectors: jax.Array, whitening: ops.Whitening | None
) -> jax.Array:
  """Unit vectors, whitened if there is a whitening."""
  vectors = ops.unit_rows(vectors)
  return vectors if whitening is None else ops.whiten(vectors, whitening)


def rmac_descriptor(
  features: jax.Array,
  *,
  whitening: ops.Whitening | None = None,
  levels: int = 3,
  add_global: bool = False,
) -> jax.Array:
  """R-MAC: maxima over a pyramid of squares, whitened, summed.

  Args:
    features: last convolutional features, [h, w, C].
    whitening: learned on region vectors (`ops.rmac_vectors`) of other images.
    levels: of the pyramid.
    add_global: also add the maximum over the whole map.

  Returns:
    Unit vector [C] (or as long as the whitening has columns).

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.rmac_descriptor(jnp.ones((6, 8, 4))).shape
    (4,)

  Source:
    Tolias, Sicre, Jégou (arXiv 1511.05879), sec. 3.
  """
  vectors = ops.rmac_vectors(features, levels=levels)
  if add_global:
    vectors = jnp.concatenate([vectors, ops.mac_pool(features)[None]])
  return ops.unit_rows(_maybe_whiten(vectors, whitening).sum(0))


def crow_descriptor(
  features: jax.Array, *, whitening: ops.Whitening | None = None
) -> jax.Array:
  """CroW: a sum weighted by where the map is active and how rarely.

  Args:
    features: last convolutional features, [h, w, C].
    whitening: learned on such vectors of other images, without whitening.

  Returns:
    Unit vector.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> features = jnp.zeros((2, 2, 2)).at[0, 0, 1].set(1.0)
    >>> print(retrieval.crow_descriptor(features + 1e-3).round(2))
    [0. 1.]

  Source:
    Kalantidis et al. (arXiv 1512.04065); yahoo/crow.
  """
  cell, channel = ops.crow_weights(features)
  pooled = jnp.einsum("yx,yxc->c", cell, features, precision="highest")
  # Of a map that fires in every channel everywhere no channel is rare.
  alive = (channel > 0).any()
  return _maybe_whiten(pooled * jnp.where(alive, channel, 1), whitening)


def cam_maps(
  features: jax.Array, kernel: jax.Array, classes: jax.Array
) -> jax.Array:
  """Class activation maps, divided by their maximum, negatives 0.

  Args:
    features: the map before the global average, [h, w, C].
    kernel: weights of the classifier, [C, K].
    classes: which classes, int [N].

  Returns:
    [N, h, w] in [0, 1].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> maps = retrieval.cam_maps(jnp.ones((2, 3, 4)), jnp.eye(4),
    ...                           jnp.array([1]))
    >>> print(maps[0])
    [[1. 1. 1.]
     [1. 1. 1.]]

  Source:
    Zhou et al. (arXiv 1512.04150); Jimenez et al. (arXiv 1707.02581), eq. 1.
  """
  maps = jnp.einsum(
    "yxc,cn->nyx", features, kernel[:, classes], precision="highest"
  )
  top = maps.max((-2, -1), keepdims=True)
  return jnp.maximum(maps, 0) / jnp.where(top > 0, top, 1)


def cam_vectors(
  features: jax.Array,
  kernel: jax.Array,
  logits: jax.Array,
  *,
  num_classes: int = 64,
) -> jax.Array:
  """One vector for each of the most likely classes, most likely first.

  Args:
    features: [h, w, C].
    kernel: weights of the classifier, [C, K].
    logits: class scores of the image, [K].
    num_classes: at most so many classes.

  Returns:
    Unit vectors [min(num_classes, K), C].

  Example:
    >>> from vision_jax.systems import retrieval
    >>> retrieval.cam_vectors(jnp.ones((2, 3, 4)), jnp.ones((4, 9)),
    ...                       jnp.zeros(9), num_classes=5).shape
    (5, 4)

  Source:
    Jimenez et al. (arXiv 1707.02581), sec. 3.
  """
  _, classes = jax.lax.top_k(logits, min(num_classes, kernel.shape[1]))
  maps = cam_maps(features, kernel, classes)
  pooled = jnp.einsum("nyx,yxc->nc", maps, features, precision="highest")
  _, channel = ops.crow_weights(features)
  channel = jnp.where((channel > 0).any(), channel, 1)
  return ops.unit_rows(pooled * channel[None])


def cam_descriptor(
  vectors: jax.Array, *, whitening: ops.Whitening | None = None
) -> jax.Array:
  """The sum of the (whitened) class vectors of an image.

  Args:
    vectors: from `cam_vectors`, [N, C].
    whitening: learned on the first class vector of other images.

  Returns:
    Unit vector.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> print(retrieval.cam_descriptor(jnp.array([[1.0, 0.0], [0.0, 1.0]])))
    [0.70710677 0.70710677]

  Source:
    Jimenez et al. (arXiv 1707.02581), sec. 3.
  """
  return ops.unit_rows(_maybe_whiten(vectors, whitening).sum(0))


def multi_scale(
  describe: Callable[[jax.Array], jax.Array],
  image: jax.Array,
  *,
  scales: Sequence[float] = (1.0, 2**-0.5, 0.5),
) -> jax.Array:
  """Mean of the descriptors of an image at several sizes.

  Args:
    describe: image [H, W, 3] -> unit vector.
    image: float [H, W, 3].
    scales: sizes relative to that of the image.

  Returns:
    Unit vector.

  Example:
    >>> from vision_jax.systems import retrieval
    >>> out = retrieval.multi_scale(lambda x: x.mean((0, 1)),
    ...                             jnp.ones((8, 8, 3)))
    >>> print(out.round(3))
    [0.577 0.577 0.577]

  Source:
    Radenović et al. (arXiv 1711.02512), sec. 3.3.
  """
  total = []
  for scale in scales:
    height, width = (max(1, round(scale * n)) for n in image.shape[:2])
    size = (height, width)
    same = size == image.shape[:2]
    seen = image if same else ops.resize(image, size, antialias=scale < 1)
    total.append(describe(seen))
  return ops.unit_rows(sum(total[1:], total[0]))
