"""Pictures: files, folders of pairs, photographs and generated sets.

Everything here is NumPy in, NumPy out. The generated sets are frozen in
GENERATED.md; (seed, index) fixes each example.
"""

from vision_jax.data.augmentation import (
  Transform,
  as_transform,
  random_affine,
  random_colours,
  random_flip,
  random_noise,
  random_resized_crop,
  random_scale_crop,
)
from vision_jax.data.batch_reading import (
  Source,
)
from vision_jax.data.batching import (
  collate,
  pad_example,
)
from vision_jax.data.cache import cache_in_memory
from vision_jax.data.coco_export import write_coco, write_coco_detections
from vision_jax.data.colours import (
  adjust_colours,
)
from vision_jax.data.errors import DataError
from vision_jax.data.generated.canvases import DEAD_LEAVES_VERSION, dead_leaves
from vision_jax.data.generated.digit_glyphs import (
  DIGIT_FACES,
  DIGITS_VERSION,
  digit_batch,
  digit_label,
  digits,
)
from vision_jax.data.generated.generated_shapes import (
  SHAPE_NAMES,
  SHAPES_VERSION,
  shapes,
)
from vision_jax.data.generated.instances import (
  INSTANCE_PRESETS,
  INSTANCE_SIDES,
  INSTANCES_VERSION,
  InstanceRecord,
  draw_instance_image,
  instance_set,
)
from vision_jax.data.generated.mask_truth import mask_box, mask_polygons
from vision_jax.data.generated.patterns import (
  OUTLINES,
  PATTERNS,
  draw_outline,
  draw_pattern,
)
from vision_jax.data.generated.stick_figures import (
  STICK_FLIP,
  STICK_JOINTS,
  STICK_LIMBS,
  STICK_SIGMAS,
)
from vision_jax.data.generated.stick_pose import (
  STICK_POSE_SPLITS,
  STICK_POSE_VERSION,
  stick_pose_multi,
  stick_pose_single,
  stick_pose_video,
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
from vision_jax.data.geometry import (
  affine_example,
  flip_horizontal,
  letterbox,
  letterbox_matrix,
  resize_shortest,
)
from vision_jax.data.images import (
  IMAGE_SUFFIXES,
  ImageError,
  list_images,
  read_image,
  to_uint8,
  write_image,
)
from vision_jax.data.mask_codes import (
  mask_to_rle,
  polygons_to_mask,
  rle_to_mask,
)
from vision_jax.data.objects import (
  transform_boxes,
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
from vision_jax.data.pipelines import (
  BatchIterator,
  Pipeline,
  make_eval_batches,
  make_pipeline,
)
from vision_jax.data.prefetch import (
  prefetch_to_device,
)
from vision_jax.data.preparation import prepare_generated
from vision_jax.data.prepared import PreparedSource, read_prepared
from vision_jax.data.prepared_folders import find_prepared
from vision_jax.data.readers.cityscapes import (
  CITYSCAPES_CLASSES,
  open_cityscapes,
)
from vision_jax.data.readers.class_names import (
  COCO_CATEGORY_IDS,
  COCO_CLASSES,
)
from vision_jax.data.readers.coco import CocoSource, open_coco
from vision_jax.data.readers.file_sources import FileSource
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
from vision_jax.data.readers.image_folders import open_image_folder
from vision_jax.data.readers.instance_sets import (
  open_instance_videos,
  open_instre,
  open_instre_split,
  open_retrieval_folders,
)
from vision_jax.data.readers.retrieval_sets import (
  RetrievalQuery,
  RetrievalSet,
  open_buildings,
  open_holidays,
  open_revisited,
)
from vision_jax.data.readers.voc import VOC_CLASSES, open_voc
from vision_jax.data.readers.webcam import WEBCAM_SCENES, webcam_pairs

__all__ = [
  "CITYSCAPES_CLASSES",
  "COCO_CATEGORY_IDS",
  "COCO_CLASSES",
  "DEAD_LEAVES_VERSION",
  "DIGITS_VERSION",
  "DIGIT_FACES",
  "EVALUATION",
  "HOMOGRAPHY_PAIRS_VERSION",
  "HPATCHES_LARGE",
  "HPATCHES_NUM_PAIRS",
  "IMAGE_SUFFIXES",
  "INSTANCES_VERSION",
  "INSTANCE_PRESETS",
  "INSTANCE_SIDES",
  "OUTLINES",
  "PATTERNS",
  "PHOTOGRAPHS",
  "ROTATION_PAIRS_VERSION",
  "SHAPES_VERSION",
  "SHAPE_NAMES",
  "STEREO",
  "STICK_FLIP",
  "STICK_JOINTS",
  "STICK_LIMBS",
  "STICK_POSE_SPLITS",
  "STICK_POSE_VERSION",
  "STICK_SIGMAS",
  "TEXTURE_NAMES",
  "TEXTURE_VERSION",
  "TRAINING",
  "VOC_CLASSES",
  "WEBCAM_SCENES",
  "ZOOM_PAIRS_VERSION",
  "BatchIterator",
  "CocoSource",
  "DataError",
  "Domain",
  "FileSource",
  "FolderPair",
  "HomographyPair",
  "ImageError",
  "InstanceRecord",
  "PairFiles",
  "PairReader",
  "Photograph",
  "Pipeline",
  "PreparedSource",
  "RetrievalQuery",
  "RetrievalSet",
  "SkippedPair",
  "Source",
  "StereoPair",
  "Transform",
  "adjust_colours",
  "affine_example",
  "as_transform",
  "cache_in_memory",
  "collate",
  "dead_leaves",
  "digit_batch",
  "digit_label",
  "digits",
  "draw_instance_image",
  "draw_outline",
  "draw_pattern",
  "find_prepared",
  "flip_horizontal",
  "homography_pair",
  "homography_pairs",
  "hpatches_pairs",
  "instance_set",
  "letterbox",
  "letterbox_matrix",
  "list_images",
  "load_photograph",
  "make_eval_batches",
  "make_pipeline",
  "mask_box",
  "mask_polygons",
  "mask_to_rle",
  "open_buildings",
  "open_cityscapes",
  "open_coco",
  "open_holidays",
  "open_image_folder",
  "open_instance_videos",
  "open_instre",
  "open_instre_split",
  "open_retrieval_folders",
  "open_revisited",
  "open_voc",
  "pad_example",
  "polygons_to_mask",
  "prefetch_to_device",
  "prepare_generated",
  "random_affine",
  "random_colours",
  "random_flip",
  "random_noise",
  "random_resized_crop",
  "random_scale_crop",
  "random_stream",
  "read_homography",
  "read_image",
  "read_prepared",
  "resize_shortest",
  "rle_to_mask",
  "rotation_pairs",
  "shapes",
  "stereo_motorcycle",
  "stick_pose_multi",
  "stick_pose_single",
  "stick_pose_video",
  "texture_batch",
  "texture_label",
  "textures",
  "to_uint8",
  "transform_boxes",
  "webcam_pairs",
  "write_coco",
  "write_coco_detections",
  "write_image",
  "zoom_pairs",
]
