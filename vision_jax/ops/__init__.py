"""Pure functions on arrays: no parameters, no files, no state.

Every function works under jit, vmap, grad and jvp (where it has a
derivative), keeps static shapes and names its coordinate frame.
"""

from vision_jax.ops.anchors import (
  cell_anchors,
  grid_anchors,
  match_boxes,
  sample_match_indices,
  sample_matches,
)
from vision_jax.ops.attribution import (
  saliency,
)
from vision_jax.ops.box_suppression import (
  nms,
  nms_among_best,
)
from vision_jax.ops.boxes import (
  box_area,
  box_center_to_corners,
  box_corners_to_center,
  box_iou,
  clip_boxes,
  complete_box_iou,
  decode_boxes,
  distance_box_iou,
  encode_boxes,
  generalized_box_iou,
  has_min_size,
)
from vision_jax.ops.corners import (
  harris_response,
  structure_tensor,
)
from vision_jax.ops.filters import (
  gaussian_blur,
  gaussian_kernel,
  histogram,
  kapur_threshold,
)
from vision_jax.ops.floats import (
  at_least_float32,
)
from vision_jax.ops.frames import (
  continuous_to_index,
  continuous_to_unit,
  feature_to_image,
  image_to_feature,
  index_to_continuous,
  index_to_ndc,
  ndc_to_index,
  resize_matrix,
  unit_to_continuous,
)
from vision_jax.ops.global_pooling import (
  crow_weights,
  gem_pool,
  mac_pool,
  rmac_regions,
  rmac_vectors,
  spoc_pool,
  vlad,
)
from vision_jax.ops.grid_sampling import (
  affine_grid,
  grid_sample,
)
from vision_jax.ops.heatmap_decoders import (
  decode_argmax,
  decode_dark,
  decode_quarter,
  decode_taylor,
)
from vision_jax.ops.heatmap_targets import (
  gaussian_heatmaps,
  one_hot_heatmaps,
)
from vision_jax.ops.heatmaps import (
  local_soft_argmax,
  soft_argmax,
  soft_argmax_debiased,
  soft_argmax_moments,
  straight_through_argmax,
)
from vision_jax.ops.image_warps import (
  crop_and_resize,
  patch_matrix,
  reproject_depth,
  warp,
  warp_points,
)
from vision_jax.ops.losses import (
  binary_cross_entropy,
  complete_iou_loss,
  dice_loss,
  distance_iou_loss,
  focal_loss,
  generalized_iou_loss,
  huber,
  smooth_l1,
  softmax_cross_entropy,
)
from vision_jax.ops.masks import (
  crop_masks,
  paste_masks,
  paste_masks_integer,
)
from vision_jax.ops.matching import (
  match_dual_softmax,
  match_greedy,
  match_mutual,
  match_one_way,
  similarity,
)
from vision_jax.ops.matrices import (
  homography_from_corners,
  homography_from_parameters,
  matrix_to_theta,
  plane_homography,
  similarity_matrix,
  theta_to_matrix,
)
from vision_jax.ops.pixel_losses import (
  label_losses,
  segmentation_loss,
)
from vision_jax.ops.pooling import (
  max_pool,
)
from vision_jax.ops.region_pooling import (
  box_weights,
  mask_weights,
  pool_regions,
  unit_rows,
)
from vision_jax.ops.regions import (
  SeedRule,
  brightest_pixels,
  mass_pixels,
  moment_box,
  moment_ellipse,
  region_moments,
  seed_cells,
)
from vision_jax.ops.rendering import (
  Refinement,
  Subdivision,
  refine,
  subdivide,
  subdivision_sizes,
)
from vision_jax.ops.rigid_motions import (
  axis_angle_to_rotation,
  quaternion_to_rotation,
  rigid_matrix,
)
from vision_jax.ops.roi_keypoints import (
  decode_roi_keypoints,
  encode_roi_keypoints,
)
from vision_jax.ops.rois import (
  multilevel_roi_align,
  roi_align,
  roi_levels,
  roi_pool,
)
from vision_jax.ops.sampling import (
  pad_to_multiple,
  resize,
  sample,
)
from vision_jax.ops.scale_space import (
  difference_of_gaussians,
  gaussian_derivative,
  laplacian_of_gaussian,
  scale_space_extrema,
)
from vision_jax.ops.soft_suppression import (
  matrix_nms,
  soft_nms,
)
from vision_jax.ops.splines import (
  ThinPlateSpline,
  apply_thin_plate_spline,
  control_lattice,
  thin_plate_grid,
  thin_plate_spline,
)
from vision_jax.ops.structures import (
  Detections,
  Keypoints,
  Matches,
)
from vision_jax.ops.suppression import (
  suppress_points,
  top_points,
)
from vision_jax.ops.uncertain_points import (
  POINT_SAMPLING,
  PointSampling,
  binary_uncertainty,
  grid_points,
  margin_uncertainty,
  point_sample,
  points_in_boxes,
  probability_uncertainty,
  sample_labels,
  sample_uncertain_points,
  uncertain_grid_points,
)
from vision_jax.ops.warp_families import (
  TRANSFORMS,
  Transform,
  transform_grid,
)
from vision_jax.ops.warping import (
  HomographyEstimate,
  apply_homography,
  estimate_homography,
  homography_from_points,
)
from vision_jax.ops.whitening import (
  Whitening,
  fit_whitening,
  whiten,
)

__all__ = [
  "POINT_SAMPLING",
  "TRANSFORMS",
  "Detections",
  "HomographyEstimate",
  "Keypoints",
  "Matches",
  "PointSampling",
  "Refinement",
  "SeedRule",
  "Subdivision",
  "ThinPlateSpline",
  "Transform",
  "Whitening",
  "affine_grid",
  "apply_homography",
  "apply_thin_plate_spline",
  "at_least_float32",
  "axis_angle_to_rotation",
  "binary_cross_entropy",
  "binary_uncertainty",
  "box_area",
  "box_center_to_corners",
  "box_corners_to_center",
  "box_iou",
  "box_weights",
  "brightest_pixels",
  "cell_anchors",
  "clip_boxes",
  "complete_box_iou",
  "complete_iou_loss",
  "continuous_to_index",
  "continuous_to_unit",
  "control_lattice",
  "crop_and_resize",
  "crop_masks",
  "crow_weights",
  "decode_argmax",
  "decode_boxes",
  "decode_dark",
  "decode_quarter",
  "decode_roi_keypoints",
  "decode_taylor",
  "dice_loss",
  "difference_of_gaussians",
  "distance_box_iou",
  "distance_iou_loss",
  "encode_boxes",
  "encode_roi_keypoints",
  "estimate_homography",
  "feature_to_image",
  "fit_whitening",
  "focal_loss",
  "gaussian_blur",
  "gaussian_derivative",
  "gaussian_heatmaps",
  "gaussian_kernel",
  "gem_pool",
  "generalized_box_iou",
  "generalized_iou_loss",
  "grid_anchors",
  "grid_points",
  "grid_sample",
  "harris_response",
  "has_min_size",
  "histogram",
  "homography_from_corners",
  "homography_from_parameters",
  "homography_from_points",
  "huber",
  "image_to_feature",
  "index_to_continuous",
  "index_to_ndc",
  "kapur_threshold",
  "label_losses",
  "laplacian_of_gaussian",
  "local_soft_argmax",
  "mac_pool",
  "margin_uncertainty",
  "mask_weights",
  "mass_pixels",
  "match_boxes",
  "match_dual_softmax",
  "match_greedy",
  "match_mutual",
  "match_one_way",
  "matrix_nms",
  "matrix_to_theta",
  "max_pool",
  "moment_box",
  "moment_ellipse",
  "multilevel_roi_align",
  "ndc_to_index",
  "nms",
  "nms_among_best",
  "one_hot_heatmaps",
  "pad_to_multiple",
  "paste_masks",
  "paste_masks_integer",
  "patch_matrix",
  "plane_homography",
  "point_sample",
  "points_in_boxes",
  "pool_regions",
  "probability_uncertainty",
  "quaternion_to_rotation",
  "refine",
  "region_moments",
  "reproject_depth",
  "resize",
  "resize_matrix",
  "rigid_matrix",
  "rmac_regions",
  "rmac_vectors",
  "roi_align",
  "roi_levels",
  "roi_pool",
  "saliency",
  "sample",
  "sample_labels",
  "sample_match_indices",
  "sample_matches",
  "sample_uncertain_points",
  "scale_space_extrema",
  "seed_cells",
  "segmentation_loss",
  "similarity",
  "similarity_matrix",
  "smooth_l1",
  "soft_argmax",
  "soft_argmax_debiased",
  "soft_argmax_moments",
  "soft_nms",
  "softmax_cross_entropy",
  "spoc_pool",
  "straight_through_argmax",
  "structure_tensor",
  "subdivide",
  "subdivision_sizes",
  "suppress_points",
  "theta_to_matrix",
  "thin_plate_grid",
  "thin_plate_spline",
  "top_points",
  "transform_grid",
  "uncertain_grid_points",
  "unit_rows",
  "unit_to_continuous",
  "vlad",
  "warp",
  "warp_points",
  "whiten",
]
