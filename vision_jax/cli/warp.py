"""`vision-jax warp`: pictures turned, scaled, moved, seen through a matrix."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vision_jax.cli.options import CommonOptions
from vision_jax.cli.support import UserError, check_outputs, describe_error

if TYPE_CHECKING:
  import numpy as np

__all__ = ["WarpOptions"]

_Pair = tuple[float, float]
_Six = tuple[float, float, float, float, float, float]
_Nine = tuple[float, float, float, float, float, float, float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarpOptions(CommonOptions):
  """Warp images: rotate, scale, move, or by a matrix of your own.

  What is seen goes first through the matrix, is then scaled and turned about
  the middle, then moved, all in one go, so that nothing is smoothed twice.
  Matrices act on (x, y, 1) in pixels, the centre of the first pixel at (0, 0),
  and map the OUTPUT to the input unless --forward is given.

  Attributes:
    images: Image files, or folders (searched with all folders below).
    rotate: Degrees counter-clockwise.
    scale: Factor; above 1 enlarges.
    translate: Pixels to the right and down.
    matrix: Affine matrix, two rows of three.
    homography: Homography, three rows of three.
    forward: --matrix or --homography maps the input to the output.
    size: Height and width of the output; those of the input by default.
    mode: Interpolation.
    padding: What is outside the image.
    fill: Red, green and blue in [0, 1] outside, with zeros.
    no_antialias: One sample a pixel also where the output is coarser than the
      input, instead of reading a pyramid.
    out: File to write for one image, folder for several (PNG).
  """

  images: tyro.conf.Positional[
    Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="IMAGE")]
  ]
  rotate: float = 0.0
  scale: float = 1.0
  translate: _Pair = (0.0, 0.0)
  matrix: _Six | None = None
  homography: _Nine | None = None
  forward: bool = False
  size: tuple[int, int] | None = None
  mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
  padding: Literal["zeros", "border", "reflection"] = "zeros"
  fill: tuple[float, float, float] = (0.0, 0.0, 0.0)
  no_antialias: bool = False
  out: pathlib.Path = pathlib.Path("warped.png")

  def run(self) -> int:
    """Runs the command and returns its exit code."""
    import sys

    import tqdm

    from vision_jax import data

    own = self.own_matrix()
    files: list[pathlib.Path] = []
    for path in self.images:
      files += data.list_images(path, recursive=True)
    if not files:
      raise UserError("no images given; name files or folders")
    targets = self.targets(files)
    warp, failed = self.program(), 0
    for file, target in tqdm.tqdm(
      list(zip(files, targets, strict=True)),
      desc="warp",
      unit="image",
      disable=len(files) == 1 or None,
    ):
      try:
        data.write_image(target, self.warped(warp, data.read_image(file), own))
      except data.ImageError as error:
        tqdm.tqdm.write(
          f"vision-jax warp: error: {describe_error(error)[0]}", file=sys.stderr
        )
        failed += 1
    place = self.out if len(files) > 1 else targets[0]
    print(f"{len(files) - failed} of {len(files)} written: {place}")
    return 1 if failed else 0

  def own_matrix(self) -> "np.ndarray":
    """The matrix given, output to input, [3, 3]."""
    import numpy as np

    if self.matrix is not None and self.homography is not None:
      raise UserError("--matrix and --homography exclude each other")
    if not self.scale > 0:
      raise UserError(f"--scale must be above 0, got {self.scale}")
    if self.size is not None and min(self.size) < 1:
      raise UserError(f"--size must be at least 1 1, got {self.size}")
    if self.fill != (0.0, 0.0, 0.0) and self.padding != "zeros":
      raise UserError("--fill goes with --padding zeros")
    given = self.homography or (*(self.matrix or (1, 0, 0, 0, 1, 0)), 0, 0, 1)
    matrix = np.array(given, np.float64).reshape(3, 3)
    name = "--homography" if self.homography else "--matrix"
    if not np.isfinite(matrix).all() or np.linalg.cond(matrix) > 1e12:
      raise UserError(f"{name} must be invertible, got {matrix.tolist()}")
    return np.linalg.inv(matrix) if self.forward else matrix

  def targets(self, files: list[pathlib.Path]) -> list[pathlib.Path]:
    """Where each picture goes."""
    several = len(files) > 1 or not self.out.suffix
    if len(files) > 1 and self.out.suffix:
      raise UserError(
        f"--out must be a folder for {len(files)} images, got '{self.out}'"
      )
    targets = [self.out]
    if several:
      self.out.mkdir(parents=True, exist_ok=True)
      targets = [self.out / f"{file.stem}.png" for file in files]
    if len(set(targets)) < len(targets):
      raise UserError("two images have the same name; warp them one by one")
    for target in targets:
      check_outputs("--out", target, inputs=files)
    return targets

  def program(self) -> Callable[..., Any]:
    """(image, matrix, size) -> warped; compiled once for each size."""
    import functools

    import jax
    import jax.numpy as jnp

    from vision_jax import ops

    settings: dict[str, Any] = {
      "mode": self.mode,
      "padding_mode": self.padding,
      "fill_value": jnp.array(self.fill) if self.padding == "zeros" else None,
      "antialias": not self.no_antialias,
    }
    return jax.jit(functools.partial(ops.warp, **settings), static_argnums=2)

  def warped(
    self, warp: Callable[..., Any], image: "np.ndarray", own: "np.ndarray"
  ) -> "np.ndarray":
    """One image through all that was asked for."""
    import numpy as np

    from vision_jax import ops

    height, width = image.shape[:2]
    size = (height, width) if self.size is None else self.size
    middle = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    turn = ops.similarity_matrix(
      np.deg2rad(self.rotate),
      sense="pull_ccw",
      scale=1 / self.scale,
      center=middle,
    )
    back = np.eye(3)
    back[:2, 2] = -np.array(self.translate)
    centred = np.eye(3)  # the middle of the output shows that of the input
    centred[:2, 2] = (width - size[1]) / 2, (height - size[0]) / 2
    plain = self.matrix is None and self.homography is None
    matrix = (centred if plain else own) @ np.asarray(turn, np.float64) @ back
    if (matrix @ [*middle, 1])[2] < 0:  # the middle is in front
      matrix = -matrix
    warped = warp(image, matrix.astype(np.float32), size)
    return np.clip(np.asarray(warped), 0, 1)
