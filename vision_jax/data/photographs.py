"""The photographs that need no download, and what each may be used for.

scikit-image installs a few photographs with its wheel. This table is the one
place that says, by file name, which of them a network of this project may be
trained on and which are kept for evaluation; training code reads `TRAINING`
and nothing else.

The files are read from the installed package. Nothing is fetched.
"""

import importlib.util
import os
import types
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from vision_jax.data import images

__all__ = [
  "EVALUATION",
  "PHOTOGRAPHS",
  "STEREO",
  "TRAINING",
  "Photograph",
  "StereoPair",
  "load_photograph",
  "stereo_motorcycle",
]


class Photograph(NamedTuple):
  """One installed photograph.

  Attributes:
    name: file name in scikit-image's data folder.
    use: "training" or "evaluation".
    scale: factor by which `load_photograph` resizes it (area averaging).
    licence: as scikit-image states it in the function that serves the file.

  Example:
    >>> from vision_jax.data import PHOTOGRAPHS
    >>> PHOTOGRAPHS["retina.jpg"].scale
    0.5
  """

  name: str
  use: str
  scale: float
  licence: str


class StereoPair(NamedTuple):
  """A rectified pair with the true disparity of its left picture.

  Attributes:
    left: float32 [H, W, 3], RGB in [0, 1].
    right: float32 [H, W, 3].
    disparity: float32 [H, W], pixels; left pixel (x, y) shows the same point
      as right pixel (x - disparity, y); NaN where unknown.

  Example:
    >>> from vision_jax.data import stereo_motorcycle
    >>> stereo_motorcycle().disparity.shape
    (500, 741)
  """

  left: np.ndarray
  right: np.ndarray
  disparity: np.ndarray


_NOT_STATED = "not stated; distributed by scikit-image (BSD) as sample data"
_MIDDLEBURY = (
  "Middlebury 2014 stereo benchmark, distributed by scikit-image; cite"
  " Scharstein et al., GCPR 2014"
)

PHOTOGRAPHS: Mapping[str, Photograph] = types.MappingProxyType(
  {
    row.name: row
    for row in (
      Photograph("coffee.png", "training", 1.0, "CC0 (Rachel Michetti)"),
      Photograph("rocket.jpg", "training", 1.0, "public domain (SpaceX)"),
      Photograph("retina.jpg", "training", 0.5, "CC0 1.0 (M. Haggstrom)"),
      Photograph(
        "hubble_deep_field.jpg", "training", 0.7, "public domain (NASA)"
      ),
      Photograph("brick.png", "training", 1.0, "CC0 (CC0Textures)"),
      Photograph("gravel.png", "training", 1.0, "CC0 (CC0Textures)"),
      Photograph("grass.png", "training", 1.0, "CC0 (linolafett)"),
      Photograph(
        "ihc.png", "training", 1.0, "no known copyright restrictions (CMMI)"
      ),
      Photograph("astronaut.png", "evaluation", 1.0, "public domain (NASA)"),
      Photograph("chelsea.png", "evaluation", 1.0, "CC0 (Stefan van der Walt)"),
      Photograph("camera.png", "evaluation", 1.0, "CC0 (Lav Varshney)"),
      Photograph("motorcycle_left.png", "evaluation", 1.0, _MIDDLEBURY),
      Photograph("motorcycle_right.png", "evaluation", 1.0, _MIDDLEBURY),
      Photograph("page.png", "evaluation", 1.0, _NOT_STATED),
      Photograph("moon.png", "evaluation", 1.0, _NOT_STATED),
      Photograph(
        "coins.png",
        "evaluation",
        1.0,
        "no known copyright restrictions (Brooklyn Museum)",
      ),
    )
  }
)

TRAINING = (
  "coffee.png",
  "rocket.jpg",
  "retina.jpg",
  "hubble_deep_field.jpg",
  "brick.png",
  "gravel.png",
  "grass.png",
  "ihc.png",
)
"""Photographs that networks of this project may be trained on."""

EVALUATION = (
  "astronaut.png",
  "chelsea.png",
  "camera.png",
  "motorcycle_left.png",
  "page.png",
  "moon.png",
  "coins.png",
)
"""Photographs of the homography pairs; never trained on."""

STEREO = ("motorcycle_left.png", "motorcycle_right.png", "motorcycle_disp.npz")
"""Files of the stereo pair; never trained on."""


def _data_file(function: str, name: str) -> str:
  """Path of a file that scikit-image installed, without importing it."""
  spec = importlib.util.find_spec("skimage")
  if spec is None or not spec.submodule_search_locations:
    raise images.ImageError(
      f"{function}: scikit-image must be installed to read {name!r};"
      " pip install scikit-image."
    )
  path = os.path.join(spec.submodule_search_locations[0], "data", name)
  if not os.path.isfile(path):
    raise images.ImageError(
      f"{function}: scikit-image must hold data/{name}, which is not part of"
      " the installed version; pip install 'scikit-image>=0.25,<0.27'."
    )
  return path


def load_photograph(name: str) -> np.ndarray:
  """Reads one of the installed photographs.

  Convention:
    Layout [H, W, 3], RGB, float32 in [0, 1]; grey files are repeated over the
    channels; resized by the table's scale with area averaging.

  Args:
    name: file name, one of `PHOTOGRAPHS`.

  Returns:
    The photograph, float32 [H, W, 3].

  Raises:
    KeyError: if `name` is not in the table.
    ImageError: if scikit-image is not installed or lacks the file.

  Example:
    >>> from vision_jax.data import load_photograph
    >>> load_photograph("chelsea.png").shape
    (300, 451, 3)

  Source:
    scikit-image's sample data; each licence as stated there.
  """
  if name not in PHOTOGRAPHS:
    raise KeyError(
      f"load_photograph: `name` must be one of {' '.join(PHOTOGRAPHS)}, got"
      f" {name!r}."
    )
  image = images.read_image(_data_file("load_photograph", name))
  scale = PHOTOGRAPHS[name].scale
  if scale == 1.0:
    return image
  height, width = image.shape[:2]
  size = (round(width * scale), round(height * scale))
  resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
  return np.clip(resized, 0.0, 1.0)


def stereo_motorcycle() -> StereoPair:
  """The Middlebury pair "Motorcycle" at quarter size, with its disparity.

  Convention:
    Pictures as `load_photograph`; `disparity` belongs to the left picture:
    left (x, y) and right (x - disparity, y) show the same point, index frame.

  Returns:
    `StereoPair(left, right, disparity)`, 500 x 741 pixels; 7 % of the
    disparities are unknown (NaN).

  Raises:
    ImageError: if scikit-image is not installed or lacks the files.

  Example:
    >>> from vision_jax.data import stereo_motorcycle
    >>> left, right, disparity = stereo_motorcycle()
    >>> left.shape == right.shape
    True

  Source:
    D. Scharstein et al., "High-resolution stereo datasets with
    subpixel-accurate ground truth", GCPR 2014. scikit-image's own docstring
    describes the direction the other way round; the direction here is the one
    under which the two pictures agree (a test measures it).
  """
  left, right, file = STEREO
  with np.load(_data_file("stereo_motorcycle", file)) as archive:
    disparity = np.array(archive["arr_0"], np.float32)
  disparity[~np.isfinite(disparity)] = np.nan  # the file marks unknown by inf
  return StereoPair(load_photograph(left), load_photograph(right), disparity)
