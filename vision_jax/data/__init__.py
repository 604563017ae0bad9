"""Pictures: files, installed photographs and generated sets.

Everything here is NumPy in, NumPy out. The generated sets are frozen in
GENERATED.md; (seed, index) fixes each example.
"""

from vision_jax.data.canvases import DEAD_LEAVES_VERSION, dead_leaves
from vision_jax.data.images import (
  IMAGE_SUFFIXES,
  ImageError,
  list_images,
  read_image,
  to_uint8,
  write_image,
)
from vision_jax.data.patterns import (
  OUTLINES,
  PATTERNS,
  draw_outline,
  draw_pattern,
)
from vision_jax.data.photographs import (
  EVALUATION,
  PHOTOGRAPHS,
  STEREO,
  TRAINING,
  Photograph,
  StereoPair,
  load_photograph,
  stereo_motorcycle,
)
from vision_jax.data.streams import Domain, random_stream
from vision_jax.data.texture_classes import (
  TEXTURE_NAMES,
  TEXTURE_VERSION,
  texture_batch,
  texture_label,
  textures,
)
from vision_jax.data.warped_photographs import (
  HOMOGRAPHY_PAIRS_VERSION,
  HomographyPair,
  homography_pair,
  homography_pairs,
)

__all__ = [
  "DEAD_LEAVES_VERSION",
  "EVALUATION",
  "HOMOGRAPHY_PAIRS_VERSION",
  "IMAGE_SUFFIXES",
  "OUTLINES",
  "PATTERNS",
  "PHOTOGRAPHS",
  "STEREO",
  "TEXTURE_NAMES",
  "TEXTURE_VERSION",
  "TRAINING",
  "Domain",
  "HomographyPair",
  "ImageError",
  "Photograph",
  "StereoPair",
  "dead_leaves",
  "draw_outline",
  "draw_pattern",
  "homography_pair",
  "homography_pairs",
  "list_images",
  "load_photograph",
  "random_stream",
  "read_image",
  "stereo_motorcycle",
  "texture_batch",
  "texture_label",
  "textures",
  "to_uint8",
  "write_image",
]
