"""`ops.resize` and `ops.sample` against torch, live. Run with `make parity`."""

import jax
import numpy as np
import torch
from absl.testing import absltest, parameterized
from torch.nn import functional

from vision_jax import ops

SETTINGS = (
  {"mode": "nearest"},
  {"mode": "nearest-exact"},
  {"mode": "area"},
  *(
    {"mode": mode, "antialias": antialias, "align_corners": align_corners}
    for mode in ("bilinear", "bicubic")
    for antialias in (False, True)
    for align_corners in (False, True)
  ),
)
SIZES = (
  ((5, 7), (11, 3)),
  ((16, 9), (7, 18)),
  ((1, 6), (4, 1)),
  ((30, 40), (60, 80)),
  ((33, 17), (5, 70)),
  ((8, 8), (8, 20)),
  ((90, 48), (2, 3)),
  ((37, 53), (37, 53)),
)


def _torch_resize(image, size, settings):
  """NHWC tensor or array in, NHWC tensor out."""
  x = torch.as_tensor(image).permute(0, 3, 1, 2)
  settings = {"align_corners": None, **settings}
  y = functional.interpolate(x, size=size, **settings)
  return y.permute(0, 2, 3, 1)


class ResizeTest(parameterized.TestCase):
  @parameterized.product(
    settings=SETTINGS, sizes=SIZES, dtype=(np.float32, np.float64)
  )
  def test_equals_interpolate(self, settings, sizes, dtype):
    size_in, size = sizes
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(2, *size_in, 3)).astype(dtype)
    expected = _torch_resize(image, size, settings).numpy()
    with jax.enable_x64(dtype == np.float64):
      got = np.asarray(ops.resize(image, size, **settings))
    self.assertEqual(got.dtype, dtype)
    # Torch finds its float32 weights in float32, ours come from float64.
    atol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(got, expected, atol=atol, rtol=0)

  @parameterized.product(settings=SETTINGS, sizes=SIZES[:2])
  def test_gradient_equals_autograd(self, settings, sizes):
    size_in, size = sizes
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(2, *size_in, 3))
    weights = rng.normal(size=(2, *size, 3))
    x = torch.tensor(image, requires_grad=True)
    y = _torch_resize(x, size, settings)
    (y * torch.from_numpy(weights)).sum().backward()
    with jax.enable_x64(True):
      got = jax.grad(
        lambda v: (ops.resize(v, size, **settings) * weights).sum()
      )(image)
    np.testing.assert_allclose(got, x.grad.numpy(), atol=1e-11)

  @parameterized.parameters("nearest", "nearest-exact")
  def test_nearest_picks_the_same_pixels(self, mode):
    """Includes sizes where float32 decides otherwise than exact arithmetic."""
    exact_differs = 0
    for n in (3, 17, 41, 82):
      for m in (29, 61, 82, 94, 123, 141, 165):
        row = np.arange(n, dtype=np.float32).reshape(1, 1, n, 1)
        expected = _torch_resize(row, (1, m), {"mode": mode})[0, 0, :, 0]
        got = np.asarray(ops.resize(row, (1, m), mode=mode))[0, 0, :, 0]
        np.testing.assert_array_equal(got, expected.numpy())
        exact = np.arange(m) * n // m
        exact_differs += mode == "nearest" and (exact != got).any()
    if mode == "nearest":
      self.assertGreater(exact_differs, 0)


class SampleTest(parameterized.TestCase):
  @parameterized.product(
    mode=("nearest", "bilinear", "bicubic"), padding=("edge", "zeros")
  )
  def test_equals_grid_sample(self, mode, padding):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(5, 8, 3))
    points = rng.uniform([-4, -4], [12, 9], (200, 2))
    weights = rng.normal(size=(200, 3))
    with jax.enable_x64(True):
      ndc = np.asarray(ops.index_to_ndc(points, (5, 8)))
      got = ops.sample(image, points, mode=mode, padding=padding)
      gradients = jax.jit(
        jax.grad(
          lambda i, p: (
            ops.sample(i, p, mode=mode, padding=padding) * weights
          ).sum(),
          (0, 1),
        )
      )(image, points)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].requires_grad_()
    grid = torch.tensor(ndc[None, None], requires_grad=True)
    y = functional.grid_sample(
      x,
      grid,
      mode=mode,
      padding_mode={"edge": "border", "zeros": "zeros"}[padding],
      align_corners=False,
    )[0, :, 0].T
    np.testing.assert_allclose(got, y.detach().numpy(), atol=1e-11)
    (y * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(
      gradients[0], x.grad[0].permute(1, 2, 0).numpy(), atol=1e-10
    )
    # d / d index = d / d ndc * 2 / side.
    np.testing.assert_allclose(
      gradients[1], grid.grad[0, 0].numpy() * [2 / 8, 2 / 5], atol=1e-10
    )


if __name__ == "__main__":
  absltest.main()
