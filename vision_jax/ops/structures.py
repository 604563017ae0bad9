"""Named tuples that travel between functions.

==============  ==========================================================
Structure       Fields (leading ``...`` axes are batch axes)
==============  ==========================================================
``Keypoints``   ``xy [..., K, 2]``, ``scores [..., K]``, ``valid [..., K]``,
                ``descriptors [..., K, D]``, ``scale [..., K]`` or None,
                ``angle [..., K]`` or None
``Matches``     ``index0 [..., M]``, ``index1 [..., M]``, ``scores [..., M]``,
                ``valid [..., M]``
``Detections``  ``boxes [..., N, 4]``, ``scores [..., N]``,
                ``labels [..., N]``, ``valid [..., N]``,
                ``masks [..., N, H, W]`` or None,
                ``keypoints [..., N, K, 3]`` or None
==============  ==========================================================

Sizes are static. ``valid`` is False on padding rows, whose other fields are 0
(indices of ``Matches``: -1). Points are (x, y) in the index frame, boxes are
(x1, y1, x2, y2) in the continuous frame; see ``vision_jax.ops.frames``.
"""

from typing import NamedTuple

import jax

__all__ = ["Detections", "Keypoints", "Matches"]


class Keypoints(NamedTuple):
  """Key points of one image, or of a batch with leading axes.

  Attributes:
    xy: positions (x, y), index frame, float32 [..., K, 2].
    scores: ranking values, float32 [..., K], descending among valid rows.
    valid: bool [..., K]; False marks padding.
    descriptors: unit vectors, float32 [..., K, D]; D = 0 for a detector alone.
    scale: size of each point in pixels, float32 [..., K], or None.
    angle: orientation in radians, x axis towards y axis, [..., K], or None.

  Example:
    >>> from vision_jax.ops import Keypoints
    >>> k = Keypoints(jnp.zeros((8, 2)), jnp.zeros(8), jnp.zeros(8, bool),
    ...               jnp.zeros((8, 64)))
    >>> k.scale is None
    True
  """

  xy: jax.Array
  scores: jax.Array
  valid: jax.Array
  descriptors: jax.Array
  scale: jax.Array | None = None
  angle: jax.Array | None = None


class Matches(NamedTuple):
  """Correspondences between two sets of key points.

  Attributes:
    index0: row of the first set, int32 [..., M]; -1 where not valid.
    index1: row of the second set, int32 [..., M]; -1 where not valid.
    scores: similarity of the pair, float32 [..., M]; 0 where not valid.
    valid: bool [..., M].

  Example:
    >>> from vision_jax.ops import Matches
    >>> m = Matches(jnp.array([0]), jnp.array([3]), jnp.array([0.9]),
    ...             jnp.array([True]))
    >>> int(m.index1[0])
    3
  """

  index0: jax.Array
  index1: jax.Array
  scores: jax.Array
  valid: jax.Array


class Detections(NamedTuple):
  """Boxes found in one image (also: regions, proposals).

  Attributes:
    boxes: (x1, y1, x2, y2), continuous frame, float32 [..., N, 4].
    scores: confidence, float32 [..., N].
    labels: class index, int32 [..., N].
    valid: bool [..., N]; False marks padding.
    masks: probabilities or bool, [..., N, H, W], or None.
    keypoints: (x, y, score), index frame, [..., N, K, 3], or None.

  Example:
    >>> from vision_jax.ops import Detections
    >>> d = Detections(jnp.zeros((2, 4)), jnp.zeros(2), jnp.zeros(2, int),
    ...                jnp.zeros(2, bool))
    >>> d.masks is None
    True
  """

  boxes: jax.Array
  scores: jax.Array
  labels: jax.Array
  valid: jax.Array
  masks: jax.Array | None = None
  keypoints: jax.Array | None = None
