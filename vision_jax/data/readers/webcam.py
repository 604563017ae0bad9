"""Webcam: six static cameras through days and seasons.

The data set is not part of this project and nothing is fetched.
"""

import os
import pathlib
from collections.abc import Sequence

from vision_jax.data import images
from vision_jax.data.readers import folder_pairs

__all__ = ["WEBCAM_SCENES", "webcam_pairs"]

WEBCAM_SCENES = (
  "Chamonix",
  "Courbevoie",
  "Frankfurt",
  "Mexico",
  "Panorama",
  "StLouis",
)
"""Folders of the six cameras."""

_TEST = ("test", "image_color")


def webcam_pairs(
  root: str | os.PathLike[str], *, scenes: Sequence[str] = WEBCAM_SCENES
) -> folder_pairs.PairReader:
  """Pairs of the test pictures of the Webcam data set, read one at a time.

  The first picture of each scene is paired with all others. The camera does
  not move, so the homography is the identity. Pairs with a damaged picture,
  or with two sizes, are left out and listed in `skipped` of the reader, and
  so is each scene without two pictures.

  Convention:
    Scenes in the order of `scenes`, pictures sorted by name. (The ELF
    evaluation takes the order in which the file system lists them, which is
    not defined.) `index` is the place of the second picture in this order,
    from 1; `kind` is "i".

  Args:
    root: folder that holds the scenes; the pictures of a scene are in its
      folder `test/image_color`.
    scenes: names of the scenes.

  Returns:
    An iterator of `FolderPair`.

  Raises:
    ValueError: if `root` is no folder or holds none of the scenes.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import webcam_pairs, write_image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> folder = root / "Mexico" / "test" / "image_color"
    >>> folder.mkdir(parents=True)
    >>> for name in ("b.png", "a.png", "c.png"):
    ...   write_image(folder / name, np.zeros((4, 6, 3)))
    >>> reader = webcam_pairs(root, scenes=["Mexico"])
    >>> [(pair.path0.name, pair.path1.name) for pair in reader]
    [('a.png', 'b.png'), ('a.png', 'c.png')]

  Source:
    Y. Verdie et al., "TILDE", CVPR 2015; A. Benbihi et al., "ELF", ICCV 2019
    (pairs with the first picture).
  """
  folder = pathlib.Path(root)
  if not folder.is_dir():
    raise ValueError(
      f"webcam_pairs: `root` must be a folder, got {str(folder)!r}; unpack"
      " WebcamRelease and name the folder."
    )
  if not any((folder / scene).is_dir() for scene in scenes):
    raise ValueError(
      f"webcam_pairs: `root` must hold one of the folders {' '.join(scenes)},"
      f" got {str(folder)!r} without any; name the folder WebcamRelease."
    )
  files: list[folder_pairs.PairFiles] = []
  skipped: list[folder_pairs.SkippedPair] = []
  for scene in scenes:
    place = folder.joinpath(scene, *_TEST)
    try:
      paths = images.list_images(place)
    except images.ImageError as error:
      skipped.append(folder_pairs.SkippedPair(scene, 0, str(error)))
      continue
    if len(paths) < 2:
      reason = f"webcam_pairs: a pair needs two pictures, got {str(paths[0])!r}"
      skipped.append(folder_pairs.SkippedPair(scene, 0, f"{reason} alone."))
    files.extend(
      folder_pairs.PairFiles(scene, index, "i", paths[0], path, None)
      for index, path in enumerate(paths[1:], 1)
    )
  return folder_pairs.PairReader(files, skipped=skipped)
