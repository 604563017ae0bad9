"""Pictures and the HTML report: NumPy in, files out."""

from vision_jax.viz.curves import plot_curves
from vision_jax.viz.drawing import draw_keypoints, draw_matches
from vision_jax.viz.environment import describe_environment
from vision_jax.viz.objects import draw_boxes, draw_masks, draw_skeletons
from vision_jax.viz.pixels import (
  colorize,
  image_grid,
  overlay_heatmap,
  to_picture,
)
from vision_jax.viz.report import Page, Section, render_page

__all__ = [
  "Page",
  "Section",
  "colorize",
  "describe_environment",
  "draw_boxes",
  "draw_keypoints",
  "draw_masks",
  "draw_matches",
  "draw_skeletons",
  "image_grid",
  "overlay_heatmap",
  "plot_curves",
  "render_page",
  "to_picture",
]
