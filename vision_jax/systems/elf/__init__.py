r"""ELF: key points from the saliency of a pretrained network.

Benbihi, Geist, Pradalier, "ELF: Embedded Localisation of Features in
Pre-Trained CNN", ICCV 2019 (arXiv 1907.03261). Nothing is trained:

* detector: local maxima of the saliency :math:`|F^T \partial F / \partial I|`
  of a low layer F, blurred, thresholded by entropy, thinned;
* descriptor: a deeper feature map of the same network, read at the points.
"""

from vision_jax.systems.elf.extraction import (
  describe,
  detect,
  extract,
  match,
  saliency,
)
from vision_jax.systems.elf.layer_selection import (
  LayerChoice,
  energy_scales,
  select_layer,
  self_repeatability,
)
from vision_jax.systems.elf.refinement import refine_homography, refine_matches
from vision_jax.systems.elf.settings import (
  SETTINGS,
  ElfConfig,
  make_config,
  preprocess,
)
from vision_jax.systems.elf.views import (
  choose_view,
  describe_at_scale,
  describe_views,
  keypoint_scales,
  view_matrix,
)

__all__ = [
  "SETTINGS",
  "ElfConfig",
  "LayerChoice",
  "choose_view",
  "describe",
  "describe_at_scale",
  "describe_views",
  "detect",
  "energy_scales",
  "extract",
  "keypoint_scales",
  "make_config",
  "match",
  "preprocess",
  "refine_homography",
  "refine_matches",
  "saliency",
  "select_layer",
  "self_repeatability",
  "view_matrix",
]
