"""A canvas with masks equals a canvas of the picture's own size."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax import nn
from vision_jax.nn.canvas_masks import valid_cells


class _Network(flax.linen.Module):
  """Every kind of layer that looks at its neighbours."""

  @flax.linen.compact
  def __call__(self, x):
    x = nn.Conv(4, 7, 2, name="a")(x)
    x = nn.MaxPool(3, 2, 1, name="pool")(x)
    y = nn.SqueezeExcitation(2, name="gates")(nn.Conv(4, 1, name="b")(x))
    x = nn.AvgPool(3, 1, 1, name="mean")(nn.Add(name="sum")(x, y))
    return nn.FeaturePyramid(8, name="fpn")([x, nn.Conv(6, 3, 2, name="c")(x)])


def test_results_do_not_depend_on_the_canvas(quick_compile):
  rng = np.random.default_rng(0)
  sizes = np.array([[16, 24], [32, 8]])
  pictures = [
    rng.normal(size=(1, *size, 3)).astype(np.float32) for size in sizes
  ]
  canvas = np.zeros((2, 32, 40, 3), np.float32)
  for picture, (high, wide), place in zip(pictures, sizes, canvas, strict=True):
    place[:high, :wide] = picture[0]
  net = _Network()
  variables = net.init(jax.random.key(0), canvas)
  variables = jax.tree.map(
    lambda v: jnp.asarray(rng.normal(size=v.shape), jnp.float32), variables
  )
  with nn.mask_canvas(jnp.asarray(sizes), (32, 40)):
    got = net.apply(variables, canvas)
  plain = net.apply(variables, canvas)
  for k, picture in enumerate(pictures):
    expected = net.apply(variables, picture)
    for level, (a, b) in enumerate(zip(got, expected, strict=True)):
      high, wide = b.shape[1:3]
      if level == 2:  # subsampled
        assert (high, wide) == tuple(-(-sizes[k] // 16))
      np.testing.assert_allclose(a[k, :high, :wide], b[0], rtol=1e-4, atol=1e-4)
    high, wide = expected[0].shape[1:3]
    leak = np.abs(plain[0][k, :high, :wide] - expected[0][0]).max()
    assert leak > 1e-2  # what the masks are for


def test_rows_of_every_level():
  # 800 x 1344: 25 rows at stride 32 and 13, of stride 64, behind them.
  sizes = jnp.array([[800, 1088], [768, 1344], [416, 32]])
  np.testing.assert_array_equal(
    valid_cells(sizes, (25, 42), (800, 1344)), sizes // 32
  )
  np.testing.assert_array_equal(
    valid_cells(sizes, (13, 21), (800, 1344)), [[13, 17], [12, 21], [7, 1]]
  )


def test_other_means_are_refused():
  x = jnp.ones((1, 8, 8, 2))
  with nn.mask_canvas(jnp.array([[4, 4]]), (8, 8)):
    with pytest.raises(ValueError, match=r"size \(1, 1\)"):
      nn.AdaptiveAvgPool((2, 2)).apply({}, x)
