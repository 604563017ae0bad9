"""Pictures of many sizes on one canvas, as if each had a canvas of its own.

A network pads with zeros. On a larger canvas the cells behind a picture are
not zero after the first bias, and leak into it. `mask_canvas` puts the zeros
back wherever a layer looks at its neighbours.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.nn import layers

__all__ = ["mask_canvas", "valid_cells"]


def valid_cells(
  sizes: jax.Array, cells: tuple[int, int], canvas: tuple[int, int]
) -> jax.Array:
  """Rows and columns of a map that belong to each picture.

  Args:
    sizes: (height, width) of the padded pictures, integers [B, 2].
    cells: rows and columns of the map of the whole canvas.
    canvas: height and width of the canvas.

  Returns:
    int32 [B, 2]: ceil(size / stride), where the stride is the power of two
    next to canvas / cells.
  """
  strides = [
    2 ** round(float(np.log2(c / n)))
    for c, n in zip(canvas, cells, strict=True)
  ]
  return -(-sizes // jnp.asarray([strides], sizes.dtype))


@contextlib.contextmanager
def mask_canvas(sizes: jax.Array, canvas: tuple[int, int]) -> Iterator[None]:
  """Within: modules see zeros behind each picture, as on a canvas of its size.

  Convolutions and pooling read zeros (max-pooling: minus infinity) behind the
  picture, and means over a whole map (squeeze and excitation) are over the
  picture alone. Sizes must be multiples of the strides of the network, but
  for a level that is subsampled.

  Args:
    sizes: (height, width) of the padded pictures, integers [B, 2].
    canvas: height and width of the canvas.

  Yields:
    Nothing.

  Raises:
    ValueError: inside, if a layer is called that needs another rule.

  Example:
    >>> from vision_jax import nn
    >>> conv = nn.Conv(1, 3, use_bias=False)
    >>> x = jnp.ones((1, 4, 6, 1))
    >>> variables = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    >>> with nn.mask_canvas(jnp.array([[2, 3]]), (4, 6)):
    ...   print(conv.apply(variables, x)[0, :2, :3, 0])
    [[4. 6. 4.]
     [4. 6. 4.]]

  Source:
    Interface of this library; torchvision's results depend on the padding of
    the batch (pytorch/vision issue 4257).
  """

  def inside(x: jax.Array) -> jax.Array:
    """Whether a cell belongs to its picture, [B, h, w, 1]."""
    rows, cols = x.shape[1:3]
    limits = valid_cells(sizes, (rows, cols), canvas)
    down = jnp.arange(rows)[None, :] < limits[:, :1]
    right = jnp.arange(cols)[None, :] < limits[:, 1:]
    return (down[:, :, None] & right[:, None, :])[..., None]

  def mask(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    layer = context.module
    if context.method_name != "__call__":
      return next_fun(*args, **kwargs)
    if isinstance(layer, layers.Conv) and layer.kernel_size > 1:
      return next_fun(jnp.where(inside(args[0]), args[0], 0), **kwargs)
    if isinstance(layer, layers.AvgPool):
      return next_fun(jnp.where(inside(args[0]), args[0], 0), **kwargs)
    if isinstance(layer, layers.MaxPool):
      x = jnp.where(inside(args[0]), args[0], -jnp.inf)
      y = next_fun(x, **kwargs)
      return jnp.where(inside(y), y, 0)
    if isinstance(layer, layers.AdaptiveAvgPool):
      return _mean(layer, args[0], inside(args[0]))
    return next_fun(*args, **kwargs)

  with nn.intercept_methods(mask):
    yield


def _mean(layer: Any, x: jax.Array, valid: jax.Array) -> jax.Array:
  """Mean over the cells of each picture, [B, 1, 1, C]."""
  if tuple(layer.size) != (1, 1):
    raise ValueError(
      f"mask_canvas: an AdaptiveAvgPool must have size (1, 1), got "
      f"{tuple(layer.size)}; give the network pictures of one size."
    )
  total = jnp.where(valid, x, 0).sum((1, 2), keepdims=True)
  return total / valid.sum((1, 2), keepdims=True)
