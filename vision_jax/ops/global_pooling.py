"""One vector for an image: SPoC, MAC, GeM, R-MAC, CroW, VLAD.

Feature maps are [..., h, w, C], the output of a last ReLU. Results are not
normalised unless said.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.ops.region_pooling import unit_rows

__all__ = [
  "crow_weights",
  "gem_pool",
  "mac_pool",
  "rmac_regions",
  "rmac_vectors",
  "spoc_pool",
  "vlad",
]


def _check(function: str, features: jax.Array) -> None:
  if features.ndim < 3 or 0 in features.shape[-3:]:
    raise ValueError(
      f"{function}: `features` must be [..., h, w, C] with at least one cell, "
      f"got shape {features.shape}."
    )


def spoc_pool(features: jax.Array) -> jax.Array:
  """Mean over the cells.

  Args:
    features: [..., h, w, C].

  Returns:
    [..., C].

  Raises:
    ValueError: if the map is empty.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.spoc_pool(jnp.arange(4.0).reshape(2, 2, 1)))
    [1.5]

  Source:
    Babenko, Lempitsky (arXiv 1510.07493), without the centre prior.
  """
  _check("spoc_pool", features)
  return features.mean((-3, -2))


def mac_pool(features: jax.Array) -> jax.Array:
  """Maximum over the cells.

  Args:
    features: [..., h, w, C].

  Returns:
    [..., C].

  Raises:
    ValueError: if the map is empty.

  Example:
    >>> from vision_jax import ops
    >>> print(ops.mac_pool(jnp.arange(4.0).reshape(2, 2, 1)))
    [3.]

  Source:
    Tolias, Sicre, Jégou (arXiv 1511.05879), eq. 2.
  """
  _check("mac_pool", features)
  return features.max((-3, -2))


def gem_pool(features: jax.Array, *, power: float = 3.0) -> jax.Array:
  """Generalised mean over the cells: 1 is SPoC, infinity MAC.

  Args:
    features: [..., h, w, C]; values below 1e-6 count as 1e-6.
    power: p.

  Returns:
    [..., C].

  Raises:
    ValueError: if the map is empty.

  Example:
    >>> from vision_jax import ops
    >>> print(f"{ops.gem_pool(jnp.array([[[1.0], [2.0]]]))[0]:.3f}")
    1.651

  Source:
    Radenović, Tolias, Chum (arXiv 1711.02512), eq. 3.
  """
  _check("gem_pool", features)
  powers = jnp.maximum(features, 1e-6) ** power
  return powers.mean((-3, -2)) ** (1 / power)


def rmac_regions(size: tuple[int, int], *, levels: int = 3) -> np.ndarray:
  """The square regions of R-MAC, in cells.

  Level l has squares of side floor(2 min(h, w) / (l + 1)), l on the shorter
  side and, on the longer, as many more as make neighbours of level 1 overlap by
  about 40 %.

  Args:
    size: (h, w) of the map.
    levels: L.

  Returns:
    int [R, 4], (x1, y1, x2, y2), half-open.

  Raises:
    ValueError: if the map is empty or `levels` below 1.

  Example:
    >>> from vision_jax import ops
    >>> len(ops.rmac_regions((16, 16))), len(ops.rmac_regions((24, 32)))
    (14, 20)

  Source:
    Tolias et al. (arXiv 1511.05879), sec. 3.2; rounding as in
    filipradenovic/cnnimageretrieval-pytorch.
  """
  if min(size) < 1 or levels < 1:
    raise ValueError(
      "rmac_regions: `size` and `levels` must be at least 1, got "
      f"{size} and {levels}."
    )
  short, long = min(size), max(size)
  overlaps = [
    abs((short - (long - short) / (steps - 1)) / short - 0.4)
    for steps in range(2, 8)
  ]
  more = int(np.argmin(overlaps)) + 1 if long > short else 0
  regions = []
  for level in range(1, levels + 1):
    side = 2 * short // (level + 1)
    if side == 0:
      break
    offset = math.floor(side / 2 - 1)
    starts = []
    for length in size:
      count = level + (more if length == long else 0)
      step = (length - side) / (count - 1) if count > 1 else 0.0
      starts.append(
        [math.floor(offset + k * step) - offset for k in range(count)]
      )
    regions += [
      (x, y, x + side, y + side) for y in starts[0] for x in starts[1]
    ]
  return np.array(regions, np.int32).reshape(-1, 4)


def rmac_vectors(features: jax.Array, *, levels: int = 3) -> jax.Array:
  """Maxima over the regions of `rmac_regions`.

  R-MAC is then: unit vectors, whitened, unit again, summed, unit.

  Args:
    features: [..., h, w, C].
    levels: L.

  Returns:
    [..., R, C].

  Raises:
    ValueError: if the map is empty.

  Example:
    >>> from vision_jax import ops
    >>> ops.rmac_vectors(jnp.ones((6, 8, 5))).shape
    (20, 5)

  Source:
    As `rmac_regions`.
  """
  _check("rmac_vectors", features)
  height, width = features.shape[-3:-1]
  regions = rmac_regions((height, width), levels=levels)
  return jnp.stack(
    [
      features[..., y1:y2, x1:x2, :].max((-3, -2))
      for x1, y1, x2, y2 in regions.tolist()
    ],
    -2,
  )


def crow_weights(features: jax.Array) -> tuple[jax.Array, jax.Array]:
  """CroW's weights of cells and of channels.

  Cells: the root of their sum over channels, over its norm. Channels: the
  logarithm of how rare they are, 0 where they never fire. The descriptor is
  ``channel * (cell * features).sum over cells``.

  Args:
    features: [..., h, w, C], not below 0.

  Returns:
    Cell weights [..., h, w] and channel weights [..., C].

  Raises:
    ValueError: if the map is empty.

  Example:
    >>> from vision_jax import ops
    >>> cell, channel = ops.crow_weights(jnp.ones((2, 2, 3)))
    >>> print(cell[0], channel[0].round(4))
    [0.70710677 0.70710677] 1.0986

  Source:
    Kalantidis, Mellina, Osindero (arXiv 1512.04065), sec. 3; yahoo/crow.
  """
  _check("crow_weights", features)
  total = features.sum(-1)
  norm = jnp.sqrt((total * total).sum((-2, -1), keepdims=True))
  ratio = total / jnp.where(norm > 0, norm, 1)
  positive = ratio > 0
  cell = jnp.where(positive, jnp.sqrt(jnp.where(positive, ratio, 1)), 0)
  share = (features > 0).mean((-3, -2))
  fires = share > 0
  rarity = share.sum(-1, keepdims=True) / jnp.where(fires, share, 1)
  channel = jnp.where(fires, jnp.log(jnp.where(fires, rarity, 1)), 0)
  return cell, channel


def vlad(
  descriptors: jax.Array,
  centres: jax.Array,
  *,
  valid: jax.Array | None = None,
  intra: bool = True,
  power: float = 0.5,
) -> jax.Array:
  """Vector of locally aggregated descriptors, of length 1.

  The differences to the nearest centre are summed for each centre; each sum is
  made a unit vector (`intra`), then every entry is damped by a power.

  Args:
    descriptors: [N, D].
    centres: [K, D].
    valid: bool [N]; others are left out.
    intra: whether each centre has the same weight.
    power: of the absolute values, signs kept; 1 leaves them.

  Returns:
    [K D], a unit vector, or 0 where there is nothing.

  Raises:
    ValueError: if the lengths differ.

  Example:
    >>> from vision_jax import ops
    >>> centres = jnp.array([[0.0, 0.0], [5.0, 5.0]])
    >>> print(ops.vlad(jnp.array([[1.0, 0.0], [5.0, 6.0]]), centres).round(3))
    [0.707 0.    0.    0.707]

  Source:
    Jégou et al., "Aggregating local descriptors into a compact image
    representation", CVPR 2010; Arandjelović, Zisserman, "All about VLAD",
    CVPR 2013 (intra-normalisation).
  """
  if descriptors.shape[-1:] != centres.shape[-1:] or descriptors.ndim != 2:
    raise ValueError(
      "vlad: `descriptors` [N, D] and `centres` [K, D] must have the same D, "
      f"got {descriptors.shape} and {centres.shape}."
    )
  products = jnp.matmul(descriptors, centres.T, precision="highest")
  squares = (centres * centres).sum(-1)[None, :]
  nearest = jnp.argmin(squares - 2 * products, -1)
  member = jax.nn.one_hot(nearest, len(centres), dtype=descriptors.dtype)
  if valid is not None:
    member = member * valid[:, None]
  sums = jnp.matmul(member.T, descriptors, precision="highest")
  sums = sums - member.sum(0)[:, None] * centres
  if intra:
    sums = unit_rows(sums)
  if power != 1.0:
    sums = jnp.sign(sums) * jnp.abs(sums) ** power
  return unit_rows(sums.reshape(-1))
