"""Evaluation pairs: photographs under known homographies.

Three sets, each of version 1, frozen in GENERATED.md: random homographies with
photometric change, and plain rotations and zooms by given amounts.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from vision_jax.data import photographs
from vision_jax.data.generated import streams

__all__ = [
  "HOMOGRAPHY_PAIRS_VERSION",
  "ROTATION_PAIRS_VERSION",
  "ZOOM_PAIRS_VERSION",
  "HomographyPair",
  "homography_pair",
  "homography_pairs",
  "rotation_pairs",
  "zoom_pairs",
]

HOMOGRAPHY_PAIRS_VERSION = 1
ROTATION_PAIRS_VERSION = 1
ZOOM_PAIRS_VERSION = 1

_ROTATION = np.deg2rad(20.0)
_SCALES = (0.75, 1.35)
_JITTER = 0.08  # of the side, each corner, each axis
_SHIFT = 0.06  # of the side


class HomographyPair(NamedTuple):
  """A photograph, the same under a homography, and the homography.

  Attributes:
    image0: the resized photograph, float32 [H, W, 3], RGB in [0, 1].
    image1: its warped copy, float32 [H, W, 3]; changed photometrically too
      where the set says so.
    homography_0to1: float64 [3, 3], index frame, last entry 1.
    name: file name of the photograph.
    index: number of the pair among those of this photograph.

  Example:
    >>> from vision_jax.data import homography_pair
    >>> pair = homography_pair("coins.png", 0, size=(120, 160))
    >>> pair.image1.shape, pair.homography_0to1.shape
    ((120, 160, 3), (3, 3))
  """

  image0: np.ndarray
  image1: np.ndarray
  homography_0to1: np.ndarray
  name: str
  index: int  # type: ignore[assignment]


def _random_homography(
  rng: np.random.Generator, size: tuple[int, int]
) -> np.ndarray:
  """Rotation, scale, corner jitter and shift about the middle of a picture."""
  height, width = size
  angle = rng.uniform(-_ROTATION, _ROTATION)
  scale = float(np.exp(rng.uniform(*np.log(_SCALES))))
  sides = np.array([width, height], np.float64)
  jitter = rng.uniform(-_JITTER, _JITTER, (4, 2)) * sides
  shift = rng.uniform(-_SHIFT, _SHIFT, 2) * sides
  corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
  corners = corners * sides
  c, s = scale * np.cos(angle), scale * np.sin(angle)
  moved = corners @ np.array([[c, s], [-s, c]]) + jitter + shift
  middle = 0.5 * (sides - 1)  # index frame
  # The points are rounded to float32; the matrix that maps them is what
  # warps the picture, so nothing is lost.
  matrix = cv2.getPerspectiveTransform(
    (corners + middle).astype(np.float32), (moved + middle).astype(np.float32)
  )
  return matrix / matrix[2, 2]


def _warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Moves the picture by the matrix, bilinear, mirrored beyond its border."""
  return cv2.warpPerspective(
    image,
    matrix,
    image.shape[1::-1],
    flags=cv2.INTER_LINEAR,
    borderMode=cv2.BORDER_REFLECT_101,
  )


def _photometric(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
  """Gamma, contrast, brightness, blur on half the pictures, and noise."""
  gamma = np.float32(np.exp(rng.uniform(-0.4, 0.4)))
  contrast, brightness = rng.uniform(0.6, 1.3), rng.uniform(-0.1, 0.1)
  is_blurred, sigma = rng.random() < 0.5, rng.uniform(0.4, 1.0)
  noise = rng.uniform(0, 6 / 255)
  image = np.clip(image, 0, 1) ** gamma
  mean = np.float32(image.mean())
  image = (image - mean) * np.float32(contrast) + mean + np.float32(brightness)
  if is_blurred:
    image = cv2.GaussianBlur(image, (0, 0), sigma)
  image = np.clip(image, 0, 1)
  return image + rng.standard_normal(image.shape, np.float32) * np.float32(
    noise
  )


def _to_8_bit_steps(image: np.ndarray) -> np.ndarray:
  """Rounds to multiples of 1 / 255, as a saved file would hold them."""
  return np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / np.float32(
    255
  )


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes to (height, width), by area where both sides shrink."""
  height, width = size
  shrinks = height <= image.shape[0] and width <= image.shape[1]
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(image, (width, height), interpolation=method)


def _first_image(function: str, name: str, size: tuple[int, int]) -> np.ndarray:
  """The resized photograph, after checking that it may be used."""
  if name in photographs.TRAINING:
    raise ValueError(
      f"{function}: `name` must be an evaluation photograph, got {name!r},"
      f" which is for training; use one of {' '.join(photographs.EVALUATION)}."
    )
  if min(size) < 2:
    raise ValueError(
      f"{function}: `size` must be at least (2, 2), got {tuple(size)}."
    )
  return _to_8_bit_steps(_resize(photographs.load_photograph(name), size))


def _second_image(
  image0: np.ndarray, name: str, index: int, seed: int, photometric: bool
) -> HomographyPair:
  """Draws the homography and the second picture."""
  # A file name's place in the stream is its checksum, not its row in a table.
  item = zlib.crc32(name.encode())
  height, width = image0.shape[:2]
  rng = streams.random_stream(
    streams.Domain.HOMOGRAPHIES, seed, index, item=item
  )
  matrix = _random_homography(rng, (height, width))
  image1 = _warp(image0, matrix)
  if photometric:
    rng = streams.random_stream(
      streams.Domain.PHOTOMETRY, seed, index, item=item
    )
    image1 = _photometric(rng, image1)
  return HomographyPair(image0, _to_8_bit_steps(image1), matrix, name, index)


def homography_pair(
  name: str,
  index: int,
  *,
  seed: int = 0,
  size: tuple[int, int] = (480, 640),
  photometric: bool = True,
) -> HomographyPair:
  """One evaluation pair.

  The photograph is resized to `size` (its aspect is ignored, as the ELF
  protocol does). The homography turns by up to 20 degrees, scales by 0.75 to
  1.35 (log-uniform), moves each corner by up to 8 % and everything by up to
  6 % of the sides. The second picture then gets gamma e**+-0.4, contrast 0.6
  to 1.3, brightness +-0.1, on half the pairs a blur of sigma 0.4 to 1, and
  noise of sigma up to 6/255.

  Convention:
    Index frame: the pixel centre (x, y) of `image0` is seen at
    `homography_0to1 @ (x, y, 1)` in `image1`. Beyond its border the
    photograph is mirrored (edge pixel not repeated). (seed, name, index)
    fixes the homography as a share of the sides and the photometric change.

  Args:
    name: file name of an evaluation photograph.
    index: number of the pair, at least 0.
    seed: number of the set.
    size: (height, width) of both pictures, pixels.
    photometric: whether the second picture is changed photometrically too.

  Returns:
    The pair; both pictures in 8-bit steps.

  Raises:
    KeyError: if `name` is no photograph.
    ValueError: if the photograph is not for evaluation, or `index` or `seed`
      is out of range.

  Example:
    >>> from vision_jax.data import homography_pair
    >>> pair = homography_pair("moon.png", 3, size=(60, 80))
    >>> pair.name, pair.index
    ('moon.png', 3)

  Source:
    The setting follows the pairs that local-feature papers train and test on
    (DeTone et al., "SuperPoint", CVPRW 2018, section 5).
  """
  image0 = _first_image("homography_pair", name, size)
  return _second_image(image0, name, index, seed, photometric)


def homography_pairs(
  *,
  num_per_image: int = 10,
  seed: int = 0,
  size: tuple[int, int] = (480, 640),
  names: Sequence[str] = photographs.EVALUATION,
  photometric: bool = True,
) -> Iterator[HomographyPair]:
  """The evaluation set: every photograph under several homographies.

  Convention:
    See `homography_pair`. All pairs of the first photograph come first.

  Args:
    num_per_image: pairs of each photograph.
    seed: number of the set.
    size: (height, width), pixels.
    names: file names of evaluation photographs; seven by default, so that the
      default set has 70 pairs.
    photometric: whether the second pictures are changed photometrically too.

  Returns:
    An iterator that draws one pair at a time.

  Raises:
    KeyError: if a name is no photograph.
    ValueError: if a photograph is not for evaluation, or `num_per_image` is
      below 1.

  Example:
    >>> from vision_jax.data import homography_pairs
    >>> pairs = homography_pairs(num_per_image=2, size=(60, 80))
    >>> len(list(pairs))
    14

  Source:
    GENERATED.md, "Homography pairs, version 1".
  """
  if num_per_image < 1:
    raise ValueError(
      "homography_pairs: `num_per_image` must be at least 1, got"
      f" {num_per_image}."
    )
  images = [_first_image("homography_pairs", name, size) for name in names]
  return (
    _second_image(image0, name, index, seed, photometric)
    for name, image0 in zip(names, images, strict=True)
    for index in range(num_per_image)
  )


def _similarity(
  size: tuple[int, int], *, degrees: float = 0.0, zoom: float = 1.0
) -> np.ndarray:
  """Turns from x to y and enlarges about the middle, index frame, [3, 3]."""
  x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
  c, s = zoom * np.cos(np.deg2rad(degrees)), zoom * np.sin(np.deg2rad(degrees))
  matrix = np.array(
    [[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0.0, 0.0, 1.0]]
  )
  return matrix + 0.0  # no negative zeros


def _similarity_pairs(
  function: str,
  matrices: Sequence[np.ndarray],
  size: tuple[int, int],
  names: Sequence[str],
) -> Iterator[HomographyPair]:
  """Every photograph under every matrix, without photometric change."""
  images = [_first_image(function, name, size) for name in names]
  return (
    HomographyPair(
      image0, _to_8_bit_steps(_warp(image0, matrix)), matrix, name, index
    )
    for name, image0 in zip(names, images, strict=True)
    for index, matrix in enumerate(matrices)
  )


def rotation_pairs(
  *,
  angles: Sequence[float] = (10, 50, 90, 130, 170, 210),
  size: tuple[int, int] = (480, 640),
  names: Sequence[str] = photographs.EVALUATION,
) -> Iterator[HomographyPair]:
  """The rotation set: every photograph turned in its plane by each angle.

  Nothing else changes: no scale, no light, no noise.

  Convention:
    Index frame. The photograph turns about its middle, ((W - 1) / 2,
    (H - 1) / 2), from the x axis to the y axis: clockwise as seen. Bilinear;
    beyond its border the photograph is mirrored (edge pixel not repeated).
    The second picture has the size of the first, so that parts are lost and
    mirrored parts appear; `metrics.covisible` leaves both out. `index` of a
    pair is the place of its angle in `angles`. All pairs of the first
    photograph come first.

  Args:
    angles: degrees.
    size: (height, width) of both pictures, pixels.
    names: file names of evaluation photographs; seven by default, so that the
      default set has 42 pairs.

  Returns:
    An iterator that warps one photograph at a time.

  Raises:
    KeyError: if a name is no photograph.
    ValueError: if a photograph is not for evaluation, there is no angle, or
      an angle is not finite.

  Example:
    >>> from vision_jax.data import rotation_pairs
    >>> for pair in rotation_pairs(angles=[90], size=(60, 60),
    ...                            names=["coins.png"]):
    ...   clockwise = np.rot90(pair.image0, -1)
    ...   print(np.abs(pair.image1 - clockwise).max() < 1 / 255)
    True

  Source:
    GENERATED.md, "Rotation pairs, version 1". The angles are those of
    A. Benbihi et al., "ELF", ICCV 2019, whose pictures are not published:
    numbers on this set are not comparable with theirs.
  """
  if not len(angles) or not np.isfinite(angles).all():
    raise ValueError(
      "rotation_pairs: `angles` must be finite degrees, at least one, got"
      f" {list(angles)}."
    )
  matrices = [_similarity(size, degrees=angle) for angle in angles]
  return _similarity_pairs("rotation_pairs", matrices, size, names)


def zoom_pairs(
  *,
  zooms: Sequence[float] = (1.25, 1.5, 1.75, 2.0),
  size: tuple[int, int] = (480, 640),
  names: Sequence[str] = photographs.EVALUATION,
) -> Iterator[HomographyPair]:
  """The zoom set: the middle of every photograph enlarged by each factor.

  Nothing else changes: no rotation, no light, no noise.

  Convention:
    Index frame. The photograph grows about its middle, ((W - 1) / 2,
    (H - 1) / 2), by bilinear interpolation; the second picture shows the
    middle 1 / zoom of both sides at the size of the first, so it is smoother
    than a photograph taken from nearer. `index` of a pair is the place of
    its factor in `zooms`. All pairs of the first photograph come first.

  Args:
    zooms: factors, at least 1; exchange the pictures to zoom out.
    size: (height, width) of both pictures, pixels.
    names: file names of evaluation photographs; seven by default, so that the
      default set has 28 pairs.

  Returns:
    An iterator that warps one photograph at a time.

  Raises:
    KeyError: if a name is no photograph.
    ValueError: if a photograph is not for evaluation, there is no factor, or
      a factor is below 1 or not finite.

  Example:
    >>> from vision_jax.data import zoom_pairs
    >>> pairs = zoom_pairs(size=(60, 80), names=["moon.png"])
    >>> [float(pair.homography_0to1[0, 0]) for pair in pairs]
    [1.25, 1.5, 1.75, 2.0]

  Source:
    GENERATED.md, "Zoom pairs, version 1". The factors are those of
    A. Benbihi et al., "ELF", ICCV 2019, whose pictures are not published:
    numbers on this set are not comparable with theirs.
  """
  factors = np.asarray(zooms, np.float64)
  if not factors.size or not ((factors >= 1) & np.isfinite(factors)).all():
    raise ValueError(
      "zoom_pairs: `zooms` must be finite factors of at least 1, at least one,"
      f" got {list(zooms)}; exchange the pictures of a pair to zoom out."
    )
  matrices = [_similarity(size, zoom=factor) for factor in zooms]
  return _similarity_pairs("zoom_pairs", matrices, size, names)
