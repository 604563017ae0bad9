"""Curves over one variable, as a picture."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["plot_curves"]


def plot_curves(
  curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  *,
  x_label: str = "",
  y_label: str = "",
  title: str = "",
  y_limits: tuple[float, float] | None = (0.0, 1.0),
  size: tuple[int, int] = (420, 760),
) -> np.ndarray:
  """Draws named curves with a legend beside them.

  Args:
    curves: name -> (x, y), sequences of one length; NaN leaves a gap. The
      order is that of the legend; line styles change every ten curves.
    x_label: under the horizontal axis.
    y_label: beside the vertical axis.
    title: above.
    y_limits: ends of the vertical axis; None takes the data's.
    size: (height, width) of the picture, pixels.

  Returns:
    Picture uint8 [H, W, 3].

  Raises:
    ValueError: if there is no curve, or x and y differ in length.

  Example:
    >>> from vision_jax import viz
    >>> viz.plot_curves({"linear": ([0, 1], [0, 1])}, size=(100, 160)).shape
    (100, 160, 3)

  Source:
    Drawn by matplotlib.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg  # heavy
  from matplotlib.figure import Figure

  if not curves:
    raise ValueError("plot_curves: `curves` must not be empty.")
  for name, (x, y) in curves.items():
    if len(x) != len(y):
      raise ValueError(
        f"plot_curves: x and y of {name!r} must have one length, got "
        f"{len(x)} and {len(y)}."
      )
  dpi = 100
  figure = Figure(
    figsize=(size[1] / dpi, size[0] / dpi), dpi=dpi, layout="constrained"
  )
  canvas = FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for k, (name, (x, y)) in enumerate(curves.items()):
    style = ("-", "--", ":", "-.")[k // 10 % 4]
    axes.plot(x, y, style, marker="o", markersize=3, label=name)
  axes.set(xlabel=x_label, ylabel=y_label, title=title, ylim=y_limits)
  axes.grid(alpha=0.3)
  axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()
