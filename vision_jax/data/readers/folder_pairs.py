"""Pairs of pictures in folders, read one at a time; what is damaged is noted.

A reader of a data set lists `PairFiles`; `PairReader` reads them when they are
asked for. A pair that cannot be read is left out, named and counted, so that
one damaged file does not end an evaluation.
"""

import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from vision_jax.data import images

__all__ = [
  "FolderPair",
  "PairFiles",
  "PairReader",
  "SkippedPair",
  "read_homography",
]


class FolderPair(NamedTuple):
  """Two pictures of one scene and the homography between them.

  Attributes:
    image0: first picture, uint8 [H0, W0, 3], RGB.
    image1: second picture, uint8 [H1, W1, 3].
    homography_0to1: float64 [3, 3], index frame.
    name: the scene, which is the name of its folder.
    index: number of the second picture in the scene.
    kind: "i" where only the light changes, "v" where the viewpoint does.
    path0: file of the first picture.
    path1: file of the second picture.

  Example:
    >>> import pathlib
    >>> from vision_jax.data import FolderPair
    >>> image, path = np.zeros((4, 6, 3), np.uint8), pathlib.Path("1.ppm")
    >>> pair = FolderPair(image, image, np.eye(3), "i_ajuntament", 2, "i",
    ...                   path, path.with_name("2.ppm"))
    >>> pair.path1.name
    '2.ppm'
  """

  image0: np.ndarray
  image1: np.ndarray
  homography_0to1: np.ndarray
  name: str
  index: int  # type: ignore[assignment]
  kind: str
  path0: pathlib.Path
  path1: pathlib.Path


class SkippedPair(NamedTuple):
  """A pair that could not be read, and why.

  Attributes:
    name: the scene.
    index: number of the second picture in the scene; 0 for a scene of which
      no pair is known.
    reason: one line that names the file.

  Example:
    >>> from vision_jax.data import SkippedPair
    >>> skipped = SkippedPair("v_wall", 4, "no H_1_4")
    >>> print(f"{skipped.name} 1-{skipped.index}: {skipped.reason}")
    v_wall 1-4: no H_1_4
  """

  name: str
  index: int  # type: ignore[assignment]
  reason: str


class PairFiles(NamedTuple):
  """The files of one pair; they need not exist.

  Attributes:
    name: the scene.
    index: number of the second picture in the scene.
    kind: "i" where only the light changes, "v" where the viewpoint does.
    path0: file of the first picture.
    path1: file of the second picture.
    homography: file of the homography from the first to the second; None for
      a camera that did not move.

  Example:
    >>> import pathlib
    >>> from vision_jax.data import PairFiles
    >>> folder = pathlib.Path("v_wall")
    >>> files = PairFiles("v_wall", 2, "v", folder / "1.ppm", folder / "2.ppm",
    ...                   folder / "H_1_2")
    >>> files.homography.name
    'H_1_2'
  """

  name: str
  index: int  # type: ignore[assignment]
  kind: str
  path0: pathlib.Path
  path1: pathlib.Path
  homography: pathlib.Path | None


def read_homography(path: str | os.PathLike[str]) -> np.ndarray:
  """Reads a homography from a text file.

  Convention:
    Three lines of three numbers, separated by any number of spaces or tabs;
    empty lines are ignored. The matrix is not rescaled.

  Args:
    path: file name.

  Returns:
    Float64 [3, 3], finite and invertible.

  Raises:
    ValueError: if the file cannot be read, holds anything but three by three
      numbers, or the matrix is singular or not finite. The message is one
      line that names the file.

  Example:
    >>> import os, tempfile
    >>> from vision_jax.data import read_homography
    >>> path = os.path.join(tempfile.mkdtemp(), "H_1_2")
    >>> np.savetxt(path, [[1, 0, 5], [0, 1, -2], [0, 0, 1]])
    >>> print(read_homography(path))
    [[ 1.  0.  5.]
     [ 0.  1. -2.]
     [ 0.  0.  1.]]

  Source:
    The files `H_1_2` to `H_1_6` of HPatches.
  """

  def failure(reason: str) -> ValueError:
    return ValueError(
      "read_homography: `path` must be a text file of 3 x 3 numbers, got"
      f" {os.fspath(path)!r} ({reason}); copy it again from the data set."
    )

  try:
    text = pathlib.Path(path).read_text(errors="replace")
  except FileNotFoundError:
    raise failure("no such file") from None
  except OSError as error:
    raise failure(error.strerror or type(error).__name__) from None
  rows = [line.split() for line in text.splitlines() if line.strip()]
  if [len(row) for row in rows] != [3, 3, 3]:
    found = " + ".join(str(len(row)) for row in rows[:9]) or "none"
    raise failure(f"values in its lines: {found}")
  try:
    matrix = np.array(rows, np.float64)
  except ValueError:
    raise failure("a value is no number") from None
  if not np.isfinite(matrix).all():
    raise failure("a value is not finite")
  if np.linalg.matrix_rank(matrix) < 3:
    raise failure("the matrix is not invertible")
  return matrix


class PairReader(Iterator[FolderPair]):
  """Reads pairs one at a time and keeps account of those it cannot read.

  Once all pairs have been asked for, those returned and those in `skipped`
  are as many as `files` (more only by scenes of which no pair is known).

  Convention:
    Pictures as `read_image` reads them, in 8 bits. The first picture of a
    scene is read once and shared by its pairs. Without a file of the
    homography both pictures must have one size.

  Args:
    files: what to read, in this order.
    skipped: scenes that are known beforehand to be missing.

  Attributes:
    files: the files of all pairs, a tuple; its length is the number of pairs.
    skipped: the pairs that could not be read so far, a list.

  Example:
    >>> import pathlib
    >>> from vision_jax.data import PairFiles, PairReader
    >>> folder = pathlib.Path("v_wall")
    >>> reader = PairReader([PairFiles("v_wall", 2, "v", folder / "1.ppm",
    ...                                folder / "2.ppm", folder / "H_1_2")])
    >>> for pair in reader:
    ...   print(pair.name)
    >>> print(len(reader.files), len(reader.skipped), reader.skipped[0].index)
    1 1 2

  Source:
    Behaviour of this project; no published reference.
  """

  files: tuple[PairFiles, ...]
  skipped: list[SkippedPair]

  def __init__(
    self, files: Iterable[PairFiles], *, skipped: Iterable[SkippedPair] = ()
  ):
    self.files = tuple(files)
    self.skipped = list(skipped)
    self._left = iter(self.files)
    self._path0: pathlib.Path | None = None
    self._first: np.ndarray | str  # the picture, or why there is none

  def __next__(self) -> FolderPair:
    for files in self._left:
      try:
        return self._read(files)
      except ValueError as error:  # one line that names the file
        self.skipped.append(SkippedPair(files.name, files.index, str(error)))
    raise StopIteration

  def _read(self, files: PairFiles) -> FolderPair:
    """Reads one pair; ValueError if anything is missing or damaged."""
    matrix = np.eye(3)
    if files.homography is not None:
      matrix = read_homography(files.homography)
    image0 = self._read_first(files.path0)
    image1 = images.to_uint8(images.read_image(files.path1))
    if files.homography is None and image0.shape != image1.shape:
      raise ValueError(
        f"PairReader: pictures of one camera must have one size, got"
        f" {image0.shape[1]} x {image0.shape[0]} in {str(files.path0)!r} and"
        f" {image1.shape[1]} x {image1.shape[0]} in {str(files.path1)!r}."
      )
    return FolderPair(
      image0,
      image1,
      matrix,
      files.name,
      files.index,
      files.kind,
      files.path0,
      files.path1,
    )

  def _read_first(self, path: pathlib.Path) -> np.ndarray:
    """The first picture, read once as long as the scene is the same."""
    if path != self._path0:
      try:
        self._first = images.to_uint8(images.read_image(path))
      except ValueError as error:
        self._first = str(error)
      self._path0 = path
    if isinstance(self._first, str):
      raise ValueError(self._first)
    return self._first
