"""`vision-jax saliency`: where the layers of a network look."""

import dataclasses
import pathlib
from typing import Annotated

import tyro

from vision_jax.cli.features import elf_config
from vision_jax.cli.options import FeatureOptions, NetworkOptions
from vision_jax.cli.support import UserError, check_outputs, fit_image

__all__ = ["SaliencyOptions"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaliencyOptions(NetworkOptions):
  """Show the saliency of one or more layers over an image.

  The saliency of a layer F is |F^T dF/dI|, the gradient of half its squared
  norm; the mean over the colour channels is shown. Writes a picture and,
  beside it, an NPZ file with the maps, not blurred.

  Attributes:
    image: Image file.
    layer: Layers, computed in one pass; `vision-jax info MODEL` lists them.
    colormap: Colour table of matplotlib: inferno, magma, viridis, turbo, ...
    blur: Deviation in pixels of the Gaussian that smooths the maps for the
      picture; 0 shows them as they are.
    out: Picture to write; the .npz file gets the same name.
  """

  image: tyro.conf.Positional[
    Annotated[pathlib.Path, tyro.conf.arg(metavar="IMAGE")]
  ]
  layer: tuple[str, ...] = ("pool2",)
  colormap: str = "inferno"
  blur: float = 2.0
  out: pathlib.Path = pathlib.Path("saliency.png")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    if not self.layer:
      raise UserError("--layer needs at least one name")
    if not 0.0 <= self.blur <= 1000.0:
      raise UserError(f"--blur must be in [0, 1000], got {self.blur}")
    check_outputs("--out", self.out, inputs=(self.image,))
    import jax.numpy as jnp
    import numpy as np

    from vision_jax import data, viz, weights
    from vision_jax.systems import elf

    image = data.read_image(self.image)
    viz.colorize(np.zeros((1, 1)), colormap=self.colormap)  # fails early
    module, variables, preprocess = weights.resolve(
      self.model, self.weights, seed=self.seed
    )
    config = elf_config(
      FeatureOptions(model=self.model, weights=self.weights), preprocess
    )
    maps = elf.saliency(
      module,
      variables,
      jnp.asarray(fit_image(image, self.max_side)),
      self.layer,
      config,
    )
    grey = {name: np.asarray(value).mean(-1) for name, value in maps.items()}
    overlays = [
      viz.overlay_heatmap(
        image, grey[name], colormap=self.colormap, blur=self.blur, grey=True
      )
      for name in self.layer
    ]
    picture = overlays[0]
    if len(overlays) > 1:
      picture = viz.image_grid(overlays, titles=list(self.layer))
    data.write_image(self.out, picture)
    arrays = self.out.with_suffix(".npz")
    np.savez(arrays, **grey)
    for name in self.layer:
      values = grey[name]
      print(
        f"{name}: mean {values.mean():.3g}, largest {values.max():.3g}"
        f" ({values.shape[1]} x {values.shape[0]})"
      )
    print(f"written: {self.out}, {arrays.name}")
    return 0
