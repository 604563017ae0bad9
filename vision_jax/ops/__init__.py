"""Pure functions on arrays: no parameters, no files, no state.

Every function works under jit, vmap, grad and jvp (where it has a
derivative), keeps static shapes and names its coordinate frame.
"""

from vision_jax.ops.attribution import saliency
from vision_jax.ops.corners import harris_response, structure_tensor
from vision_jax.ops.filters import (
  gaussian_blur,
  gaussian_kernel,
  histogram,
  kapur_threshold,
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
from vision_jax.ops.matching import (
  match_dual_softmax,
  match_greedy,
  match_mutual,
  match_one_way,
  similarity,
)
from vision_jax.ops.pooling import max_pool
from vision_jax.ops.sampling import resize, sample
from vision_jax.ops.scale_space import (
  difference_of_gaussians,
  gaussian_derivative,
  laplacian_of_gaussian,
  scale_space_extrema,
)
from vision_jax.ops.structures import Detections, Keypoints, Matches
from vision_jax.ops.suppression import suppress_points, top_points
from vision_jax.ops.warping import (
  HomographyEstimate,
  apply_homography,
  estimate_homography,
  homography_from_points,
)
from vision_jax.ops.whitening import Whitening, fit_whitening, whiten

__all__ = [
  "Detections",
  "HomographyEstimate",
  "Keypoints",
  "Matches",
  "Whitening",
  "apply_homography",
  "continuous_to_index",
  "continuous_to_unit",
  "difference_of_gaussians",
  "estimate_homography",
  "feature_to_image",
  "fit_whitening",
  "gaussian_blur",
  "gaussian_derivative",
  "gaussian_kernel",
  "harris_response",
  "histogram",
  "homography_from_points",
  "image_to_feature",
  "index_to_continuous",
  "index_to_ndc",
  "kapur_threshold",
  "laplacian_of_gaussian",
  "match_dual_softmax",
  "match_greedy",
  "match_mutual",
  "match_one_way",
  "max_pool",
  "ndc_to_index",
  "resize",
  "resize_matrix",
  "saliency",
  "sample",
  "scale_space_extrema",
  "similarity",
  "structure_tensor",
  "suppress_points",
  "top_points",
  "unit_to_continuous",
  "whiten",
]
