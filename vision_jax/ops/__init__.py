"""Pure functions on arrays: no parameters, no files, no state.

Every function works under jit, vmap, grad and jvp (where it has a
derivative), keeps static shapes and names its coordinate frame.
"""

from vision_jax.ops.attribution import saliency
from vision_jax.ops.filters import (
    gaussian_blur,
    gaussian_kernel,
    histogram,
    kapur_threshold,
)
from vision_jax.ops.pooling import max_pool
from vision_jax.ops.structures import Detections, Keypoints, Matches
from vision_jax.ops.suppression import suppress_points, top_points
