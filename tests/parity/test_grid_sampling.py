"""`grid_sample` and `affine_grid` against torch: values and derivatives.

In float64, on random positions and on the lattice of pixel centres, where the
derivative jumps and a convention shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from vision_jax import ops

MODES = ("nearest", "bilinear", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _lattice(side, align_corners):
  """Positions of the pixel centres -3 .. side + 2, ndc frame."""
  index = np.arange(-3, side + 3)
  if align_corners:
    return 2 * index / max(side - 1, 1) - 1
  return (2 * index + 1) / side - 1


def _positions(rng, kind, sizes, align_corners, count=2):
  if kind == "random":
    return rng.uniform(-3, 3, (count, 60, *[1] * (len(sizes) - 1), len(sizes)))
  lines = [_lattice(side, align_corners) for side in reversed(sizes)]
  grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
  return np.broadcast_to(grid, (count, *grid.shape)).copy()


def _torch_results(image, grid, cotangent, **settings):
  u = torch.from_numpy(np.moveaxis(image, -1, 1).copy()).requires_grad_()
  g = torch.from_numpy(grid).requires_grad_()
  out = torch.nn.functional.grid_sample(u, g, **settings)
  out.backward(torch.from_numpy(np.moveaxis(cotangent, -1, 1).copy()))
  return (
    np.moveaxis(out.detach().numpy(), 1, -1),
    np.moveaxis(u.grad.numpy(), 1, -1),
    g.grad.numpy(),
  )


def _our_results(image, grid, cotangent, **settings):
  def sample(image, grid):
    return ops.grid_sample(image, grid, **settings)

  out, pull = jax.vjp(sample, jnp.asarray(image), jnp.asarray(grid))
  return (out, *pull(jnp.asarray(cotangent)))


def _compare(image, rng, kind, *, method="gather", **settings):
  sizes, channels = image.shape[1:-1], image.shape[-1]
  grid = _positions(rng, kind, sizes, settings["align_corners"])
  cotangent = rng.normal(size=(*grid.shape[:-1], channels))
  expected = _torch_results(image, grid, cotangent, **settings)
  got = _our_results(image, grid, cotangent, method=method, **settings)
  for name, a, b in zip(("value", "image", "grid"), got, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-11, rtol=1e-11, err_msg=name)


@pytest.mark.parametrize("method", ["gather", "matmul"])
@pytest.mark.parametrize("kind", ["random", "lattice"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [(5, 7), (1, 6), (4, 1)])
def test_images(sizes, mode, padding_mode, align_corners, kind, method):
  rng = np.random.default_rng(0)
  _compare(
    rng.normal(size=(2, *sizes, 3)),
    rng,
    kind,
    method=method,
    mode=mode,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )


@pytest.mark.parametrize("kind", ["random", "lattice"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 3, 2)])
def test_volumes(sizes, mode, padding_mode, align_corners, kind):
  rng = np.random.default_rng(1)
  _compare(
    rng.normal(size=(2, *sizes, 2)),
    rng,
    kind,
    mode=mode,
    padding_mode=padding_mode,
    align_corners=align_corners,
  )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(4, 6), (1, 1), (3, 1, 5)])
def test_affine_grid(size, align_corners):
  rng = np.random.default_rng(2)
  dims = len(size)
  theta = rng.normal(size=(3, dims, dims + 1))
  expected = torch.nn.functional.affine_grid(
    torch.from_numpy(theta), [3, 1, *size], align_corners=align_corners
  )
  got = ops.affine_grid(jnp.asarray(theta), size, align_corners=align_corners)
  np.testing.assert_allclose(got, expected.numpy(), atol=1e-14)
