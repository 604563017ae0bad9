"""Warps of a photograph and positions finer than a cell, on the demo page."""

import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax import data, ops, viz
from vision_jax.systems import registration

__all__ = ["warps_section"]

_SIZE = (240, 320)


def _photograph() -> jax.Array:
  """A photograph at the size of the figures, [H, W, 3] in [0, 1]."""
  image = jnp.asarray(data.load_photograph("astronaut.png"))
  return ops.resize(image[:384], _SIZE, antialias=True)


def _warps(image: jax.Array) -> dict[str, jax.Array]:
  """Title -> the photograph seen through a warp."""
  height, width = _SIZE
  middle = ((width - 1) / 2, (height - 1) / 2)
  turn = ops.similarity_matrix(
    np.deg2rad(20.0), sense="pull_ccw", scale=1.2, center=middle
  )
  corners = jnp.array([[0.0, 0], [width, 0], [width, height], [0, height]])
  seen = corners + jnp.array([[60, 20], [-20, 70], [-10, -50], [0, 0]])
  tilt = ops.homography_from_corners(corners, source=seen)
  # A floor up to a horizon at row 60: w = 0.005 y - 0.3.
  horizon = jnp.array(
    [[0.9, 0.7975, -191.4], [0, 1.335, -105.1], [0, 0.005, -0.3]]
  )
  control = ops.control_lattice(4)
  moved = control + np.random.default_rng(3).normal(scale=0.08, size=(16, 2))
  bent = ops.grid_sample(image, ops.thin_plate_grid(jnp.array(moved), _SIZE))
  return {
    "turned and shrunk": ops.warp(image, turn, padding_mode="reflection"),
    "homography from corners": ops.warp(image, tilt),
    "a horizon": ops.warp(image, horizon, fill_value=0.5),
    "thin-plate spline": bent,
  }


def _shrunk() -> dict[str, np.ndarray]:
  """Rings, three times smaller, with and without antialiasing; enlarged."""
  y, x = np.mgrid[:288, :384]
  square = (x - 192.0) ** 2 + (y - 144.0) ** 2
  rings = 0.5 + 0.5 * np.cos(square / 200)
  image = jnp.asarray(np.repeat(rings[..., None], 3, -1), jnp.float32)
  c, s = 3.0 * np.cos(0.3), 3.0 * np.sin(0.3)
  matrix = jnp.array([[c, -s, 38], [s, c, -29]])
  return {
    title: np.asarray(
      ops.warp(
        image, matrix, (96, 128), padding_mode="reflection", antialias=flag
      )
    )
    .repeat(2, 0)
    .repeat(2, 1)
    for title, flag in (("one sample a pixel", False), ("antialiased", True))
  }


def _registered() -> tuple[dict[str, jax.Array], float]:
  """Pictures of a registration, and its mean error in pixels."""
  pair = data.homography_pair("chelsea.png", 4, size=_SIZE)
  fixed, moving = (
    jnp.asarray(image).mean(-1)[..., None]
    for image in (pair.image0, pair.image1)
  )
  found = registration.register(moving, fixed)
  theta = ops.homography_from_parameters(found.parameters)
  matrix = ops.theta_to_matrix(theta, _SIZE, _SIZE)
  seen = ops.warp(jnp.asarray(pair.image1), matrix, fill_value=0.5)
  points = jnp.stack(
    jnp.meshgrid(jnp.arange(0.0, 320, 8), jnp.arange(0.0, 240, 8)), -1
  ).reshape(-1, 2)
  ours, true = (
    ops.apply_homography(jnp.asarray(m, jnp.float32), points)
    for m in (matrix, pair.homography_0to1)
  )
  limit = jnp.array([_SIZE[1] - 1.0, _SIZE[0] - 1.0]).reshape(1, 2)
  shared = ((true >= 0) & (true <= limit)).all(-1)
  distance = jnp.linalg.norm(ours - true, axis=-1)
  error = float((distance * shared).sum() / shared.sum())
  pictures = {
    "one picture": jnp.asarray(pair.image0),
    "the other, under another light": jnp.asarray(pair.image1),
    "the other, registered": seen,
  }
  return pictures, error


def _decoders() -> Mapping[str, Callable[[jax.Array], jax.Array]]:
  return {
    "arg-max": lambda m: ops.decode_argmax(m)[0],
    "a quarter towards the neighbour": lambda m: ops.decode_quarter(m)[0],
    "Taylor expansion of the logarithm (DARK)": lambda m: ops.decode_dark(m)[0],
    "soft-argmax, beta 1": ops.soft_argmax,
    "soft-argmax, beta 20": lambda m: ops.soft_argmax(m, beta=20.0),
    "soft-argmax without its bias": ops.soft_argmax_debiased,
    "soft-argmax in a window": (
      lambda m: ops.local_soft_argmax(m, radius=6, beta=10.0)
    ),
  }


def _decoder_errors() -> list[tuple[str, str, str]]:
  """Mean error of each decoder in cells, on clean and on noisy heatmaps."""
  rng = np.random.default_rng(0)
  points = jnp.asarray(rng.uniform(12, 52, (200, 1, 2)), jnp.float32)
  clean = np.asarray(ops.gaussian_heatmaps(points, (64, 64), sigma=2.0))
  noise = 0.02 * rng.normal(size=clean.shape)
  noisy = (clean + noise).astype(np.float32)
  rows = []
  for name, decode in _decoders().items():
    errors = [
      float(np.linalg.norm(decode(jnp.asarray(m)) - points, axis=-1).mean())
      for m in (clean, noisy)
    ]
    rows.append((name, f"{errors[0]:.3f}", f"{errors[1]:.3f}"))
  return rows


def warps_section(page: viz.Page) -> None:
  """Adds warps and decoders to the page.

  Args:
    page: the demo page.

  Example:
    >>> from vision_jax.demo import warps
    >>> warps.warps_section.__name__
    'warps_section'
  """
  started = time.perf_counter()
  section = page.section(
    "Warps and positions with a derivative",
    "Affine maps, homographies and splines read an image through one sampler "
    "whose derivatives are exact in the image and in the warp; heatmaps become "
    "positions finer than a cell.",
  )
  warped = _warps(_photograph())
  section.figure(
    viz.image_grid(list(warped.values()), titles=list(warped), columns=2),
    "One photograph through four warps. What lies behind the horizon is "
    "filled.",
  )
  shrunk = _shrunk()
  section.figure(
    viz.image_grid(list(shrunk.values()), titles=list(shrunk), columns=2),
    "Rings turned and made three times smaller: with one sample a pixel, rings "
    "appear that are not there.",
  )
  pictures, error = _registered()
  section.figure(
    viz.image_grid(list(pictures.values()), titles=list(pictures), columns=3),
    "Registration by descent on a homography over a pyramid: the other "
    f"picture lies on the first within {error:.3f} pixels, on average of what "
    "both show.",
  )
  section.table(
    (
      "decoder",
      "mean error in cells, 200 Gaussians of sigma 2 on 64 x 64",
      "with noise of 0.02",
    ),
    _decoder_errors(),
  )
  section.seconds = time.perf_counter() - started
