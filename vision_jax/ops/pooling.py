"""Pooling over windows.

``max_pool`` has a derivative of its own: XLA differentiates a max-pool into a
select-and-scatter, which on a CPU is 30 to 40 times slower than comparing the
input with the output. The rule is a ``custom_jvp`` that is linear in the
tangent, so ``grad``, ``jvp``, ``vmap`` and higher orders all work.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["max_pool"]

_Pair = tuple[int, int]
_FEW = 9  # elements of a window


def _pair(value: int | _Pair) -> _Pair:
  return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pads(
  size: _Pair, window: _Pair, stride: _Pair, padding: _Pair, ceil_mode: bool
) -> list[_Pair]:
  """(low, high) padding of the two axes; negative high drops a remainder."""
  pads = []
  for n, k, s, p in zip(size, window, stride, padding, strict=True):
    span = n + 2 * p - k
    num = (-(-span // s) if ceil_mode else span // s) + 1
    if ceil_mode and (num - 1) * s >= n + p:
      num -= 1  # torch drops a window that starts beyond the padded input
    pads.append((p, (num - 1) * s + k - n - p))
  return pads


def _pad(x: jax.Array, pads: list[_Pair], value: float) -> jax.Array:
  config = [(0, 0, 0)] * (x.ndim - 3) + [(lo, hi, 0) for lo, hi in pads]
  return lax.pad(x, jnp.asarray(value, x.dtype), [*config, (0, 0, 0)])


def _window_slices(
  x: jax.Array, window: _Pair, stride: _Pair
) -> Iterator[jax.Array]:
  """The k_h * k_w strided views of padded `x`, in row-major window order."""
  height, width = x.shape[-3:-1]
  rows = (height - window[0]) // stride[0] + 1
  cols = (width - window[1]) // stride[1] + 1
  for i in range(window[0]):
    for j in range(window[1]):
      yield x[
        ...,
        i : i + (rows - 1) * stride[0] + 1 : stride[0],
        j : j + (cols - 1) * stride[1] + 1 : stride[1],
        :,
      ]


def _split_windows(x: jax.Array, window: _Pair) -> jax.Array:
  """[..., H, W, C] -> [..., H / k_h, k_h, W / k_w, k_w, C]."""
  *lead, height, width, channels = x.shape
  kh, kw = window
  return x.reshape(*lead, height // kh, kh, width // kw, kw, channels)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, window, stride, pads):
  x = _pad(x, pads, -jnp.inf)
  if window == stride:
    return _split_windows(x, window).max((-4, -2))
  if jax.default_backend() == "cpu" and window[0] * window[1] <= _FEW:
    # The same slices serve the derivative; XLA's loop is two times slower.
    return functools.reduce(jnp.maximum, _window_slices(x, window, stride))
  lead = (1,) * (x.ndim - 3)
  return lax.reduce_window(
    x,
    jnp.asarray(-jnp.inf, x.dtype),
    lax.max,
    (*lead, *window, 1),
    (*lead, *stride, 1),
    "VALID",
  )


# One program also outside of jit, where each slice would be one.
_jitted_max_pool = jax.jit(_max_pool, static_argnums=(1, 2, 3))


@_max_pool.defjvp
def _max_pool_jvp(window, stride, pads, primals, tangents):
  (x,), (t,) = primals, tangents
  y = _max_pool(x, window, stride, pads)
  slices = list(_window_slices(_pad(x, pads, -jnp.inf), window, stride))
  t = _pad(t, pads, 0.0)
  # The first maximum of a window, in row-major order, takes the derivative.
  if window == stride:
    first = jnp.full(y.shape, len(slices), jnp.int8)
    for k in reversed(range(len(slices))):
      first = jnp.where(slices[k] == y, jnp.int8(k), first)
    position = np.arange(len(slices), dtype=np.int8).reshape(
      window[0], 1, window[1], 1
    )
    lead = (1,) * (first.ndim - 3)
    chosen = first[..., None, :, None, :] == position.reshape(
      *lead, 1, window[0], 1, window[1], 1
    )
    return y, jnp.where(chosen, _split_windows(t, window), 0).sum((-4, -2))
  free = jnp.ones(y.shape, bool)
  out = jnp.zeros_like(y)
  for xs, ts in zip(slices, _window_slices(t, window, stride), strict=True):
    chosen = free & (xs == y)
    free = free & ~chosen
    out = out + jnp.where(chosen, ts, 0)
  return y, out


def max_pool(
  features: jax.Array,
  *,
  window: int | tuple[int, int] = 2,
  stride: int | tuple[int, int] | None = None,
  padding: int | tuple[int, int] = 0,
  ceil_mode: bool = False,
) -> jax.Array:
  """Largest value of each window, with an exact and fast derivative.

  Where several elements of a window are equal, the first in row-major order
  takes the whole derivative, as in PyTorch and in XLA's own rule.

  Convention:
    Layout [..., H, W, C]; padding is -inf; sizes as torch.nn.MaxPool2d.

  Args:
    features: float [..., H, W, C].
    window: size (rows, columns) of the window, or one number for both.
    stride: step between windows; None means `window`.
    padding: rows and columns added on each side, at most half the window.
    ceil_mode: keep a last window that covers the input only in part.

  Returns:
    Pooled features [..., h, w, C], same dtype.

  Raises:
    TypeError: if `features` is not floating point.
    ValueError: if `features` has fewer than 3 axes, is smaller than the
      window, or the padding exceeds half the window.

  Example:
    >>> from vision_jax.ops import max_pool
    >>> x = jnp.arange(16.0).reshape(4, 4, 1)
    >>> print(max_pool(x)[..., 0])
    [[ 5.  7.]
     [13. 15.]]

  Source:
    torch.nn.MaxPool2d; the derivative is checked against XLA's and torch's.
  """
  if features.ndim < 3:
    raise ValueError(
      "max_pool: `features` must be [..., H, W, C], got shape "
      f"{features.shape}."
    )
  if not jnp.issubdtype(features.dtype, jnp.floating):
    raise TypeError(
      f"max_pool: `features` must be floating point, got {features.dtype}."
    )
  win = _pair(window)
  step = win if stride is None else _pair(stride)
  pad = _pair(padding)
  size = (features.shape[-3], features.shape[-2])
  if any(2 * p > k for p, k in zip(pad, win, strict=True)):
    raise ValueError(
      f"max_pool: `padding` must be at most half the window {win}, got {pad}."
    )
  if any(n + 2 * p < k for n, p, k in zip(size, pad, win, strict=True)):
    raise ValueError(
      f"max_pool: `features` must be at least as large as the window {win}, "
      f"got height and width {size}; pad them or use a larger image."
    )
  pads = _pads(size, win, step, pad, ceil_mode)
  return _jitted_max_pool(features, win, step, tuple(pads))
