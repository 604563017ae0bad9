"""Pictures: files, folders of pairs, photographs and generated sets.

Everything here is NumPy in, NumPy out. The generated sets are frozen in
GENERATED.md; (seed, index) fixes each example.
"""

from vision_jax.data.errors import DataError
from vision_jax.data.generated.canvases import DEAD_LEAVES_VERSION, dead_leaves
from vision_jax.data.generated.patterns import (
  OUTLINES,
  PATTERNS,
  draw_outline,
  draw_pattern,
)
from vision_jax.data.generated.streams import Domain, random_stream
from vision_jax.data.generated.texture_classes import (
  TEXTURE_NAMES,
  TEXTURE_VERSION,
  texture_batch,
  texture_label,
  textures,
)
from vision_jax.data.generated.warped_photographs import (
  HOMOGRAPHY_PAIRS_VERSION,
  ROTATION_PAIRS_VERSION,
  ZOOM_PAIRS_VERSION,
  HomographyPair,
  homography_pair,
  homography_pairs,
  rotation_pairs,
  zoom_pairs,
)
from vision_jax.data.images import (
  IMAGE_SUFFIXES,
  ImageError,
  list_images,
  read_image,
  to_uint8,
  write_image,
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
from vision_jax.data.readers.folder_pairs import (
  FolderPair,
  PairFiles,
  PairReader,
  SkippedPair,
  read_homography,
)
from vision_jax.data.readers.hpatches import (
  HPATCHES_LARGE,
  HPATCHES_NUM_PAIRS,
  hpatches_pairs,
)
from vision_jax.data.readers.webcam import WEBCAM_SCENES, webcam_pairs

__all__ = [
  "DEAD_LEAVES_VERSION",
  "EVALUATION",
  "HOMOGRAPHY_PAIRS_VERSION",
  "HPATCHES_LARGE",
  "HPATCHES_NUM_PAIRS",
  "IMAGE_SUFFIXES",
  "OUTLINES",
  "PATTERNS",
  "PHOTOGRAPHS",
  "ROTATION_PAIRS_VERSION",
  "STEREO",
  "TEXTURE_NAMES",
  "TEXTURE_VERSION",
  "TRAINING",
  "WEBCAM_SCENES",
  "ZOOM_PAIRS_VERSION",
  "DataError",
  "Domain",
  "FolderPair",
  "HomographyPair",
  "ImageError",
  "PairFiles",
  "PairReader",
  "Photograph",
  "SkippedPair",
  "StereoPair",
  "dead_leaves",
  "draw_outline",
  "draw_pattern",
  "homography_pair",
  "homography_pairs",
  "hpatches_pairs",
  "list_images",
  "load_photograph",
  "random_stream",
  "read_homography",
  "read_image",
  "rotation_pairs",
  "stereo_motorcycle",
  "texture_batch",
  "texture_label",
  "textures",
  "to_uint8",
  "webcam_pairs",
  "write_image",
  "zoom_pairs",
]
