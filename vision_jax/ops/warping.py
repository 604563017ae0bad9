"""Homographies: applying, fitting and robust estimation.

Matrices act on homogeneous points (x, y, 1) of the index frame. A homography
between two images is called `homography_0to1` and maps image 0 to image 1.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
  "HomographyEstimate",
  "apply_homography",
  "estimate_homography",
  "homography_from_points",
]


def apply_homography(matrix: jax.Array, points: jax.Array) -> jax.Array:
  """Points mapped by a homography.

  Convention:
    Order (x, y); both sides in the frame that the matrix was made for (the
    index frame unless said). Leading axes broadcast.

  Args:
    matrix: homographies, [..., 3, 3]; scale and sign do not matter.
    points: positions, [..., N, 2].

  Returns:
    Mapped positions [..., N, 2], float32 or wider. A point whose denominator is
    0 to rounding lies at infinity and becomes (inf, inf) with gradient 0. A
    negative denominator is not special, since -matrix is the same homography.

  Raises:
    ValueError: if a shape is wrong.

  Example:
    >>> from vision_jax import ops
    >>> matrix = jnp.array([[2.0, 0, 1], [0, 2, 0], [0, 0, 1]])
    >>> print(ops.apply_homography(matrix, jnp.array([[3.0, 4.0]])))
    [[7. 8.]]

  Source:
    Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 2.3.
  """
  matrix, points = jnp.asarray(matrix), jnp.asarray(points)
  if matrix.shape[-2:] != (3, 3):
    raise ValueError(
      "apply_homography: `matrix` must be [..., 3, 3], got shape "
      f"{matrix.shape}."
    )
  _check_points("apply_homography", "points", points)
  dtype = jnp.promote_types(
    jnp.promote_types(matrix.dtype, points.dtype), jnp.float32
  )
  batch = jnp.broadcast_shapes(matrix.shape[:-2], points.shape[:-2])
  m = jnp.broadcast_to(matrix.astype(dtype), (*batch, 3, 3))[..., None, :, :]
  points = jnp.broadcast_to(points.astype(dtype), (*batch, *points.shape[-2:]))
  x, y = points[..., 0], points[..., 1]
  # Element by element, because a matrix product may round to bfloat16.
  terms = [(m[..., i, 0] * x, m[..., i, 1] * y, m[..., i, 2]) for i in range(3)]
  u, v, w = (a + b + c for a, b, c in terms)
  magnitude = sum(jnp.abs(term) for term in terms[2])
  at_infinity = jnp.abs(w) <= jnp.finfo(dtype).eps * magnitude
  w = jnp.where(at_infinity, 1, w)
  mapped = jnp.stack([u / w, v / w], axis=-1)
  return jnp.where(at_infinity[..., None], jnp.inf, mapped)


def homography_from_points(
  points0: jax.Array,
  points1: jax.Array,
  *,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Homography that maps points to points, by the normalised linear method.

  Minimises the weighted algebraic error with a unit vector of coefficients,
  after both sets were moved to mean 0 and mean squared norm 2.

  Convention:
    Order (x, y), index frame; the result is `homography_0to1`.

  Args:
    points0: positions in image 0, [N, 2], N >= 4.
    points1: the corresponding positions in image 1, [N, 2].
    weights: factor of each pair's squared error, >= 0, [N]; bool works too.
      None means 1. Pairs of weight 0 have no influence, whatever they hold.

  Returns:
    Matrix [3, 3], float32 or wider, with matrix[2, 2] = 1 (of unit Frobenius
    norm where that entry is 0 to rounding). Finite, but without meaning, where
    the pairs do not determine a homography (fewer than four, or collinear).

  Raises:
    ValueError: if a shape is wrong or N < 4.

  Example:
    >>> from vision_jax import ops
    >>> corners = jnp.array([[0.0, 0.0], [9.0, 0.0], [9.0, 5.0], [0.0, 5.0]])
    >>> print(ops.homography_from_points(corners, corners + 2).round(3) + 0.0)
    [[1. 0. 2.]
     [0. 1. 2.]
     [0. 0. 1.]]

  Source:
    Hartley, In defense of the eight-point algorithm, 1997; Hartley and
    Zisserman, Multiple View Geometry, 2nd edition, algorithm 4.2.
  """
  points0, points1 = jnp.asarray(points0), jnp.asarray(points1)
  _check_pairs("homography_from_points", points0, points1)
  count = len(points0)
  if count < 4:
    raise ValueError(
      "homography_from_points: `points0` must have at least 4 rows, got "
      f"{count}."
    )
  dtype = jnp.promote_types(
    jnp.promote_types(points0.dtype, points1.dtype), jnp.float32
  )
  if weights is None:
    weights = jnp.ones(count, dtype)
  weights = jnp.asarray(weights).astype(dtype)
  if weights.shape != (count,):
    raise ValueError(
      f"homography_from_points: `weights` must be [{count}], got shape "
      f"{weights.shape}."
    )
  used = weights > 0
  weights = jnp.where(used, weights, 0)
  points0, points1 = (
    jnp.where(used[:, None], p.astype(dtype), 0) for p in (points0, points1)
  )
  points0, scale0, mean0 = _normalise(points0, weights, jnp)
  points1, scale1, mean1 = _normalise(points1, weights, jnp)
  root = jnp.where(used, jnp.sqrt(jnp.where(used, weights, 1)), 0)
  system = _linear_system(points0, points1, jnp) * root[:, None, None]
  h = _null_vector(system.reshape(2 * count, 9)).reshape(3, 3)
  matrix = jnp.linalg.multi_dot(
    [
      _scale_and_shift(1 / scale1, mean1),
      h,
      _scale_and_shift(scale0, -scale0 * mean0),
    ],
    precision="highest",
  )
  norm = jnp.sqrt(jnp.sum(matrix**2))
  corner = matrix[2, 2]
  vanishes = jnp.abs(corner) <= jnp.finfo(dtype).eps * norm
  return matrix / jnp.where(vanishes, norm, corner)


def _normalise(points, weights, xp):
  """Points [N, 2] with mean 0 and mean squared norm 2, the scale, the mean."""
  weights = weights[:, None]
  total = weights.sum()
  total = xp.where(total > 0, total, 1)
  mean = (weights * points).sum(axis=0) / total
  centred = points - mean[None]
  variance = (weights * centred**2).sum() / total
  scale = xp.sqrt(2 / xp.where(variance > 0, variance, 2))
  return scale * centred, scale, mean


def _scale_and_shift(scale: jax.Array, shift: jax.Array) -> jax.Array:
  """Matrix of x' = scale x + shift, [3, 3]."""
  diagonal = jnp.diag(jnp.stack([scale, scale, jnp.ones_like(scale)]))
  return diagonal.at[:2, 2].set(shift)


def _linear_system(points0, points1, xp):
  """Equations in the nine coefficients, two for each pair, [N, 2, 9]."""
  one = xp.ones_like(points0[:, :1])
  p = xp.concatenate([points0, one], axis=1)
  zero = xp.zeros_like(p)
  u, v = points1[:, :1], points1[:, 1:]
  row_u = xp.concatenate([-p, zero, u * p], axis=1)
  row_v = xp.concatenate([zero, -p, v * p], axis=1)
  return xp.stack([row_u, row_v], axis=1)


def _decompose(system: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Singular values [9] and right singular vectors [9, 9] of [R, 9]."""
  missing = max(9 - len(system), 0)
  system = jnp.pad(system, ((0, missing), (0, 0)))
  _, values, vectors = jnp.linalg.svd(system, full_matrices=False)
  return values, vectors


@jax.custom_jvp
def _null_vector(system: jax.Array) -> jax.Array:
  """Unit vector h [9] that minimises |system h|."""
  return _decompose(system)[1][-1]


@_null_vector.defjvp
def _null_vector_jvp(primals, tangents):
  """Needs a gap only at the last singular value, unlike the rule of svd."""
  (system,), (tangent,) = primals, tangents
  values, vectors = _decompose(system)
  h, others = vectors[-1], vectors[:-1]
  dot = functools.partial(jnp.matmul, precision="highest")
  gap = values[:-1] ** 2 - values[-1] ** 2
  distinct = gap > jnp.finfo(gap.dtype).eps * values[0] ** 2
  inverse = jnp.where(distinct, 1 / jnp.where(distinct, gap, 1), 0)
  change = dot(tangent.T, dot(system, h)) + dot(system.T, dot(tangent, h))
  return h, -dot(others.T, inverse * dot(others, change))


class HomographyEstimate(NamedTuple):
  """Result of `estimate_homography`; NumPy, on the host.

  Attributes:
    matrix: `homography_0to1`, float64 [3, 3]; the identity after a failure.
    inliers: bool [N]; False for rows that were not valid and after a failure.
    success: whether an estimate was found.

  Example:
    >>> from vision_jax import ops
    >>> failed = ops.HomographyEstimate(np.eye(3), np.zeros(8, bool), False)
    >>> int(failed.inliers.sum())
    0
  """

  matrix: np.ndarray
  inliers: np.ndarray
  success: bool


def estimate_homography(
  points0: np.ndarray,
  points1: np.ndarray,
  *,
  valid: np.ndarray | None = None,
  threshold: float = 3.0,
  max_iterations: int = 2000,
  confidence: float = 0.995,
  method: str = "ransac",
) -> HomographyEstimate:
  """Homography from matches of which some are wrong, by OpenCV.

  Runs on the host in NumPy, not under jit. Every call gives the same result for
  the same input. Fails, without raising, when fewer than four valid pairs agree
  or when the pairs that agree do not determine a homography (collinear).

  Convention:
    Order (x, y), index frame; the result is `homography_0to1`.

  Args:
    points0: positions in image 0, [N, 2].
    points1: the corresponding positions in image 1, [N, 2].
    valid: bool [N]; False marks padding. None means all. Pairs that are not
      finite are not valid.
    threshold: largest distance of an inlier in image 1, pixels. "lmeds" finds
      its own.
    max_iterations: limit on the samples that are tried.
    confidence: probability of a correct result at which the search stops.
    method: "ransac", "magsac" or "lmeds" (needs more than half inliers).

  Returns:
    `HomographyEstimate(matrix, inliers, success)`.

  Raises:
    ValueError: if a shape is wrong, the method is unknown, or a setting is out
      of range.

  Example:
    >>> from vision_jax import ops
    >>> points0 = np.random.default_rng(0).uniform(0, 99, (20, 2))
    >>> points1 = points0 + 5
    >>> points1[:4] += 50
    >>> estimate = ops.estimate_homography(points0, points1)
    >>> int(estimate.inliers.sum()), bool(estimate.success)
    (16, True)

  Note:
    Sets the seed of OpenCV's global random generator.

  Source:
    Fischler and Bolles, 1981 (RANSAC); Barath et al., 2020 (MAGSAC++);
    `cv2.findHomography`.
  """
  points0 = np.asarray(points0, np.float64)
  points1 = np.asarray(points1, np.float64)
  _check_pairs("estimate_homography", points0, points1)
  count = len(points0)
  valid = np.ones(count, bool) if valid is None else np.asarray(valid, bool)
  if valid.shape != (count,):
    raise ValueError(
      f"estimate_homography: `valid` must be [{count}], got shape "
      f"{valid.shape}."
    )
  methods = {"ransac": "RANSAC", "magsac": "USAC_MAGSAC", "lmeds": "LMEDS"}
  if method not in methods:
    raise ValueError(
      f"estimate_homography: `method` must be one of {', '.join(methods)}, "
      f"got {method!r}."
    )
  if not (threshold > 0 and max_iterations > 0 and 0 < confidence < 1):
    raise ValueError(
      "estimate_homography: `threshold` and `max_iterations` must be "
      "positive and `confidence` between 0 and 1, got "
      f"{threshold}, {max_iterations}, {confidence}."
    )
  inliers = np.zeros(count, bool)
  failure = HomographyEstimate(np.eye(3), inliers, False)
  pairs = np.concatenate([points0, points1], axis=1)
  rows = np.flatnonzero(valid & np.isfinite(pairs).all(axis=1))
  if len(rows) < 4:
    return failure
  import cv2

  cv2.setRNGSeed(0)
  matrix, mask = cv2.findHomography(
    points0[rows],
    points1[rows],
    getattr(cv2, methods[method]),
    threshold,
    maxIters=max_iterations,
    confidence=confidence,
  )
  if matrix is None or not np.isfinite(matrix).all():
    return failure
  rows = rows[mask.ravel() > 0]
  forward = _is_determined(points0[rows], points1[rows])
  if not forward or not _is_determined(points1[rows], points0[rows]):
    return failure
  return HomographyEstimate(matrix, np.isin(np.arange(count), rows), True)


def _is_determined(points0: np.ndarray, points1: np.ndarray) -> bool:
  """Whether the pairs leave one homography only."""
  if len(points0) < 4:
    return False
  weights = np.ones(len(points0))
  points0, _, _ = _normalise(points0, weights, np)
  points1, _, _ = _normalise(points1, weights, np)
  system = _linear_system(points0, points1, np).reshape(-1, 9)
  values = np.linalg.eigvalsh(system.T @ system)  # squares, ascending
  return bool(values[1] > 1e-10 * values[-1])


def _check_points(function: str, name: str, points) -> None:
  """Raises unless `points` is [..., N, 2]."""
  if points.ndim < 2 or points.shape[-1] != 2:
    raise ValueError(
      f"{function}: `{name}` must be [..., N, 2] in the order (x, y), got "
      f"shape {points.shape}."
    )


def _check_pairs(function: str, points0, points1) -> None:
  """Raises unless both are [N, 2] with one N."""
  if points0.ndim != 2 or points0.shape[1] != 2:
    raise ValueError(
      f"{function}: `points0` must be [N, 2] in the order (x, y), got shape "
      f"{points0.shape}."
    )
  if points1.shape != points0.shape:
    raise ValueError(
      f"{function}: `points1` must be {list(points0.shape)} as `points0`, "
      f"got shape {points1.shape}."
    )
