"""Pictures and the HTML report: NumPy in, files out."""

from vision_jax.viz.curves import plot_curves
from vision_jax.viz.drawing import draw_keypoints, draw_matches
from vision_jax.viz.environment import describe_environment
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
  "draw_keypoints",
  "draw_matches",
  "image_grid",
  "overlay_heatmap",
  "plot_curves",
  "render_page",
  "to_picture",
]
