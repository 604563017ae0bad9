"""HPatches: 116 sequences of six pictures with their homographies.

The data set is not part of this project and nothing is fetched. It comes in
two releases; this module reads the *full image sequences*.
"""

import os
import pathlib

from vision_jax.data.readers import folder_pairs

__all__ = ["HPATCHES_LARGE", "HPATCHES_NUM_PAIRS", "hpatches_pairs"]

HPATCHES_LARGE = (
  "i_contruction",
  "i_crownnight",
  "i_dc",
  "i_pencils",
  "i_whitebuilding",
  "v_artisans",
  "v_astronautis",
  "v_talent",
)
"""Sequences above 1600 x 1200 pixels, which the standard subset leaves out."""

HPATCHES_NUM_PAIRS = {"standard": 540, "all": 580}
"""Pairs of the complete release: 52 and 56, or 57 and 59 sequences of five."""

_SECOND = range(2, 7)  # the second pictures of a sequence
_PATCHES = ("ref.png", "H_ref_*", "[eht][1-5].png")


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
  """Folders inside a folder, sorted by name; none if it may not be read."""
  try:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir())
  except OSError:
    return []


def _sequences(folder: pathlib.Path) -> list[pathlib.Path]:
  """Folders i_* and v_*, sorted by name."""
  return [
    entry for entry in _folders(folder) if entry.name.startswith(("i_", "v_"))
  ]


def _is_full(folder: pathlib.Path) -> bool:
  """Whether a sequence folder holds anything of the full images release."""
  return any(folder.glob("[1-6].ppm")) or any(folder.glob("H_1_[2-6]"))


def hpatches_pairs(
  root: str | os.PathLike[str], *, subset: str = "standard"
) -> folder_pairs.PairReader:
  """Pairs of the HPatches full image sequences, read one at a time.

  Each sequence gives five pairs: picture 1 with picture 2 to 6. Pairs with a
  missing or damaged picture or homography are left out and listed in
  `skipped` of the reader.

  Convention:
    Sequences are sorted by name, so that all of kind "i" (light changes) come
    before those of kind "v" (viewpoint changes); report both. `index` is 2 to
    6. Homographies as the files give them, applied to pixel centres; the data
    set does not say which frame it means.

  Args:
    root: folder that holds the folders `i_*` and `v_*`.
    subset: "standard" leaves out `HPATCHES_LARGE`, as most published numbers
      do; "all" reads every sequence, as the ELF protocol does.

  Returns:
    An iterator of `FolderPair`. A complete release has
    `HPATCHES_NUM_PAIRS[subset]` pairs; compare it with `len(reader.files)`.

  Raises:
    ValueError: if `root` is no folder, holds no sequence of the subset, or
      holds the patches release; if `subset` is unknown.

  Example:
    >>> import pathlib, tempfile
    >>> from vision_jax.data import hpatches_pairs, write_image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> folder = root / "v_wall"
    >>> folder.mkdir()
    >>> for number in range(1, 6):  # the sixth picture is missing
    ...   write_image(folder / f"{number}.ppm", np.zeros((4, 6, 3)))
    >>> for number in range(2, 7):
    ...   np.savetxt(folder / f"H_1_{number}", np.eye(3))
    >>> reader = hpatches_pairs(root)
    >>> [pair.index for pair in reader]
    [2, 3, 4, 5]
    >>> [(pair.name, pair.index) for pair in reader.skipped]
    [('v_wall', 6)]

  Source:
    V. Balntas et al., "HPatches", CVPR 2017; M. Dusmanu et al., "D2-Net",
    CVPR 2019, section 5.1 (the standard subset).
  """
  if subset not in HPATCHES_NUM_PAIRS:
    raise ValueError(
      f'hpatches_pairs: `subset` must be "standard" or "all", got {subset!r}.'
    )
  folder = pathlib.Path(root)
  if not folder.is_dir():
    raise ValueError(
      f"hpatches_pairs: `root` must be a folder, got {str(folder)!r}; unpack"
      " hpatches-sequences-release.tar.gz and name the folder."
    )
  found = _sequences(folder)
  if not found:
    raise ValueError(
      "hpatches_pairs: `root` must hold folders i_* and v_*, got"
      f" {str(folder)!r} without any; {_where_instead(folder)}."
    )
  if not any(map(_is_full, found)):
    for sequence in found:
      if any(any(sequence.glob(pattern)) for pattern in _PATCHES):
        raise ValueError(
          "hpatches_pairs: `root` must hold the full image sequences (1.ppm"
          " to 6.ppm, H_1_2 to H_1_6), got the patches release (ref.png,"
          f" H_ref_*) in {str(sequence)!r}; get"
          " hpatches-sequences-release.tar.gz instead, see"
          " github.com/hpatches/hpatches-dataset."
        )
  kept = [s for s in found if subset == "all" or s.name not in HPATCHES_LARGE]
  if not kept:
    raise ValueError(
      "hpatches_pairs: `root` must hold a sequence of the standard subset,"
      f" got {str(folder)!r} with {' '.join(s.name for s in found)} only; use"
      ' subset="all".'
    )
  return folder_pairs.PairReader(
    folder_pairs.PairFiles(
      name=sequence.name,
      index=number,
      kind=sequence.name[0],
      path0=sequence / "1.ppm",
      path1=sequence / f"{number}.ppm",
      homography=sequence / f"H_1_{number}",
    )
    for sequence in kept
    for number in _SECOND
  )


def _where_instead(folder: pathlib.Path) -> str:
  """What to name instead: the folder above, one below, or what to unpack."""
  if _is_full(folder):
    return f"this is one sequence, name {str(folder.absolute().parent)!r}"
  for below in _folders(folder):
    if _sequences(below):
      return f"name {str(below)!r}"
  return "name the folder that hpatches-sequences-release.tar.gz unpacks to"
